// registry.hpp: which runtimes this process has, and how often it was forked.
//
// Always true:
//   - A runtime is listed from the end of its creation to the beginning of its destruction.
//   - Its workers count among those of the process while they run. As long as all together are no
//     more than the processors, and only so long, they may spin.
//   - The fork generation grows in the child of every fork, so a runtime can tell that it was
//     inherited.
//
// Comes from: runtime_setup, runtime.   Goes to: wait(fiber_id), close on plain threads.
#pragma once

#include "coir/detail/atomic.hpp"
#include "runtime/base.hpp"

namespace coir::detail {

class runtime_core;

void register_core(runtime_core& core);
void unregister_core(runtime_core& core) noexcept;

/// The workers of `core` begin to run, or have ended. Twice is once.
void count_workers(runtime_core& core, bool run) noexcept;

/// In the child of a fork that a thread of the offload pool made: it is like any other thread.
void leave_offload_thread() noexcept;

/// Around a fork nobody takes or gives back a signal, and the one who forks hears none, so that
/// what comes to the child finds its dispositions: numbers that the parent's objects have are
/// nobody's there.
void hold_signals() noexcept;
void release_signals() noexcept;
void leave_signals_to_the_parent() noexcept;

/// How often this process was forked off another one since the library was loaded.
COIR_HIDDEN extern atomic<unsigned> forks_seen;
inline unsigned fork_generation() noexcept {
  // relaxed: written in the child before it has a second thread.
  return forks_seen.load(std::memory_order_relaxed);
}

}  // namespace coir::detail
