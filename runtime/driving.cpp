// driving.cpp: who drives, and in which order runtimes have their turn.
//
// Always true:
//   - The list changes under its mutex, which nobody holds while fibers run.
//   - A runtime that is driven stays: the driver is among its guests.
//   - With one runtime its world may sleep and move its time as it likes. With several each goes as
//     far as it can at this moment; only when all rest does one of them, the first that can, move
//     its time or sleep, for a moment.
//
// Comes from: driving.hpp.   Goes to: runtime_core::run_workers_here.
#include "runtime/driving.hpp"

#include <algorithm>
#include <climits>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/asking.hpp"
#include "runtime/lanes.hpp"
#include "runtime/overflow.hpp"
#include "runtime/runtime.hpp"
#include "runtime/sim.hpp"

namespace coir::detail {

atomic<std::uint32_t> cores_to_drive{0};

namespace {

struct driving_book {
  std::mutex mutex;
  std::condition_variable news;  // the driver left, or some wait has ended
  std::vector<runtime_core*> cores;
  bool driver = false;
  unsigned forks = fork_generation();
};

/// Never destroyed, like the list of runtimes. In the child of a fork it is empty again.
driving_book& the_book() {
  static atomic<driving_book*> one{new driving_book};
  // acq_rel: whoever finds a book finds it made.
  driving_book* book = one.load(std::memory_order_acquire);
  if (book->forks == fork_generation()) return *book;
  auto* const mine = new driving_book;  // the parent's mutex may be held for ever
  if (one.compare_exchange_strong(book, mine, std::memory_order_acq_rel)) return *mine;
  delete mine;  // another thread of the child came first
  return *book;
}

/// A wait of some thread has ended, or a message came: the one that drives looks again.
void tell_driver() noexcept {
  driving_book& b = the_book();
  const std::lock_guard held(b.mutex);
  if (!COIR_MUTANT(driver_untold))
    for (runtime_core* const core : b.cores) core->ring_driver();
  b.news.notify_all();
}

/// Those that are driven now, as their guest.
std::vector<visit> guests_of(const driving_book& b) {
  std::vector<visit> all;
  for (runtime_core* const core : b.cores) {
    core->guests.fetch_add(1, std::memory_order_seq_cst);
    all.emplace_back(*core, &core->guests);
  }
  return all;
}

/// Each of them, with so many moves. True when some fiber ran.
bool drive_each(const std::vector<visit>& all, std::int64_t until_ns,
                const std::function<bool()>& over, unsigned moves, driven& end) noexcept {
  bool ran = false;
  bool late = false;
  for (const visit& core : all) {
    const std::uint64_t before = core->progress();
    end = core->run_workers_here(until_ns, over, moves);
    if (end == driven::over) return false;
    late |= end == driven::by_deadline;
    ran |= core->progress() != before;
  }
  end = late ? driven::by_deadline : driven::nothing_moves;
  return ran;
}

driven drive_all(const std::vector<visit>& all, std::int64_t until_ns,
                 const std::function<bool()>& over) noexcept {
  if (all.empty()) return driven::nothing_moves;
  for (;;) {
    driven end = driven::over;
    const auto may_be_sent_to = [](const visit& core) { return core->may_be_sent_to(); };
    // Asked before they are driven, too: who sent something and ended meanwhile is heard then.
    const bool sent_to = std::ranges::any_of(all, may_be_sent_to);
    const bool ran = drive_each(all, until_ns, over, 0, end) ||
                     (end != driven::over && drive_each(all, until_ns, over, 1, end));
    if (end == driven::over) return end;
    if (ran) continue;
    if (end == driven::by_deadline) return end;
    if (!sent_to && std::ranges::none_of(all, may_be_sent_to)) return end;
  }
}

}  // namespace

// -- one of them

driven runtime_core::run_workers_here(std::int64_t until_ns, const std::function<bool()>& over,
                                      unsigned moves) noexcept {
  driven end = driven::nothing_moves;
  // Who has others to look after does not stay with one that is always busy.
  unsigned visits_left = moves == UINT_MAX ? UINT_MAX : 64;
  // Who has no time at all gives each worker a turn, in all likelihood.
  unsigned late_turns = until_ns == no_wait_ns ? 4 * workers() : 0;
  world_->limit_ns = COIR_MUTANT(thread_deadline_passed_by) ? never_ns : until_ns;
  world_->moves_left = moves;
  world_->others_may_come = [this] { return !alone_in_process(); };
  world_->on_visit = [&] {
    if (over()) {
      end = driven::over;
    } else if (until_ns != never_ns && world_->now_ns() >= until_ns && late_turns-- == 0) {
      end = driven::by_deadline;
    } else if (visits_left != 0) {
      visits_left -= visits_left == UINT_MAX ? 0 : 1;
      return;
    }
    leave_driver();
  };
  for (const auto& w : workers_) {
    w->quit(false);
    static_cast<sim&>(w->outside()).come_back();
  }
  if (workers() == 1) {
    (void)at(0).run([](int error) { return error >= 0; });
  } else {
    (void)lanes::run(workers_, *world_);
  }
  world_->on_visit = nullptr;
  world_->others_may_come = nullptr;
  tell_thread_now(world_->now_ns());
  return end;
}

/// The turn that goes on is the last one of this drive.
void runtime_core::leave_driver() noexcept {
  for (const auto& w : workers_) w->quit();
}

std::uint64_t runtime_core::progress() const noexcept {
  std::uint64_t sum = 0;
  for (const auto& w : workers_) sum += w->switches() + w->counts().parks.get();
  return sum;
}

bool runtime_core::may_be_sent_to() const noexcept {
  return world_->real.any() || !alone_in_process();
}

void runtime_core::ring_driver() noexcept { world_->real.ring(); }

lent_thread::lent_thread() noexcept : errno_(errno_now()) {
  arch::save_float(controls_);
  arch::reset_float_control();
  if (!COIR_MUTANT(lends_exceptions))
    arch::swap_exception_state(*arch::thread_exception_state(), exceptions_, none_);
}

lent_thread::~lent_thread() {
  if (!COIR_MUTANT(lends_exceptions))
    arch::swap_exception_state(*arch::thread_exception_state(), none_, exceptions_);
  if (!COIR_MUTANT(lends_controls)) arch::restore_float(controls_);
  set_errno_now(errno_);
}

// -- all of them

void drive_from_now_on(runtime_core& core) {
  driving_book& b = the_book();
  const std::lock_guard held(b.mutex);
  if (std::ranges::count(b.cores, &core) == 0) b.cores.push_back(&core);
  cores_to_drive.store(static_cast<std::uint32_t>(b.cores.size()), std::memory_order_relaxed);
  // release: what it works on is there.
  thread_was_woken.store(&tell_driver, std::memory_order_release);
}

void drive_no_more(runtime_core& core) noexcept {
  driving_book& b = the_book();
  const std::lock_guard held(b.mutex);
  std::erase(b.cores, &core);
  cores_to_drive.store(static_cast<std::uint32_t>(b.cores.size()), std::memory_order_relaxed);
}

driven drive(std::int64_t until_ns, const std::function<bool()>& over) noexcept {
  driving_book& b = the_book();
  std::unique_lock held(b.mutex);
  while (b.driver) {
    if (over()) return driven::over;
    if (until_ns == no_wait_ns) return driven::by_deadline;
    b.news.wait(held);
  }
  if (over()) return driven::over;
  std::vector<visit> all = guests_of(b);
  b.driver = true;
  held.unlock();
  driven end = driven::nothing_moves;
  {
    const lent_thread lent;
    const auto signals_here = signal_stack::make();
    // A worker's thread blocks signals; this one is somebody's.
    const held_sigpipe no_signal;
    end = all.size() == 1 ? all.front()->run_workers_here(until_ns, over, UINT_MAX)
                          : drive_all(all, until_ns, over);
    no_signal.take();
  }
  all.clear();
  held.lock();
  b.driver = false;
  b.news.notify_all();
  return end;
}

woken wait_as_thread(waiter& w, std::int64_t until_ns) noexcept {
  if (anybody_to_drive() && worker::current() == nullptr) {
    // acquire: pairs with the release in wake_thread.
    const driven end =
        drive(until_ns, [&w] { return w.word.load(std::memory_order_acquire) != 0; });
    if (end == driven::over) return woken::by_item;
    if (end == driven::by_deadline)
      return w.word.exchange(1, std::memory_order_acquire) == 0 ? woken::by_deadline
                                                                : woken::by_item;
  }
  return sleep_as_thread(w, real_ns_of(until_ns));
}

void yield_on_thread() noexcept {
  if (anybody_to_drive() && worker::current() == nullptr)
    (void)drive(no_wait_ns, [] { return false; });
  std::this_thread::yield();
}

void sleep_on_thread(std::int64_t until_ns) noexcept {
  if (anybody_to_drive() && worker::current() == nullptr &&
      drive(until_ns, [] { return false; }) == driven::by_deadline)
    return;
  atomic<std::uint32_t> never_set{0};
  while (futex_wait(never_set, 0, real_ns_of(until_ns))) continue;
}

}  // namespace coir::detail
