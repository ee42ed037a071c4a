// runtime.cpp: the life of a runtime: start the threads, stop them, and know when everybody has
// ended.
//
// Always true:
//   - A worker thread blocks all signals but the fatal ones, has a guarded signal stack, and
//     refuses pthread_cancel.
//   - shutdown: refuse new work, cancel everybody once, wait, end the threads; what survives is
//     named and keeps its memory.
//   - "Deadlock" is answered only when no thread but ours exists in the process: another one could
//     still wake somebody.
//
// Comes from: coir::runtime.   Goes to: worker::run.
#include "runtime/runtime.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "runtime/lanes.hpp"
#include "runtime/overflow.hpp"
#include "runtime/registry.hpp"
#include "runtime/sim.hpp"

namespace coir::detail {
namespace {

void block_signals() noexcept {
  sigset_t all{};
  ::sigfillset(&all);
  for (const int fatal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS})
    ::sigdelset(&all, fatal);
  ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
}

void cancel_everybody(errand&, void* at) noexcept { static_cast<worker*>(at)->cancel_all(); }

/// How many threads the process has; 0 when /proc does not tell. Asked where memory is short.
std::size_t threads_of_process() noexcept {
  const int fd = ::open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  char text[1024];
  const auto bytes = ::read(fd, text, sizeof text - 1);
  ::close(fd);
  if (bytes <= 0) return 0;
  text[bytes] = '\0';
  const char* at = std::strrchr(text, ')');  // the end of the second value, the name
  for (int value = 2; at != nullptr && value != 20; ++value) at = std::strchr(at + 1, ' ');
  return at != nullptr ? std::strtoul(at, nullptr, 10) : 0;
}

}  // namespace

runtime_core::~runtime_core() {
  if (is_driven()) drive_no_more(*this);
  unregister_core(*this);
  end_threads();
  for (const auto& w : workers_) w->run_left_errands();  // handles that were dropped at the last
}

void runtime_core::work(unsigned index) noexcept {
  block_signals();
  ::pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
  ::prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);  // a timed sleep is otherwise up to 50 us late
  char name[16];
  std::snprintf(name, sizeof name, "coir/%u", index);
  ::pthread_setname_np(::pthread_self(), name);
  const auto signals_here = signal_stack::make();
  if (watch_ != nullptr) watch_->enter(at(index));
  const auto meet = [this](int error) {
    if (error < 0) attach_error_.store(error, std::memory_order_relaxed);
    attached_.fetch_add(1, std::memory_order_acq_rel);
    futex_wake(attached_, 1);
    // Nobody runs a fiber before everybody can.
    while (gate_.load(std::memory_order_acquire) == 0) futex_wait(gate_, 0, INT64_MAX);
    return error >= 0 && gate_.load(std::memory_order_acquire) == 1;
  };
  const int refused = signals_here ? take_place(index) : signals_here.error().value();
  if (refused != 0) {
    (void)meet(-refused);
    return;
  }
  (void)at(index).run(meet);
}

/// On the processor, and with the memory, that the options ask for. 0 or an errno.
int runtime_core::take_place(unsigned index) noexcept {
  if (!chosen.pin_workers || COIR_MUTANT(workers_unpinned)) return 0;
  const processor& mine = place_.of(index);
  int why = pin_to(mine);
  const bool pinned = why == 0;
  if (pinned && chosen.numa_placement && !COIR_MUTANT(memory_anywhere)) why = prefer_own_node();
  if (why == 0) return 0;
  char text[160];
  std::snprintf(text, sizeof text, "worker %u cannot %s processor %u: %s: set options::%s to false",
                index, pinned ? "have its memory near" : "be kept on", mine.number,
                ::strerrordesc_np(why),  // allocates nothing
                pinned ? "numa_placement" : "pin_workers");
  chosen.log({log_record::level::error, text});
  return why;
}

void runtime_core::leave_worker() const noexcept {
  if (!starter_ || COIR_MUTANT(forked_fiber_stays_deaf)) return;
  if (chosen.pin_workers) starter_->run_there();
  ::pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, nullptr);
  starter_->sleep_as_exactly();
  starter_->hear_signals();
}

namespace {
/// Of a thread of the offload pool: what the one was like that started the runtime.
thread_local const thread_setting* pool_of = nullptr;

void begin_offload_thread(const void* as) noexcept {
  pool_of = static_cast<const thread_setting*>(as);
}
void begin_unpinned(const void* as) noexcept {
  begin_offload_thread(as);
  pool_of->run_there();
}
}  // namespace

