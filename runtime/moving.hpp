// moving.hpp: a fiber that changes its worker, because it asked to.
//
// Always true:
//   - A started fiber is on another worker only after a call of move_fiber() (or of forced_move(),
//     in builds made to prove it): every other park ends on the worker it began on, so what waits
//     may keep its worker across the wait.
//
// Comes from: this_fiber::move_to, and in COIR_FORCE_MIGRATION builds the end of every wait.
// Goes to: worker::carry_to.
#pragma once

#include "coir/result.hpp"

namespace coir::detail {

/// The calling fiber goes on on worker `target` of its runtime, or nothing happened and the answer
/// says why. See this_fiber::move_to.
refusal move_fiber(unsigned target) noexcept;

/// COIR_FORCE_MIGRATION: the calling fiber, if it may move, goes on on the next worker. Stands
/// where a public call that parked is about to return. A call that holds its worker longer moves
/// later.
#if defined(COIR_FORCE_MIGRATION)
void forced_move() noexcept;
#else
inline void forced_move() noexcept {}
#endif

}  // namespace coir::detail
