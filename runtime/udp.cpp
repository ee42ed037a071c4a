// udp.cpp: datagrams: a socket made with plain system calls, used through the ring.
//
// Always true:
//   - What the kernel reads and writes (the message, its one part, the address) lies on the stack
//     of the fiber that waits for it.
//   - Every receive asks for the true length (MSG_TRUNC), so that a cut never goes unnoticed.
//
// Comes from: coir/udp.hpp.   Goes to: perform.
#include "coir/udp.hpp"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>

#include "coir/effects.hpp"
#include "runtime/perform.hpp"

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

result<std::size_t> run(std::uint8_t opcode, const io::unique_fd& on, const void* what,
                        std::uint32_t length, std::uint64_t offset, int flags, deadline until) {
  io_uring_sqe entry{};
  entry.opcode = opcode;
  entry.fd = on.get();
  if (entry.fd < 0) return fail(std::errc::bad_file_descriptor);
  entry.addr = reinterpret_cast<std::uintptr_t>(what);
  entry.len = length;
  entry.off = offset;
  entry.msg_flags = static_cast<std::uint32_t>(flags);
  const std::int32_t res = detail::perform_entry(entry, detail::ns_of(until), &on);
  if (res < 0) return fail(detail::io_error(res));
  return static_cast<std::size_t>(res);
}

}  // namespace

result<udp_socket> udp_socket::bind(const std::string& text, std::uint16_t port) {
  const auto local = address::numeric(text, port);
  if (!local) return fail(local.error());
  return bind(*local);
}

result<udp_socket> udp_socket::bind(const address& local) {
  const auto last_error = [] { return std::error_code(errno, std::generic_category()); };
  udp_socket made;
  made.fd_.reset(::socket(local.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!made.fd_) return fail(last_error());
  if (::bind(made.fd(), local.get(), local.bytes()) != 0) return fail(last_error());
  const auto bound = address::of_socket(made.fd());
  if (!bound) return fail(bound.error());
  made.port_ = bound->port();
  return made;
}

result<> udp_socket::connect(const address& peer, deadline until) {
  // It waits for nothing, but the ring guards the number against a close by somebody else.
  const auto done = run(IORING_OP_CONNECT, fd_, peer.get(), 0, peer.bytes(), 0, until);
  if (!done) return fail(done.error());
  return {};
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
  const auto n = run(IORING_OP_RECVMSG, on, &m.head, 1, 0, MSG_TRUNC, until);
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
  return run(IORING_OP_SENDMSG, fd_, &m.head, 1, 0, MSG_NOSIGNAL, until);
}

}  // namespace coir::net