void leave_offload_thread() noexcept {
  const thread_setting* const as = std::exchange(pool_of, nullptr);  // a child of this one is none
  if (as == nullptr || COIR_MUTANT(forked_call_stays_deaf)) return;
  as->sleep_as_exactly();
  as->hear_signals();
}

/// What is asked of the threads of workers, where they have none.
void runtime_core::tell_unheeded() const {
  if (COIR_MUTANT(unheeded_untold)) return;
  if (chosen.pin_workers)
    chosen.log({log_record::level::note,
                "options::pin_workers: on the simulated backend a worker has no thread, and runs "
                "wherever the thread does that waits for it"});
  if (chosen.stall_after.count() != 0)
    chosen.log({log_record::level::note,
                "options::stall_after: on the simulated backend a worker has no thread that could "
                "be watched"});
}

result<> runtime_core::start() {
  // First: in the child of a fork nobody lets go of a lock that another thread of the parent held.
  if (inherited()) return fail(errc::foreign_runtime);
  const std::lock_guard held(life_);
  if (stopping.load(std::memory_order_relaxed) && !COIR_MUTANT(started_after_stop))
    return fail(errc::shutting_down);
  state expected = state::created;
  if (!state_.compare_exchange_strong(expected, state::started)) {
    if (expected == state::refusing) return fail(errc::shutting_down);
    return COIR_MUTANT(started_twice) ? result<>() : fail(errc::already_started);
  }
  std::error_code why;
  if (is_driven()) {
    tell_unheeded();
    drive_from_now_on(*this);
    return {};
  }
  count_workers(*this, true);
  starter_.emplace();
  const bool unpins = chosen.pin_workers && !COIR_MUTANT(offload_pinned);
  offload_.room_made = [](wait_queue& room) noexcept { wake_some(room, 1); };
  offload_.begin_by(unpins ? &begin_unpinned : &begin_offload_thread, &*starter_);
  try {
    if (chosen.stall_after.count() != 0)
      watch_ =
          std::make_unique<watch>(chosen.stall_after.count() * 1'000'000, workers(), chosen.log);
    for (unsigned i = 0; i < workers(); ++i) threads_.emplace_back([this, i] { work(i); });
  } catch (const std::system_error& refused) {
    why = refused.code();
    log(log_record::level::error,
        "no thread for worker " + std::to_string(threads_.size()) + " of " +
            std::to_string(workers()) + ": " + why.message() +
            ": raise `ulimit -u` or pids.max of the control group, or lower options::workers");
  } catch (const std::bad_alloc&) {
    why = std::make_error_code(std::errc::not_enough_memory);
  }
  for (std::uint32_t seen = 0;
       (seen = attached_.load(std::memory_order_acquire)) < threads_.size();)
    futex_wait(attached_, seen, INT64_MAX);
  if (const int error = attach_error_.load(std::memory_order_relaxed); error < 0)
    why = system_error(error);
  if (!why && watch_ != nullptr && !watch_->begin())
    why = std::make_error_code(std::errc::resource_unavailable_try_again);
  gate_.store(why ? 2 : 1, std::memory_order_release);
  futex_wake(gate_, INT32_MAX);
  if (!why) return {};
  stopping.store(true, std::memory_order_seq_cst);
  end_threads();
  refuse_queued(why);
  return fail(why);
}

void runtime_core::request_stop() noexcept {
  if (inherited()) return;
  stopping.store(true, std::memory_order_seq_cst);
  {
    const word_lock held(stop_lock_);
    if (std::exchange(stop_sent_, true)) return;
  }
  refuse_unbegun();
  for (unsigned i = 0; i < workers(); ++i) {
    stop_errands_[i].run = &cancel_everybody;
    at(i).send_errand(stop_errands_[i]);
  }
  wake_for_room(*this, UINT32_MAX);
}

void runtime_core::uncount_foreign_spawn() noexcept {
  counted_out(foreign_spawned_, settling, idle_word_);
}

bool runtime_core::all_ended() const noexcept { return nobody_lives(workers_, foreign_spawned_); }

bool runtime_core::stuck() const noexcept {
  const auto resting = [this] {
    return std::all_of(workers_.begin(), workers_.end(), [](const auto& w) {
      // Who has unstarted ones and rests is hungry for a stack, and will give that up by itself.
      return w->rests_for_others() && w->published_load().unstarted == 0;
    });
  };
  if (!resting() || offload_.busy() != 0) return false;
  if (!alone_in_process()) return false;
  return resting() && offload_.busy() == 0 && resting() && !all_ended();
}

