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
///
/// - io: waits; once options::deflect_threshold of them live on a worker, placed where fewer do.
///
/// - compute: computes; placed by how many wait to start. Its worker looks at the clock after each
///   of its runs (else after 32), and one of them uses 32 of options::run_budget.
///
/// - memory: as compute, and leaves its NUMA node only for half the load; a run uses 4.
///
/// - system: as compute, in calls that block; a run uses 8, and a worker that has nothing to do
///   after one does not spin before it sleeps.
///
/// A fiber of another priority than the normal one is placed when it is new, like all others; but
/// where it then waits for its first run it stays.
enum class workload : std::uint8_t { compute, io, memory, system };

/// How far from the worker that has it an unstarted fiber may be moved: to a worker on the same
/// core (another hardware thread of it), to one that shares the last-level cache, to one on the
/// same NUMA node, to any. Without options::pin_workers a worker may run on any processor of the
/// process, so every other one counts as far away as the farthest two of these are.
enum class affinity : std::uint8_t { same_core, same_cluster, same_numa, any };

}  // namespace coir
