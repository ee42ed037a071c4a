// waits.hpp: who ends a park, and how the news reaches the fiber's own worker.
//
// The word `record::wake` is {epoch, detached, orphan, cancelled, claimed, queued}. A park that
// others can end is named by its epoch:
//   - claim_from_afar (another thread): one CAS from {epoch, not claimed} to claimed | queued. The
//     winner, and only it, pushes the record's one wake link, unless a cancel already has it on its
//     way.
//   - claim_at_home (the owner: an item offered on the same worker, a timer, a cancel): one CAS to
//     epoch + 1.
//   - take_link (the owner, when the link arrives): clears queued and claimed; a claimed park's
//     epoch ends here.
//
// Always true:
//   - Of all who want to end a park exactly one succeeds; the others learn that they lost and go on
//     to the next waiter.
//   - A fiber whose park was claimed from afar stays parked until the link arrives, so the claimer
//     may still read it.
//   - A waiter is linked in at most one queue; it is unlinked under that queue's lock, before its
//     stack frame ends.
//   - A claim is made under the lock of the queue that the waiter was popped from; the waiter is
//     not touched after unlock.
//
// Comes from: sync, scope, worker (join), offload.   Goes to: the owner's inbox, a thread's futex.
#pragma once

#include "coir/detail/atomic.hpp"
#include "coir/detail/wait_queue.hpp"
#include "runtime/fiber.hpp"
#include "runtime/futex.hpp"

