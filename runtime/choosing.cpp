// choosing.cpp: who runs next on a worker where that needs a thought: the end of the turn, those
// who were asked for by name, new ones, and other priorities than the normal one.
//
// Always true:
//   - A turn runs somebody if anybody can run, whatever the clock says.
//   - Whoever waits here is found again by everything that takes somebody out of line.
//   - Whenever an unstarted one is taken to run, of whatever priority, a hungry worker gets some of
//     the others.
//
// Comes from: hop.hpp.   Goes to: levels.hpp.
#include "runtime/hop.hpp"

namespace coir::detail {

namespace {
constexpr std::int64_t turn_ns = 200'000;
// One pick in eight starts somebody although others are ready. Where many wait they start side by
// side, so that those who do the same follow each other: the processor guesses where they return to
// by where the one before did.
constexpr unsigned many_unstarted = 256;
constexpr unsigned starts_in_a_row = 32;
}  // namespace

/// Asked where the budget or the clock may end the turn. The time counts from the last look that
/// ended a turn, so at worst a turn ends too early; its first picks run whatever the clock says, so
/// each turn gets on.
bool worker::turn_ended(std::uint64_t picked) noexcept {
  const std::uint64_t budget = settings_.run_budget;
  if (picked >= budget && !COIR_MUTANT(budget_ignored)) return true;
  const std::int64_t now = outside_->now_ns();
  lone_tries_.look(now);
  if (now >= turn_ends_ns_) {
    turn_ends_ns_ = now + turn_ns;
    if (!COIR_MUTANT(turn_never_ends)) {
      turn_began_ = picks_.get() - budget;  // asked again, the answer is the same
      return true;
    }
  }
  pause_at_ = picks_.get() + std::min(budget - picked, picks_per_clock - picked % picks_per_clock);
  return false;
}

/// A fiber that is not of normal priority, ready or unstarted.
[[gnu::noinline]] void worker::queue_apart(record& fiber) noexcept {
  const std::uint64_t pick = picks_.get();
  fiber.at == stage::unstarted ? levels_.push_unstarted(fiber, fiber.treat.prio(), pick)
                               : levels_.push_ready(fiber, fiber.treat.prio(), pick);
  think_at_ = 0;
}

/// The budget or the clock may end the turn, somebody was asked for by name, unstarted ones have
/// their turn, or nobody is ready at the normal level.
[[gnu::noinline]] record* worker::choose_with_care() noexcept {
  const std::uint64_t pick = picks_.get();
  if (pick >= pause_at_ && turn_ended(pick - turn_began_ + turn_spent_)) return nullptr;
  if (levels_.any()) [[unlikely]]
    return choose_of_all();
  return choose_of_normal(pick);
}

[[gnu::always_inline]] inline record* worker::choose_of_normal(std::uint64_t pick) noexcept {
  const bool new_ones = !unstarted_.empty() && !no_stack_;
  const std::uint64_t pause_at = COIR_MUTANT(unstarted_overtake) ? 0 : pause_at_;
  // Of a crowd that has been served few may be left: these wait as few do.
  if (new_ones && unstarted_count_.get() <= many_unstarted)
    unstarted_turn_ = std::min(unstarted_turn_, pick + unstarted_every - 1);
  think_at_ = !new_ones ? pause_at : starts_left_ != 0 ? pick : std::min(pause_at, unstarted_turn_);
  if (first_ != nullptr) [[unlikely]] {
    ++picks_;
    return take_first();
  }
  const bool their_turn =
      new_ones && (starts_left_ != 0 || pick >= unstarted_turn_) && !COIR_MUTANT(unstarted_starved);
  const bool they_first = COIR_MUTANT(unstarted_overtake) && new_ones;
  if (!ready_.empty() && !their_turn && !they_first) {
    ++picks_;
    record* const next = ready_.pop_front();
    fetch_ahead();
    return next;
  }
  if (!new_ones) return nullptr;
  if (starts_left_ == 0) {
    starts_left_ = unstarted_count_.get() > many_unstarted ? starts_in_a_row : 1;
    unstarted_turn_ = pick + starts_left_ * unstarted_every;
  }
  --starts_left_;
  think_at_ = starts_left_ != 0 ? pick : std::min(pause_at, unstarted_turn_);
  ++picks_;
  oldest_turn_ = pick + oldest_every;
  return start_next(*unstarted_.front());
}

/// Somebody of another priority waits, too.
record* worker::choose_of_all() noexcept {
  const std::uint64_t pick = picks_.get();
  const bool normal_waits = !ready_.empty() || (!unstarted_.empty() && !no_stack_);
  record* next = nullptr;
  if (first_ == nullptr) next = levels_.next(pick, normal_waits, !no_stack_);
  if (next == nullptr) {
    next = choose_of_normal(pick);
    think_at_ = 0;
    return next;
  }
  ++picks_;
  if (next->at == stage::unstarted) {
    --unstarted_count_;
    if (!COIR_MUTANT(levels_feed_nobody)) feed_if_hungry();
  }
  return next;
}

/// What the run that ends now cost beside its pick. Of a fiber that does not only wait nobody knows
/// how long it ran, so the clock is asked before the next pick.
void worker::count_run(const record& fiber) noexcept {
  const unsigned price = fiber.treat.price();
  if (price == 1 || COIR_MUTANT(every_run_is_short)) return;
  if (fiber.treat.kind() == workload::system) no_spin_at_ = picks_.get();
  turn_spent_ += price - 1;
  pause_at_ = picks_.get();
  think_at_ = 0;
}

/// `next` of the unstarted.
record* worker::start_next(record& next) noexcept {
  after_last_ = &next;
  leave_line(next);
  feed_if_hungry();
  return &next;
}

record* worker::take_unstarted() noexcept {
  record* const oldest = unstarted_.front();
  leave_line(*oldest);
  return oldest;
}

/// One that is to end without having run; there are some.
record* worker::take_any_unstarted() noexcept {
  if (!unstarted_.empty()) return take_unstarted();
  --unstarted_count_;
  return levels_.take_unstarted([](const record&) { return true; });
}

/// Somebody was asked for by name.
[[gnu::noinline]] record* worker::take_first() noexcept {
  record* const wanted = std::exchange(first_, nullptr);
  const bool unstarted = wanted->at == stage::unstarted;
  if (!wanted->treat.usual_level()) {
    think_at_ = 0;
    levels_.erase(*wanted, wanted->treat.prio(), unstarted);
    if (unstarted) {
      --unstarted_count_;
      if (!COIR_MUTANT(named_levels_feed_nobody)) feed_if_hungry();
    }
  } else {
    unstarted ? start_by_name(*wanted) : ready_.erase(*wanted);
  }
  return wanted;
}

/// No stack: it goes back to where it was, and others go on.
void worker::put_back_unstarted(record& fiber) noexcept {
  fiber.treat.usual_level() ? unstarted_.push_front(fiber)
                            : levels_.put_back(fiber, fiber.treat.prio());
  ++unstarted_count_;
  no_stack_ = true;
}

}  // namespace coir::detail
