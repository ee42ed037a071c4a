// worker.hpp: one core: its ready fibers, its unstarted ones, its timers, its operations, and the
// loop that serves them.
//
// Order (deterministic): ready fibers first in, first out; unstarted ones, first in, first out,
// when none is ready, and at least every 8th pick (where many wait, 32 in every 256 picks; while
// joins start younger ones all the time, every 256th); those of another priority than the normal
// one before or after all of these (levels.hpp); a fiber that ends hands its turn, and its stack,
// on to an unstarted one, up to 8 times in a row; join of an unstarted fiber of this worker starts
// it at once; a park hops to exactly what the loop would have run.
//
// Always true:
//   - Only this worker's thread makes its fibers ready and switches to them, so no fiber is resumed
//     before it was parked.
//   - A fiber runs until it parks; a park hops straight into the next fiber. The loop has its turn
//     when nothing is ready, or after run_budget switches or 200 us, whichever comes first.
//   - The stack of a fiber that ended is given back only from another stack (dead_slot_).
//   - A worker never waits for a mailbox, a lock held across a park, or another worker.
//
// Comes from: runtime (its thread), sync, perform.   Goes to: fiber, flight, backend.
#pragma once

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "arch/thread_word.hpp"
#include "coir/runtime.hpp"
#include "runtime/bell.hpp"
#include "runtime/buffers.hpp"
#include "runtime/commons.hpp"
#include "runtime/counter.hpp"
#include "runtime/deflect.hpp"
#include "runtime/ending.hpp"
#include "runtime/flight.hpp"
#include "runtime/levels.hpp"
#include "runtime/mailbox.hpp"
#include "runtime/ready.hpp"
#include "runtime/timers.hpp"
#include "runtime/waits.hpp"

namespace coir::detail {

struct worker_counters {
  counter unswitched;  // picks that were no switch, less switches that were no pick: modulo 2^64
  counter ready;       // at the end of the last turn
  counter boxes, parks, deflected_out, deflected_in, mailbox_refused, wakes_sent, wakes_taken,
      bells_rung, sleeps, turns, spins_won, spins_lost, spin_rounds;
};

/// What a worker must know of the options and of its neighbours.
struct worker_settings {
  unsigned index = 0;
  unsigned workers = 1;
  unsigned run_budget = 256;
  unsigned mailbox_slots = 1024;
  std::uint32_t fds_max = 1024;
  std::int64_t idle_spin_ns = 0;
  bool starts_in_place = true;
  std::uint32_t deflect_threshold = 64;
  neighbours around{0, 1};
};

/// Whether a park inside a no_park stops the process.
#if defined(NDEBUG)
inline constexpr bool parks_are_checked = false;
#else
inline constexpr bool parks_are_checked = true;
#endif

/// Why a worker sleeps: for something of its own (an operation, a timer), or only for what others
/// may send.
enum class rest : std::uint8_t { awake, for_something, for_others };

class worker {
 public:
  worker(commons& shared, std::unique_ptr<backend> outside, const worker_settings& s);
  ~worker();
  worker(const worker&) = delete;
  worker& operator=(const worker&) = delete;

  /// The worker whose fiber or loop runs on this thread; null on a plain thread.
  static worker* current() noexcept { return static_cast<worker*>(arch::thread_word()); }

  // -- the loop; on the worker's thread
  /// Serves until quit() was heard, on the stack `on` or on the thread's. A negative errno when the
  /// backend could not be attached; `attached` is told that before the first turn, and allows it.
  int run(const std::function<bool(int)>& attached, std::span<std::byte> on = {}) noexcept;
  void quit(bool now = true) noexcept;  // any thread; false, after run(): it may be called again

  // -- without a thread of its own: before the first turn, or after the last
  void refuse_unstarted(std::error_code why) noexcept;
  void run_left_errands() noexcept;

