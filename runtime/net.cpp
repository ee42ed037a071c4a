// net.cpp: TCP sockets: made with plain system calls that do not block, used through the ring.
//
// Always true:
//   - Sockets are blocking ones (no O_NONBLOCK): the ring waits for readiness itself. On a fiber
//     without a ring a listener is made non-blocking, and a socket is so while it connects. One
//     made on a plain thread stays as it is: later somebody else might have its number.
//   - What is not of TCP alone lies elsewhere: byte_stream, accepting, address.
//
// Comes from: coir/net.hpp.   Goes to: io, accepting.
#include "coir/net.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>

#include "runtime/accepting.hpp"
#include "runtime/perform.hpp"

namespace coir::net {
namespace {

void set_flag(int fd, int level, int name) noexcept {
  const int on = 1;
  ::setsockopt(fd, level, name, &on, sizeof on);
}

/// Of a socket that we have made.
void set_blocking(int fd, bool blocks) noexcept {
  const int flags = ::fcntl(fd, F_GETFL);
  const int wanted = blocks ? flags & ~O_NONBLOCK : flags | O_NONBLOCK;
  if (flags >= 0 && flags != wanted) ::fcntl(fd, F_SETFL, wanted);
}

tcp_stream taken_in(int fd, bool no_delay) noexcept {
  if (no_delay) set_flag(fd, IPPROTO_TCP, TCP_NODELAY);
  return tcp_stream(fd);
}

}  // namespace

result<tcp_stream> tcp_stream::connect(const std::string& text, std::uint16_t port,
                                       deadline until) {
  const auto target = address::numeric(text, port);
  if (!target) return fail(target.error());
  return connect(*target, until);
}

result<tcp_stream> tcp_stream::connect(const address& target, deadline until) {
  tcp_stream made(::socket(target.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!made) return fail(detail::system_error(-errno));
  set_flag(made.fd(), IPPROTO_TCP, TCP_NODELAY);
  const bool waits = better_non_blocking();
  if (waits) set_blocking(made.fd(), false);
  if (auto done = io::connect(made.fd(), target.get(), target.bytes(), until); !done)
    return fail(done.error());
  if (waits) set_blocking(made.fd(), true);
  return made;
}

result<tcp_listener> tcp_listener::listen(const listen_options& o) {
  const auto wanted = address::numeric(o.address, o.port);
  if (!wanted) return fail(wanted.error());
  tcp_listener made;
  made.fd_.reset(::socket(wanted->family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!made.fd_) return fail(detail::system_error(-errno));
  set_flag(made.fd(), SOL_SOCKET, SO_REUSEADDR);
  if (::bind(made.fd(), wanted->get(), wanted->bytes()) != 0)
    return fail(detail::system_error(-errno));
  if (::listen(made.fd(), o.backlog) != 0) return fail(detail::system_error(-errno));
  const auto local = address::of_socket(made.fd());
  if (!local) return fail(local.error());
  if (better_non_blocking()) set_blocking(made.fd(), false);
  made.port_ = local->port();
  made.no_delay_ = o.no_delay;
  return made;
}

result<tcp_stream> tcp_listener::accept(deadline until) {
  const auto fd = accept_one(fd_, until);
  if (!fd) return fail(fd.error());
  return taken_in(*fd, no_delay_);
}

result<> tcp_listener::serve(std::function<void(tcp_stream)> handler, const spawn_options& each) {
  const auto handle = [&handler, no_delay = no_delay_](io::unique_fd fd) {
    handler(taken_in(fd.release(), no_delay));
  };
  return serve_each(fd_, handle, each);
}

tcp_stream incoming_connections::item(std::int32_t res, std::uint32_t) const noexcept {
  if (no_delay) set_flag(res, IPPROTO_TCP, TCP_NODELAY);
  return tcp_stream(res);
}

result<> tcp_listener::close() {
  const int fd = fd_.release();
  return fd >= 0 ? io::close(fd) : result<>(fail(std::errc::bad_file_descriptor));
}

}  // namespace coir::net
