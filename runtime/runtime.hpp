// runtime.hpp: all cores of one runtime: their threads, their life, and how work gets to them from
// outside.
//
// Always true:
//   - created -> started -> ended, each once; while nobody has started it a stop may refuse what is
//     queued, again and again. Nothing is freed before `ended`; with survivors it never comes, and
//     everything stays (leaked on purpose: the kernel and parked fibers may still use it).
//   - sum(finished) read before sum(spawned) and equal to it means that nobody was alive in
//     between.
//   - After fork the child finds the fork generation to be another one and answers foreign_runtime.
//
// Comes from: coir::runtime, coir.h.   Goes to: worker.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "coir/runtime.hpp"
#include "runtime/driving.hpp"
#include "runtime/fds.hpp"
#include "runtime/machine.hpp"
#include "runtime/offload.hpp"
#include "runtime/registry.hpp"
#include "runtime/settling.hpp"
#include "runtime/sim_world.hpp"
#include "runtime/watch.hpp"
#include "runtime/worker.hpp"

namespace coir::detail {

using backend_factory =
    std::function<result<std::unique_ptr<backend>>(unsigned worker, const options& o)>;

/// Where the kernel says which control groups a process is in, and where these are: the unified
/// hierarchy, and below `cpu` that of older systems. Nothing is read where `root` is empty.
struct quota_files {
  std::string told = "/proc/self/cgroup";
  std::string root = "/sys/fs/cgroup";
};

/// What is done by those who are no worker of the runtime.
struct foreign_counts {
  atomic<std::uint64_t> boxes{0}, mailbox_refused{0};
};

class runtime_core : public commons {
 public:
  /// Checks `o` and makes everything but the threads. `make` is the kernel's ring unless a test
  /// brings its own; `where` is this machine unless it brings one, `quota` what the kernel says,
  /// and `ask` whom it asks which processors there are. `earlier`: the stacks of one that has
  /// ended, which are used again where they fit.
  static result<std::unique_ptr<runtime_core>> create(options o, backend_factory make = {},
                                                      machine where = {}, quota_files quota = {},
                                                      mask_call ask = &mask_of_process,
                                                      std::shared_ptr<stacks> earlier = {});
  ~runtime_core();

  result<> start();
  /// Where the workers are; empty where nobody asks.
  const machine& place() const noexcept { return place_; }
  /// How many this process may use, as it was when this was made; a lone worker that is not pinned
  /// never asks.
  unsigned processors() const noexcept { return processors_; }
  /// Under the lock of the registry.
  unsigned running_workers() const noexcept { return workers_run_ && !inherited() ? workers() : 0; }
  void request_stop() noexcept;
  result<> shutdown(std::int64_t until_ns);
  /// Blocks the thread until every fiber has ended. errc::deadlock when nothing that is left can
  /// ever run.
  std::error_code wait_for_all() noexcept;
  /// It has no threads: who waits drives it.
  bool is_driven() const noexcept { return world_ != nullptr; }
  /// Runs the workers of one that is driven on the calling thread until `over()`, or `until_ns`, or
  /// nothing moves but what time, at most so many times, or a sleep could bring.
  driven run_workers_here(std::int64_t until_ns, const std::function<bool()>& over,
                          unsigned moves) noexcept;
  /// Grows whenever some fiber ran, or waited anew.
  std::uint64_t progress() const noexcept;
  /// No other thread exists that could end a wait.
  bool alone_in_process() const noexcept;
  /// Something may still come that its world does not know of.
  bool may_be_sent_to() const noexcept;
  void ring_driver() noexcept;
  /// Runs the workers of one sim_world (made in their order), or worker 0 of any other backend that
  /// can be exhausted, on the calling thread until every fiber has ended.
  std::error_code run_here() noexcept;

  /// The workers by index.
  worker& at(unsigned index) noexcept { return *workers_[index]; }
  unsigned workers() const noexcept { return static_cast<unsigned>(workers_.size()); }
  offload_pool& offload() noexcept { return offload_; }
  fd_users& descriptors() noexcept { return descriptors_; }
  stats snapshot() const;
  bool inherited() const noexcept {
    return fork_generation_ != fork_generation() && !COIR_MUTANT(fork_unnoticed);
  }
  bool started() const noexcept { return state_.load(std::memory_order_acquire) != state::created; }
  /// False: refused, and uncount_foreign_spawn() follows.
  bool count_foreign_spawn() noexcept { return counted_in(foreign_spawned_, stopping); }
  void uncount_foreign_spawn() noexcept;
  void refuse_unbegun() noexcept;
  /// One more: `ours` where a worker of ours calls, else `foreign`.
  void count(counter worker_counters::*ours,
             atomic<std::uint64_t> foreign_counts::*foreign) noexcept {
    worker* const here = worker::current();
    if (here != nullptr && &here->shared() == this) {
      ++(here->counts().*ours);
    } else if (!COIR_MUTANT(foreigners_uncounted)) {
      // relaxed: a count that nothing follows from.
      (by_foreigners_.*foreign).fetch_add(1, std::memory_order_relaxed);
    }
  }
  std::string describe_survivors() const noexcept;
  unsigned next_worker() noexcept {
    return turn_.fetch_add(1, std::memory_order_relaxed) % workers();
  }
  bool all_ended() const noexcept;
  /// True when its threads have ended, or are the parent's of this process: nobody serves errands.
  bool over() const noexcept {
    return inherited() || state_.load(std::memory_order_seq_cst) == state::ended;
  }
  bool abandoned() const noexcept { return state_.load() == state::abandoned; }
  /// In the child of a fork, by the thread of a fiber of ours: it goes on as a thread like the one
  /// that started us.
  void leave_worker() const noexcept;

