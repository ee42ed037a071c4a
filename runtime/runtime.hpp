// runtime.hpp: all cores of one runtime: their threads, their life, and how work gets to them from
// outside.
//
// Always true:
//   - created -> started -> stopping -> ended, each once. Nothing is freed before `ended`; with
//     survivors it never comes, and everything stays (leaked on purpose: the kernel and parked
//     fibers may still use it).
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
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "coir/runtime.hpp"
#include "runtime/fds.hpp"
#include "runtime/offload.hpp"
#include "runtime/registry.hpp"
#include "runtime/settling.hpp"
#include "runtime/watch.hpp"
#include "runtime/worker.hpp"

namespace coir::detail {

using backend_factory =
    std::function<result<std::unique_ptr<backend>>(unsigned worker, const options& o)>;

class runtime_core : public commons {
 public:
  /// Checks `o` and makes everything but the threads. `make` is the kernel's ring unless a test
  /// brings its own.
  static result<std::unique_ptr<runtime_core>> create(options o, backend_factory make = {});
  ~runtime_core();

  result<> start();
  void request_stop() noexcept;
  result<> shutdown(std::int64_t until_ns);
  /// Blocks the thread until every fiber has ended. errc::deadlock when nothing that is left can
  /// ever run.
  std::error_code wait_for_all() noexcept;
  /// Runs worker 0 on the calling thread until every fiber has ended: for simulated backends, one
  /// worker.
  std::error_code run_here() noexcept;

  /// The workers by index.
  worker& at(unsigned index) noexcept { return *workers_[index]; }
  unsigned workers() const noexcept { return static_cast<unsigned>(workers_.size()); }
  std::span<const load> loads(std::span<load> into) const noexcept;
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
  std::string describe_survivors() const noexcept;
  unsigned next_worker() noexcept {
    return turn_.fetch_add(1, std::memory_order_relaxed) % workers();
  }
  bool all_ended() const noexcept;
  /// True while its workers serve errands: after start, until its threads have ended.
  bool serves() const noexcept {
    const state s = state_.load(std::memory_order_seq_cst);
    return !inherited() && (s == state::started || s == state::abandoned);
  }
  bool abandoned() const noexcept { return state_.load() == state::abandoned; }

  atomic<std::uint32_t> visitors{0};  // threads inside for_each_core

 private:
  enum class state : std::uint32_t { created, started, stopping, ended, abandoned };

  runtime_core(options o);
  void work(unsigned index) noexcept;
  static void on_worker_idle(commons& self) noexcept;
  static bool all_others_rest(commons& all, unsigned self) noexcept;
  static void send_wake_home(commons& self, record& fiber) noexcept;
  void end_threads() noexcept;
  void refuse_queued(std::error_code why) noexcept;
  void take_what_is_left(std::error_code why) noexcept;
  void serve_visitors() noexcept;
  std::error_code wait_until_ended(std::int64_t until_ns, bool detect_deadlock) noexcept;
  bool stuck() const noexcept;
  void log_survivors(std::string_view what) const noexcept;

  fd_users descriptors_;
  std::vector<std::unique_ptr<worker>> workers_;
  std::vector<std::thread> threads_;
  offload_pool offload_;
  std::unique_ptr<watch> watch_;  // from start until the threads end; null: nobody watches
  atomic<state> state_{state::created};
  atomic<std::uint64_t> foreign_spawned_{0};  // by threads that are no worker of ours
  atomic<std::uint32_t> idle_word_{0};        // grows whenever a worker was idle while settling
  atomic<std::uint32_t> turn_{0};
  atomic<int> attach_error_{0};
  std::mutex life_;                // start and shutdown, one at a time
  atomic<std::uint32_t> gate_{0};  // 0 closed, 1 serve, 2 give up: told to attached workers
  unsigned fork_generation_;
  std::unique_ptr<errand[]> stop_errands_;  // one per worker, sent once
  bool stop_sent_ = false;                  // guarded by stop_lock_
  atomic<std::uint32_t> stop_lock_{0};
  atomic<std::uint32_t> attached_{0};
  bool here_ = false;  // run_here: worker 0 is on the caller's thread
  bool deadlocked_ = false;
};

/// The processors that the quotas of a process's control group and of those above it allow, rounded
/// up; 0 without one. `told` is its /proc/self/cgroup, `root` where the unified hierarchy is.
unsigned quota_processors(const std::string& told, const std::string& root);

/// The runtime with this serial, in this process; null when there is none.
runtime_core* find_core(std::uint32_t serial) noexcept;
/// Calls `visit` for every runtime there is; none of them ends meanwhile.
void for_each_core(const std::function<void(runtime_core&)>& visit);

/// The core of the calling fiber's runtime; null on a plain thread.
inline runtime_core* current_core() noexcept {
  worker* const w = worker::current();
  return w == nullptr ? nullptr : static_cast<runtime_core*>(&w->shared());
}

/// The fiber that runs here; null on a plain thread and in a worker's loop.
inline record* current_fiber() noexcept {
  worker* const w = worker::current();
  return w == nullptr ? nullptr : w->self();
}

constexpr std::int64_t ns_of(deadline until) noexcept { return until.time_since_epoch().count(); }

}  // namespace coir::detail
