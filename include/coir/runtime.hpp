// runtime.hpp: the workers together: create, start, spawn from threads, shut down; run and run_main
// for programs that are one runtime from end to end.
//
// Always true:
//   - Any number of runtimes per process; each can be created, used and shut down from any plain
//     thread.
//   - shutdown frees nothing that is still in use: it names the survivors and keeps their stacks
//     and rings.
//   - A runtime inherited across fork answers with errc::foreign_runtime, and its snapshot is
//     empty; the child may create its own. A fiber that forks is a plain thread in the child
//     (errc::not_in_fiber), whose body must not return there: end the child by _exit or exec.
//
// Comes from: main().   Goes to: runtime/runtime.hpp, one worker per core.
#pragma once

#include <cstdio>
#include <exception>
#include <memory>
#include <vector>

#include "coir/fiber.hpp"
#include "coir/options.hpp"

namespace coir {

/// What one worker did since it started; read while it runs, so sums of fields are approximate.
struct worker_stats {
  std::uint64_t spawned = 0, finished = 0, switches = 0, parks = 0;
  std::uint64_t live = 0, unstarted = 0;
  std::uint64_t deflected_out = 0, deflected_in = 0, mailbox_refused = 0;
  std::uint64_t wakes_sent = 0, wakes_taken = 0, bells_rung = 0, sleeps = 0, turns = 0;
  std::uint64_t spins_won = 0, spins_lost = 0;
  std::uint64_t sqes = 0, cqes = 0, enters = 0, stale_tokens = 0, cancels = 0, overflows = 0;
  std::uint64_t operations_open = 0, timers = 0, stacks_warm = 0;
};

struct stats {
  std::vector<worker_stats> workers;
  std::uint64_t boxes = 0;  ///< allocations for closures and answers that do not fit into a record
  std::uint64_t records_touched =
      0;  ///< the most records that were ever in use, rounded up to a magazine
  std::uint64_t stacks_made = 0;
  worker_stats total() const noexcept;
};

class COIR_API runtime {
 public:
  /// Checks the options, opens every worker's backend and reserves memory; starts nothing yet.
  /// Plain threads only. Errors: invalid_argument (a log line names the field); when io_uring is
  /// refused the errno of io_uring_setup(2): EPERM, ENOSYS, EINVAL, ENOMEM or EMFILE (a log line
  /// names the cause among sysctl, seccomp, kernel, memlock and file descriptors, and the remedy);
  /// not_enough_memory.
  [[nodiscard]] static result<std::unique_ptr<runtime>> create(options o = {});

  /// Starts the workers. What was spawned before runs now. Errors: errc::already_started,
  /// errc::shutting_down.
  [[nodiscard]] result<> start();
  /// Asks the runtime to take no new work and to cancel what is there. Any fiber, any thread; never
  /// waits.
  void request_stop() noexcept;
  /// Stops: cancels every fiber, waits until all have ended, ends the threads. errc::survivors when
  /// `until` came first: the log names them, and what they use stays. errc::deadlock inside a fiber
  /// of this runtime. Called again, it waits again: success
  /// once the survivors have ended after all.
  [[nodiscard]] result<> shutdown(deadline until = never);

  /// Starts if needed, runs `root` on a fiber and waits for it and for every other fiber. Plain
  /// threads only. Rethrows root's exception. Errors: those of start, errc::deadlock when nothing
  /// that is left could ever run.
  template <class F>
  [[nodiscard]] detail::flat_result<F> run(F&& root, const site& where = site::here()) {
    if (auto started = start_if_needed(); !started) return fail(started.error());
    auto made = detail::spawn_waiting(core_.get(), std::forward<F>(root), {.name = "root"}, where);
    if (!made) return fail(made.refusal());
    if (const std::error_code code = wait_for_all(made.id())) return fail(code);
    return made.join();
  }

  /// coir::spawn from any thread; before start it queues. Throws as that does: std::bad_alloc when
  /// there is no memory for a callable or an answer that does not fit the record.
  template <class F>
  [[nodiscard]] detail::handle_of<F> spawn(F&& callable, const spawn_options& options = {},
                                           const site& where = site::here()) {
    return detail::spawn_waiting(core_.get(), std::forward<F>(callable), options, where);
  }
  /// coir::try_spawn from any thread; throws likewise.
  template <class F>
  [[nodiscard]] result<detail::handle_of<F>> try_spawn(F&& callable,
                                                       const spawn_options& options = {},
                                                       const site& where = site::here()) {
    return detail::spawn_at_once(core_.get(), std::forward<F>(callable), options, where);
  }

  /// What each worker counted so far. Any thread.
  stats snapshot() const;
  unsigned workers() const noexcept;

  ~runtime();  ///< shutdown(in 5 s); survivors keep their memory
  runtime(const runtime&) = delete;
  runtime& operator=(const runtime&) = delete;

 private:
  struct end_of_core {
    void operator()(detail::runtime_core*) const noexcept;
  };
  explicit runtime(detail::runtime_core* core) noexcept : core_(core) {}
  [[nodiscard]] result<> start_if_needed();
  std::error_code wait_for_all(fiber_id root) noexcept;

  std::unique_ptr<detail::runtime_core, end_of_core> core_;
};

/// The statistics of the runtime whose fiber calls; empty on a plain thread.
COIR_API stats snapshot();

/// The one-liner: create, run `root`, shut down. Errors: those of create and run.
template <class F>
[[nodiscard]] detail::flat_result<F> run(F&& root, options o = {},
                                         const site& where = site::here()) {
  auto made = runtime::create(std::move(o));
  if (!made) return fail(made.error());
  return (*made)->run(std::forward<F>(root), where);
}

/// For main(): runs `root`, prints to stderr what failed, and returns the exit code: root's int,
/// else 0 or 1.
template <class F>
int run_main(F&& root, options o = {}, const site& where = site::here()) {
  try {
    auto answer = run(std::forward<F>(root), std::move(o), where);
    if (!answer) {
      std::fprintf(stderr, "coir: %s\n", answer.error().message().c_str());
      return 1;
    }
    if constexpr (std::is_same_v<decltype(answer), result<int>>) return *answer;
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "coir: the root fiber threw: %s\n", e.what());
  } catch (...) {
    std::fprintf(stderr, "coir: the root fiber threw what is not a std::exception\n");
  }
  return 1;
}

}  // namespace coir
