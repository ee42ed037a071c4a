// sync.hpp: waiting for each other: mutex, condition_variable, event; for fibers of any worker and
// plain threads alike.
//
// Always true:
//   - Waiters are served first in, first out; a mutex is handed to the next waiter, never raced
//     for.
//   - A fiber parks, a plain thread sleeps on a futex; neither spins for a lock that is held across
//     a park.
//   - A waiter that gave up (deadline, cancel) is skipped, and what it was offered goes to the next
//     one.
//
// Comes from: the user.   Goes to: coir/detail/wait_queue.hpp, runtime/waits.hpp.
#pragma once

#include <mutex>

#include "coir/clock.hpp"
#include "coir/detail/atomic.hpp"
#include "coir/detail/wait_queue.hpp"
#include "coir/result.hpp"

namespace coir {

class event;
namespace detail {
/// event::wait of what must happen all the same: a cancel of the fiber does not end it.
COIR_API std::error_code wait_for_event(event& gate, deadline until, bool heed_cancel) noexcept;
/// The same for what a handler waits for: a computation stops for whoever steps it, in short
/// sleeps.
COIR_API std::error_code wait_in_handler(event& gate, deadline until, bool heed_cancel);
}  // namespace detail

/// Mutual exclusion that parks. Meets Lockable, so std::lock_guard and std::unique_lock work. Not
/// recursive: locking it twice from one fiber waits for ever (or until the deadline).
class COIR_API mutex {
 public:
  constexpr mutex() noexcept = default;
  mutex(const mutex&) = delete;
  mutex& operator=(const mutex&) = delete;

  /// Waits as long as it takes: ignores cancellation, so that std::lock_guard is safe in clean-up
  /// code.
  void lock() noexcept;
  bool try_lock() noexcept;
  /// Errors: timed_out, operation_canceled.
  [[nodiscard]] result<> lock_until(deadline until);
  /// Hands the mutex to the waiter that came first.
  void unlock() noexcept;

 private:
  std::error_code lock_slow(deadline until, bool heed_cancel) noexcept;
  detail::atomic<std::uint32_t> state_{
      0};  // 0 free, 1 held, 2 held and somebody waits; protocol in runtime/sync.cpp
  detail::wait_queue waiters_;
};

/// std::condition_variable for coir::mutex. May wake without a reason: wait in a loop or with a
/// predicate.
class COIR_API condition_variable {
 public:
  constexpr condition_variable() noexcept = default;
  condition_variable(const condition_variable&) = delete;
  condition_variable& operator=(const condition_variable&) = delete;

  /// Unlocks, waits, locks again (also on errors). Errors: timed_out, operation_canceled.
  [[nodiscard]] result<> wait(std::unique_lock<mutex>& held, deadline until = never) noexcept;
  /// Until `ready()`; an error only when it is still false.
  template <class Predicate>
  [[nodiscard]] result<> wait(std::unique_lock<mutex>& held, Predicate ready,
                              deadline until = never) {
    while (!ready()) {
      if (auto waited = wait(held, until); !waited) return ready() ? result<>() : waited;
    }
    return {};
  }
  void notify_one() noexcept;
  void notify_all() noexcept;

 private:
  detail::wait_queue waiters_;
};

/// A gate that stays open once set, until reset.
class COIR_API event {
 public:
  constexpr event() noexcept = default;
  event(const event&) = delete;
  event& operator=(const event&) = delete;

  /// Opens the gate and lets every waiter through.
  void set() noexcept;
  void reset() noexcept;
  bool is_set() const noexcept;
  /// Errors: timed_out, operation_canceled.
  [[nodiscard]] result<> wait(deadline until = never) noexcept;

 private:
  friend std::error_code detail::wait_for_event(event&, deadline, bool) noexcept;
  detail::atomic<bool> set_{false};
  detail::wait_queue waiters_;
};

}  // namespace coir
