// net.cpp: TCP sockets: made with plain system calls that do not block, used through the ring.
//
// Always true:
//   - Sockets are blocking ones (no O_NONBLOCK): the ring waits for readiness itself. On a fiber
//     without a ring a listener is made non-blocking, and a socket is so while it connects. One
//     made on a plain thread stays as it is: later somebody else might have its number.
//   - serve keeps count of its handlers and returns only when the last has ended; a connection that
//     found no fiber is closed.
//
// Comes from: coir/net.hpp.   Goes to: io, spawn.
#include "coir/net.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>

#include "coir/scope.hpp"
#include "runtime/perform.hpp"

namespace coir::net {
namespace {

struct address {
  sockaddr_storage place{};
  socklen_t bytes = 0;
  sockaddr* get() noexcept { return reinterpret_cast<sockaddr*>(&place); }
};

result<address> numeric(const std::string& text, std::uint16_t port) {
  address a;
  auto& v4 = reinterpret_cast<sockaddr_in&>(a.place);
  auto& v6 = reinterpret_cast<sockaddr_in6&>(a.place);
  if (::inet_pton(AF_INET, text.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    a.bytes = sizeof v4;
    return a;
  }
  if (::inet_pton(AF_INET6, text.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    a.bytes = sizeof v6;
    return a;
  }
  return fail(std::errc::invalid_argument);
}

std::error_code last_error() noexcept { return {errno, std::generic_category()}; }

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

bool better_non_blocking() noexcept {
  detail::worker* const here = detail::worker::current();
  return here != nullptr && here->outside().threads_for_blocking_sockets();
}

/// Passes when something is given back: descriptors or memory.
bool is_scarcity(const std::error_code& e) noexcept {
  return e == std::errc::too_many_files_open || e == std::errc::too_many_files_open_in_system ||
         e == std::errc::no_buffer_space || e == std::errc::not_enough_memory;
}

/// What accept(2) tells of one connection that failed while it waited; the next one may be good.
bool is_of_the_peer(const std::error_code& e) noexcept {
  static constexpr int errors[] = {ECONNABORTED, EPROTO,    ENOPROTOOPT, ENETDOWN,
                                   ENETUNREACH,  EHOSTDOWN, ENONET,      EHOSTUNREACH};
  return std::ranges::find(errors, e.default_error_condition().value()) != std::end(errors);
}

}  // namespace

result<tcp_stream> tcp_stream::connect(const std::string& text, std::uint16_t port,
                                       deadline until) {
  auto target = numeric(text, port);
  if (!target) return fail(target.error());
  tcp_stream made(::socket(target->place.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!made) return fail(last_error());
  set_flag(made.fd(), IPPROTO_TCP, TCP_NODELAY);
  const bool waits = better_non_blocking();
  if (waits) set_blocking(made.fd(), false);
  if (auto connected = io::connect(made.fd(), target->get(), target->bytes, until); !connected)
    return fail(connected.error());
  if (waits) set_blocking(made.fd(), true);
  return made;
}

result<> tcp_stream::read_exact(std::span<std::byte> into, deadline until) {
  while (!into.empty()) {
    const auto n = read_some(into, until);
    if (!n) return fail(n.error());
    if (*n == 0) return fail(std::errc::connection_aborted);
    into = into.subspan(*n);
  }
  return {};
}

result<> tcp_stream::write_all(std::span<const std::byte> from, deadline until) {
  while (!from.empty()) {
    const auto n = write_some(from, until);
    if (!n) return fail(n.error());
    from = from.subspan(*n);
  }
  return {};
}

result<tcp_listener> tcp_listener::listen(const listen_options& o) {
  auto local = numeric(o.address, o.port);
  if (!local) return fail(local.error());
  tcp_listener made;
  made.fd_.reset(::socket(local->place.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!made.fd_) return fail(last_error());
  set_flag(made.fd(), SOL_SOCKET, SO_REUSEADDR);
  if (::bind(made.fd(), local->get(), local->bytes) != 0) return fail(last_error());
  if (::listen(made.fd(), o.backlog) != 0) return fail(last_error());
  local->bytes = sizeof local->place;
  if (::getsockname(made.fd(), local->get(), &local->bytes) != 0) return fail(last_error());
  if (better_non_blocking()) set_blocking(made.fd(), false);
  made.port_ = ntohs(reinterpret_cast<const sockaddr_in&>(local->place)
                         .sin_port);  // the same place in both families
  made.no_delay_ = o.no_delay;
  return made;
}

result<tcp_stream> tcp_listener::accept(deadline until) {
  std::chrono::milliseconds pause{10};
  bool told = false;
  for (;;) {
    const auto fd = io::accept(fd_, nullptr, nullptr, until);
    if (fd) {
      if (no_delay_) set_flag(*fd, IPPROTO_TCP, TCP_NODELAY);
      return tcp_stream(*fd);
    }
    if (is_of_the_peer(fd.error())) continue;
    if (!is_scarcity(fd.error())) return fail(fd.error());
    if (!std::exchange(told, true))
      detail::current_core()->log(
          log_record::level::warning,
          "accept: " + fd.error().message() +
              ": waiting for a descriptor; raise `ulimit -n` or close connections");
    const deadline again = std::min(until, in(pause));
    if (auto slept = this_fiber::sleep_until(again); !slept) return fail(slept.error());
    if (again == until) return fail(std::errc::timed_out);
    pause = std::min(pause * 2, std::chrono::milliseconds(1000));
  }
}

result<> tcp_listener::close() {
  const int fd = fd_.release();
  return fd >= 0 ? io::close(fd) : result<>(fail(std::errc::bad_file_descriptor));
}

namespace {

/// Where a connection should live: with fewer live fibers than here, if there is such a worker.
unsigned emptier(detail::runtime_core& core) noexcept {
  detail::pusher from = detail::worker::current()->as_pusher();
  from.threshold = 0;  // it stays for long: each one is placed
  const auto load_of = [&core](unsigned i) { return core.at(i).published_load(); };
  return detail::deflect(from, {.kind = detail::workload::io}, load_of).target;
}

}  // namespace

result<> tcp_listener::serve(std::function<void(tcp_stream)> handler, const spawn_options& each) {
  detail::runtime_core* const core = detail::current_core();
  if (core == nullptr) return fail(errc::not_in_fiber);
  scope connections;
  std::error_code ended;
  {
    scope acceptors;
    // One acceptor on every worker: a busy one does not keep the others from taking what waits.
    const auto take_all = [&]() -> result<> {
      for (;;) {
        auto stream = accept();
        if (!stream) return fail(stream.error());
        spawn_options where = each;
        if (!where.worker) where.worker = emptier(*core);
        const auto made = connections.spawn(
            [&handler, s = std::move(*stream)]() mutable { handler(std::move(s)); }, where);
        // No connection will ever get such a fiber.
        if (made.refusal() != std::errc::invalid_argument) continue;
        acceptors.cancel();
        return fail(made.refusal());
      }
    };
    for (unsigned w = 0; w < core->workers(); ++w)
      acceptors.spawn(take_all, {.name = "accept", .worker = w});
    if (auto joined = acceptors.join(); !joined) ended = joined.error();
    if (this_fiber::cancelled()) {
      acceptors.cancel();
      connections.cancel();
    }
  }
  if (auto joined = connections.join(); !joined && this_fiber::cancelled()) connections.cancel();
  if (this_fiber::cancelled()) return fail(std::errc::operation_canceled);
  // Closing the listener is the ordinary end: accept answers with one of these two.
  if (ended == std::errc::bad_file_descriptor || ended == std::errc::operation_canceled) return {};
  if (ended) return fail(ended);
  return {};
}

}  // namespace coir::net
