// machine.hpp: where the processors are: which share a core, a last-level cache, a NUMA node.
//
// Always true:
//   - Read once and never changed. What the kernel does not tell makes two processors farther from
//     each other, never nearer.
//   - A machine of any size is read: the mask grows until it has a place for every processor that
//     the kernel thinks possible.
//
// Comes from: /sys/devices/system.   Goes to: runtime_setup (neighbours of a worker, its
// processor).
#pragma once

#include <sched.h>
#include <signal.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "coir/result.hpp"
#include "runtime/neighbours.hpp"

namespace coir::detail {

/// Each of core, cache and node names a group by the least number in it; `nothing`: not told.
struct processor {
  static constexpr unsigned nothing = UINT32_MAX;
  unsigned number = 0;
  unsigned core = nothing, cache = nothing, node = nothing;
};

distance between(const processor& a, const processor& b) noexcept;

/// Some processors, in the order of their numbers.
class machine {
 public:
  machine() = default;
  explicit machine(std::vector<processor> all) : all_(std::move(all)) {}
  /// What `root` (as /sys/devices/system) tells of these.
  static machine read(const std::string& root, const std::vector<unsigned>& numbers);

  bool empty() const noexcept { return all_.empty(); }
  unsigned size() const noexcept { return static_cast<unsigned>(all_.size()); }
  /// The one for worker `index`: in turn, so that two workers share one only when there are more of
  /// them than processors. There are some.
  const processor& of(unsigned index) const noexcept { return all_[index % all_.size()]; }
  /// How far any two are from each other at most.
  distance widest() const noexcept;
  /// Whether it is told of each on which NUMA node it is.
  bool knows_nodes() const noexcept;

 private:
  std::vector<processor> all_;
};

/// Writes the mask of the processors this process may use into so many bytes; 0 or an errno, EINVAL
/// when these are too few.
using mask_call = int (*)(std::size_t bytes, cpu_set_t* into) noexcept;
int mask_of_process(std::size_t bytes, cpu_set_t* into) noexcept;

/// Processors with higher numbers are not for us. Linux has at most 8,192 today.
inline constexpr unsigned processors_most = 1u << 16;

/// The numbers of the processors this process may use, the least first. Errors: those of `ask`.
result<std::vector<unsigned>> allowed_processors(mask_call ask = &mask_of_process);

/// Which signals the thread hears that makes this, and on which processors it may run.
class thread_setting {
 public:
  thread_setting() noexcept;
  /// For the calling thread. Allocates nothing and takes no lock. Where the kernel refuses, the
  /// thread stays as it is.
  void hear_signals() const noexcept;
  void run_there() const noexcept;
  void sleep_as_exactly() const noexcept;

 private:
  sigset_t signals_{};
  std::array<cpu_set_t, processors_most / CPU_SETSIZE> mask_{};
  bool known_;  // the kernel told the mask
  int slack_ns_;
};

/// While it lives, memory that this thread touches first comes from `node`, if that has some; then
/// from where it came before. Nothing is done for processor::nothing.
class prefers_node {
 public:
  explicit prefers_node(unsigned node) noexcept;
  ~prefers_node();
  prefers_node(const prefers_node&) = delete;
  prefers_node& operator=(const prefers_node&) = delete;
  /// 0, or the errno of the kernel that refuses.
  int refusal() const noexcept { return refusal_; }

 private:
  static constexpr unsigned node_bits = 1024;  // the kernel has no more nodes
  using node_set = std::array<unsigned long, node_bits / (8 * sizeof(unsigned long))>;

  bool set_ = false;
  int refusal_ = 0;
  int mode_before_ = 0;
  node_set nodes_before_{};
};

/// What this thread touches first comes from the node it runs on, whatever the process was told. 0
/// or an errno.
int prefer_own_node() noexcept;

/// This thread runs on that processor and nowhere else. 0 or an errno. Allocates nothing.
int pin_to(const processor& one) noexcept;

}  // namespace coir::detail
