// scripted_backend.hpp: a backend without a kernel: the test decides what is taken, what completes,
// and when.
//
// Always true:
//   - Nothing happens by itself: an operation completes only when the test put its completion into
//     `due`.
//   - Time is a number; it grows by `tick_ns` at each look, and wait() sets it to the deadline.
//   - A wait without end, with nothing due and nobody who rang, is counted in `slept_for_ever`.
//
// Comes from: the tests of flight, perform, fds, worker and runtime.   Goes to: nothing.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "runtime/runtime.hpp"
#include "tests/test_options.hpp"

namespace scripted {

using namespace coir::detail;

/// What the runtime handed over; of the entry, the fields that tests look at.
struct sent {
  token name;
  std::uint8_t opcode = 0;
  int fd = -1;
  std::uint32_t len = 0;
  std::uint32_t events = 0;
};

/// What the test says and what it sees.
struct script {
  std::int64_t now_ns = 1;
  std::int64_t tick_ns = 0;
  unsigned room = 1u << 30;           // entries taken until the next wait
  unsigned room_per_wait = 1u << 30;  // and after each wait
  unsigned cancel_room = 1u << 30;
  bool rung = false;
  unsigned slept_for_ever = 0;
  unsigned waits = 0;
  std::vector<sent> submitted;
  std::vector<token> cancelled;
  std::vector<int> cancelled_fds;
  std::deque<completion> due;
  std::function<void(const sent&)> on_submit;
  std::function<void(token)> on_cancel;
  std::function<void(int)> on_cancel_fd;
  std::function<void()> on_ready;                   // between the first look and the announcement
  std::function<void(std::int64_t until)> on_wait;  // where the thread would sleep
  std::function<void()> on_wake;                    // who rings, before the bell has rung
  std::function<void()> on_reap;                    // each turn, before completions come in

  void complete(token t, std::int32_t res, std::uint32_t flags = 0) {
    due.push_back({t, res, flags});
  }
  /// Every operation completes at once with `res`.
  void answer_all(std::int32_t res) {
    on_submit = [this, res](const sent& s) { complete(s.name, res); };
  }
  /// How many entries with this opcode were taken.
  std::size_t count(std::uint8_t opcode) const {
    std::size_t n = 0;
    for (const sent& s : submitted) n += s.opcode == opcode ? 1 : 0;
    return n;
  }
};

class outside : public backend {
 public:
  explicit outside(script& s) : s_(s) {}
  int attach() noexcept override { return 0; }
  bool submit(const io_uring_sqe& entry, token t, bool) noexcept override {
    if (s_.room == 0) return false;
    --s_.room;
    s_.submitted.push_back({t, entry.opcode, entry.fd, entry.len, entry.poll32_events});
    if (s_.on_submit) s_.on_submit(s_.submitted.back());
    return true;
  }
  bool cancel(token target) noexcept override {
    if (s_.cancel_room == 0) return false;
    --s_.cancel_room;
    s_.cancelled.push_back(target);
    if (s_.on_cancel) s_.on_cancel(target);
    return true;
  }
  bool cancel_fd(int fd) noexcept override {
    if (s_.cancel_room == 0) return false;
    s_.cancelled_fds.push_back(fd);
    if (s_.on_cancel_fd) s_.on_cancel_fd(fd);
    return true;
  }
  void wait(std::int64_t until_ns) noexcept override {
    ++s_.waits;
    s_.room = s_.room_per_wait;
    if (s_.on_wait) s_.on_wait(until_ns);
    exhausted_ = false;
    if (until_ns == no_wait_ns || !s_.due.empty() || std::exchange(s_.rung, false)) return;
    if (until_ns == never_ns) {
      ++s_.slept_for_ever;
      exhausted_ = true;
    } else if (until_ns > s_.now_ns) {
      s_.now_ns = until_ns;
    }
  }
  unsigned reap(completion_sink sink) noexcept override {
    if (s_.on_reap) s_.on_reap();
    unsigned n = 0;
    for (; !s_.due.empty(); ++n) {
      const completion c = s_.due.front();
      s_.due.pop_front();
      sink.deliver(sink.context, c);
    }
    return n;
  }
  bool pending() const noexcept override { return !s_.due.empty(); }
  bool ready() const noexcept override {
    if (s_.on_ready) s_.on_ready();
    return !s_.due.empty();
  }
  void wake() noexcept override {
    if (s_.on_wake) s_.on_wake();
    s_.rung = true;
  }
  std::int64_t now_ns() const noexcept override { return s_.now_ns += s_.tick_ns; }
  const backend_counts& counts() const noexcept override { return counts_; }
  const char* name() const noexcept override { return "scripted"; }
  bool exhausted() const noexcept override { return exhausted_; }

 private:
  script& s_;
  backend_counts counts_;
  bool exhausted_ = false;
};

/// Only worker 0 ever runs; with `workers` of 2 it has a neighbour, whom nobody may ask for
/// anything.
inline std::unique_ptr<runtime_core> make_core(script& s, coir::options o = {},
                                               unsigned workers = 1) {
  o.workers = workers;
  if (!o.log) o.log = [](const coir::log_record&) {};
  auto core = runtime_core::create(
      test::tested(std::move(o)),
      [&s](unsigned, const coir::options&) -> coir::result<std::unique_ptr<backend>> {
        return std::unique_ptr<backend>(std::make_unique<outside>(s));
      });
  return core ? std::move(*core) : nullptr;
}

/// Queues `body` for the core; it runs in run_here.
template <class F>
auto spawn_on(runtime_core& core, F body) {
  return spawn_waiting(&core, std::move(body), {}, coir::site::here());
}

/// Runs `body` on a fiber of a runtime of its own, on this thread, until every fiber has ended.
template <class F>
std::error_code run(script& s, F body, coir::options o = {}) {
  auto core = make_core(s, std::move(o));
  if (core == nullptr) return std::make_error_code(std::errc::not_enough_memory);
  auto root = spawn_on(*core, std::move(body));
  return core->run_here();
}

/// The worker of the calling fiber.
inline worker& here() { return *worker::current(); }

}  // namespace scripted
