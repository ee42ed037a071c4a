// computing.hpp: the five microseconds that a task of hot_root computes: so many steps of one chain
// that no processor and no compiler can shorten, the same number for everybody in a run.
//
// Always true:
//   - Counted in steps, not by the clock: a task that was interrupted still has all its work to do.
//   - The row counts once, before its first round, how many steps it takes on this machine; other
//     programs find the number in the environment as TASK_STEPS.
//
// Comes from: rows_mesh.cpp, peer_boost_mesh.cpp.   Goes to: nothing.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "bench/measure.hpp"

namespace bench {

constexpr double task_ns = 5'000;
inline std::uint32_t task_steps = 2'500;

[[gnu::noinline]] inline void compute(std::uint32_t steps) {
  std::uint64_t x = 88172645463325252u;
  for (std::uint32_t i = 0; i < steps; ++i) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
  }
  asm volatile("" : : "r"(x));
}

inline void calibrate_computing() {
  constexpr std::uint32_t sample_steps = 100'000;
  const double step_ns = fastest_ns(sample_steps, [] { compute(sample_steps); });
  task_steps = std::max(1u, static_cast<std::uint32_t>(task_ns / step_ns));
  ::setenv("TASK_STEPS", std::to_string(task_steps).c_str(), 1);
}

}  // namespace bench
