// waiting.hpp: waiting in a queue, for whoever calls: a fiber parks, a plain thread sleeps.
//
// Always true:
//   - `blocked` is asked under the queue's lock, so nothing is missed between the look and the
//     wait.
//   - When wait_in returns, whoever woke us has let go of the queue, and the object that holds it
//     may be destroyed: the lock is taken once more after a wait that was not ended by our own
//     worker.
//
// Comes from: sync, spawn, join, offload, fds.   Goes to: worker::park, futex.
#pragma once

#include "runtime/driving.hpp"
#include "runtime/moving.hpp"
#include "runtime/runtime.hpp"

namespace coir::detail {

/// A park that others may end, by claiming its epoch.
struct shared_park : park_site {
  explicit shared_park(record& fiber) noexcept : epoch(current_epoch(fiber)) { stop = &end_early; }
  std::uint64_t epoch;

 private:
  static void end_early(park_site& self, record& fiber, woken why) noexcept {
    if (!claim_at_home(fiber, static_cast<shared_park&>(self).epoch)) return;  // an item came first
    self.why = why;
    worker::current()->make_ready(fiber);
  }
};

/// Waits in `q` while `blocked()` holds when asked; `w` is the waiter to use (a derived one carries
/// more). `standing()` is called without the lock once `w` stands in `q`; false: there is nothing
/// to wait for after all.
template <class Blocked, class Standing>
woken wait_here(wait_queue& q, waiter& w, std::int64_t until_ns, bool heed_cancel, Blocked blocked,
                Standing standing) noexcept {
  record* const me = current_fiber();
  woken why = woken::by_item;
  if (me != nullptr) {
    shared_park site(*me);
    w.fiber = me;
    w.epoch = site.epoch;
    w.ended_at_home = false;
    {
      const word_lock held(q.lock);
      if (!blocked()) return woken::by_item;
      if (heed_cancel && park_refused(*me)) [[unlikely]]
        return woken::by_cancel;
      enqueue(q, w);
    }
    if (!standing() && leave(q, w)) return woken::by_item;
    why = worker::current()->park(site, until_ns, heed_cancel);
  } else {
    {
      const word_lock held(q.lock);
      if (!blocked()) return woken::by_item;
      enqueue(q, w);
    }
    if (!standing() && leave(q, w)) return woken::by_item;
    why = wait_as_thread(w, until_ns);
  }
  if (why == woken::by_item) {
    see_waker_off(q, w);
  } else {
    leave(q, w);
  }
  return why;
}

template <class Blocked>
woken wait_here(wait_queue& q, waiter& w, std::int64_t until_ns, bool heed_cancel,
                Blocked blocked) noexcept {
  return wait_here(q, w, until_ns, heed_cancel, blocked, [] { return true; });
}

/// The same, for a call that keeps nothing of its worker: it may end on another one (moving.hpp).
template <class... More>
woken wait_in(wait_queue& q, waiter& w, std::int64_t until_ns, bool heed_cancel,
              More... more) noexcept {
  const woken why = wait_here(q, w, until_ns, heed_cancel, more...);
  forced_move();
  return why;
}

/// A call on the offload pool that a fiber, or a plain thread, waits for. On its stack.
struct awaited_call : offload_call {
  awaited_call() noexcept { finished = &tell; }
  wait_queue done;  // its one waiter; its lock guards `ended`
  bool ended = false;
  waiter caller;

 private:
  static void tell(offload_call& self) noexcept {
    auto& me = static_cast<awaited_call&>(self);
    // The waiter is woken under the lock; once that is free the call may be gone.
    const word_lock waking(me.done.lock);
    me.ended = true;
    if (waiter* const w = dequeue(me.done)) (void)wake_waiter(*w);
  }
};

inline refusal refusal_of(woken why) noexcept {
  switch (why) {
    case woken::by_item:
      return {};
    case woken::by_deadline:
      return std::errc::timed_out;
    case woken::by_cancel:
      return std::errc::operation_canceled;
  }
  return {};
}

inline std::error_code error_of(woken why) noexcept { return refusal_of(why).code(); }

}  // namespace coir::detail
