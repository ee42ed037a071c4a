// driving.hpp: runtimes without threads, and the plain threads that run them while they wait.
//
// A runtime on the simulated backend has no thread of its own. Whoever waits on a plain thread for
// something of it (an end, a lock, a place, its shutdown) drives: runs the workers there until what
// it waits for has come.
//
// Always true:
//   - One thread of the process drives at a time. Another one that waits looks again when the
//     driver leaves or somebody ends its wait, and may be the next.
//   - A driver never waits for a real event while a fiber can run, and never moves the time beyond
//     its own deadline.
//   - What is the thread's own (errno, exceptions in flight, floating-point controls) no fiber
//     sees, and it finds all of it as it was.
//   - Where no runtime is driven a wait of a thread costs one load more than it would without this.
//
// Comes from: waiting.hpp, runtime, this_fiber.   Goes to: worker::run, on the waiting thread.
#pragma once

#include <functional>

#include "arch/exceptions.hpp"
#include "arch/float_control.hpp"
#include "coir/detail/atomic.hpp"
#include "runtime/waits.hpp"

namespace coir::detail {

class runtime_core;

/// How driving ended.
enum class driven : std::uint8_t {
  over,           // what was waited for has come
  by_deadline,    // the time that was given is over
  nothing_moves,  // whoever waits waits for ever: nothing is under way, and there is no other
                  // thread
};

/// Keeps what is this thread's own while workers run on it.
class lent_thread {
 public:
  lent_thread() noexcept;
  ~lent_thread();
  lent_thread(const lent_thread&) = delete;
  lent_thread& operator=(const lent_thread&) = delete;

 private:
  int errno_;
  arch::exception_state exceptions_, none_;
  arch::float_state controls_;
};

/// From here on waiting threads drive it; until drive_no_more().
void drive_from_now_on(runtime_core& core);
void drive_no_more(runtime_core& core) noexcept;

COIR_HIDDEN extern atomic<std::uint32_t> cores_to_drive;
inline bool anybody_to_drive() noexcept {
  // relaxed: a runtime that starts on another thread meanwhile has not answered anybody yet.
  return cores_to_drive.load(std::memory_order_relaxed) != 0;
}

/// Drives until `over()`, which is asked on this thread, while no worker runs; `until_ns` is in the
/// time of plain threads. Plain threads only.
driven drive(std::int64_t until_ns, const std::function<bool()>& over) noexcept;

/// sleep_as_thread, or driving meanwhile.
woken wait_as_thread(waiter& w, std::int64_t until_ns) noexcept;

/// Lets other threads run, and what is driven for a turn.
void yield_on_thread() noexcept;
/// Sleeps; what is driven goes on meanwhile.
void sleep_on_thread(std::int64_t until_ns) noexcept;

}  // namespace coir::detail
