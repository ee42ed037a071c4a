// switching.cpp: how a worker runs fibers: choose, bind a stack, hop, end.
//
// Always true:
//   - hop() is the one place where a fiber leaves its stack to come back on this worker, finish()
//     the one where it leaves for good. (moving.cpp: to come back on another worker.)
//   - What belongs to the fiber and not to the thread changes hands at every hop: errno's value,
//     the C++ exception state, and the floating-point controls of a float fiber.
//   - A record is not touched after its join word said done, unless it was detached and so belongs
//     to nobody else.
//
// Comes from: worker.hpp.   Goes to: arch/context.hpp.
#include <cerrno>
#include <cstdio>

#include "runtime/worker.hpp"

namespace coir::detail {

namespace {
constexpr std::int64_t turn_ns = 200'000;
constexpr unsigned picks_per_clock = 32;  // the clock costs 20 ns, a hop 5
constexpr unsigned unstarted_every = 8;
constexpr std::uint32_t crowd = 1500;  // 6 lines of each are touched: half a megabyte
constexpr std::uint32_t record_ahead = 8;
constexpr std::uint32_t stack_ahead = 4;
constexpr unsigned stack_lines = 3;
constexpr std::uint16_t ignored_reported = 1'000;

stack_head& head_of(std::byte* slot, unsigned klass) noexcept {
  return *static_cast<stack_head*>(header_of(slot, klass));
}
}  // namespace

// -- choosing

/// A turn of fewer picks than there are between two looks costs none. The time counts from the last
/// look that ended a turn, so at worst a turn ends too early; its first picks run whatever the
/// clock says, so each turn gets on.
bool worker::turn_is_over() noexcept {
  const std::int64_t now = outside_->now_ns();
  if (now < turn_ends_ns_) return false;
  turn_ends_ns_ = now + turn_ns;
  return true;
}

/// Who runs soon is fetched into the cache: the record first, and when that has arrived the top of
/// the stack it points to. A crowd does not fit the second level of the cache, so it is fetched
/// earlier and more of it; for fewer that costs more than it gives. Yield among 10,000: 40 ns
/// without, 25 with; among 1,000 the modest form saves 1.5 of 11 ns and the other one costs 1 more.
[[gnu::always_inline]] inline void worker::fetch_ahead() noexcept {
  const std::uint32_t waiting = ready_.size();
  if (waiting < crowd) [[likely]] {
    if (waiting < 3) return;
    __builtin_prefetch(&ready_.ahead(2)->context, 1);
    __builtin_prefetch(ready_.ahead(0)->context.sp, 1);
    return;
  }
  __builtin_prefetch(&ready_.ahead(record_ahead)->context, 1);
  const auto* const top = static_cast<const std::byte*>(ready_.ahead(stack_ahead)->context.sp);
  for (unsigned line = 0; line < stack_lines; ++line)
    __builtin_prefetch(top + line * cache_line_bytes, 1);
}

[[gnu::always_inline]] COIR_UNINSTRUMENTED inline record* worker::choose() noexcept {
  if (first_ != nullptr) [[unlikely]] {
    record* const wanted = std::exchange(first_, nullptr);
    unstarted_.erase(*wanted);
    load_unstarted_.store(--unstarted_count_, std::memory_order_relaxed);
    return wanted;
  }
  if (picked_ >= settings_.run_budget && !COIR_MUTANT(budget_ignored)) return nullptr;
  if (++picked_ % picks_per_clock == 0 && turn_is_over() && !COIR_MUTANT(turn_never_ends)) {
    picked_ = settings_.run_budget;
    return nullptr;
  }
  const bool new_ones = !unstarted_.empty() && !no_stack_;
  const bool their_turn =
      new_ones && ++picks_ % unstarted_every == 0 && !COIR_MUTANT(unstarted_starved);
  const bool they_first = COIR_MUTANT(unstarted_overtake) && new_ones;
  if (!ready_.empty() && !their_turn && !they_first) {
    record* const next = ready_.pop_front();
    fetch_ahead();
    return next;
  }
  if (!new_ones) return nullptr;
  load_unstarted_.store(--unstarted_count_, std::memory_order_relaxed);
  return unstarted_.pop_front();
}

[[gnu::always_inline]] COIR_UNINSTRUMENTED inline record* worker::choose_bound() noexcept {
  for (;;) {
    record* const next = choose();
    if (next == nullptr || next->at != stage::unstarted) return next;
    if (bind(*next)) return next;
    put_back_unstarted(*next);
  }
}

/// No stack: it goes back to where it was, and others go on.
void worker::put_back_unstarted(record& fiber) noexcept {
  unstarted_.push_front(fiber);
  load_unstarted_.store(++unstarted_count_, std::memory_order_relaxed);
  no_stack_ = true;
}

bool worker::bind(record& fiber) noexcept {
  const unsigned klass = fiber.stack_class;
  std::byte* slot = dead_slot_;
  if (slot != nullptr && dead_class_ == klass) {
    dead_slot_ = nullptr;
    arch::note_gone(head_of(slot, klass).notes);
    if (shared_.chosen.scrub_on_exit) [[unlikely]]
      shared_.pool->scrub(stacks_.at(klass, slot));
  } else {
    slot = stacks_.take(klass).slot;
    if (slot == nullptr) [[unlikely]]
      return false;
  }
  const stack on = stacks_.at(klass, slot);
  auto* const head = ::new (header(on)) stack_head{};
  arch::note_stack(head->notes, on.bottom, on.bytes());
  arch::prepare(fiber.context, on.top, &fiber_main, &fiber);
  begin(fiber, slot);
  return true;
}

void worker::begin(record& fiber, std::byte* slot) noexcept {
  fiber.stack_slot = slot;
  fiber.at = stage::ready;
  fiber.saved_errno = 0;
  fiber.has_exceptions = false;
  fiber.ignored = 0;
  ++started_;
}

void worker::retire_dead() noexcept {
  if (dead_slot_ == nullptr) return;
  std::byte* const slot = std::exchange(dead_slot_, nullptr);
  arch::note_gone(head_of(slot, dead_class_).notes);
  stacks_.give(stacks_.at(dead_class_, slot));
  no_stack_ = false;
}

void worker::fail_oldest_unstarted() noexcept {
  // No fiber here has a stack, so none will ever be given back here: the oldest ends with an error
  // instead of waiting for ever.
  record* const oldest = unstarted_.pop_front();
  load_unstarted_.store(--unstarted_count_, std::memory_order_relaxed);
  no_stack_ = false;
  oldest->ops->drop(*oldest);
  oldest->fail_with(make_error_code(errc::stack_limit));
  current_ = nullptr;
  end_of(*oldest);
}

// -- hopping

[[gnu::always_inline]] COIR_UNINSTRUMENTED inline void worker::exchange_belongings(
    record* from, record* to) noexcept {
  // Three tests of words that the switch has in its hands: nobody is inside a catch or unwinding,
  // and nobody is float, which is nearly always.
  if (live_exceptions_->any() == 0 && (from == nullptr || !from->is_float) &&
      (to == nullptr || !(to->has_exceptions || to->is_float))) [[likely]]
    return;
  bring_belongings(from, to);
}

// Out of line: 40 instructions less in the hop of those who have nothing to bring.
[[gnu::noinline]] COIR_UNINSTRUMENTED void worker::bring_belongings(record* from,
                                                                    record* to) noexcept {
  if (!COIR_MUTANT(float_left_behind))
    arch::exchange_float(from != nullptr && from->is_float ? &from->head().controls : nullptr,
                         to != nullptr && to->is_float ? &to->head().controls : nullptr);
  arch::exception_state nobody[2];
  arch::exception_state& save = from != nullptr ? from->head().exceptions : nobody[0];
  arch::exception_state& restore = to != nullptr ? to->head().exceptions : nobody[1];
  arch::swap_exception_state(*live_exceptions_, save, restore);
  if (from != nullptr) from->has_exceptions = save.any() != 0;
  if (to != nullptr) to->has_exceptions = false;
}

[[gnu::noinline]] COIR_UNINSTRUMENTED void worker::hop(record& from) noexcept {
  COIR_ASSERT(current_ == &from);
  if constexpr (parks_are_checked)
    if (from.head().forbids != nullptr && !COIR_MUTANT(parks_unchecked)) forbidden_park(from);
  record* const next = choose_bound();
  if (next == &from) {
    from.at = stage::running;
    return;
  }
  from.saved_errno = *errno_;
  exchange_belongings(&from, next);
  ++counts_.switches;
  current_ = next;
  if (next != nullptr) {
    next->at = stage::running;
    arch::note_leave(from.head().notes, next->head().notes, false);
    arch::switch_to(from.context, next->context);
  } else {
    arch::note_leave(from.head().notes, loop_notes_, false);
    arch::switch_to(from.context, loop_);
  }
  arch::note_arrive(from.head().notes);
  if (!COIR_MUTANT(errno_not_saved)) *errno_ = from.saved_errno;
}

COIR_UNINSTRUMENTED void worker::run_ready() noexcept {
  picked_ = COIR_MUTANT(first_pick_timed) ? picks_per_clock - 1 : 0;
  if (ready_.empty() && unstarted_.empty()) return;
  record* const next = choose_bound();
  if (next == nullptr) return;
  exchange_belongings(nullptr, next);
  ++counts_.switches;
  current_ = next;
  next->at = stage::running;
  arch::note_leave(loop_notes_, next->head().notes, false);
  arch::switch_to(loop_, next->context);
  arch::note_arrive(loop_notes_);
  current_ = nullptr;
  if (leaving_ != nullptr) [[unlikely]]
    send_off();
}

woken worker::park(park_site& site, std::int64_t until_ns, bool heed_cancel) noexcept {
  return park_for(nullptr, site, until_ns, heed_cancel);
}

woken worker::park_for(record* first, park_site& site, std::int64_t until_ns,
                       bool heed_cancel) noexcept {
  record& me = *current_;
  me.parked_at = &site;
  me.at = stage::parked;
  site.why = woken::by_item;
  site.heeds_cancel = heed_cancel;
  ++counts_.parks;
  first_ = first;
  if (until_ns == no_wait_ns) [[unlikely]]
    stop_parked(me, woken::by_deadline);
  // A cancel that came before: the park is ended by its own stop, like any other.
  if (heed_cancel && is_cancelled(me)) [[unlikely]] {
    if (COIR_MUTANT(cancel_answers_once)) me.wake.fetch_and(~wake_cancelled);
    count_ignored(me);
    stop_parked(me, woken::by_cancel);
  }
  if (until_ns == never_ns || until_ns == no_wait_ns) [[likely]] {
    hop(me);
  } else {
    hop_until(me, until_ns);
  }
  me.parked_at = nullptr;
  return site.why;
}

void worker::hop_until(record& me, std::int64_t until_ns) noexcept {
  alarm a;
  a.fiber = &me;
  timers_.arm(a, until_ns);
  hop(me);
  if (a.armed()) timers_.cancel(a);
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

void worker::yield() noexcept {
  record& me = *current_;
  if (COIR_MUTANT(yield_goes_on)) return;
  me.at = stage::ready;
  ready_.push_back(me);
  hop(me);
}

// -- the life of a fiber

// Both are part of fiber_main: a call that never returns would leave an entry in the CPU's stack of
// return addresses, and every return of the fiber that goes on would be guessed wrong.
[[gnu::always_inline]] COIR_UNINSTRUMENTED inline void worker::leave_for_good(
    record* next, std::byte* slot, unsigned klass) noexcept {
  retire_dead();
  dead_slot_ = slot;
  dead_class_ = klass;
  no_stack_ = false;
  exchange_belongings(nullptr, next);
  ++counts_.switches;
  current_ = next;
  arch::context nobody;
  auto& notes = head_of(slot, klass).notes;
  if (next != nullptr) {
    next->at = stage::running;
    arch::note_leave(notes, next->head().notes, true);
    arch::switch_to(nobody, next->context);
  } else {
    arch::note_leave(notes, loop_notes_, true);
    arch::switch_to(nobody, loop_);
  }
  __builtin_unreachable();
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
  if (fiber.is_float) [[unlikely]]
    arch::reset_float_control();
  std::byte* const slot = std::exchange(fiber.stack_slot, nullptr);
  const unsigned klass = fiber.stack_class;
  end_of(fiber);
  --started_;
  // In place: the next unstarted fiber begins on the stack that this one leaves, if it fits.
  record* next = choose();
  if (next != nullptr && next->at == stage::unstarted && settings_.starts_in_place &&
      next->stack_class == klass) {
    begin(*next, slot);
    next->at = stage::running;
    current_ = next;
    return next;
  }
  if (next != nullptr && next->at == stage::unstarted && !bind(*next)) {
    put_back_unstarted(*next);
    next = ready_.pop_front();
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
    fiber = current()->finish(*fiber);
  }
}

}  // namespace coir::detail
