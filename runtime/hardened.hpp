// hardened.hpp: which operations a runtime takes that was asked to take few of them.
//
// Always true:
//   - What coir's own calls ask for is admitted; of what users ask for by an entry of their own,
//     only that and what options::ring_opcodes lists.
//   - Whoever performs is refused before a backend hears of it, so the answer is the same on each.
//     The ring is restricted besides, in case somebody comes by another road.
//
// Comes from: worker, outside, loop_backend.   Goes to: flight, uring_setup.
#pragma once

#include "coir/options.hpp"
#include "runtime/backend.hpp"

namespace coir::detail {

/// What may be performed: all, unless options::hardened_ring.
opcodes admitted(const options& o) noexcept;

/// What the ring has to take: what may be performed, and what the runtime asks for unseen.
opcodes taken_by_ring(const options& o) noexcept;

}  // namespace coir::detail