namespace coir::detail {

/// One party that waits in a queue: a parked fiber, or a plain thread asleep on `word`.
struct waiter {
  plain<waiter*> previous = nullptr;
  plain<waiter*> next = nullptr;
  plain<record*> fiber = nullptr;  // null: a plain thread
  plain<std::uint64_t> epoch = 0;  // of the fiber's park
  plain<bool> linked = false;
  plain<bool> ended_at_home = false;  // by somebody of the fiber's own worker
  atomic<std::uint32_t> word{0};      // thread: 0 waiting, 1 ended
};

// -- the wake word

constexpr std::uint64_t epoch_of(std::uint64_t word) noexcept { return word / wake_epoch; }

/// The epoch that a park beginning now has. Owner only.
inline std::uint64_t current_epoch(const record& fiber) noexcept {
  // relaxed: only the owner moves the epoch on, at home or when it takes the link.
  return epoch_of(fiber.wake.load(std::memory_order_relaxed));
}

enum class claim : std::uint8_t { lost, won, won_and_push };

/// Ends the park `epoch` of a fiber that belongs to another thread. won_and_push: the caller pushes
/// the link.
inline claim claim_from_afar(record& fiber, std::uint64_t epoch) noexcept {
  std::uint64_t seen = fiber.wake.load(std::memory_order_relaxed);
  do {
    if (epoch_of(seen) != epoch && !COIR_MUTANT(claim_ignores_epoch)) return claim::lost;
    if ((seen & wake_claimed) != 0 && !COIR_MUTANT(claim_twice)) return claim::lost;
    // release: what the claimer wrote (the item, the lock it hands over) is seen by the owner,
    // which takes the link with acquire.
  } while (!fiber.wake.compare_exchange_weak(seen, seen | wake_claimed | wake_queued,
                                             std::memory_order_acq_rel, std::memory_order_relaxed));
  const bool on_its_way = (seen & wake_queued) != 0 && !COIR_MUTANT(link_pushed_twice);
  return on_its_way ? claim::won : claim::won_and_push;
}

/// Ends the park `epoch` on the fiber's own worker. True: the caller makes it ready.
inline bool claim_at_home(record& fiber, std::uint64_t epoch) noexcept {
  std::uint64_t seen = fiber.wake.load(std::memory_order_relaxed);
  do {
    if (epoch_of(seen) != epoch) return false;
    if ((seen & wake_claimed) != 0 && !COIR_MUTANT(home_claims_claimed)) return false;
    // relaxed would do for the winner, which is the owner; acq_rel keeps one order for all claims.
  } while (!fiber.wake.compare_exchange_weak(seen, seen + wake_epoch, std::memory_order_acq_rel,
                                             std::memory_order_relaxed));
  return true;
}

struct taken_link {
  bool claimed;    // the park is over: make the fiber ready
  bool cancelled;  // somebody asked the fiber to stop
  bool orphan;     // nobody needs the record any more: recycle it
  bool detached;   // its handle is gone
};

/// The owner has the link in its hands. After this the link may be pushed again at once.
inline taken_link take_link(record& fiber) noexcept {
  std::uint64_t seen = fiber.wake.load(std::memory_order_relaxed);
  std::uint64_t next = 0;
  do {
    COIR_ASSERT((seen & wake_queued) != 0);
    next = seen & ~(wake_queued | wake_claimed | wake_detached);
    if ((seen & wake_claimed) != 0) next += wake_epoch;
    // acquire: pairs with the claimer's release.
  } while (!fiber.wake.compare_exchange_weak(seen, next, std::memory_order_acq_rel,
                                             std::memory_order_relaxed));
  return {(seen & wake_claimed) != 0, (seen & wake_cancelled) != 0, (seen & wake_orphan) != 0,
          (seen & wake_detached) != 0};
}

/// Latches the request to stop. True: the caller pushes the link.
inline bool latch_cancel(record& fiber) noexcept {
  const std::uint64_t seen =
      fiber.wake.fetch_or(wake_cancelled | wake_queued, std::memory_order_acq_rel);
  // An earlier cancel was pushed by whoever latched it; a queued link will be looked at for
  // `cancelled` too.
  return (seen & wake_queued) == 0;
}

/// The last holder, on another thread than the owner's, lets go. True: the caller pushes the link.
inline bool latch_detach(record& fiber) noexcept {
  const std::uint64_t seen =
      fiber.wake.fetch_or(wake_detached | wake_queued, std::memory_order_acq_rel);
  return (seen & wake_queued) == 0;
}

/// Somebody asked the fiber to stop.
inline bool was_cancelled(const record& fiber) noexcept {
  // relaxed: the latch alone is asked for; nothing was published with it.
  return (fiber.wake.load(std::memory_order_relaxed) & wake_cancelled) != 0;
}

/// A park of it is answered operation_canceled: it was cancelled, or may not park just now. Owner
/// only.
inline bool is_cancelled(const record& fiber) noexcept {
  return was_cancelled(fiber) || (fiber.brings & refuses_parks) != 0;
}

/// The last user of a finished record asks: may I recycle it? False: the link is on its way, and
/// its taker will.
inline bool may_recycle(record& fiber) noexcept {
  if ((fiber.wake.load(std::memory_order_acquire) & wake_queued) == 0) return true;
  if (COIR_MUTANT(recycle_with_link_queued)) return true;
  return (fiber.wake.fetch_or(wake_orphan, std::memory_order_acq_rel) & wake_queued) == 0;
}

/// The owner, worker `me`, has taken the fiber's link out of its inbox. `owner` says how to pass a
/// link on, recycle, drop_unheld, make_ready and stop_parked.
template <class Owner>
void hear(record& fiber, std::uint32_t me, Owner& owner) noexcept {
  // Deflected or moved while a cancel was on its way: the link follows. acquire: pairs with the
  // release of `home` by who mailed it or sent it off.
  if (fiber.home.load(std::memory_order_acquire) != me && !COIR_MUTANT(link_kept))
    return owner.pass_on(fiber);
  // Asked while the queued link still keeps the record from being recycled: once it is taken, a
  // finished one may become somebody else's. A live one is ours and stays so.
  const bool ended = fiber.at == stage::finished;
  const taken_link news = take_link(fiber);
  if (news.orphan) return owner.recycle(fiber);
  if (ended) return news.detached ? owner.drop_unheld(fiber) : void();
  if (news.detached) fiber.let_go = true;
  if (news.claimed) return owner.make_ready(fiber);
  if (news.cancelled) owner.stop_parked(fiber);
}

// -- the inbox

/// Something to be done by a worker that is not waking a fiber: closing a descriptor, cancelling
/// everything.
struct errand : wake_link {
  void (*run)(errand& self, void* worker) noexcept = nullptr;
};

/// Wake links and errands for one worker. Many pushers, one taker, unbounded because intrusive.
class wake_inbox {
 public:
  void push(record& fiber) noexcept { push(static_cast<wake_link&>(fiber), 0); }
  void push(errand& what) noexcept { push(static_cast<wake_link&>(what), 1); }
  bool empty() const noexcept { return head_.load(std::memory_order_relaxed) == 0; }

