// worker.cpp: the loop of one core, and what it serves in which order.
//
// Always true:
//   - One turn: mail and wake links, due timers, ready fibers until the budget is used up, then one
//     visit to the backend.
//   - Who serves the turns stands on the worker's own stack, or on that of a fiber that has just
//     parked and found nobody ready; current_ is null meanwhile.
//
// Comes from: runtime's threads.   Goes to: switching.cpp (run a fiber), flight, backend.
#include "runtime/hardened.hpp"
#include "runtime/hop.hpp"

#include <cerrno>

namespace coir::detail {

worker::worker(commons& shared, std::unique_ptr<backend> outside, const worker_settings& s)
    : ready_(shared.records.capacity()),
      first_pause_(std::min(s.run_budget, picks_per_clock)),
      shared_(shared),
      settings_(s),
      outside_(std::move(outside)),
      flight_(*outside_, s.fds_max),
      timers_(outside_->now_ns()),
      stacks_(*shared.pool,
              outside_->simulated() ? stack_cache::spill::drops : stack_cache::spill::trimmed),
      threshold_(s.deflect_threshold),
      mail_(s.mailbox_slots) {
  COIR_ASSERT(s.deflect_threshold <= adaptive_threshold::most);  // a larger one is refused by name
  set_threshold(0);
  if (shared.chosen.hardened_ring) flight_.restrict_to(admitted(shared.chosen));
  joiners_errand_.run = [](errand&, void* self) noexcept {
    static_cast<worker*>(self)->look_for_joiners();
  };
  buffers_errand_.run = [](errand&, void* self) noexcept {
    static_cast<worker*>(self)->buffers_->take_far();
  };
}

buffer_pool* worker::make_buffers() noexcept {
  buffers_ = buffer_pool::make(*outside_, shared_.chosen.stream_buffers,
                               static_cast<unsigned>(shared_.chosen.stream_buffer_bytes));
  if (buffers_ == nullptr) return nullptr;
  flight_.stray_context = buffers_.get();
  flight_.on_stray_buffer = [](void* pool, unsigned buffer) noexcept {
    auto& all = *static_cast<buffer_pool*>(pool);
    if (all.came(buffer)) all.give(buffer);
  };
  return buffers_.get();
}

worker::~worker() = default;

int worker::run(const std::function<bool(int)>& told, std::span<std::byte> on) noexcept {
  arch::set_thread_word(this);
  errno_ = &errno;
  live_exceptions_ = arch::thread_exception_state();
  if (on.empty()) arch::note_thread(loop_notes_);
  const int attached = outside_->attach();
  if (!told(attached)) {
    leave_thread();
    return attached;
  }
  while (!quit_.load(std::memory_order_acquire)) {
    begin_turn();
    run_ready();
    end_turn();
  }
  leave_thread();
  return 0;
}

void worker::begin_turn() noexcept {
  if (!COIR_MUTANT(mail_when_idle) || ready_.empty()) take_mail();
  if (!wakes_.empty() && (!COIR_MUTANT(wakes_when_idle) || ready_.empty())) take_wakes();
  no_stack_ = false;  // one that was given back elsewhere rang us: ask again
  given_seen_ = shared_.pool->given();
  // The clock is not free: when something else has just ended a sleep, none is due.
  if (!std::exchange(none_due_, false)) fire_timers();
  turn_began_ = picks_.get();
  pause_at_ = turn_began_ + (COIR_MUTANT(first_pick_timed) ? 0 : first_pause_);
  turn_spent_ = 0;
  if (const auto told = told_threshold_.load(std::memory_order_relaxed); told != heard_threshold_)
    set_threshold(told);
  think_at_ = unstarted_.empty() && !levels_.any() ? pause_at_ : turn_began_;
  // Once in a turn everybody comes before the one that was asked for: two who yield to each other
  // would run for ever.
  if (first_ != nullptr && first_->at == stage::runnable && !COIR_MUTANT(two_run_for_ever))
    first_ = nullptr;
}

void worker::end_turn() noexcept {
  if (buffers_ != nullptr) buffers_->relieve();
  sleep_or_poll();
  take_completions();
}

void worker::take_completions() noexcept {
  outside_->reap({[](void* self, const completion& c) noexcept {
                    auto& w = *static_cast<worker*>(self);
                    if (record* const fiber = w.flight_.complete(c)) w.make_ready(*fiber);
                  },
                  this});
  flight_.turn([this](record& fiber) noexcept { make_ready(fiber); });
}

/// The loop on the stack of a fiber that leaves it next: who goes on afterwards. Null for what the
/// loop does on its own stack: to end, and to end those who get none.
record* worker::serve_in_place(record& host) noexcept {
  const int kept = *errno_;
  current_ = nullptr;
  host_ = &host;
  record* next = nullptr;
  do {
    end_turn();
    if (quit_.load(std::memory_order_acquire)) break;
    begin_turn();
    next = choose_bound();
  } while (next == nullptr && !no_stack_);
  host_ = nullptr;
  restore_errno(errno_, kept);
  return next;
}

void worker::leave_thread() noexcept {
  outside_->detach();
  give_stacks_back();
  shared_.records.flush(records_);
  arch::set_thread_word(nullptr);
}

void worker::quit(bool now) noexcept {
  quit_.store(now, std::memory_order_release);
  if (now) ring();
}

void worker::refuse_unstarted(std::error_code why) noexcept {
  while (unpack(mail_.take(), [this](record& fiber) { enqueue(fiber); }) != 0) continue;
  places_are_free(UINT32_MAX);  // they try again, and are refused
  while (own_unstarted() != 0) {
    record* const fiber = take_any_unstarted();
    if (fiber == first_) first_ = nullptr;
    fiber->ops->drop(*fiber);
    fiber->fail_with(why);
    end_of(*fiber);
  }
  run_left_errands();
}

void worker::run_left_errands() noexcept { take_wakes(); }

// -- what comes in

/// Each fiber of a mail to `each`, who may send it on; how many there were.
template <class Each>
unsigned worker::unpack(record* first, Each each) noexcept {
  unsigned fibers = 0;
  for (record* fiber = first; fiber != nullptr; ++fibers) {
    record* const behind = std::exchange(fiber->mailed_behind, nullptr);
    each(*fiber);
    fiber = behind;
  }
  mail_.unpacked(fibers);
  return fibers;
}

void worker::take_what_came() noexcept {
  // One mailbox full and no more: senders that refill it at once must not hold up everybody else.
  unsigned taken = 0;
  for (; taken < settings_.mailbox_slots; ++taken) {
    const unsigned fibers = unpack(mail_.take(), [this](record& fiber) { settle(fiber); });
    if (fibers == 0) break;
    counts_.deflected_in += fibers;
  }
  // relaxed: who stands in the room of places since we last heard `starved` was seen with it. Who
  // comes to stand there meanwhile calls, or finds one of these places (launch_by).
  if (taken != 0 && shared_.starving.load(std::memory_order_relaxed) != 0 &&
      !COIR_MUTANT(room_never_given))
    places_are_free(taken);
  serve_starving();
}

/// For who waits for a place here, and for who waits for one anywhere: of these some look in vain.
void worker::places_are_free(unsigned count) noexcept {
  wake_some(mail_room, count);
  wake_some(shared_.mail_room, count);
}

void worker::serve_starving() noexcept {
  if (!records_are_wanted()) [[likely]]
    return;
  // acquire: pairs with the caller's increment: it stands in its room, and `starving` says so.
  const std::uint32_t calls = shared_.starved.load(std::memory_order_acquire);
  if (COIR_MUTANT(room_never_given)) return;
  std::uint32_t room = std::exchange(freed_, 0);
  if (std::exchange(served_, calls) != calls) {
    room += shared_.records.flush(records_);
    if (const std::uint32_t places = mail_.places(); places != 0) places_are_free(places);
  }
  if (room != 0) wake_for_room(shared_, room);
}

void worker::take_wakes() noexcept {
  struct {
    worker& here;
    void pass_on(record& fiber) noexcept { here.shared_.send_wake(here.shared_, fiber); }
    void recycle(record& fiber) noexcept { detail::recycle(fiber); }
    void drop_unheld(record& fiber) noexcept { here.drop_unheld(fiber); }
    void make_ready(record& fiber) noexcept { here.make_ready(fiber); }
    void stop_parked(record& fiber) noexcept { here.stop_parked(fiber, woken::by_cancel); }
  } owner{*this};
  counts_.wakes_taken +=
      wakes_.take([&](record& fiber) noexcept { hear(fiber, settings_.index, owner); },
                  [this](errand& what) noexcept { what.run(what, this); });
}

void worker::stop_parked(record& fiber, woken why) noexcept {
  if (fiber.at != stage::parked) return;
  if (fiber.parked_at == nullptr) {
    fiber.slept_until = why;
    return make_ready(fiber);
  }
  if (fiber.parked_at->stop == nullptr) return;
  if (why == woken::by_cancel && !fiber.parked_at->heeds_cancel) return;
  fiber.parked_at->stop(*fiber.parked_at, fiber, why);
}

void worker::cancel_all() noexcept {
  const std::uint32_t touched = shared_.records.touched();
  // The youngest first: the kernel looks for an operation in one of 256 lists, newest first, and a
  // million that are sought oldest first take minutes instead of a second.
  for (std::uint32_t i = touched; i-- != 0;) {
    auto& fiber = *static_cast<record*>(shared_.records.at(i));
    // The join word first: 0 of an earlier life comes with its home, which a recycling has cleared
    // before the word of the next life was set. acquire: pairs with the release in new_task.
    if ((fiber.join.load(std::memory_order_acquire) & join_done) != 0) continue;
    if (fiber.home.load(std::memory_order_acquire) != settings_.index) continue;
    if (fiber.at != stage::runnable && fiber.at != stage::parked) continue;
    fiber.wake.fetch_or(wake_cancelled, std::memory_order_relaxed);
    stop_parked(fiber, woken::by_cancel);
  }
}

void worker::fire_timers() noexcept {
  if (timers_.size() == 0 || (COIR_MUTANT(timers_when_idle) && !ready_.empty())) return;
  const std::int64_t now = outside_->now_ns();
  while (timer* const due = timers_.expire(COIR_MUTANT(timers_early) ? now + 1'000'000 : now)) {
    stop_parked(*static_cast<record*>(shared_.records.at(due->owner)), woken::by_deadline);
  }
}

// -- what others send

bool worker::send(record& fiber) noexcept {
  // Only now it has a home: who cancels a scope from another thread asks for it, and a worker that
  // was never going to get the record would believe itself its owner.
  // release: the worker that gets the record's link before its mail asks `home` first, with
  // acquire.
  const auto at_home = [&] { fiber.home.store(settings_.index, std::memory_order_release); };
  if (COIR_MUTANT(home_before_place)) at_home();
  if (COIR_MUTANT(rung_before_mail)) ring();
  if (!mail_.send(fiber, at_home)) return COIR_MUTANT(full_mailbox_drops);
  ring();
  return true;
}

bool worker::send_batch(record& first, unsigned count) noexcept {
  const auto at_home = [&] {
    for (record* each = &first; each != nullptr; each = each->mailed_behind) {
      each->treat.count_hop();
      each->home.store(settings_.index, std::memory_order_release);
    }
  };
  if (!mail_.send(first, at_home, count)) return false;
  ring();
  return true;
}

void worker::send_wake(record& fiber) noexcept {
  if (COIR_MUTANT(rung_before_wake)) ring();
  if (COIR_MUTANT(wake_needs_room) && mail_.depth() == settings_.mailbox_slots) return;
  wakes_.push(fiber);
  ring();
}

void worker::send_errand(errand& what) noexcept {
  wakes_.push(what);
  ring();
}

void worker::ring() noexcept {
  if (!bell_.must_ring()) return;
  if (COIR_MUTANT(threads_never_ring) && current() == nullptr) return;
  if (worker* const me = current()) ++me->counts_.bells_rung;
  outside_->wake();
}

// -- what others may know

load worker::published_load() const noexcept {
  const std::uint32_t mailed = mail_.fibers();
  return {own_unstarted() + mailed, static_cast<std::uint32_t>(live_.get()) + mailed};
}

worker_stats worker::stats() const noexcept {
  const backend_counts& outside = outside_->counts();
  worker_stats s;
  s.spawned = spawned.load(std::memory_order_relaxed);
  s.finished = finished.load(std::memory_order_relaxed);
  s.switches = switches();
  s.parks = counts_.parks.get();
  const bool here = current() == this;
  s.live = static_cast<std::uint32_t>(live_.get());
  s.unstarted = own_unstarted();
  s.ready = here ? ready_now() : counts_.ready.get();
  // What is left. Numbers of a worker that runs meanwhile may not fit together.
  const std::uint64_t others = s.unstarted + s.ready + (here && current_ != nullptr ? 1 : 0);
  s.parked = s.live > others ? s.live - others : 0;
  s.stacks_bound = s.live > s.unstarted ? s.live - s.unstarted : 0;
  s.mailbox_depth = COIR_MUTANT(mails_told) ? mail_.depth() : mail_.fibers();
  s.deflected_out = counts_.deflected_out.get();
  s.deflected_in = counts_.deflected_in.get();
  s.mailbox_refused = counts_.mailbox_refused.get();
  s.wakes_sent = counts_.wakes_sent.get();
  s.wakes_taken = counts_.wakes_taken.get();
  s.bells_rung = counts_.bells_rung.get();
  s.sleeps = counts_.sleeps.get();
  s.turns = counts_.turns.get();
  s.spins_won = counts_.spins_won.get();
  s.spins_lost = counts_.spins_lost.get();
  s.sqes = outside.sqes.get();
  s.cqes = outside.cqes.get();
  s.enters = outside.enters.get();
  s.overflows = outside.overflows.get();
  s.stale_tokens = flight_.stale();
  s.cancels = flight_.cancels();
  s.operations_open = flight_.open_count();
  s.timers = timers_.size();
  s.stacks_warm = stacks_.warm();
  return s;
}

}  // namespace coir::detail
