// ending.cpp: the end of a fiber: who is told, and who gives the record back.
//
// Always true:
//   - The answer is complete before join_done is set; whoever reads done with acquire sees it.
//   - The record is recycled once, by the last of: its end, its handle, its wake link.
//
// Comes from: worker::finish, release of a handle.   Goes to: joiners, arena.
#include "runtime/worker.hpp"

namespace coir::detail {

void worker::end_of(record& fiber) noexcept {
  const std::uint64_t generation = fiber.generation.load(std::memory_order_relaxed);
  if (fiber.scope != nullptr) fiber.scope->ended(*fiber.scope, fiber);
  while (local_joiner* const waiting = fiber.local_joiners) {
    fiber.local_joiners = waiting->next;
    waiting->target = nullptr;
    make_ready(*waiting->fiber);
  }
  fiber.at = stage::finished;
  --live_;
  load_live_.store(live_, std::memory_order_relaxed);
  // acq_rel: release publishes the answer to whoever joins; acquire sees what was done before the
  // handle was let go.
  const std::uint32_t before = fiber.join.exchange(join_done, std::memory_order_acq_rel);
  if ((before & join_waiters) != 0 && !COIR_MUTANT(joiners_forgotten))
    wake_joiners(fiber, generation);
  if ((before & join_detached) != 0) {
    // Let go between finish()'s look and now: nobody else knows the record.
    if (fiber.held != holds::nothing) fiber.ops->drop(fiber);
    recycle(fiber);
  }
  // release: pairs with the acquire of whoever counts: all this fiber did is done.
  finished.store(finished.load(std::memory_order_relaxed) + 1, std::memory_order_release);
}

void worker::wake_joiners(record& fiber, std::uint64_t generation) noexcept {
  join_stripe& stripe = shared_.stripe_of(fiber);
  const word_lock held(stripe.queue.lock);
  for (waiter* w = stripe.queue.head; w != nullptr;) {
    waiter* const after = w->next;
    const auto& j = static_cast<joiner&>(*w);
    if (j.target == &fiber && j.generation == generation) {
      unlink(stripe.queue, *w);
      (void)wake_waiter(*w);
    }
    w = after;
  }
}

void recycle(record& fiber) noexcept {
  if (!may_recycle(fiber)) return;
  commons& shared = *fiber.shared;
  fiber.ops = nullptr;
  fiber.scope = nullptr;
  fiber.home.store(no_home, std::memory_order_relaxed);
  // release: pairs with the acquire in wait(fiber_id): whoever still sees the old generation sees
  // the old join word, too.
  if (!COIR_MUTANT(generation_reused)) fiber.generation.fetch_add(1, std::memory_order_release);
  worker* const here = worker::current();
  if (here != nullptr && &here->shared() == &shared) return here->give_back(fiber.slot);
  shared.records.give(fiber.slot);
  // seq_cst: orders the gift before the look; partner: whoever raises `starving` and then tries to
  // take. One of the two sees the other.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (shared.starving.load(std::memory_order_relaxed) != 0) [[unlikely]]
    wake_for_room(shared, 1);
}

bool wake_waiter(waiter& w) noexcept {
  if (w.fiber == nullptr) {
    // release: pairs with the thread's acquire; the word is not touched again after the wake, whose
    // address may be gone.
    if (w.word.exchange(1, std::memory_order_release) != 0) return false;
    futex_wake(w.word, 1);
    return true;
  }
  record& fiber = *w.fiber;
  worker* const here = worker::current();
  if (here != nullptr && &here->shared() == fiber.shared &&
      (fiber.home.load(std::memory_order_relaxed) == here->index() ||
       COIR_MUTANT(readied_by_a_stranger))) {
    if (!claim_at_home(fiber, w.epoch)) return false;
    here->make_ready(fiber);
    return true;
  }
  switch (claim_from_afar(fiber, w.epoch)) {
    case claim::lost:
      return false;
    case claim::won_and_push:
      fiber.shared->send_wake(*fiber.shared, fiber);
      return true;
    case claim::won:
      return true;
  }
  return false;
}

void wake_for_room(commons& all, unsigned count) noexcept { wake_some(all.room, count); }

void wake_some(wait_queue& room, unsigned count) noexcept {
  const word_lock held(room.lock);
  while (count != 0) {
    waiter* const w = dequeue(room);
    if (w == nullptr) return;
    if (wake_waiter(*w)) --count;
  }
}

}  // namespace coir::detail
