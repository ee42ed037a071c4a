// two_processes.hpp: the same work in two processes at once, from a common start to the end of the
// later one.
//
// Always true:
//   - Each process has a CPU of its own; they meet at a word of shared memory before and after each
//     run, and the first one looks at the clock.
//   - Both die with this process, and both are waited for; one that fails fails the measurement.
//
// Comes from: rows_mesh.cpp.   Goes to: two_processes.cpp.
#pragma once

#include <functional>

#include "bench/measure.hpp"

namespace bench {

/// Runs what it is given again and again, in step with the other process.
using stopwatch = std::function<void(const std::function<void()>&)>;

/// Calls `work` in either process, which gives the run that is to be timed to the stopwatch.
/// Returns the nanoseconds of the fastest run side by side.
double side_by_side_ns(const settings& chosen, const std::function<void(const stopwatch&)>& work);

}  // namespace bench
