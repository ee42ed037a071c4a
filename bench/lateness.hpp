// lateness.hpp: many sleepers, measured twice: what they cost, and how late they wake.
//
// Always true:
//   - Three passes, each with all its fibers started, slept and joined: one that warms up, one that
//     is charged, and one in which every sleeper also looks at the clock. The last is not charged:
//     two looks per sleep would be a good part of the cost.
//
// Comes from: rows_sleep.cpp, peer_*.cpp, raw_sleep.cpp.   Goes to: histogram.hpp.
#pragma once

#include "bench/histogram.hpp"
#include "bench/measure.hpp"
#include "bench/peers.hpp"

namespace bench {

using lateness = histogram;

/// pass(late) runs all sleepers once; `late` is null in the passes that do not look.
/// Gives CPU in ms, wall in ms, and the 99th percentile of lateness in us.
template <class Pass>
sample measure_sleepers(const sleep_plan&, Pass pass) {
  pass(static_cast<lateness*>(nullptr));
  const std::int64_t cpu = cpu_used_ns();
  const std::int64_t wall = now_ns();
  pass(static_cast<lateness*>(nullptr));
  const double cpu_ms = static_cast<double>(cpu_used_ns() - cpu) / 1e6;
  const double wall_ms = static_cast<double>(now_ns() - wall) / 1e6;
  lateness late;
  pass(&late);
  return {cpu_ms, wall_ms, late.quantile_us(0.99)};
}

}  // namespace bench