  // -- for the fiber that runs here
  record* self() noexcept { return current_; }
  /// Whose stack this is: the same, or that of the fiber on which the loop serves.
  record* stands_on() noexcept { return current_ != nullptr ? current_ : host_; }
  /// Parks the running fiber; `site.stop` says how a deadline or a cancel ends that. Why it ended.
  woken park(park_site& site, std::int64_t until_ns, bool heed_cancel) noexcept;
  /// A park that nothing ends but its deadline or a cancel.
  woken sleep(std::int64_t until_ns) noexcept;
  /// park for the end of `first`, which waits for its first run here and gets it at once.
  woken start_and_park(record& first, park_site& site, std::int64_t until_ns) noexcept;
  void yield() noexcept;
  void yield_in_place() noexcept;  // inlined: hop.hpp
  /// The same, and the next to run is `next`, which is ready or unstarted here and not the caller.
  void yield_to(record& next) noexcept;
  /// The running fiber goes on on `target`, another worker of this runtime; returns there. The
  /// caller holds nothing of this worker any more. See moving.cpp.
  void carry_to(worker& target) noexcept;
  /// Whether the running fiber may ask the kernel at once, without an entry and a park. Not when
  /// others are ready, whose entries and its own go together; and not twice, unless somebody parked
  /// in between, so that nobody holds up those who are still to come.
  bool may_speak() noexcept {
    if constexpr (parks_are_checked)
      if (current_->head().forbids != nullptr) return false;
    const std::uint64_t parks = counts_.parks.get();
    return ready_.empty() && !levels_.any() &&
           (std::exchange(spoke_at_, parks) != parks || COIR_MUTANT(speaks_without_end));
  }
  /// A cancelled fiber asked again and is refused; after 1,000 times one log line says so.
  void count_ignored(record& fiber) noexcept;

  // -- for whoever runs on this thread
  /// A parked fiber of this worker goes on.
  void make_ready(record& fiber) noexcept;
  /// A new fiber of this worker waits for its first run.
  void enqueue(record& fiber) noexcept;
  /// A new fiber that is in no queue: it waits here.
  void keep(record& fiber) noexcept {
    // release: pairs with the acquire of whoever asks whether it is the owner.
    fiber.home.store(settings_.index, std::memory_order_release);
    enqueue(fiber);
  }
  /// The same, or it goes on to a neighbour; place(): a connection, one of many. See placing.cpp.
  void settle(record& fiber) noexcept;
  void place(record& fiber) noexcept;
  /// Whether there may be more here than settle() keeps: a hint.
  bool may_be_too_many() const noexcept {
    return own_unstarted() >= asks_from_ || live_.get() >= asks_live_from_;
  }
  /// True when this worker could run `fiber` now. Its home is here.
  bool could_run(const record& fiber) const noexcept {
    return fiber.at == stage::runnable || holds_unstarted(fiber);
  }
  /// True when `fiber` waits for its first run in this worker's own queue.
  bool holds_unstarted(const record& fiber) const noexcept;
  /// The request to stop has arrived at the fiber's own worker.
  void stop_parked(record& fiber, woken why) noexcept;
  /// Cancels every fiber whose home is here.
  void cancel_all() noexcept;
  void take_mail() noexcept {
    if (mail_.waits() || records_are_wanted()) take_what_came();
  }
  void take_completions() noexcept;  // in the loop, between two picks
  /// A record of this runtime is free again.
  void give_back(std::uint32_t slot) noexcept;

