// peers.hpp: what stands beside coir's rows: the same work done by others, as well as a careful
// user of theirs would, and by hand, as well as somebody could who needs nothing else.
//
// Always true:
//   - A peer uses nothing of coir, and gets every advantage its documentation offers: pooled
//     stacks, no locks where none are needed, batches as large as ours.
//   - A peer whose package was not there when this was built has `*_package` non-empty and throws.
//
// Comes from: rows_*.cpp.   Goes to: peer_*.cpp, raw_*.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "bench/measure.hpp"

namespace bench {

struct ring_plan;

/// `batch` are spawned, then joined; `batches` of them are timed together. `closure_bytes` travel
/// with each; 0: one pointer.
struct spawn_plan {
  std::size_t batch;
  std::size_t batches;
  std::size_t closure_bytes = 0;
  std::size_t timed() const { return batch * batches; }
};

/// So many bytes travel with a fiber, and its body looks at them.
template <std::size_t Bytes>
struct cargo {
  std::size_t* ran;
  char bytes[Bytes - sizeof(std::size_t*)];
  void operator()() const { *ran += static_cast<std::size_t>(bytes[0]); }
};

struct sleep_plan {
  std::size_t fibers;
  unsigned times;
  std::int64_t each_ns;
};

struct read_plan {
  std::string path;
  std::uint64_t blocks;  ///< of 4096 bytes in the file
  unsigned depth;        ///< under way at a time
  unsigned reads;        ///< by each of them
  bool fixed = false;    ///< into memory that the ring knows
};

/// Where two who wake each other live.
enum class players { same_thread, awake, asleep };

// -- by hand, on raw_switch.hpp
double raw_yield_ns(const ring_plan& plan, std::size_t stack_bytes = 16 << 10);
double raw_spawn_ns(const spawn_plan& plan);
double raw_pingpong_same_ns();
sample raw_sleep(const sleep_plan& plan);
sample raw_parked(std::size_t count, std::size_t stack_bytes);

/// liburing on a ring set up as coir's: one thread, deferred task work, one enter per batch.
double raw_nop_cpu_ns(unsigned batch, unsigned batches);
enum class limit { none, linked_timeout };
/// A nameless file of 64 bytes in that folder, its page in the cache.
int cached_file(const std::string& folder);
double raw_read_ns(const std::string& folder, unsigned reads, limit kind);
sample raw_file_read(const read_plan& plan);
/// p50 of fdatasync(2) after an append of so many bytes to a file in that folder.
double raw_fdatasync_us(const std::string& folder, std::size_t bytes);

/// Two threads: a cache line that goes to and fro; MSG_RING from ring to ring, each waited for in
/// io_uring_enter; a futex each, and how often per round trip the second thread slept for it.
double raw_pingpong_awake_ns(const settings& chosen);
double raw_pingpong_asleep_ns(const settings& chosen);
sample raw_futex(const settings& chosen);

/// Boost.Context: jump_fcontext between two stacks.
double boost_context_switch_ns(unsigned laps);

/// Boost.Fiber: round robin on one thread, pooled stacks of 16 KiB.
extern const char* const boost_fiber_package;
double boost_fiber_yield_ns(const ring_plan& plan);
double boost_fiber_spawn_ns(const spawn_plan& plan);
sample boost_fiber_sleep(const sleep_plan& plan);
sample boost_fiber_parked(std::size_t count);
/// Its work stealing on two threads.
double boost_stealing_skynet_ns(std::uint64_t leaves);
sample boost_stealing_hot_root(unsigned count);
double boost_fiber_pingpong_ns(players where, const settings& chosen);

/// State Threads has no yield: each thread signals its neighbour and waits.
extern const char* const state_threads_package;
double state_threads_yield_ns(const ring_plan& plan);
double state_threads_spawn_ns(const spawn_plan& plan);
sample state_threads_sleep(const sleep_plan& plan);

}  // namespace bench
