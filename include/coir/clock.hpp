// clock.hpp: the one notion of time: a monotonic clock that the backend keeps, and absolute
// deadlines.
//
// Always true:
//   - Deadlines are absolute and monotonic (CLOCK_MONOTONIC): setting the wall clock moves none of
//     them.
//   - On a fiber, now() is what the worker's backend says, so simulated time is simply another
//     backend.
//
// Comes from: the callers of everything that may park.   Goes to: runtime/timers.hpp.
#pragma once

#include <chrono>

#include "coir/result.hpp"

namespace coir {

struct clock {
  using duration = std::chrono::nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<std::chrono::steady_clock, duration>;
  static constexpr bool is_steady = true;

  /// The time of the backend of the calling fiber; on a plain thread CLOCK_MONOTONIC,
  /// and what simulated runtimes of this process were ahead of it.
  COIR_API static time_point now() noexcept;
};

/// A point in time after which a call gives up with std::errc::timed_out.
using deadline = clock::time_point;
inline constexpr deadline never = deadline::max();
inline constexpr deadline no_wait = deadline::min();

/// now() + `d`; a sum that does not fit is `never`. Negative durations are already over.
COIR_API deadline in(clock::duration d) noexcept;

}  // namespace coir
