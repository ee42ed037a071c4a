// switching.cpp: how a worker runs fibers: choose, bind a stack, hop, end.
//
// Always true:
//   - hop() is the one place where a fiber leaves its stack to come back, finish() the one where it
//     leaves for good.
//   - What belongs to the fiber and not to the thread changes hands at every hop: errno's value,
//     the C++ exception state.
//   - A record is not touched after its join word said done, unless it was detached and so belongs
//     to nobody else.
//
// Comes from: worker.hpp.   Goes to: arch/context.hpp.
#include <cerrno>

#include "arch/float_control.hpp"
#include "runtime/worker.hpp"

namespace coir::detail {

namespace {
constexpr std::int64_t turn_ns = 200'000;
constexpr int picks_per_clock = 32;  // the clock costs 20 ns, a hop 5
constexpr unsigned unstarted_every = 8;
}  // namespace

// -- choosing

record* worker::choose() noexcept {
  if (first_ != nullptr) [[unlikely]] {
    record* const wanted = std::exchange(first_, nullptr);
    unstarted_.erase(*wanted);
    load_unstarted_.store(--unstarted_count_, std::memory_order_relaxed);
    return wanted;
  }
  if (--budget_ <= 0 && !COIR_MUTANT(budget_ignored)) return nullptr;
  if (budget_ % picks_per_clock == 0 && outside_->now_ns() >= turn_ends_ns_ &&
      !COIR_MUTANT(turn_never_ends)) {
    budget_ = 0;
    return nullptr;
  }
  const bool new_ones = !unstarted_.empty() && !no_stack_;
  const bool their_turn =
      new_ones && ++picks_ % unstarted_every == 0 && !COIR_MUTANT(unstarted_starved);
  if (!ready_.empty() && !their_turn) {
    record* const next = ready_.pop_front();
    if (record* const after = ready_.front()) __builtin_prefetch(&after->context);
    return next;
  }
  if (!new_ones) return nullptr;
  load_unstarted_.store(--unstarted_count_, std::memory_order_relaxed);
  return unstarted_.pop_front();
}

record* worker::choose_bound() noexcept {
  for (;;) {
    record* const next = choose();
    if (next == nullptr || next->at != stage::unstarted) return next;
    if (bind(*next)) return next;
    // No stack: it goes back to where it was, and others go on.
    unstarted_.push_front(*next);
    load_unstarted_.store(++unstarted_count_, std::memory_order_relaxed);
    no_stack_ = true;
  }
}

bool worker::bind(record& fiber) noexcept {
  if (dead_ && dead_.klass == fiber.stack_class) {
    const stack reused = std::exchange(dead_, {});
    arch::note_gone(static_cast<stack_head*>(header(reused))->notes);
    if (shared_.chosen.scrub_on_exit) shared_.pool->scrub(reused);
    fiber.where = reused;
  } else {
    fiber.where = stacks_.take(fiber.stack_class);
    if (!fiber.where) return false;
  }
  ::new (header(fiber.where)) stack_head{};
  arch::note_stack(fiber.head().notes, fiber.where.bottom, fiber.where.bytes());
  arch::prepare(fiber.context, fiber.where.top, &fiber_main, &fiber);
  begin(fiber);
  return true;
}

void worker::begin(record& fiber) noexcept {
  fiber.at = stage::ready;
  fiber.saved_errno = 0;
  fiber.has_exceptions = false;
  ++started_;
}

void worker::retire(const stack& left) noexcept {
  arch::note_gone(static_cast<stack_head*>(header(left))->notes);
  stacks_.give(left);
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

void worker::exchange_exceptions(record* from, record* to) noexcept {
  // One test when nobody is inside a catch or unwinding, which is nearly always.
  if (live_exceptions_->any() == 0 && (to == nullptr || !to->has_exceptions)) [[likely]]
    return;
  arch::exception_state nobody[2];
  arch::exception_state& save = from != nullptr ? from->head().exceptions : nobody[0];
  arch::exception_state& restore = to != nullptr ? to->head().exceptions : nobody[1];
  arch::swap_exception_state(*live_exceptions_, save, restore);
  if (from != nullptr) from->has_exceptions = save.any() != 0;
  if (to != nullptr) to->has_exceptions = false;
}

[[gnu::noinline]] COIR_UNINSTRUMENTED void worker::hop(record& from) noexcept {
  COIR_ASSERT(current_ == &from);
  record* const next = choose_bound();
  if (next == &from) {
    from.at = stage::running;
    return;
  }
  from.saved_errno = *errno_;
  exchange_exceptions(&from, next);
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
  budget_ = static_cast<int>(settings_.run_budget) + 1;
  if (ready_.empty() && unstarted_.empty()) return;
  turn_ends_ns_ = outside_->now_ns() + turn_ns;
  record* const next = choose_bound();
  if (next == nullptr) return;
  exchange_exceptions(nullptr, next);
  ++counts_.switches;
  current_ = next;
  next->at = stage::running;
  arch::note_leave(loop_notes_, next->head().notes, false);
  arch::switch_to(loop_, next->context);
  arch::note_arrive(loop_notes_);
  current_ = nullptr;
}

woken worker::park(park_site& site, std::int64_t until_ns, bool heed_cancel) noexcept {
  return park_for(nullptr, site, until_ns, heed_cancel);
}

woken worker::park_for(record* first, park_site& site, std::int64_t until_ns,
                       bool heed_cancel) noexcept {
  record& me = *current_;
  alarm a;
  me.parked_at = &site;
  me.at = stage::parked;
  site.why = woken::by_item;
  site.heeds_cancel = heed_cancel;
  ++counts_.parks;
  if (until_ns != never_ns) {
    if (until_ns == no_wait_ns) {
      stop_parked(me, woken::by_deadline);
    } else {
      a.fiber = &me;
      timers_.arm(a, until_ns);
    }
  }
  // A cancel that came before: the park is ended by its own stop, like any other.
  if (heed_cancel && is_cancelled(me)) [[unlikely]]
    stop_parked(me, woken::by_cancel);
  first_ = first;
  hop(me);
  if (a.armed()) timers_.cancel(a);
  me.parked_at = nullptr;
  return site.why;
}

void worker::yield() noexcept {
  record& me = *current_;
  me.at = stage::ready;
  ready_.push_back(me);
  hop(me);
}

// -- the life of a fiber

COIR_UNINSTRUMENTED void worker::fiber_main(void* first) noexcept {
  auto* fiber = static_cast<record*>(first);
  arch::note_arrive(fiber->head().notes);
  worker& w = *current();
  for (;;) {
    *w.errno_ = 0;
    const bool unwanted = is_cancelled(*fiber) && !COIR_MUTANT(cancel_unheeded_before_run);
    if (unwanted || w.shared_.stopping.load(std::memory_order_relaxed)) {
      fiber->ops->drop(*fiber);
      fiber->fail_with(std::make_error_code(std::errc::operation_canceled));
    } else {
      fiber->ops->run(*fiber);
    }
    fiber = w.finish(*fiber);
    arch::reset_float_control();
  }
}

record* worker::finish(record& fiber) noexcept {
  COIR_ASSERT(live_exceptions_->any() == 0);
  // acquire: pairs with release(): what the last holder did to the answer's owner is done.
  if ((fiber.join.load(std::memory_order_acquire) & join_detached) != 0) {
    if (fiber.scope != nullptr) fiber.scope->answered(*fiber.scope, fiber);
    fiber.ops->drop(fiber);
  }
  const stack left = fiber.where;
  end_of(fiber);
  --started_;
  // In place: the next unstarted fiber begins on the stack that this one leaves, if it fits.
  record* next = choose();
  if (next != nullptr && next->at == stage::unstarted && settings_.starts_in_place &&
      next->stack_class == left.klass) {
    next->where = left;
    begin(*next);
    next->at = stage::running;
    current_ = next;
    return next;
  }
  if (next != nullptr && next->at == stage::unstarted && !bind(*next)) {
    unstarted_.push_front(*next);
    load_unstarted_.store(++unstarted_count_, std::memory_order_relaxed);
    no_stack_ = true;
    next = ready_.pop_front();
  }
  leave_for_good(next, left);
}

COIR_UNINSTRUMENTED void worker::leave_for_good(record* next, const stack& left) noexcept {
  if (dead_) retire(dead_);
  dead_ = left;
  no_stack_ = false;
  exchange_exceptions(nullptr, next);
  ++counts_.switches;
  current_ = next;
  arch::context nobody;
  auto& notes = static_cast<stack_head*>(header(left))->notes;
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

}  // namespace coir::detail
