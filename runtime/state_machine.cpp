// state_machine.cpp: who serves the inputs of a state machine, and who may touch its state.
//
// Always true:
//   - A fiber that took an input sees to it that somebody is there for the next one before it runs
//     its own.
//   - A change is alone with the state: what would park inside it is refused, and what parked all
//     the same (yield, mutex::lock) ends the process before anybody sees half of it.
//
// Comes from: coir/state_machine.hpp.   Goes to: scope, sync, worker.
#include "coir/state_machine.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "runtime/waiting.hpp"

namespace coir::detail {

namespace {

constexpr std::uint32_t idle_kept = 4;  // each is a record and a page of stack

template <class... Values>
[[noreturn]] void stop_the_process(const char* format, Values... values) noexcept {
  char text[320];
  const int n = std::snprintf(text, sizeof text, format, values...);
  if (n > 0) {
    const auto length = std::min(static_cast<std::size_t>(n), sizeof text - 1);
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text, length);
  }
  std::abort();
}

}  // namespace

std::uint64_t turn_here() noexcept {
  worker* const here = worker::current();
  if (here == nullptr || COIR_MUTANT(parks_go_unnoticed)) return 0;
  // A park that ends before anybody else has run is one, too.
  return here->switches() + here->counts().parks.get();
}

machine_core::machine_core(const machine_options& o)
    : name_(o.name),
      inflight_max_(std::max(o.inflight_max, 1u)),
      queue_max_(std::max(o.queue_max, 1u)),
      refuse_when_full_(o.refuse_when_full),
      owner_named_(o.worker.has_value()),
      owner_(o.worker.value_or(current_fiber() != nullptr ? worker::current()->index() : 0)),
      stack_bytes_(o.stack_bytes),
      fibers_(std::in_place) {}

// -- those who bring inputs -----------------------------------------------------------------------

std::error_code machine_core::submit(std::shared_ptr<machine_job> job, deadline until, bool wait) {
  std::unique_lock held(mutex_);
  const auto has_room = [this] {
    return stopping_ || queue_.size() < queue_max_ || COIR_MUTANT(machine_queue_unbounded);
  };
  while (!has_room()) {
    if (!wait) return errc::queue_full;
    const std::error_code why = wait_in_line(room_, held, until);
    if (why && !has_room()) return why;
  }
  if (stopping_) return errc::shutting_down;
  queue_.push_back(std::move(job));
  held.unlock();
  wake_some(work_, 1);
  return {};
}

/// As a condition variable: lets go of the line, waits, takes it again.
std::error_code machine_core::wait_in_line(wait_queue& where, std::unique_lock<std::mutex>& held,
                                           deadline until) noexcept {
  waiter me;
  // Let go of inside the room's lock: who wakes somebody after that finds us there.
  const woken why = wait_in(where, me, ns_of(until), true, [&held] {
    held.unlock();
    return true;
  });
  held.lock();
  return error_of(why);
}

bool machine_core::withdraw(const machine_job& job) {
  std::unique_lock held(mutex_);
  const auto at = std::ranges::find(queue_, &job, &std::shared_ptr<machine_job>::get);
  if (at == queue_.end()) return false;
  const auto dropped = std::move(*at);
  queue_.erase(at);
  held.unlock();
  wake_some(room_, 1);
  return true;
}

std::size_t machine_core::suspended() const {
  const std::lock_guard held(mutex_);
  return inflight_;
}

std::size_t machine_core::queued() const {
  const std::lock_guard held(mutex_);
  return queue_.size();
}

// -- those who serve them -------------------------------------------------------------------------

