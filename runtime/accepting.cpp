// accepting.cpp: how connections are taken in, and spread over the workers.
//
// Always true:
//   - One acceptor stands on every worker, so a busy one keeps nobody waiting.
//   - A connection is placed by live fibers, so those that come one by one spread over all workers.
//     Nobody named that worker: where its mailbox is full the connection runs here (placing.cpp).
//
// Comes from: accepting.hpp.   Goes to: io, spawn, scope.
#include "runtime/accepting.hpp"

#include <algorithm>
#include <cerrno>
#include <iterator>

#include "coir/scope.hpp"
#include "runtime/perform.hpp"

namespace coir::net {
namespace {

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

bool better_non_blocking() noexcept {
  detail::worker* const here = detail::worker::current();
  return here != nullptr && here->outside().threads_for_blocking_sockets();
}

result<int> accept_one(const io::unique_fd& listener, deadline until) {
  std::chrono::milliseconds pause{10};
  bool told = false;
  for (;;) {
    const auto fd = io::accept(listener, nullptr, nullptr, until);
    if (fd) return fd;
    if (is_of_the_peer(fd.error())) continue;
    if (!is_scarcity(fd.error())) return fail(fd.error());
    detail::runtime_core* const core = detail::current_core();  // none: handlers answer a thread
    if (core != nullptr && !std::exchange(told, true))
      core->log(log_record::level::warning,
                "accept: " + fd.error().message() +
                    ": waiting for a descriptor; raise `ulimit -n` or close connections");
    const deadline again = std::min(until, in(pause));
    if (auto slept = this_fiber::sleep_until(again); !slept) return fail(slept.error());
    if (again == until) return fail(std::errc::timed_out);
    pause = std::min(pause * 2, std::chrono::milliseconds(1000));
  }
}

namespace {

/// As scope::spawn, of one that is placed; why there is none.
template <class F>
std::error_code spawn_placed(scope& all, F&& callable, const spawn_options& each) {
  detail::refusal why;
  detail::task* const t = detail::spawn_task<&detail::launch_placed>(
      nullptr, std::forward<F>(callable), each, site::here(), true, why, detail::state_of(all));
  if (t == nullptr) return why.code();
  detail::handle_of<F>(*t).detach();
  return {};
}

}  // namespace

result<> serve_each(const io::unique_fd& listener,
                    const std::function<void(io::unique_fd)>& handler, const spawn_options& each) {
  detail::runtime_core* const core = detail::current_core();
  if (core == nullptr) return fail(errc::not_in_fiber);
  scope connections;
  std::error_code ended;
  {
    scope acceptors;
    // One acceptor on every worker: a busy one does not keep the others from taking what waits.
    const auto take_all = [&]() -> result<> {
      for (;;) {
        const auto fd = accept_one(listener, never);
        if (!fd) return fail(fd.error());
        io::unique_fd connection(*fd);
        const auto why = spawn_placed(
            connections, [&handler, c = std::move(connection)]() mutable { handler(std::move(c)); },
            each);
        // No connection will ever get such a fiber.
        if (why != std::errc::invalid_argument) continue;
        acceptors.cancel();
        return fail(why);
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