  // Who keeps it from being destroyed: threads that close a descriptor, whose errands the workers
  // must serve, and whoever waits for a fiber of it by name.
  atomic<std::uint32_t> visitors{0};
  atomic<std::uint32_t> guests{0};

 private:
  friend class audit;
  friend void count_workers(runtime_core& core, bool run) noexcept;
  enum class state : std::uint32_t { created, refusing, started, ended, abandoned };

  runtime_core(options o);
  void work(unsigned index) noexcept;
  static void on_worker_idle(commons& self) noexcept;
  static bool all_others_rest(commons& all, unsigned self) noexcept;
  static void send_wake_home(commons& self, record& fiber) noexcept;
  void end_threads() noexcept;
  void leave_driver() noexcept;
  void refuse_queued(std::error_code why) noexcept;
  void take_what_is_left(std::error_code why) noexcept;
  void serve_visitors() noexcept;
  std::error_code wait_until_ended(std::int64_t until_ns, bool detect_deadlock) noexcept;
  bool stuck() const noexcept;
  void log_survivors(std::string_view what) const noexcept;

  int take_place(unsigned index) noexcept;
  void tell_unheeded() const;
  neighbours around(unsigned index) const noexcept;
  result<> make_worker(unsigned index, const backend_factory& make);
  result<> make_workers(const backend_factory& make);
  result<> make_workers(backend_kind wish);

  std::unique_ptr<sim_world> world_;       // of one that is driven
  std::optional<thread_setting> starter_;  // of one that was started, and is not driven
  machine place_;
  unsigned processors_ = 1;   // that this process may use
  bool workers_run_ = false;  // guarded by the lock of the registry
  fd_users descriptors_;
  std::vector<std::unique_ptr<worker>> workers_;
  std::vector<std::thread> threads_;
  offload_pool offload_;
  std::unique_ptr<watch> watch_;  // from start until the threads end; null: nobody watches
  atomic<state> state_{state::created};
  atomic<std::uint32_t> unbegun_asks_{0};     // of refuse_unbegun()
  atomic<std::uint64_t> foreign_spawned_{0};  // by threads that are no worker of ours
  foreign_counts by_foreigners_;
  atomic<std::uint32_t> idle_word_{0};  // grows whenever a worker was idle while settling
  atomic<std::uint32_t> turn_{0};
  atomic<int> attach_error_{0};
  std::mutex life_;                // start and shutdown, one at a time
  atomic<std::uint32_t> gate_{0};  // 0 closed, 1 serve, 2 give up: told to attached workers
  unsigned fork_generation_;
  std::unique_ptr<errand[]> stop_errands_;  // one per worker, sent once
  bool stop_sent_ = false;                  // guarded by stop_lock_
  atomic<std::uint32_t> stop_lock_{0};
  atomic<std::uint32_t> attached_{0};
  bool here_ = false;  // run_here: the workers are on the caller's thread
  bool deadlocked_ = false;
};

/// The processors that the quotas of a process's control groups and of those above them allow,
/// rounded up; 0 without one.
unsigned quota_processors(const quota_files& in);

/// A runtime that is not destroyed while this lives; or none.
class visit {
 public:
  visit() = default;
  /// `counted`: its visitors or its guests, with us among them. Null: it is the caller's own.
  visit(runtime_core& of, atomic<std::uint32_t>* counted) noexcept
      : core_(&of), counted_(counted) {}
  visit(visit&& from) noexcept
      : core_(std::exchange(from.core_, nullptr)),
        counted_(std::exchange(from.counted_, nullptr)) {}
  visit& operator=(visit&&) = delete;
  ~visit() {
    // seq_cst: all we did comes before; partner: unregister_core(), serve_visitors().
    if (counted_ != nullptr) counted_->fetch_sub(1, std::memory_order_seq_cst);
  }
  explicit operator bool() const noexcept { return core_ != nullptr; }
  runtime_core& operator*() const noexcept { return *core_; }
  runtime_core* operator->() const noexcept { return core_; }

 private:
  runtime_core* core_ = nullptr;
  atomic<std::uint32_t>* counted_ = nullptr;
};

/// The runtime with this serial, in this process, as a guest.
visit find_core(std::uint32_t serial) noexcept;
/// The runtime with the next serial after this one, as a visitor; from 0 on one after the other.
visit core_after(std::uint32_t serial) noexcept;

/// The core of the calling fiber's runtime; null on a plain thread.
inline runtime_core* current_core() noexcept {
  worker* const w = worker::current();
  return w == nullptr ? nullptr : static_cast<runtime_core*>(&w->shared());
}

/// True, and counted, when the running fiber may not park just now (machine_context::update).
inline bool park_refused(record& me) noexcept {
  if ((me.brings & refuses_parks) == 0) [[likely]]
    return false;
  worker::current()->count_ignored(me);
  return true;
}

/// The fiber that runs here; null on a plain thread and in a worker's loop.
inline record* current_fiber() noexcept {
  worker* const w = worker::current();
  return w == nullptr ? nullptr : w->self();
}

constexpr std::int64_t ns_of(deadline until) noexcept { return until.time_since_epoch().count(); }

/// As launch(), by a fiber, of one that may live for long and is one of many: worker::place() says
/// where it goes. It never waits, unless options.worker names somebody.
refusal launch_placed(task& t, const spawn_options& options, bool wait) noexcept;

}  // namespace coir::detail