result<> machine_core::start(runtime* on) {
  const auto callers = this_fiber::id().runtime;
  std::error_code said = errc::shutting_down;  // it never runs
  const auto first = [this, callers, &said] {
    // The number of the caller's worker says nothing in another runtime.
    if (!owner_named_ && this_fiber::id().runtime != callers && !COIR_MUTANT(owner_of_another))
      owner_ = 0;
    servers_ = 1;
    said = spawn_server(never);
  };
  if (on == nullptr) {
    first();
  } else {
    event over;  // `first` has run, or never will
    std::shared_ptr<void> told(nullptr, [&over](void*) noexcept { over.set(); });
    const auto there = on->spawn([first, told = std::move(told)] { first(); }, {.name = name_});
    // Also when the caller is cancelled: it would free what `first` is about to use.
    (void)wait_for_event(over, never, COIR_MUTANT(create_heeds_cancel));
    if (!there) return fail(there.refusal());
  }
  if (said) return fail(said);
  return {};
}

std::error_code machine_core::spawn_server(deadline until) {
  const auto made = fibers_->spawn(
      [place = server_place(*this)]() mutable { place.begin(); },
      {.name = name_, .stack_bytes = stack_bytes_, .worker = owner_, .until = until});
  return made ? std::error_code() : made.refusal();
}

/// It was refused, or there was no stack for it.
void machine_core::server_lost() noexcept {
  bool nobody = false;
  {
    const std::lock_guard held(mutex_);
    nobody = --servers_ == 0 && !stopping_;
    stopping_ = stopping_ || nobody;
  }
  if (!nobody) return;
  // Nobody is left who could find somebody for the next input.
  wake_some(room_, UINT32_MAX);
  refuse_queued(make_error_code(errc::stack_limit));
}

/// The next input, which counts as begun; null: this fiber is not needed any more.
std::shared_ptr<machine_job> machine_core::take(std::unique_lock<std::mutex>& held) {
  while (queue_.empty()) {
    if (stopping_ || idle_ >= idle_kept) return nullptr;
    ++idle_;
    const std::error_code ended = wait_in_line(work_, held, never);
    --idle_;
    if (!ended) continue;
    // Only a cancel ends this wait: stop() has lost its patience, or the runtime is going down.
    stopping_ = true;
    held.unlock();
    if (!COIR_MUTANT(stop_untold)) wake_some(room_, UINT32_MAX);  // no place comes any more
    held.lock();
    if (queue_.empty()) return nullptr;
  }
  auto job = std::move(queue_.front());
  queue_.pop_front();
  ++inflight_;
  return job;
}

void machine_core::serve() {
  std::unique_lock held(mutex_);
  while (auto job = take(held)) {
    const bool alone = idle_ == 0 && servers_ < inflight_max_ && !stopping_ &&
                       !COIR_MUTANT(machine_serves_one_by_one);
    servers_ += alone ? 1 : 0;
    held.unlock();
    wake_some(room_, 1);
    // It never waits: for want of room those who are there go on alone.
    if (alone) (void)spawn_server(no_wait);
    if (this_fiber::cancelled())
      job->refuse(make_error_code(errc::shutting_down));
    else
      job->run();
    job.reset();  // what it held is the user's, and ends without our lock
    held.lock();
    --inflight_;
  }
  --servers_;
}

void machine_core::refuse_queued(std::error_code why) noexcept {
  for (;;) {
    std::shared_ptr<machine_job> job;
    {
      const std::lock_guard held(mutex_);
      if (queue_.empty()) return;
      job = std::move(queue_.front());
      queue_.pop_front();
    }
    job->refuse(why);
  }
}

void machine_core::close_the_line() noexcept {
  {
    const std::lock_guard held(mutex_);
    stopping_ = true;
  }
  wake_some(work_, UINT32_MAX);
  wake_some(room_, UINT32_MAX);
}

void machine_core::finish() noexcept {
  close_the_line();
  fibers_.reset();
  refuse_queued(make_error_code(errc::shutting_down));
}

result<> machine_core::stop(deadline until) {
  close_the_line();
  auto ended = fibers_->join(until);
  // After success there are some only when a cancel took away who would have served them.
  refuse_queued(make_error_code(errc::shutting_down));
  // What else a server can end with concerns nobody: its input was answered, or another took it.
  if (ended || fibers_->live() == 0) return {};
  fibers_->cancel();
  // To their very end, also when the caller is cancelled: what they use may be the caller's.
  if (!COIR_MUTANT(stop_heeds_cancel)) wait_for_children(*fibers_);
  (void)fibers_->join(no_wait);  // what they ended with is nobody's either
  return ended;
}

