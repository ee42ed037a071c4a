// registry.hpp: which runtimes this process has, and how often it was forked.
//
// Always true:
//   - A runtime is listed from the end of its creation to the beginning of its destruction.
//   - The fork generation grows in the child of every fork, so a runtime can tell that it was
//     inherited.
//
// Comes from: runtime_setup, runtime.   Goes to: wait(fiber_id), close on plain threads.
#pragma once

namespace coir::detail {

class runtime_core;

void register_core(runtime_core& core);
void unregister_core(runtime_core& core) noexcept;
unsigned fork_generation() noexcept;

}  // namespace coir::detail