  // -- for any thread
  bool send(record& fiber) noexcept;  // false: the mailbox is full
  /// The same for `count` in one mail, each linked to the next; nobody named this worker to them.
  bool send_batch(record& first, unsigned count) noexcept;
  /// From how many unstarted fibers on some go elsewhere; 0: as it learns.
  void pin_threshold(std::uint32_t tasks) noexcept {
    // relaxed: a number, heard in the next turn.
    told_threshold_.store(tasks, std::memory_order_relaxed);
  }
  void send_wake(record& fiber) noexcept;  // the caller won the claim or latched the cancel
  void send_errand(errand& what) noexcept;
  /// Somebody who waits for a fiber of this worker stands in that stripe from now on.
  void tell_of_joiner(unsigned stripe) noexcept;
  void ring() noexcept;  // after something else was published
  load published_load() const noexcept;
  /// What the owner sees when it has something to place; the thresholds are the caller's.
  pusher as_pusher() noexcept {
    return {.around = &settings_.around, .mine = published_load(), .seed = ++seed_};
  }
  rest resting() const noexcept { return rest_.load(std::memory_order_seq_cst); }
  bool inbox_empty() const noexcept { return mail_.empty() && wakes_.empty(); }
  bool rests_for_others() const noexcept;  // who has been rung, or will be, does not
  worker_stats stats() const noexcept;
  std::uint32_t own_unstarted() const noexcept {
    return static_cast<std::uint32_t>(unstarted_count_.get());
  }
  mailbox& mail() noexcept { return mail_; }
  flight& operations() noexcept { return flight_; }
  backend& outside() noexcept { return *outside_; }
  /// For operations that take a buffer when data is there; made at first use. Null: no memory.
  buffer_pool* buffers() noexcept { return buffers_ != nullptr ? buffers_.get() : make_buffers(); }
  /// Another thread gave one back.
  void tell_of_buffers() noexcept { send_errand(buffers_errand_); }
  record_cache& records() noexcept { return records_; }
  commons& shared() noexcept { return shared_; }
  unsigned index() const noexcept { return settings_.index; }
  worker_counters& counts() noexcept { return counts_; }
  /// Who is ready to run here, told on this worker's own thread.
  std::uint32_t ready_now() const noexcept { return ready_.size() + levels_.ready(); }
  /// Exact for the worker itself; for others about right, and never below zero.
  std::uint64_t switches() const noexcept {
    const std::uint64_t less = counts_.unswitched.get();
    const auto got = static_cast<std::int64_t>(picks_.get() - less);
    return got < 0 ? 0 : static_cast<std::uint64_t>(got);
  }

  // Spawned by this worker, ended on it; over all workers their sums meet when nobody lives.
  atomic<std::uint64_t> spawned{0};
  atomic<std::uint64_t> finished{0};

  wait_queue mail_room;  // who waits for a place in this worker's mailbox
 private:
  friend class audit;
  friend class lanes;
  static constexpr unsigned unstarted_every = levels<record, queue_node>::unstarted_every;  // picks
  static constexpr unsigned oldest_every = 256;                                             // picks
  static constexpr unsigned picks_per_clock = 32;  // the clock costs 20 ns, a hop 5

  static void fiber_main(void* first) noexcept;
  void begin_park(record& me, park_site* site) noexcept;
  void wait_until(record& me, std::int64_t until_ns, bool heed_cancel) noexcept;
  void hop(record& from) noexcept;
  void hop_until(record& me, std::int64_t until_ns) noexcept;
  void leave_for(record& from, record& next) noexcept;
  void begin_turn() noexcept;
  void run_ready() noexcept;
  void end_turn() noexcept;
  bool nobody_waits() const noexcept;
  bool may_serve_on(const record& from) const noexcept;
  record* serve_in_place(record& host) noexcept;
  record* choose() noexcept;
  bool go_and_start(record& from, record& fresh) noexcept;
  record* choose_with_care() noexcept;
  record* choose_of_all() noexcept;
  record* choose_of_normal(std::uint64_t pick) noexcept;
  record* take_first() noexcept;
  void queue_apart(record& fiber) noexcept;
  void count_run(const record& fiber) noexcept;
  void ask_for(record& fiber) noexcept;
  record* take_unstarted() noexcept;
  record* start_next(record& next) noexcept;
  void leave_line(record& waiting) noexcept;
  void start_by_name(record& fresh) noexcept;
  load load_of(unsigned i) const noexcept;
  void set_threshold(std::uint32_t told) noexcept;
  void learn(outcome o) noexcept;
  bool is_hungry(bool lone) const noexcept;
  bool send_elsewhere(record& fresh) noexcept;
  bool send_to_emptiest(record& fresh) noexcept;
  void feed_if_hungry() noexcept;
  void feed() noexcept;
  bool may_travel(const record& waiting) const noexcept;
  bool may_leave(const record& waiting, distance far) const noexcept;
  record* leave_home(record& waiting) noexcept;
  void return_home(record& waiting, record* behind) noexcept;
  bool post(const decision& d, record& last) noexcept;
  record* take_any_unstarted() noexcept;
  void fetch_ahead() noexcept;
  record* choose_bound() noexcept;
  record* hand_on() noexcept;
  void stack_may_be_had() noexcept;
  bool turn_ended(std::uint64_t picked) noexcept;
  bool bind(record& fiber) noexcept;
  bool bind_warm(record& fiber) noexcept;
  void settle_in(record& fiber, const stack& on) noexcept;
  void begin(record& fiber, std::byte* slot) noexcept;
  void put_back_unstarted(record& fiber) noexcept;
  void step_out(record& me) noexcept;
  void send_off() noexcept;
  void arrive(record& me, int kept_errno) noexcept;
  record* finish(record& fiber) noexcept;
  [[noreturn]] void leave_for_good(record* next, std::byte* slot, unsigned klass) noexcept;
  void retire_dead() noexcept;
  void end_of(record& fiber) noexcept;
  void tell_end(record& fiber) noexcept;
  void wake_far_joiners(const record& fiber, std::uint64_t generation) noexcept;
  void drop_unheld(record& fiber) noexcept;
  void look_for_joiners() noexcept;
  void exchange_belongings(record* from, record* to) noexcept;
  void bring_belongings(record* from, record* to) noexcept;
  void take_wakes() noexcept;
  void take_what_came() noexcept;
  template <class Each>
  unsigned unpack(record* first, Each each) noexcept;
  void places_are_free(unsigned count) noexcept;
  void serve_starving() noexcept;
  bool records_are_wanted() const noexcept;
  void fire_timers() noexcept;
  void sleep_or_poll() noexcept;
  void rest_a_while(bool quiet, bool hungry) noexcept;
  bool anything_to_do() const noexcept;
  bool somebody_calls() const noexcept;
  bool spin() noexcept;
  void spin_longer() noexcept;
  void announce_hunger() noexcept;
  void leave_board() noexcept;
  void fail_oldest_unstarted() noexcept;
  bool no_stack_can_come_back() const noexcept;
  bool stacks_have_moved() const noexcept;
  bool end_unwanted_unstarted() noexcept;
  bool nothing_else_moves(bool quiet) noexcept;
  void give_stacks_back() noexcept;
  void leave_thread() noexcept;
  buffer_pool* make_buffers() noexcept;

