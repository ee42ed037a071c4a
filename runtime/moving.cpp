// moving.cpp: how a started fiber goes from one worker to another.
//
//   the fiber, on the old worker: wakes its local joiners, tells its end to look for far ones,
//                                 parks, and leaves for the loop (carry_to, step_out)
//   the old worker's loop:        writes `home`, claims the park from afar and pushes the wake link
//                                 (send_off)
//   the new worker:               takes the link like any other and makes the fiber ready; the
//   fiber
//                                 counts itself in (arrive)
//
// Always true:
//   - `home` names the new worker only after nobody stands on the fiber's stack and all its words
//     are as the new owner may find them. The old worker never touches the record afterwards, but
//     for the claim and the push.
//   - It travels by its wake link, so a hand-over cannot fail. A link that a cancel or a detach has
//     under way already is the one it arrives by: who gets it elsewhere forwards it to `home`.
//   - No other park is ended by this claim: a moving fiber waits in no queue, and the passage heeds
//     neither a cancel nor a deadline, which it has none of.
//   - A stop is asked for once more at the arrival: each worker cancels whom it owns when the news
//     reach it, and these may have passed us on the way.
//   - After step_out() `this` is the worker that was left. Only current() may be asked.
//
// The model is tests/model/move.pml.
//
// Comes from: moving.hpp, and run_ready() for send_off().   Goes to: waits.hpp, take_wakes().
#include "runtime/moving.hpp"

#include "runtime/runtime.hpp"

namespace coir::detail {

namespace {

/// False in a computation that it steps: that one is bound to the thread, and its stack to a cache
/// of it.
bool on_own_stack(const record& me) noexcept {
  const auto* const here = static_cast<const std::byte*>(__builtin_frame_address(0));
  return (here >= me.stack_slot && here < me.stack_slot + stack_slot_bytes(me.stack_class)) ||
         COIR_MUTANT(moves_inside_computations);
}

/// Nothing ends this park but the arrival.
struct passage : park_site {
  passage() noexcept { heeds_cancel = false; }
};

}  // namespace

void worker::carry_to(worker& target) noexcept {
  record& me = *current_;
  COIR_ASSERT(&target != this && me.may_move);
  if constexpr (parks_are_checked)
    if (me.head().forbids != nullptr && !COIR_MUTANT(moves_unchecked)) forbidden_park(me);
  passage site;
  me.parked_at = &site;
  me.at = stage::parked;
  // Who waits in the record waits as a fiber of its worker. They look again, and find us elsewhere.
  while (local_joiner* const waiting =
             COIR_MUTANT(move_keeps_local_joiners) ? nullptr : me.local_joiners) {
    me.local_joiners = waiting->next;
    waiting->target = nullptr;
    make_ready(*waiting->fiber);
  }
  // Whoever told this worker of itself would not be known at the new one.
  if (!COIR_MUTANT(move_forgets_far_joiners)) me.far_joiners = true;
  ++counts_.parks;
  --counts_.unswitched;
  --started_;
  --live_;
  const int kept = *errno_;
  leaving_ = &me;
  leaving_for_ = &target;
  if (COIR_MUTANT(move_published_early)) send_off();
  step_out(me);
  current()->arrive(me, kept);
}

/// Leaves for the loop, which is on no fiber's stack and so may give this one away at once. Nothing
/// is asked of a hop for it.
[[gnu::noinline]] COIR_UNINSTRUMENTED void worker::step_out(record& me) noexcept {
  current_ = nullptr;
  bring_belongings(&me, nullptr);
  arch::note_leave(me.head().notes, loop_notes_, false);
  arch::switch_to(me.context, loop_);
  arch::note_arrive(me.head().notes);
}

void worker::send_off() noexcept {
  record& fiber = *std::exchange(leaving_, nullptr);
  const worker& target = *std::exchange(leaving_for_, nullptr);
  const std::uint64_t epoch = current_epoch(fiber);
  // release: pairs with the acquire of whoever asks whether it is the owner; from here on that is
  // the new worker, and what it finds in the record was written before.
  fiber.home.store(target.index(), std::memory_order_release);
  const claim passed = claim_from_afar(fiber, epoch);
  COIR_ASSERT(passed != claim::lost);
  if (passed == claim::won_and_push) shared_.send_wake(shared_, fiber);
}

void worker::arrive(record& me, int kept_errno) noexcept {
  me.parked_at = nullptr;
  ++started_;
  ++live_;
  // relaxed: when the news of the stop came to this worker before us, they brought this flag with
  // them; when they are still to come, they find us at home.
  if (shared_.stopping.load(std::memory_order_relaxed))
    me.wake.fetch_or(wake_cancelled, std::memory_order_relaxed);
  if (!COIR_MUTANT(move_forgets_errno)) *errno_ = kept_errno;
}

refusal move_fiber(unsigned target) noexcept {
  worker* const here = worker::current();
  record* const me = current_fiber();
  if (me == nullptr) return errc::not_in_fiber;
  if (!me->may_move && !COIR_MUTANT(anybody_moves)) return errc::wrong_operation;
  if (!on_own_stack(*me)) return errc::wrong_operation;
  // Its operations are on this worker's ring.
  if (here->operations().keeps(*me) && !COIR_MUTANT(moves_away_from_streams))
    return errc::wrong_operation;
  auto& core = static_cast<runtime_core&>(here->shared());
  if (target >= core.workers()) return std::errc::invalid_argument;
  if (is_cancelled(*me)) {
    here->count_ignored(*me);
    return std::errc::operation_canceled;
  }
  if (core.stopping.load(std::memory_order_relaxed)) return errc::shutting_down;
  if (target != here->index()) here->carry_to(core.at(target));
  return {};
}

#if defined(COIR_FORCE_MIGRATION)
void forced_move() noexcept {
  record* const me = current_fiber();
  if (me == nullptr || !me->may_move || !on_own_stack(*me)) return;
  worker& here = *worker::current();
  if (here.operations().keeps(*me)) return;
  auto& core = static_cast<runtime_core&>(here.shared());
  if (core.workers() < 2 || core.stopping.load(std::memory_order_relaxed)) return;
  here.carry_to(core.at((here.index() + 1) % core.workers()));
}
#endif

}  // namespace coir::detail
