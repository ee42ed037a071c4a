// outside.hpp: which backend there will be: the one that was asked for by name, or what the system
// allows.
//
// Always true:
//   - One that was asked for by name and is refused is an error; nothing else takes its place.
//   - Whoever gets something else than a ring without having asked for it reads one line that says
//     why, and what it costs.
//
// Comes from: runtime_setup, loop_backend.   Goes to: uring, poll, sim.
#pragma once

#include <memory>

#include "coir/options.hpp"
#include "coir/result.hpp"
#include "runtime/backend.hpp"
#include "runtime/offload.hpp"

namespace coir::detail {

/// What options::backend says, or COIR_BACKEND where that is `automatic`. Errors: invalid_argument,
/// with a line of the log, for a COIR_BACKEND that names none.
result<backend_kind> wished_backend(const options& o);

class sim_world;

/// The world of a simulated backend that nobody has made a world for: that of the process, with a
/// clock of its own, which begins at thread_now_ns().
std::unique_ptr<sim_world> make_real_world(const options& o);

/// One of that kind. Where `automatic` finds that the system has no ring for us, `kind` becomes
/// poll. Errors: those of the system, with a line of the log.
result<std::unique_ptr<backend>> make_outside(backend_kind& kind, const options& o,
                                              offload_pool& pool);

/// Tells a backend of options::fixed_buffers, before it is attached. `first`: of several that are
/// told the same, this one's line of the log speaks for all. Errors: invalid_argument; those of the
/// system; each with a line of the log.
result<> tell_of_fixed_buffers(backend& outside, const options& o, bool first);

}  // namespace coir::detail