  // What a hop touches, side by side.
  record* current_ = nullptr;
  int* errno_ = nullptr;
  arch::exception_state* live_exceptions_ = nullptr;
  counter picks_;               // of somebody to run, since the beginning
  std::uint64_t think_at_ = 0;  // picks up to here need no thought if somebody is ready
  ready_ring<record> ready_;
  std::uint64_t pause_at_ = 0;        // at this pick the budget or the clock is looked at
  const unsigned first_pause_;        // of a turn
  std::uint64_t turn_began_ = 0;      // the pick
  std::uint64_t turn_spent_ = 0;      // of its budget, beside its picks
  std::uint64_t unstarted_turn_ = 0;  // from this pick on an unstarted one goes before the ready
  std::uint64_t oldest_turn_ = 0;     // and from this one on the oldest of them
  record* after_last_ = nullptr;      // of the unstarted: who came after the last one that started
  unsigned starts_left_ = 0;          // before the ready ones have their turn
  unsigned handed_on_ = 0;            // ends in a row after which an unstarted one came
  bool no_stack_ = false;             // the last bind failed; cleared when a stack comes back
  std::uint8_t dead_class_ = 0;
  std::byte* dead_slot_ = nullptr;  // left by a fiber that ended; free once we stand on another one
  record* first_ = nullptr;         // the next to run, though it is in its queue like the others
  list<record, queue_node> unstarted_;
  levels<record, queue_node> levels_;  // who is not of normal priority, ready or unstarted
  std::uint32_t started_ = 0;          // fibers with a stack
  arch::context loop_;

  commons& shared_;
  worker_settings settings_;
  std::unique_ptr<buffer_pool> buffers_;  // before what may still write into them
  std::unique_ptr<backend> outside_;
  flight flight_;
  timers timers_;
  stack_cache stacks_;
  record_cache records_;

