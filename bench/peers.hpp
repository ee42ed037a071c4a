// peers.hpp: what stands beside coir's rows: the same work done by others, as well as a careful
// user of theirs would.
//
// Always true:
//   - A peer uses nothing of coir, and gets every advantage its documentation offers: pooled
//     stacks, no locks where none are needed, batches as large as ours.
//   - A peer whose package was not there when this was built has `*_package` non-empty and throws.
//
// Comes from: rows_*.cpp.   Goes to: peer_*.cpp.
#pragma once

#include <cstddef>

namespace bench {

struct ring_plan;

/// `batch` are spawned, then joined; `batches` of them are timed together, `repeats` times.
struct spawn_plan {
  std::size_t batch;
  std::size_t batches;
  unsigned repeats;
  std::size_t timed() const { return batch * batches; }
  std::size_t all() const { return batch * batches * repeats; }
};

/// Boost.Context: jump_fcontext between two stacks.
double boost_context_switch_ns(unsigned laps);

/// Boost.Fiber: round robin on one thread, pooled stacks of 16 KiB.
extern const char* const boost_fiber_package;
double boost_fiber_yield_ns(const ring_plan& plan, bool two_sites);
double boost_fiber_spawn_ns(const spawn_plan& plan);
double boost_fiber_parked_bytes(std::size_t fibers);

/// State Threads has no yield: each thread signals its neighbour and waits.
extern const char* const state_threads_package;
double state_threads_yield_ns(const ring_plan& plan);
double state_threads_spawn_ns(const spawn_plan& plan);

/// liburing on a ring set up as coir's: one thread, deferred task work, one enter per batch.
double raw_nop_ns(unsigned batch, unsigned batches);
enum class limit { none, linked_timeout };
double raw_read_ns(unsigned reads, limit kind);

}  // namespace bench
