// placing.hpp: what a program may say about how a fiber is to be treated: before whom it runs, what
// it does for a living, and how far from its spawner it may go.
//
// Always true:
//   - Each value changes what the scheduler does (docs/design.md, section 3); the defaults cost
//     nothing.
//   - Only a fiber that has not started goes anywhere without asking for it.
//
// Comes from: spawn_options.   Goes to: runtime/manner.hpp, runtime/deflect.hpp.
#pragma once

#include <cstdint>

namespace coir {

/// Who is ready at a higher level runs first, and a new fiber of a level before everybody of a
/// lower one. A level that has waited for 32 picks of its worker has one all the same, so nobody
/// starves.
enum class priority : std::uint8_t { low, normal, high, critical };

/// What a fiber does most of the time.
///   io       waits; placed on the worker with the fewest live fibers.
///   compute  computes; placed by how many wait to start. Its worker looks at the clock after each
///            of its runs (else after 32), and one of them uses 32 of options::run_budget.
///   memory   as compute, and leaves its NUMA node only for half the load; a run uses 4.
///   system   as compute, in calls that block; a run uses 8, and a worker on which nobody else
///            lives does not spin before it sleeps.
enum class workload : std::uint8_t { compute, io, memory, system };

/// How far from the spawning worker an unstarted fiber may be moved: not at all, among workers that
/// share a last-level cache, on one NUMA node, anywhere.
enum class affinity : std::uint8_t { same_core, same_cluster, same_numa, any };

}  // namespace coir
