// c_caller.hpp: who calls from C, and until when.
//
// Always true:
//   - Nothing here waits or fails.
//
// Comes from: c_api.cpp, c_io.cpp, c_sync.cpp, c_this_fiber.cpp.   Goes to: coir/fiber.hpp.
#pragma once

#include <climits>
#include <cstdint>

#include "coir/clock.hpp"
#include "coir/fiber.hpp"

namespace coir::detail {

inline deadline until(std::int64_t ns) noexcept { return deadline(clock::duration(ns)); }
static_assert(never == deadline(clock::duration(INT64_MAX)));  // COIR_NEVER

inline bool on_fiber() noexcept { return this_fiber::id() != fiber_id{}; }

/// In a worker's loop, where only the cleanup of a fiber that got no stack can be: waiting would
/// stop the worker.
inline bool on_loop() noexcept { return !on_fiber() && this_fiber::worker() != UINT_MAX; }

}  // namespace coir::detail