  record* host_ = nullptr;     // on whose stack the loop serves
  record* leaving_ = nullptr;  // to be sent off by the loop, to leaving_for_
  worker* leaving_for_ = nullptr;
  [[no_unique_address]] arch::switch_notes loop_notes_;
  std::int64_t turn_ends_ns_ = 0;
  unsigned hungry_looks_ = 0;  // in vain, and nobody ran in between
  std::uint64_t hungry_switches_ = 0;
  std::uint32_t given_seen_ = 0;  // of stacks::given(), before this turn asked for any
  std::int64_t spin_ns_ = 0;
  std::uint64_t no_spin_at_ = UINT64_MAX;  // the pick of a fiber after which it does not pay
  adaptive_threshold threshold_;
  std::uint32_t heard_threshold_ = 0;
  std::uint32_t asks_from_ = UINT32_MAX, asks_live_from_ = UINT32_MAX;  // never with one worker
  std::uint32_t feeds_from_ = UINT32_MAX;  // those that are left at a pick
  push_gate gate_;
  lone_tries lone_tries_;
  std::uint32_t seed_ = 0;
  std::uint64_t spoke_at_ = UINT64_MAX;
  unsigned spin_doubts_ = 0;  // bells that a lost spin is remembered for; grows with each in a row
  unsigned spin_doubts_left_ = 0;
  bool on_board_ = false;  // of the hungry, unless somebody has taken the name away
  bool fed_ = false;       // the last rest ended by that
  bool for_one_ = true;    // what it was fed with was worth it
  std::int64_t fed_at_ns_ = 0;
  bool rung_ = false;         // a neighbour ended the last sleep
  bool none_due_ = false;     // of the timers, in the turn that begins
  std::uint32_t served_ = 0;  // calls of commons::starved that were answered
  std::uint32_t freed_ = 0;   // records given back for those who wait, who were not told yet

  worker_counters counts_;
  alignas(cache_line_bytes) counter unstarted_count_;
  counter live_;  // fibers whose home is here and that have not ended
  atomic<rest> rest_{rest::awake};
  atomic<bool> quit_{false};
  atomic<std::uint32_t> told_threshold_{0};
  mailbox mail_;
  wake_inbox wakes_;
  bell bell_;
  joiner_news joiners_;
  errand joiners_errand_;  // it says: look for them
  errand buffers_errand_;
};

inline void worker::enqueue(record& fiber) noexcept {
  fiber.at = stage::unstarted;
  ++live_;
  ++unstarted_count_;
  if (!fiber.treat.usual_level()) [[unlikely]]
    return queue_apart(fiber);
  if (unstarted_.empty()) {
    starts_left_ = 0;
    unstarted_turn_ = picks_.get() + unstarted_every - 1;
    oldest_turn_ = picks_.get() + oldest_every - 1;
    think_at_ = std::min(think_at_, unstarted_turn_);
  }
  COIR_MUTANT(newest_starts_first) ? unstarted_.push_front(fiber) : unstarted_.push_back(fiber);
}

/// Out of the line of the unstarted, wherever it stands.
inline void worker::leave_line(record& waiting) noexcept {
  if (&waiting == after_last_) after_last_ = unstarted_.after(waiting);
  unstarted_.erase(waiting);
  --unstarted_count_;
}

/// The next to run, if the turn is not over.
inline void worker::ask_for(record& fiber) noexcept {
  first_ = &fiber;
  think_at_ = 0;
}

inline void worker::stack_may_be_had() noexcept {
  no_stack_ = false;
  think_at_ = 0;
}

inline void worker::give_back(std::uint32_t slot) noexcept {
  // relaxed: who starves from now on calls every worker, and serve_starving() flushes what we keep.
  if (shared_.starving.load(std::memory_order_relaxed) == 0) [[likely]]
    return shared_.records.give(records_, slot);
  shared_.records.give(slot);
  ++freed_;
}

/// Somebody starves, and was not served yet.
inline bool worker::records_are_wanted() const noexcept {
  return freed_ != 0 || shared_.starved.load(std::memory_order_relaxed) != served_;
}

inline void worker::make_ready(record& fiber) noexcept {
  COIR_ASSERT(fiber.at == stage::parked);
  fiber.at = stage::runnable;
  if (!fiber.treat.usual_level()) [[unlikely]]
    return queue_apart(fiber);
  ready_.push_back(fiber);
}

inline bool worker::holds_unstarted(const record& fiber) const noexcept {
  return fiber.at == stage::unstarted && fiber.waits_to_start();
}

/// A fiber parks inside a no_park: stops the process and says so.
[[noreturn]] void forbidden_park(const record& fiber) noexcept;

/// The body forked, and in the child it came to its end: nobody is there who could go on.
[[noreturn]] void returned_after_fork(const record& fiber) noexcept;

/// The last user of a finished record gives its slot back. Any thread.
void recycle(record& fiber) noexcept;

}  // namespace coir::detail
