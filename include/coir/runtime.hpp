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

/// What one worker did since it started, and what it has now. Read while it runs: each field is a
/// recent value that its worker wrote, never a torn one, but fields read one after the other may
/// not fit together. Once a worker rests, or has ended, they do. Counts never go back; what says
/// "now" does.
struct worker_stats {
  // -- fibers, now. live = unstarted + ready + parked, and one that runs
  std::uint64_t live = 0;       ///< home is here, not ended
  std::uint64_t unstarted = 0;  ///< of these, without a stack yet
  std::uint64_t ready = 0;   ///< wait for their turn. Of another worker: when its last turn ended
  std::uint64_t parked = 0;  ///< the rest. Of another worker the one that runs is among them
  // -- fibers, counted. Sums over all workers: a fiber may be spawned here and end there
  std::uint64_t spawned = 0;   ///< by this worker; those of plain threads are added to worker 0
  std::uint64_t finished = 0;  ///< here
  std::uint64_t switches = 0;  ///< onto another stack, of a fiber or of the loop
  std::uint64_t parks = 0;     ///< waits that began: operations, sleeps, joins, locks; no yields
  // -- between workers
  std::uint64_t deflected_out = 0;    ///< mailed to a neighbour, since nobody named a worker: what
                                      ///< was spawned here, and what came by mail and went on
  std::uint64_t deflected_in = 0;     ///< taken out of the mailbox, also what was spawned for here
  std::uint64_t mailbox_refused = 0;  ///< mails of this worker that found the target's box full;
                                      ///< those of plain threads are added to worker 0
  std::uint64_t mailbox_depth = 0;    ///< now: unstarted fibers in this worker's mailbox, where
                                      ///< one place may hold up to 64 of them
  std::uint64_t wakes_sent = 0;       ///< to other workers: the end of a wait, a cancel, a detach
  std::uint64_t wakes_taken = 0;      ///< from anybody, with errands of the runtime's own
  std::uint64_t bells_rung = 0;       ///< by this worker for one that slept: one system call each
  // -- the loop
  std::uint64_t turns = 0;       ///< looks at everything that may have come
  std::uint64_t sleeps = 0;      ///< in the kernel
  std::uint64_t spins_won = 0;   ///< looks for work before a sleep that found some
  std::uint64_t spins_lost = 0;  ///< and that found none
  // -- the ring
  std::uint64_t sqes = 0, cqes = 0;   ///< entries handed over, completions taken; the bell's too
  std::uint64_t enters = 0;           ///< system calls for the two
  std::uint64_t stale_tokens = 0;     ///< completions that nobody waited for, disposed of
  std::uint64_t cancels = 0;          ///< operations whose end was asked for
  std::uint64_t overflows = 0;        ///< enters that found more completions than the queue holds
  std::uint64_t operations_open = 0;  ///< now: with the kernel, or in line for an entry
  std::uint64_t timers = 0;           ///< now: deadlines that somebody waits for
  // -- stacks, now
  std::uint64_t stacks_bound = 0;  ///< under fibers that have started and not ended
  std::uint64_t stacks_warm = 0;   ///< kept for the next ones
};

struct stats {
  std::string_view backend;           ///< where operations go: "uring", "poll" or "sim"
  std::vector<worker_stats> workers;  ///< by index; empty for a runtime inherited by fork
  std::uint64_t boxes = 0;  ///< allocations for closures and answers that do not fit into a record
  std::uint64_t records_touched =
      0;  ///< the most records that were ever in use, rounded up to a magazine
  std::uint64_t stacks_made = 0;  ///< slots that were ever cut, in use or free
  worker_stats total() const noexcept;
};

class COIR_API runtime {
 public:
  /// Checks the options, opens every worker's backend and reserves memory; starts nothing yet.
  /// Plain threads only. Errors: invalid_argument (a log line names the field); when io_uring was
  /// asked for by name and is refused the errno of io_uring_setup(2): EPERM, EACCES, ENOSYS, EINVAL
  /// or ENOMEM (a log line names the cause among sysctl, seccomp, kernel and memlock, and the
  /// remedy); EMFILE (a log line names the limit); not_enough_memory; with pin_workers the errno of
  /// sched_getaffinity(2), with numa_placement that of set_mempolicy(2), with fixed_buffers that of
  /// io_uring_register(2): not_enough_memory, bad_address or another (a log line names which).
  [[nodiscard]] static result<std::unique_ptr<runtime>> create(options o = {});

  /// Starts the workers. What was spawned before runs now. Errors: errc::already_started,
  /// errc::shutting_down.
  [[nodiscard]] result<> start();
  /// Asks the runtime to take no new work and to cancel what is there. Any fiber, any thread; never
  /// waits. Where it was never started, the closures that were queued are destroyed here.
  void request_stop() noexcept;
  /// Stops: cancels every fiber, waits until all have ended, ends the threads. errc::survivors when
  /// `until` came first: the log names them, and what they use stays. errc::deadlock inside a
  /// fiber, of whichever runtime: it would keep the worker. Called again, it waits again: success
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

  /// From `tasks` unstarted fibers on this worker looks for somebody to give some to; heard in its
  /// next turn. 0: it adapts again, as it does from options::deflect_threshold on. Any thread.
  /// Errors: invalid_argument when there is no such worker, errc::foreign_runtime.
  [[nodiscard]] result<> set_deflection_threshold(unsigned worker, unsigned tasks) noexcept;

  /// What each worker counted so far. Any thread; takes a lock and allocates, and disturbs no
  /// worker.
  stats snapshot() const;
  /// Bytes of stacks, bound, warm and free, that lie in memory now. Not in snapshot(), because the
  /// kernel is asked (mincore) about every page of every stack that was made. Any thread. 0 for a
  /// runtime inherited by fork. Errors: not_enough_memory.
  [[nodiscard]] result<std::uint64_t> stacks_resident_bytes() const;
  unsigned workers() const noexcept;

  /// shutdown(in 5 s); survivors keep their memory. On a fiber of another runtime, too, whose
  /// worker it keeps meanwhile.
  ~runtime();
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
