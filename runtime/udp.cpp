// udp.cpp: datagrams: a socket made with plain system calls, used through the ring.
//
// Always true:
//   - What the kernel reads and writes (the message, its one part, the address) lies on the stack
//     of the fiber that waits for it.
//   - Every receive asks for the true length (MSG_TRUNC), so that a cut never goes unnoticed.
//
// Comes from: coir/udp.hpp.   Goes to: io.
#include "coir/udp.hpp"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>

#include "runtime/base.hpp"

namespace coir::net {
namespace {

/// One message of one part, as the kernel wants to be told.
struct message {
  iovec part;
  msghdr head{};
  message(void* bytes, std::size_t count, sockaddr* name, unsigned name_bytes) noexcept
      : part{bytes, count} {
    head.msg_name = name;
    head.msg_namelen = name_bytes;
    head.msg_iov = &part;
    head.msg_iovlen = 1;
  }
};

}  // namespace

result<udp_socket> udp_socket::bind(const std::string& text, std::uint16_t port) {
  const auto local = address::numeric(text, port);
  if (!local) return fail(local.error());
  return bind(*local);
}

result<udp_socket> udp_socket::bind(const address& local) {
  udp_socket made;
  made.fd_.reset(::socket(local.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!made.fd_) return fail(detail::system_error(-errno));
  if (::bind(made.fd(), local.get(), local.bytes()) != 0) return fail(detail::system_error(-errno));
  const auto bound = address::of_socket(made.fd());
  if (!bound) return fail(bound.error());
  made.port_ = bound->port();
  return made;
}

result<> udp_socket::connect(const address& peer, deadline until) {
  // It waits for nothing, but the ring guards the number against a close by somebody else.
  return io::connect(fd_, peer.get(), peer.bytes(), until);
}

result<> udp_socket::connect(const std::string& text, std::uint16_t port, deadline until) {
  const auto peer = address::numeric(text, port);
  if (!peer) return fail(peer.error());
  return connect(*peer, until);
}

namespace {

result<datagram> receive(const io::unique_fd& on, std::span<std::byte> into, bool who,
                         deadline until) {
  datagram taken;
  message m(into.data(), into.size(), who ? taken.from.room() : nullptr,
            who ? address::bytes_max : 0);
  const auto n = io::recvmsg(on, m.head, COIR_MUTANT(cut_unnoticed) ? 0 : MSG_TRUNC, until);
  if (!n) return fail(n.error());
  taken.bytes_sent = *n;
  taken.bytes = std::min(*n, into.size());
  return taken;
}

}  // namespace

result<datagram> udp_socket::recv_from(std::span<std::byte> into, deadline until) {
  return receive(fd_, into, true, until);
}

result<datagram> udp_socket::recv(std::span<std::byte> into, deadline until) {
  return receive(fd_, into, false, until);
}

result<std::size_t> udp_socket::send_to(std::span<const std::byte> from, const address& peer,
                                        deadline until) {
  address target = peer;
  message m(const_cast<std::byte*>(from.data()), from.size(), target.room(), target.bytes());
  return io::sendmsg(fd_, m.head, 0, until);
}

}  // namespace coir::net
