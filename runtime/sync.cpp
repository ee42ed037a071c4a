// sync.cpp: mutex, condition_variable, event.
//
// mutex::state_: 0 free, 1 held, 2 held and somebody may wait. Only the holder goes back to 0; from
// 2 it hands over under the queue's lock: the next waiter wakes as the holder, so nobody can
// overtake it.
//
// Always true:
//   - state_ is 2 while the queue is not empty and the mutex is held.
//   - An event opens under its queue's lock, so a waiter that saw it closed is in the queue before
//     it can open.
//
// Comes from: coir/sync.hpp.   Goes to: waiting.
#include "coir/sync.hpp"

#include "runtime/waiting.hpp"

namespace coir {

using namespace detail;

// -- mutex

bool mutex::try_lock() noexcept {
  std::uint32_t free = 0;
  // acquire: pairs with unlock's release; what the last holder did is visible.
  return state_.compare_exchange_strong(free, 1, std::memory_order_acquire,
                                        std::memory_order_relaxed);
}

void mutex::lock() noexcept {
  if (!try_lock()) [[unlikely]]
    (void)lock_slow(never, false);
}

result<> mutex::lock_until(deadline until) {
  if (try_lock()) return {};
  if (const std::error_code why = lock_slow(until, true)) return fail(why);
  return {};
}

std::error_code mutex::lock_slow(deadline until, bool heed_cancel) noexcept {
  waiter me;
  const woken why = wait_in(waiters_, me, ns_of(until), heed_cancel, [this] {
    // Free after all: take it. Otherwise say that somebody waits, so that the holder comes here.
    return state_.exchange(2, std::memory_order_acquire) != 0;
  });
  return error_of(why);
}

void mutex::unlock() noexcept {
  for (;;) {
    std::uint32_t held = 1;
    // release: pairs with the next lock's acquire. The last touch of the mutex: whoever gets it now
    // may destroy it.
    if (state_.compare_exchange_strong(held, 0, std::memory_order_release,
                                       std::memory_order_relaxed))
      return;
    const word_lock queue(waiters_.lock);
    while (waiter* const next = dequeue(waiters_)) {
      if (wake_waiter(*next)) return;  // still 2, and now theirs
    }
    // Nobody waits any more. Freed only by the exchange above, outside the queue's lock.
    state_.store(1, std::memory_order_relaxed);
  }
}

// -- condition_variable

result<> condition_variable::wait(std::unique_lock<mutex>& held, deadline until) noexcept {
  waiter me;
  // Unlocking inside the queue's lock: a notify after the unlock finds us in the queue.
  const woken why = wait_in(waiters_, me, ns_of(until), true, [&] {
    held.unlock();
    return true;
  });
  held.lock();
  if (const std::error_code failed = error_of(why)) return fail(failed);
  return {};
}

void condition_variable::notify_one() noexcept {
  const word_lock queue(waiters_.lock);
  while (waiter* const next = dequeue(waiters_))
    if (wake_waiter(*next)) return;
}

void condition_variable::notify_all() noexcept {
  const word_lock queue(waiters_.lock);
  while (waiter* const next = dequeue(waiters_)) (void)wake_waiter(*next);
}

// -- event

bool event::is_set() const noexcept { return set_.load(std::memory_order_acquire); }

void event::set() noexcept {
  {
    const word_lock queue(waiters_.lock);
    // release: pairs with wait's acquire; what was done before set() is visible to who got through.
    set_.store(true, std::memory_order_release);
    while (waiter* const next = dequeue(waiters_)) (void)wake_waiter(*next);
  }
  if (COIR_MUTANT(waker_yields)) this_fiber::yield();
}

void event::reset() noexcept { set_.store(false, std::memory_order_relaxed); }

std::error_code detail::wait_for_event(event& gate, deadline until, bool heed_cancel) noexcept {
  waiter me;
  return error_of(wait_in(gate.waiters_, me, ns_of(until), heed_cancel,
                          [&gate] { return !gate.set_.load(std::memory_order_acquire); }));
}

result<> event::wait(deadline until) noexcept {
  if (const std::error_code failed = wait_for_event(*this, until, true)) return fail(failed);
  return {};
}

}  // namespace coir