bool runtime_core::all_others_rest(commons& all, unsigned self) noexcept {
  auto& core = static_cast<runtime_core&>(all);
  if (core.offload_.busy() != 0) return false;
  return std::all_of(
             core.workers_.begin(), core.workers_.end(),
             [self](const auto& w) { return w->index() == self || w->rests_for_others(); }) &&
         (core.alone_in_process() || COIR_MUTANT(threads_unheeded));
}

void runtime_core::on_worker_idle(commons& self) noexcept {
  auto& core = static_cast<runtime_core&>(self);
  if (core.is_driven()) return core.leave_driver();
  if (core.here_) {
    if (!core.all_ended()) {
      const bool exhausted = std::ranges::any_of(
          core.workers_, [](const auto& w) { return w->outside().exhausted(); });
      if (!exhausted) return;
      if (!std::exchange(core.deadlocked_, true)) {
        core.log_survivors("deadlock: nothing is under way, and these fibers wait: ");
        return core.request_stop();  // ends what can be ended, then looks again
      }
    }
    for (const auto& w : core.workers_) w->quit();
    return;
  }
  const bool everybody = std::all_of(core.workers_.begin(), core.workers_.end(),
                                     [](const auto& w) { return w->rests_for_others(); });
  if (everybody) tell_idle(core.idle_word_);
}

std::error_code runtime_core::wait_until_ended(std::int64_t until_ns,
                                               bool detect_deadlock) noexcept {
  std::error_code why;
  if (is_driven()) {
    const driven end = drive(until_ns, [this] { return all_ended(); });
    if (end == driven::over) return {};
    if (end == driven::by_deadline || !detect_deadlock) return make_error_code(errc::survivors);
    log_survivors("deadlock: nothing is under way, and these fibers wait: ");
    return make_error_code(errc::deadlock);
  }
  const auto ring_everybody = [&] {
    for (const auto& w : workers_) w->ring();
  };
  const bool over = wait_for_idle(settling, idle_word_, until_ns, ring_everybody, [&] {
    if (all_ended()) return true;
    if (!detect_deadlock || !stuck()) return false;
    log_survivors("deadlock: nothing is under way, and these fibers wait: ");
    why = make_error_code(errc::deadlock);
    return true;
  });
  return over ? why : make_error_code(errc::survivors);
}

std::error_code runtime_core::wait_for_all() noexcept { return wait_until_ended(never_ns, true); }

std::error_code runtime_core::run_here() noexcept {
  const lent_thread lent;
  here_ = true;
  settling.store(true, std::memory_order_relaxed);
  state_.store(state::started);
  const auto there = [](int error) { return error >= 0; };
  count_workers(*this, true);
  auto* const one = workers() == 1 ? nullptr : dynamic_cast<sim*>(&at(0).outside());
  const int attached = one == nullptr ? at(0).run(there) : lanes::run(workers_, one->world());
  count_workers(*this, false);
  state_.store(state::ended);
  if (attached < 0) return system_error(attached);
  return deadlocked_ ? make_error_code(errc::deadlock) : std::error_code();
}

/// No thread but ours and the one that waits for us, or on which we run.
bool runtime_core::alone_in_process() const noexcept {
  std::size_t ours = 1 + offload_.threads();
  if (!here_ && !is_driven()) ours += workers_.size() + (chosen.stall_after.count() != 0 ? 1 : 0);
  return threads_of_process() == ours;
}

void runtime_core::end_threads() noexcept {
  // Before the threads it looks at.
  watch_.reset();
  for (const auto& w : workers_) w->quit();
  for (std::thread& t : threads_)
    if (t.joinable()) t.join();
  threads_.clear();
  count_workers(*this, false);
}