  /// Takes everything, oldest first, and gives each to `on_record` or `on_errand`.
  template <class OnRecord, class OnErrand>
  unsigned take(OnRecord on_record, OnErrand on_errand) noexcept {
    // acquire: pairs with the pushers' release; what they wrote before is visible.
    std::uintptr_t newest = head_.exchange(0, std::memory_order_acquire);
    std::uintptr_t oldest = 0;
    while (newest != 0) {  // reverse: the list is last in, first out
      wake_link* const link = untag(newest);
      wake_link* const under = link->next;
      const auto below = reinterpret_cast<std::uintptr_t>(under);
      link->next = reinterpret_cast<wake_link*>(oldest);
      oldest = newest;
      newest = below;
    }
    unsigned taken = 0;
    while (oldest != 0) {
      wake_link* const link = untag(oldest);
      const bool is_errand = (oldest & 1) != 0;
      wake_link* const after = link->next;
      oldest = reinterpret_cast<std::uintptr_t>(after);
      ++taken;
      if (is_errand) {
        on_errand(*static_cast<errand*>(link));
      } else {
        on_record(*static_cast<record*>(link));
      }
    }
    return taken;
  }

 private:
  static wake_link* untag(std::uintptr_t word) noexcept {
    return reinterpret_cast<wake_link*>(word & ~std::uintptr_t{1});
  }
  void push(wake_link& link, std::uintptr_t tag) noexcept {
    std::uintptr_t seen = head_.load(std::memory_order_relaxed);
    do {
      link.next = reinterpret_cast<wake_link*>(seen);
      // release: publishes link.next and all that the pusher did before; pairs with take().
    } while (!head_.compare_exchange_weak(seen, reinterpret_cast<std::uintptr_t>(&link) | tag,
                                          std::memory_order_release, std::memory_order_relaxed));
  }

  alignas(cache_line_bytes) atomic<std::uintptr_t> head_{0};  // bit 0: the link is an errand
};

// -- a plain thread that waits

/// Ends the wait of a thread. False: it had ended already.
inline bool wake_thread(waiter& w) noexcept {
  // release: pairs with the thread's acquire; the word is not touched again after the wake, whose
  // address may be gone.
  if (w.word.exchange(1, std::memory_order_release) != 0) return false;
  futex_wake(w.word, 1);
  return true;
}

/// Sleeps until `w` was ended by wake_thread or `until_ns` came.
inline woken sleep_as_thread(waiter& w, std::int64_t until_ns) noexcept {
  // acquire: pairs with the release in wake_thread.
  while (w.word.load(std::memory_order_acquire) == 0) {
    if (futex_wait(w.word, 0, until_ns)) continue;
    return w.word.exchange(1, std::memory_order_acquire) == 0 ? woken::by_deadline : woken::by_item;
  }
  return woken::by_item;
}

// -- the waiters of a queue; all of these under its lock

inline void enqueue(wait_queue& q, waiter& w) noexcept {
  COIR_ASSERT(!w.linked);
  w.previous = q.tail;
  w.next = nullptr;
  (q.tail != nullptr ? q.tail->next : q.head) = &w;
  q.tail = &w;
  w.linked = true;
}

inline void unlink(wait_queue& q, waiter& w) noexcept {
  COIR_ASSERT(w.linked);
  (w.previous != nullptr ? w.previous->next : q.head) = w.next;
  (w.next != nullptr ? w.next->previous : q.tail) = w.previous;
  w.linked = false;
}

inline waiter* dequeue(wait_queue& q) noexcept {
  waiter* const w = q.head;
  if (w != nullptr) unlink(q, *w);
  return w;
}

/// Takes the lock itself. False: somebody has ended the wait of `w`; the news of it must be waited
/// for.
inline bool leave(wait_queue& q, waiter& w) noexcept {
  const word_lock held(q.lock);
  if (!w.linked) return false;
  unlink(q, w);
  return true;
}

/// After a wait that an item ended: until whoever ended it has let go of the queue. Nobody parks
/// with its lock, so one of the same worker has let go before the waiter ran.
inline void see_waker_off(wait_queue& q, waiter& w) noexcept {
  if (w.ended_at_home || COIR_MUTANT(waker_not_seen_off)) return;
  (void)leave(q, w);
}

}  // namespace coir::detail
