// resting.cpp: what a worker does that has nothing to do: it gives back what others starve for,
// says that it is hungry, looks for work for a moment, and sleeps; and what becomes of those who
// wait for a stack while nothing moves.
//
// Always true:
//   - Before a worker sleeps it announces it, and then looks once more into every inbox (bell.hpp).
//     Mail that somebody has only begun to send keeps nobody awake: its sender rings.
//   - Who spins watches all that could end its rest: what it looks for before it sleeps, and the
//     ring's flags.
//
// Comes from: worker::end_turn.   Goes to: backend::wait, hungry.hpp.
#include "runtime/hop.hpp"

#include <algorithm>

namespace coir::detail {
namespace {
// How often a worker asks for a stack or for memory that was refused, and how often in vain.
constexpr std::int64_t hungry_look_ns = 10'000'000;
constexpr unsigned hungry_looks_most = 100;
constexpr unsigned spin_doubts_most = 255;  // bells
constexpr std::uint64_t turns_per_trim = 16;

/// Nobody waits for the processor that we would keep busy, neither in this runtime nor in another.
inline bool spin_pays(const commons& all) noexcept {
  // relaxed: it tells how many there are, not what they did; who sees it late spins once more.
  return all.spin_pays.load(std::memory_order_relaxed);
}
}  // namespace

inline bool worker::anything_to_do() const noexcept {
  return !ready_.empty() || levels_.any_ready() || (own_unstarted() != 0 && !no_stack_) ||
         (mail_.waits() && !COIR_MUTANT(mail_not_rechecked)) ||
         (COIR_MUTANT(begun_mail_awaited) && !mail_.empty()) ||
         (!wakes_.empty() && !COIR_MUTANT(wakes_not_rechecked)) ||
         (quit_.load(std::memory_order_relaxed) && !COIR_MUTANT(stop_not_rechecked)) ||
         flight_.waiting_for_room();
}

/// Somebody starves for what we may have, or somebody else has given what we starve for.
inline bool worker::somebody_calls() const noexcept {
  return stacks_have_moved() || shared_.starved.load(std::memory_order_relaxed) != served_;
}

void worker::sleep_or_poll() noexcept {
  ++counts_.turns;
  if (!COIR_MUTANT(ready_untold)) counts_.ready.set(ready_now());
  // Not only in busy turns: the spins of one that always wins lead to no sleep.
  if (stacks_.spilled() && counts_.turns.get() % turns_per_trim == 0) [[unlikely]]
    stacks_.trim(outside_->now_ns());
  if (anything_to_do() || outside_->ready()) {
    if (outside_->pending() && !COIR_MUTANT(submits_when_idle)) outside_->wait(no_wait_ns);
    return;
  }
  if (shared_.pool->starved()) [[unlikely]]
    give_stacks_back();
  const bool quiet =
      flight_.open_count() == 0 && timers_.size() == 0 && flight_.next_look_ns() == never_ns;
  const bool hungry = no_stack_ && own_unstarted() != 0;
  if (hungry) {
    if (end_unwanted_unstarted()) return;
    if (!stacks_have_moved() && (no_stack_can_come_back() || nothing_else_moves(quiet)))
      return fail_oldest_unstarted();
  }
  if (records_are_wanted()) [[unlikely]]
    serve_starving();
  if (std::exchange(fed_, false) && !COIR_MUTANT(fed_in_vain_untold))
    for_one_ = was_worth(outside_->now_ns() - fed_at_ns_);
  rest_a_while(quiet, hungry);
  if (std::exchange(on_board_, false)) leave_board();
}

/// Whoever has more may feed us from now on.
void worker::announce_hunger() noexcept {
  if (settings_.workers == 1 || no_stack_ || on_board_ || COIR_MUTANT(hungry_unannounced)) return;
  on_board_ = true;
  shared_.hungry.announce(settings_.index, for_one_);
}

/// There is something to do; and if we were fed, what is worth it that turns out until the next
/// rest.
void worker::leave_board() noexcept {
  if (shared_.hungry.withdraw(settings_.index)) return;
  fed_ = true;
  fed_at_ns_ = outside_->now_ns();
}

/// There is nothing to do: spins, then sleeps until something comes. `quiet`: only others could
/// bring something. `hungry`: for a stack.
void worker::rest_a_while(bool quiet, bool hungry) noexcept {
  if (spin_ns_ != 0 && (no_spin_at_ != picks_.get() || COIR_MUTANT(system_work_spins)) &&
      spin_pays(shared_) && spin())
    return;
  const std::int64_t trim_ns = stacks_.spilled() ? stacks_.trim(outside_->now_ns()) : never_ns;
  announce_hunger();
  // relaxed: the fence of the announcement orders it before all that is looked at from here on, by
  // this worker and by the one that goes to rest last.
  rest_.store(quiet ? rest::for_others : rest::for_something, std::memory_order_relaxed);
  bell_.announce();
  // Again, after the announcement: mail, wakes, stop, somebody who starves, somebody who waits for
  // the end.
  if (COIR_MUTANT(no_second_look) || (!anything_to_do() && !somebody_calls())) {
    if (shared_.settling.load(std::memory_order_seq_cst) && quiet) shared_.on_idle(shared_);
    ++counts_.sleeps;
    if (!lone_tries_.open()) lone_tries_.look(outside_->now_ns());
    // The clock is not free: who is woken by the kernel alone never looks.
    const bool learns = rung_ && spin_ns_ < settings_.idle_spin_ns && spin_pays(shared_);
    const std::int64_t slept_at = learns ? outside_->now_ns() : 0;
    const bool in_want = hungry || (buffers_ != nullptr && buffers_->no_memory());
    const std::int64_t look_ns = in_want ? outside_->now_ns() + hungry_look_ns : never_ns;
    const std::int64_t due_ns =
        COIR_MUTANT(sleep_ignores_timers) ? never_ns : timers_.next_deadline();
    outside_->wait(std::min({due_ns, look_ns, flight_.next_look_ns(), trim_ns}));
    none_due_ = outside_->woke_early();
    // Woken by a neighbour soon after going to sleep: looking a little longer would have been
    // cheaper.
    rung_ = !wakes_.empty() || mail_.waits();
    if (slept_at != 0 && rung_ && outside_->now_ns() - slept_at < 2 * settings_.idle_spin_ns)
      spin_longer();
  }
  rest_.store(rest::awake, std::memory_order_relaxed);
  bell_.withdraw();
  if (outside_->exhausted()) shared_.on_idle(shared_);
}

/// Whoever has something in an inbox is the one to ask when he rests the next time.
bool worker::rests_for_others() const noexcept {
  return resting() == rest::for_others && (inbox_empty() || COIR_MUTANT(rung_told_as_idle));
}

bool worker::no_stack_can_come_back() const noexcept {
  if (COIR_MUTANT(stack_not_waited_for)) return true;
  if (COIR_MUTANT(stack_waited_for_ever)) return false;
  return started_ == 0 && shared_.pool->stats().bound == 0;
}

/// Memory that was refused may be there the next time, so a hungry worker asks again and again.
/// When meanwhile, for a second, nobody in the runtime had anything to do or to wait for but
/// others, and the process has no thread besides, there is nobody left who could give a stack
/// back.
bool worker::nothing_else_moves(bool quiet) noexcept {
  // A park that ends where it began is no switch.
  const std::uint64_t ran = switches() + counts_.parks.get();
  if (std::exchange(hungry_switches_, ran) != ran) hungry_looks_ = 0;
  if (!quiet || !shared_.others_rest(shared_, settings_.index)) return false;
  return ++hungry_looks_ > hungry_looks_most && !COIR_MUTANT(hungry_for_ever);
}

/// There is no stack for them now, and to those who would only be told to stop it can be told
/// without one: somebody who has a stack may be waiting for them. False when there was none.
bool worker::end_unwanted_unstarted() noexcept {
  if (COIR_MUTANT(cancelled_wait_for_stacks)) return false;
  const bool all = shared_.stopping.load(std::memory_order_relaxed);
  bool ended = false;
  const auto unwanted = [all](const record& fiber) { return all || is_cancelled(fiber); };
  const auto end = [&](record& fiber) {
    if (&fiber == first_) first_ = nullptr;
    fiber.ops->drop(fiber);
    fiber.fail_with(std::make_error_code(std::errc::operation_canceled));
    end_of(fiber);
    ended = true;
  };
  for (record* fiber = unstarted_.front(); fiber != nullptr;) {
    record* const after = unstarted_.after(*fiber);
    if (unwanted(*fiber)) {
      leave_line(*fiber);
      end(*fiber);
    }
    fiber = after;
  }
  while (record* const fiber = levels_.take_unstarted(unwanted)) {
    --unstarted_count_;
    end(*fiber);
  }
  return ended;
}

/// Somebody starves for a stack, and there are some here that no fiber uses; or we starve, and some
/// came back after we asked.
bool worker::stacks_have_moved() const noexcept {
  if (COIR_MUTANT(stacks_not_rechecked)) return false;
  if (no_stack_ && shared_.pool->given() != given_seen_) return true;
  return shared_.pool->starved() && (dead_slot_ != nullptr || stacks_.warm() != 0);
}

void worker::give_stacks_back() noexcept {
  retire_dead();
  stacks_.flush();
}

/// Unless it was tried and lost just now: two workers that wake each other on one processor would
/// have each other wait for ever. After each loss in a row the next try comes twice as late.
void worker::spin_longer() noexcept {
  if (spin_doubts_left_ != 0 && !COIR_MUTANT(spin_never_doubts)) {
    --spin_doubts_left_;
    return;
  }
  spin_ns_ =
      spin_ns_ == 0 ? settings_.idle_spin_ns / 8 : std::min(spin_ns_ * 2, settings_.idle_spin_ns);
}

bool worker::spin() noexcept {
  if (outside_->pending()) outside_->wait(no_wait_ns);
  const std::int64_t until =
      std::min({outside_->now_ns() + spin_ns_, timers_.next_deadline(), flight_.next_look_ns()});
  do {
    for (unsigned i = 0; i < 32; ++i) {
      if ((somebody_calls() && !COIR_MUTANT(spin_ignores_calls)) ||
          (anything_to_do() && !(COIR_MUTANT(spin_ignores_mail) && mail_.waits()) &&
           !(COIR_MUTANT(spin_ignores_wakes) && !wakes_.empty())) ||
          (outside_->ready() && !COIR_MUTANT(spin_ignores_ring))) {
        ++counts_.spins_won;
        spin_doubts_ = 0;
        return true;
      }
      pause();
    }
    if (!COIR_MUTANT(spin_stands_still)) ++counts_.spin_rounds;
    // Not before: the board is a line that all workers write, and a quick answer comes sooner.
    announce_hunger();
  } while (outside_->now_ns() < until && spin_pays(shared_));
  ++counts_.spins_lost;
  if (COIR_MUTANT(lost_spin_spins_on) && counts_.spins_lost.get() < 60'000) return true;
  spin_doubts_ = std::min(2 * spin_doubts_ + 1, spin_doubts_most);
  spin_doubts_left_ = spin_doubts_;
  spin_ns_ = spin_ns_ < 1000 ? 0 : spin_ns_ / 2;
  return false;
}

}  // namespace coir::detail