// -- the state ------------------------------------------------------------------------------------

void machine_core::seen_by_halves() const noexcept {
  stop_the_process(
      "coir: machine '%s': a change of its state was interrupted by a park; do what waits before "
      "update()\n",
      name_.c_str());
}

void machine_core::look() const noexcept {
  if (changing_ != nullptr && changing_ != current_fiber()) [[unlikely]]
    seen_by_halves();
}

bool machine_core::unchanged_since(std::uint64_t version) const noexcept {
  return version_ == version || COIR_MUTANT(commits_what_is_stale);
}

void machine_core::check_reference(std::uint64_t turn, std::uint64_t version) const noexcept {
  if (turn == turn_here()) [[likely]]
    return;
  stop_the_process(
      "coir: machine '%s': a reference into its state was kept across a park and used after it; "
      "the state was at version %llu and is at %llu: call peek() again\n",
      name_.c_str(), static_cast<unsigned long long>(version),
      static_cast<unsigned long long>(version_));
}

machine_change::machine_change(machine_core& core, std::uint64_t era) noexcept : core_(core) {
  core.look();
  record* const me = current_fiber();
  if (me == nullptr || worker::current()->index() != core.owner_ || core.changing_ == me)
    refused_ = errc::wrong_operation;
  else if (era != core.era_ && !COIR_MUTANT(old_inputs_change_new_state))
    refused_ = errc::state_changed;
  if (refused_) return;
  core.changing_ = me;
  open_ = true;
  forbidden_.emplace(core.name_.c_str());
  turn_ = turn_here();
  ignored_before_ = std::exchange(me->ignored, std::uint16_t{0});
  if (!COIR_MUTANT(update_may_park)) me->brings |= refuses_parks;
}

std::error_code machine_change::close() noexcept {
  if (!open_) return {};
  open_ = false;
  forbidden_.reset();
  record& me = *current_fiber();
  me.brings &= static_cast<std::uint8_t>(~refuses_parks);
  const bool asked = std::exchange(me.ignored, ignored_before_) != 0;
  // Also when it asked for what it did not get, or threw: nobody knows how far it came.
  ++core_.version_;
  core_.changing_ = nullptr;
  if (turn_here() != turn_ && !asked) core_.seen_by_halves();
  return asked ? make_error_code(errc::update_would_park) : std::error_code();
}

machine_change::~machine_change() { (void)close(); }

// -- keys -----------------------------------------------------------------------------------------

result<> machine_core::lock_key(const std::string& key, deadline until) {
  const void* const me = current_fiber();
  if (me == nullptr || worker::current()->index() != owner_) return fail(errc::wrong_operation);
  key_line& line = keys_[key];
  if (line.holder == me) return fail(errc::deadlock);
  if (line.holder == nullptr) {
    line.holder = me;
    return {};
  }
  key_waiter mine;
  mine.fiber = me;
  line.waiting.push_back(&mine);
  auto waited = mine.turn.wait(until);
  // What was handed over before the deadline or the cancel is ours.
  if (waited || mine.given) return {};
  std::erase(line.waiting, &mine);
  return waited;
}

void machine_core::unlock_key(const std::string& key) noexcept {
  const auto at = keys_.find(key);
  key_line& line = at->second;
  if (line.waiting.empty()) {
    keys_.erase(at);
    return;
  }
  const bool wrong = COIR_MUTANT(key_lock_last_first);
  key_waiter* const next = wrong ? line.waiting.back() : line.waiting.front();
  if (wrong)
    line.waiting.pop_back();
  else
    line.waiting.pop_front();
  line.holder = next->fiber;
  next->given = true;
  next->turn.set();
}

}  // namespace coir::detail
