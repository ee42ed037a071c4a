// switching.cpp: how a worker runs fibers: switch to them, park them, end them.
//
// Always true:
//   - finish() is the one place where a fiber leaves its stack for good.
//   - A record is not touched after its join word said done, unless it was detached and so belongs
//     to nobody else.
//
// Comes from: worker.hpp.   Goes to: hop.hpp.
#include <cerrno>
#include <cstdio>

#include "runtime/hop.hpp"

namespace coir::detail {

namespace {
constexpr unsigned hands_in_a_row = 8;
constexpr std::uint16_t ignored_reported = 1'000;

stack_head& head_of(std::byte* slot, unsigned klass) noexcept {
  return *static_cast<stack_head*>(header_of(slot, klass));
}
bool is_float(const record* fiber) noexcept {
  return fiber != nullptr && (fiber->brings & brings_float) != 0;
}
}  // namespace

// -- stacks

bool worker::bind(record& fiber) noexcept {
  const unsigned klass = fiber.stack_class;
  std::byte* slot = dead_slot_;
  if (slot != nullptr && dead_class_ == klass) {
    dead_slot_ = nullptr;
    arch::note_gone(head_of(slot, klass).notes);
    if (shared_.chosen.scrub_on_exit) [[unlikely]]
      shared_.pool->scrub(stacks_.at(klass, slot));
  } else {
    const int kept = *errno_;  // the kernel may say something about a fresh stack
    slot = stacks_.take(klass).slot;
    *errno_ = kept;
    if (slot == nullptr) [[unlikely]]
      return false;
  }
  settle_in(fiber, stacks_.at(klass, slot));
  return true;
}

void worker::retire_dead() noexcept {
  if (dead_slot_ == nullptr) return;
  std::byte* const slot = std::exchange(dead_slot_, nullptr);
  arch::note_gone(head_of(slot, dead_class_).notes);
  stacks_.give(stacks_.at(dead_class_, slot));
  if (no_stack_) [[unlikely]]
    stack_may_be_had();
}

void worker::fail_oldest_unstarted() noexcept {
  // Nobody is left who could give a stack back: the oldest ends with an error instead of waiting
  // for ever. Who joined it may go on, so that the next one waits as long.
  if (!COIR_MUTANT(all_end_for_one)) hungry_looks_ = 0;
  record* const oldest = take_any_unstarted();
  if (oldest == first_) first_ = nullptr;
  stack_may_be_had();
  oldest->ops->drop(*oldest);
  oldest->fail_with(make_error_code(errc::stack_limit));
  current_ = nullptr;
  end_of(*oldest);
}

// -- hopping

// Out of line: 40 instructions less in the hop of those who have nothing to bring.
[[gnu::noinline]] COIR_UNINSTRUMENTED void worker::bring_belongings(record* from,
                                                                    record* to) noexcept {
  if (!COIR_MUTANT(float_left_behind))
    arch::exchange_float(is_float(from) ? &from->head().controls : nullptr,
                         is_float(to) ? &to->head().controls : nullptr);
  arch::exception_state nobody[2];
  arch::exception_state& save = from != nullptr ? from->head().exceptions : nobody[0];
  arch::exception_state& restore = to != nullptr ? to->head().exceptions : nobody[1];
  arch::swap_exception_state(*live_exceptions_, save, restore);
  if (from != nullptr && save.any() != 0) from->brings |= brings_exceptions;
  if (to != nullptr) to->brings &= brings_always;
  if (from != nullptr) count_run(*from);
}

/// Whether the loop's turns may be served on the stack of `from`, which has parked and found nobody
/// ready. A switch to the loop and back costs more than the two: the loop's returns and the fiber's
/// are no pairs, and each of them is guessed wrong. Among many fibers it does not happen, because
/// it may touch one page more of the stack that it stands on.
inline bool worker::may_serve_on(const record& from) const noexcept {
  constexpr std::uint64_t few = 1024;
  constexpr std::size_t room_bytes = 16 << 10;  // the loop needs 2 KiB, what it calls may log
  const auto* const here = static_cast<const std::byte*>(__builtin_frame_address(0));
  // One number, so that whoever stands elsewhere, in a computation that the fiber steps, has none.
  const auto above =
      static_cast<std::size_t>(here - stacks_.bottom_of(from.stack_class, from.stack_slot));
  return nobody_waits() && live_.get() <= few && (from.brings | live_exceptions_->any()) == 0 &&
         above >= room_bytes && above < stack_slot_bytes(from.stack_class) &&
         !COIR_MUTANT(loop_always_apart);
}

[[gnu::noinline]] COIR_UNINSTRUMENTED void worker::hop(record& from) noexcept {
  COIR_ASSERT(current_ == &from);
  if constexpr (parks_are_checked)
    if (from.head().forbids != nullptr && !COIR_MUTANT(parks_unchecked)) forbidden_park(from);
  record* next = nobody_waits() ? nullptr : choose_bound();
  if (next == nullptr && may_serve_on(from)) next = serve_in_place(from);
  if (next == &from) {
    if ((from.brings & brings_price) != 0) [[unlikely]]
      count_run(from);
    current_ = next;
    ++counts_.unswitched;
    return;
  }
  if (next != nullptr) return leave_for(from, *next);
  const int kept = *errno_;
  exchange_belongings(&from, nullptr);
  --counts_.unswitched;
  current_ = nullptr;
  arch::note_leave(from.head().notes, loop_notes_, false);
  arch::switch_to(from.context, loop_);
  arch::note_arrive(from.head().notes);
  restore_errno(errno_, kept);
}

COIR_UNINSTRUMENTED void worker::run_ready() noexcept {
  if (nobody_waits()) return;
  record* const next = choose_bound();
  if (next == nullptr) return;
  exchange_belongings(nullptr, next);
  current_ = next;
  arch::note_leave(loop_notes_, next->head().notes, false);
  arch::switch_to(loop_, next->context);
  arch::note_arrive(loop_notes_);
  current_ = nullptr;
  if (leaving_ != nullptr) [[unlikely]]
    send_off();
}

[[gnu::always_inline]] inline void worker::begin_park(record& me, park_site* site) noexcept {
  me.parked_at = site;
  me.at = stage::parked;
  ++counts_.parks;
}

/// The deadline lies in the record, in what nothing else needs while the body runs, and where that
/// may be needed on the fiber's own stack. Whoever arms or cancels touches its neighbours in the
/// wheel, and whoever deals out a slot touches all of them: records lie close together, stacks do
/// not, and each is a page of its own.
[[gnu::always_inline]] inline void worker::hop_until(record& me, std::int64_t until_ns) noexcept {
  timer here;
  timer& deadline = me.ops->leaves_half || COIR_MUTANT(deadline_over_answer)
                        ? *::new (me.storage + storage_bytes / 2) timer
                        : here;
  deadline.owner = me.slot;
  timers_.arm(deadline, until_ns);
  hop(me);
  if (deadline.armed()) timers_.cancel(deadline);
}

/// Until somebody ends the park that has begun.
[[gnu::always_inline]] inline void worker::wait_until(record& me, std::int64_t until_ns,
                                                      bool heed_cancel) noexcept {
  if (until_ns == no_wait_ns) [[unlikely]]
    stop_parked(me, woken::by_deadline);
  // A cancel that came before: the park is ended by its own stop, like any other.
  if (heed_cancel && is_cancelled(me)) [[unlikely]] {
    if (COIR_MUTANT(cancel_answers_once)) me.wake.fetch_and(~wake_cancelled);
    count_ignored(me);
    stop_parked(me, woken::by_cancel);
  }
  if (until_ns == never_ns || until_ns == no_wait_ns) [[likely]]
    return hop(me);
  hop_until(me, until_ns);
}

woken worker::park(park_site& site, std::int64_t until_ns, bool heed_cancel) noexcept {
  record& me = *current_;
  site.why = woken::by_item;
  site.heeds_cancel = heed_cancel;
  begin_park(me, &site);
  wait_until(me, until_ns, heed_cancel);
  me.parked_at = nullptr;
  return site.why;
}

woken worker::sleep(std::int64_t until_ns) noexcept {
  record& me = *current_;
  begin_park(me, nullptr);
  wait_until(me, until_ns, true);
  return me.slept_until;
}

COIR_UNINSTRUMENTED woken worker::start_and_park(record& first, park_site& site,
                                                 std::int64_t until_ns) noexcept {
  record& me = *current_;
  if (until_ns != never_ns || is_cancelled(me)) [[unlikely]] {
    ask_for(first);
    return park(site, until_ns, true);
  }
  site.why = woken::by_item;
  site.heeds_cancel = true;
  begin_park(me, &site);
  if (!go_and_start(me, first)) [[unlikely]] {
    ask_for(first);
    hop(me);
  }
  me.parked_at = nullptr;
  return site.why;
}

void worker::count_ignored(record& fiber) noexcept {
  if (fiber.ignored >= ignored_reported || ++fiber.ignored != ignored_reported) return;
  if (COIR_MUTANT(ignored_answers_unreported)) return;
  const int saved = errno;
  char text[384];
  std::snprintf(
      text, sizeof text,
      "fiber %u '%s' (%s:%d) was cancelled and has ignored %u answers operation_canceled: "
      "it keeps its stack for as long as it goes on",
      fiber.slot, fiber.name, fiber.file, fiber.line, unsigned{ignored_reported});
  shared_.chosen.log({log_record::level::warning, text});
  errno = saved;
}

COIR_UNINSTRUMENTED void worker::yield() noexcept { yield_in_place(); }

void worker::yield_to(record& next) noexcept {
  if (!COIR_MUTANT(yields_to_anybody)) ask_for(next);
  yield();
}

// -- the life of a fiber

// Both are part of fiber_main: a call that never returns would leave an entry in the CPU's stack of
// return addresses, and every return of the fiber that goes on would be guessed wrong.
[[gnu::always_inline]] COIR_UNINSTRUMENTED inline void worker::leave_for_good(
    record* next, std::byte* slot, unsigned klass) noexcept {
  retire_dead();
  dead_slot_ = slot;
  dead_class_ = klass;
  if (no_stack_) [[unlikely]]
    stack_may_be_had();
  exchange_belongings(nullptr, next);
  current_ = next;
  arch::context nobody;
  auto& notes = head_of(slot, klass).notes;
  if (next != nullptr) {
    arch::note_leave(notes, next->head().notes, true);
    arch::switch_to(nobody, next->context);
  } else {
    --counts_.unswitched;
    arch::note_leave(notes, loop_notes_, true);
    arch::switch_to(nobody, loop_);
  }
  __builtin_unreachable();
}

/// The end of a fiber is told: its scope, those who join it here, and those who join from afar.
[[gnu::always_inline]] inline void worker::tell_end(record& fiber) noexcept {
  const std::uint64_t generation = fiber.generation.load(std::memory_order_relaxed);
  if (fiber.scope != nullptr) [[unlikely]]
    fiber.scope->ended(*fiber.scope, fiber);
  while (local_joiner* const waiting = fiber.local_joiners) {
    fiber.local_joiners = waiting->next;
    waiting->target = nullptr;
    make_ready(*waiting->fiber);
  }
  fiber.at = stage::finished;
  --live_;
  const bool let_go = fiber.let_go;
  if (publish_end(fiber, joiners_)) [[unlikely]]
    wake_far_joiners(fiber, generation);
  if (let_go || COIR_MUTANT(recycled_while_held)) recycle(fiber);
  // release: pairs with the acquire of whoever counts: all this fiber did is done.
  finished.store(finished.load(std::memory_order_relaxed) + 1, std::memory_order_release);
}

void worker::end_of(record& fiber) noexcept { tell_end(fiber); }

/// Whose turn it is when a fiber has ended: that of the unstarted one which was spawned after it,
/// which costs no switch, but not for ever. Not that of the oldest: where fibers spawn and join
/// fibers that would be a larger part of the tree, and all of its parts would be open at once.
[[gnu::always_inline]] COIR_UNINSTRUMENTED inline record* worker::hand_on() noexcept {
  if (after_last_ != nullptr && !no_stack_ && handed_on_ < hands_in_a_row && first_ == nullptr &&
      picks_.get() < pause_at_ && !levels_.any()) {
    ++handed_on_;
    ++picks_;
    return start_next(COIR_MUTANT(hands_on_to_the_oldest) ? *unstarted_.front() : *after_last_);
  }
  if (std::exchange(handed_on_, 0) != 0) {  // now those who wait for their turn
    const std::uint64_t not_used = std::exchange(starts_left_, 0) * unstarted_every;
    unstarted_turn_ = std::max(unstarted_turn_ - std::min(unstarted_turn_, not_used),
                               picks_.get() + unstarted_every - 1);
    unstarted_turn_ = std::min(unstarted_turn_, oldest_turn_);
    think_at_ = std::min(think_at_, unstarted_turn_);
  }
  return choose();
}

[[gnu::always_inline]] COIR_UNINSTRUMENTED inline record* worker::finish(record& fiber) noexcept {
  COIR_ASSERT(live_exceptions_->any() == 0);
  // acquire: pairs with latch_detach(). Its link is still on its way: recycling waits for that.
  if ((fiber.wake.load(std::memory_order_acquire) & wake_detached) != 0 &&
      !COIR_MUTANT(detach_heard_late))
    fiber.let_go = true;
  if (fiber.let_go) {
    if (fiber.scope != nullptr) fiber.scope->answered(*fiber.scope, fiber);
    fiber.ops->drop(fiber);
  }
  if ((fiber.brings & brings_always) != 0) [[unlikely]] {
    if (is_float(&fiber)) arch::reset_float_control();
    count_run(fiber);
  }
  std::byte* const slot = std::exchange(fiber.stack_slot, nullptr);
  const unsigned klass = fiber.stack_class;
  tell_end(fiber);
  --started_;
  // In place: the next unstarted fiber begins on the stack that this one leaves, if it fits.
  record* next = hand_on();
  if (next != nullptr && next->at == stage::unstarted) {
    if (settings_.starts_in_place && next->stack_class == klass) [[likely]] {
      ++counts_.unswitched;
      begin(*next, slot);
      current_ = next;
      return next;
    }
    if (!bind(*next)) {
      ++counts_.unswitched;
      put_back_unstarted(*next);
      next = choose();  // who has a stack
    }
  }
  leave_for_good(next, slot, klass);
}

COIR_UNINSTRUMENTED void worker::fiber_main(void* first) noexcept {
  auto* fiber = static_cast<record*>(first);
  arch::note_arrive(fiber->head().notes);
  for (;;) {
    worker& w = *current();
    *w.errno_ = 0;
    arch::reset_float_control();
    const bool unwanted = is_cancelled(*fiber) && !COIR_MUTANT(cancel_unheeded_before_run);
    if (unwanted || w.shared_.stopping.load(std::memory_order_relaxed)) {
      fiber->ops->drop(*fiber);
      fiber->fail_with(std::make_error_code(std::errc::operation_canceled));
    } else if (fiber->held == holds::closure) {  // else only its answer is to be dropped
      fiber->ops->run(*fiber);
      if (COIR_MUTANT(exception_lost) && fiber->held == holds::exception) {
        fiber->ops->drop(*fiber);
        fiber->fail_with({});
      }
    }
    worker* const home = current();
    if (home == nullptr) [[unlikely]]
      returned_after_fork(*fiber);
    fiber = home->finish(*fiber);
  }
}

}  // namespace coir::detail
