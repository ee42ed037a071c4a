// ending.cpp: the end of a fiber: who is told, and who gives the record back.
//
// Always true:
//   - The answer is complete before join_done is set; whoever reads done with acquire sees it.
//   - A joiner on another worker stands in its stripe before it tells the owner, who either has not
//     ended the fiber yet and will look into the stripe then, or looks at once.
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
  const bool let_go = fiber.let_go;
  // relaxed: a hint, for those whose errand has not been run yet; it finds them in any case.
  const bool far_joiners = fiber.far_joiners || joiners_told_.load(std::memory_order_relaxed);
  // release: publishes the answer. From here on the record may belong to the holder.
  fiber.join.store(join_done, std::memory_order_release);
  if (far_joiners && !COIR_MUTANT(joiners_forgotten)) wake_joiners(fiber, generation);
  if (let_go) recycle(fiber);
  // release: pairs with the acquire of whoever counts: all this fiber did is done.
  finished.store(finished.load(std::memory_order_relaxed) + 1, std::memory_order_release);
}

/// The fiber has ended, and only then came the news that nobody holds it. An answer's destructor
/// may wait, which a loop cannot: it runs on a fiber, and that is this one once more. It is counted
/// once more, too.
void worker::drop_unheld(record& fiber) noexcept {
  if (fiber.held == holds::nothing || fiber.held == holds::error ||
      (fiber.held == holds::answer && fiber.ops->trivial_answer))
    return recycle(fiber);
  if (current() != this) {  // no loop and no fiber any more: the thread that ended them may wait
    fiber.ops->drop(fiber);
    return recycle(fiber);
  }
  fiber.let_go = true;
  spawned.store(spawned.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  enqueue(fiber);
}

void worker::tell_of_joiner(unsigned stripe) noexcept {
  // release: the joiner stands in the stripe; pairs with the acquire in look_for_joiners().
  joiners_in_[stripe / 64].fetch_or(std::uint64_t{1} << stripe % 64, std::memory_order_release);
  if (!joiners_told_.exchange(true, std::memory_order_acq_rel)) send_errand(joiners_errand_);
}

void worker::look_for_joiners() noexcept {
  // acq_rel: a stripe that is told of from here on comes with an errand of its own.
  joiners_told_.exchange(false, std::memory_order_acq_rel);
  for (unsigned i = 0; i < joiners_in_.size(); ++i) {
    for (std::uint64_t in = joiners_in_[i].exchange(0, std::memory_order_acquire); in != 0;
         in &= in - 1)
      meet_joiners(shared_.stripes[i * 64 + static_cast<unsigned>(std::countr_zero(in))]);
  }
}

void worker::meet_joiners(join_stripe& stripe) noexcept {
  const word_lock held(stripe.queue.lock);
  for (waiter* w = stripe.queue.head; w != nullptr;) {
    waiter* const after = w->next;
    const auto& j = static_cast<joiner&>(*w);
    // What lives here can end only here, so it does not end while we look. The join word first: 0
    // of a later life, stored with release, brings that life's generation.
    if ((j.target->join.load(std::memory_order_acquire) & join_done) != 0 ||
        j.target->generation.load(std::memory_order_acquire) != j.generation) {
      unlink(stripe.queue, *w);
      (void)wake_waiter(*w);
    } else if (j.target->home.load(std::memory_order_acquire) == settings_.index) {
      j.target->far_joiners = true;
    }
    w = after;
  }
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
  // release: pairs with the acquire in wait(fiber_id): whoever still sees the old generation sees
  // the old join word, too.
  // Nobody else writes it: the last user recycles once.
  const std::uint64_t next = fiber.generation.load(std::memory_order_relaxed) + 1;
  if (!COIR_MUTANT(generation_reused)) fiber.generation.store(next, std::memory_order_release);
  // release: pairs with the acquire in join_from_afar(): who sees no home sees the next generation.
  fiber.home.store(no_home, std::memory_order_release);
  worker* const here = worker::current();
  if (here != nullptr && &here->shared() == &shared) return here->give_back(fiber.slot);
  shared.records.give(fiber.slot);
  // seq_cst: orders the gift before the look; partner: whoever raises `starving` and then tries to
  // take. One of the two sees the other.
  fence(std::memory_order_seq_cst);
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
