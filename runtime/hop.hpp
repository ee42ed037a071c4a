// hop.hpp: who runs next, and the way there: what every hop from one fiber to another is made of.
// Inlined, because a return that the processor guesses wrong costs more than all of it.
//
// Always true:
//   - choose() takes the oldest ready fiber without a thought as long as no other answer is
//     possible: whatever could change the answer lowers think_at_.
//   - A fiber that leaves its stack to come back on this worker leaves by leave_for(), or for the
//     loop by hop(). (moving.cpp: to come back on another worker.)
//   - What belongs to the fiber and not to the thread changes hands at every hop: errno's value,
//     the C++ exception state, and the floating-point controls of a float fiber.
//
// Comes from: switching.cpp, worker.cpp, this_fiber.cpp.   Goes to: arch/context.hpp.
#pragma once

#include "runtime/worker.hpp"

namespace coir::detail {

/// Who runs soon is fetched into the cache: the record first, and when that has arrived the top of
/// the stack it points to. A crowd does not fit the second level of the cache, so it is fetched
/// earlier; for fewer that costs more than it gives. One line of a stack and no more: each fetch
/// waits until the tables have told where the page is. Yield among 10,000: 35 ns without that line,
/// 28 with it, 32 with three of them; where each return is guessed wrong 55, 65 and 95.
[[gnu::always_inline]] inline void worker::fetch_ahead() noexcept {
  constexpr std::uint32_t crowd = 1500;  // 4 lines of each are touched
  constexpr std::uint32_t record_ahead = 8;
  constexpr std::uint32_t stack_ahead = 2;
  const std::uint32_t waiting = ready_.size();
  if (waiting < 3) return;
  if (waiting < crowd) [[likely]] {
    __builtin_prefetch(&ready_.ahead(2)->context, 1);
    __builtin_prefetch(ready_.ahead(0)->context.sp, 1);
    return;
  }
  __builtin_prefetch(&ready_.ahead(record_ahead)->context, 1);
  __builtin_prefetch(ready_.ahead(stack_ahead)->context.sp, 1);
}

/// Nobody is ready, nobody waits for a first run.
inline bool worker::nobody_waits() const noexcept {
  return ready_.empty() && unstarted_.empty() && !levels_.any();
}

/// Null: nobody may run now, and the loop is to be visited.
[[gnu::always_inline]] COIR_UNINSTRUMENTED inline record* worker::choose() noexcept {
  const std::uint64_t pick = picks_.get();
  if (pick >= think_at_ || ready_.empty()) [[unlikely]]
    return choose_with_care();
  picks_.set(pick + 1);
  record* const next = ready_.pop_front();
  fetch_ahead();
  return next;
}

/// The same, on a stack.
[[gnu::always_inline]] COIR_UNINSTRUMENTED inline record* worker::choose_bound() noexcept {
  for (;;) {
    record* const next = choose();
    if (next == nullptr || next->at != stage::unstarted) return next;
    if (bind(*next)) return next;
    ++counts_.unswitched;
    put_back_unstarted(*next);
  }
}

[[gnu::always_inline]] COIR_UNINSTRUMENTED inline void worker::exchange_belongings(
    record* from, record* to) noexcept {
  // Two tests of words that the switch has in its hands: nobody is inside a catch or unwinding, and
  // nobody is float, which is nearly always. (Who runs has brought its exceptions.)
  const unsigned brought =
      (from != nullptr ? from->brings : 0u) | (to != nullptr ? to->brings : 0u);
  if ((live_exceptions_->any() | brought) == 0) [[likely]]
    return;
  bring_belongings(from, to);
}

/// The value that the fiber left behind in its thread's errno comes back with it.
[[gnu::always_inline]] COIR_UNINSTRUMENTED inline void restore_errno(int* place,
                                                                     int kept) noexcept {
  if (!COIR_MUTANT(errno_not_saved)) *place = kept;
}

/// `from` goes on when somebody switches to it again, on this worker; not always on the same
/// thread, because a runtime without threads is driven by one after the other. So where errno lies
/// is asked of the worker once more.
[[gnu::always_inline]] COIR_UNINSTRUMENTED inline void worker::leave_for(record& from,
                                                                         record& next) noexcept {
  int* const place = errno_;
  const int kept = *place;  // on the stack that is left
  exchange_belongings(&from, &next);
  current_ = &next;
  arch::note_leave(from.head().notes, next.head().notes, false);
  arch::switch_to(from.context, next.context);
  arch::note_arrive(from.head().notes);
  restore_errno(COIR_MUTANT(errno_of_who_left) ? place : errno_, kept);
}

/// bind(), without a call where the stack that was left last fits.
[[gnu::always_inline]] inline bool worker::bind_warm(record& fiber) noexcept {
  const unsigned klass = fiber.stack_class;
  std::byte* slot = dead_slot_;
  if (slot == nullptr || dead_class_ != klass || arch::notes_are_taken ||
      shared_.chosen.scrub_on_exit) [[unlikely]]
    return bind(fiber);
  dead_slot_ = nullptr;
  settle_in(fiber, stacks_.at(klass, slot));
  return true;
}

[[gnu::always_inline]] inline void worker::settle_in(record& fiber, const stack& on) noexcept {
  auto* const head = ::new (header(on)) stack_head{};
  arch::note_stack(head->notes, on.bottom, on.bytes());
  arch::prepare(fiber.context, on.top, &fiber_main, &fiber);
  begin(fiber, on.slot);
}

[[gnu::always_inline]] inline void worker::begin(record& fiber, std::byte* slot) noexcept {
  fiber.stack_slot = slot;
  fiber.at = stage::runnable;
  fiber.brings &= brings_always;
  fiber.ignored = 0;
  ++started_;
}

/// At a pick of an unstarted fiber: of the others a hungry worker gets some.
inline void worker::feed_if_hungry() noexcept {
  if (own_unstarted() >= feeds_from_ && shared_.hungry.any(settings_.workers)) [[unlikely]]
    feed();
}

/// Somebody joins it, or yields to it. Its start is one of those that the others wait for, but the
/// oldest of them does so no longer than ever.
inline void worker::start_by_name(record& fresh) noexcept {
  after_last_ = &fresh;
  leave_line(fresh);
  const std::uint64_t later = picks_.get() - 1 + unstarted_every;
  unstarted_turn_ = std::max(unstarted_turn_,
                             COIR_MUTANT(oldest_starved) ? later : std::min(oldest_turn_, later));
  if (!COIR_MUTANT(joins_feed_nobody)) feed_if_hungry();
}

/// Straight from the running fiber, which is parked, to one that waits for its first run. False:
/// the turn is over, or there is no stack.
[[gnu::always_inline]] COIR_UNINSTRUMENTED inline bool worker::go_and_start(
    record& from, record& fresh) noexcept {
  if (!arch::switch_is_inlined || parks_are_checked || picks_.get() >= pause_at_ ||
      !fresh.treat.usual_level())
    return false;
  if (!bind_warm(fresh)) [[unlikely]]
    return false;
  ++picks_;
  start_by_name(fresh);
  leave_for(from, fresh);
  return true;
}

/// Everybody who is ready runs first.
[[gnu::always_inline]] COIR_UNINSTRUMENTED inline void worker::yield_in_place() noexcept {
  record& me = *current_;
  if (COIR_MUTANT(yield_goes_on)) return;
  const std::uint64_t pick = picks_.get();
  // Who runs and is not of normal priority has set think_at_ to 0.
  if (!arch::switch_is_inlined || parks_are_checked || pick >= think_at_ || ready_.empty())
      [[unlikely]] {
    me.treat.usual_level() ? ready_.push_back(me) : queue_apart(me);
    return hop(me);
  }
  picks_.set(pick + 1);
  record& next = ready_.rotate(me);
  fetch_ahead();
  leave_for(me, next);
}

}  // namespace coir::detail