result<> runtime_core::shutdown(std::int64_t until_ns) {
  if (inherited()) return fail(errc::foreign_runtime);
  if (current_core() == this && !COIR_MUTANT(shutdown_inside)) return fail(errc::deadlock);
  for (state was = state::refusing; was == state::refusing;) {
    std::unique_lock held(life_);
    if (state_.load() == state::ended) return {};
    stopping.store(true, std::memory_order_seq_cst);
    if (is_driven() && state_.load() == state::abandoned) drive_from_now_on(*this);
    was = state::created;
    if (state_.compare_exchange_strong(was, state::refusing)) {  // never started: nothing ever ran
      refuse_queued(std::make_error_code(std::errc::operation_canceled));
      return {};
    }
    held.unlock();
    if (was == state::refusing) std::this_thread::yield();  // a stop is at it
  }
  request_stop();
  // Without the lock: each who shuts down has a deadline of its own.
  if (COIR_MUTANT(budget_stretched) && until_ns < never_ns / 2) until_ns += 1'000'000'000;
  const bool survivors = static_cast<bool>(wait_until_ended(until_ns, false));
  const std::lock_guard held(life_);
  if (state_.load() == state::ended) return {};
  if (is_driven()) drive_no_more(*this);
  if (survivors) {
    log_survivors("shutdown: still alive, their memory is kept: ");
    // The threads stay joinable: when the survivors end after all, a later shutdown joins them.
    state_.store(state::abandoned);
    return fail(errc::survivors);
  }
  end_threads();
  take_what_is_left(make_error_code(errc::shutting_down));
  state_.store(state::ended, std::memory_order_seq_cst);
  serve_visitors();
  return {};
}

/// Of a runtime that nobody has started and that is to stop: what is queued ends now. Who finds
/// somebody else at it is heard by that one. seq_cst, by default, throughout.
void runtime_core::refuse_unbegun() noexcept {
  if (COIR_MUTANT(unbegun_untold)) return;
  unbegun_asks_.fetch_add(1);
  for (state was = state::created; state_.compare_exchange_strong(was, state::refusing);
       was = state::created) {
    const std::uint32_t heard = unbegun_asks_.load();
    take_what_is_left(std::make_error_code(std::errc::operation_canceled));
    state_.store(state::created);
    if (unbegun_asks_.load() == heard) return;
  }
}

void runtime_core::refuse_queued(std::error_code why) noexcept {
  // No thread serves: what was queued ends here with the error, and its closure is destroyed.
  // Whoever waits for a record finds that the runtime stops.
  if (!COIR_MUTANT(room_waited_for_unstarted)) wake_for_room(*this, UINT32_MAX);
  do {
    take_what_is_left(why);
  } while (!all_ended());
  state_.store(state::ended, std::memory_order_seq_cst);
  serve_visitors();
}

void runtime_core::take_what_is_left(std::error_code why) noexcept {
  // seq_cst: orders the end of the threads before the look into their inboxes; partner: the fence
  // of ring(), between a message and its sender's last look at what it is about.
  fence(std::memory_order_seq_cst);
  for (const auto& w : workers_) w->refuse_unstarted(why);
}

void runtime_core::serve_visitors() noexcept {
  // Somebody who came before `ended` may have sent an errand that no worker took.
  while (visitors.load(std::memory_order_seq_cst) != 0) {
    for (const auto& w : workers_) w->run_left_errands();
    std::this_thread::yield();
  }
}

std::string runtime_core::describe_survivors() const noexcept try {
  std::string text;
  if (COIR_MUTANT(survivors_unnamed)) return text;
  unsigned named = 0;
  unsigned more = 0;
  for (std::uint32_t i = 0; i < records.touched(); ++i) {
    const auto& r = *static_cast<const record*>(records.at(i));
    // A slot that was never used is zero memory: it has no runtime, but seems to live on worker 0.
    if (r.shared == nullptr || r.home.load(std::memory_order_acquire) == no_home ||
        (r.join.load(std::memory_order_acquire) & join_done) != 0)
      continue;
    if (named == 10) {
      ++more;
      continue;
    }
    ++named;
    text += (text.empty() ? "" : ", ") + std::to_string(r.slot) + " '" + r.name + "' (" + r.file +
            ":" + std::to_string(r.line) + ")";
  }
  if (more != 0 && !COIR_MUTANT(survivors_uncounted))
    text += " and " + std::to_string(more) + " more";
  return text;
} catch (const std::bad_alloc&) {
  return {};
}

/// One line about fibers that do not end, also when there is no memory for their names.
void runtime_core::log_survivors(std::string_view what) const noexcept try {
  log(log_record::level::error, std::string(what) + describe_survivors());
} catch (const std::bad_alloc&) {
  chosen.log({log_record::level::error, what});
}

void runtime_core::send_wake_home(commons& self, record& fiber) noexcept {
  auto& core = static_cast<runtime_core&>(self);
  if (core.inherited()) [[unlikely]]
    return;  // its worker is the parent's, and so is the bell
  // acquire: pairs with the mailer's release; a deflected record's link goes to where it is now.
  const std::uint32_t home = fiber.home.load(std::memory_order_acquire);
  COIR_ASSERT(home != no_home);
  if (worker* const here = worker::current()) ++here->counts().wakes_sent;
  core.at(home).send_wake(fiber);
}

}  // namespace coir::detail
