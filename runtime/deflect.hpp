// deflect.hpp: where an unstarted fiber should go. Pure: numbers in, an index out; so it can be
// tested and simulated alone.
//
// Always true:
//   - Only unstarted work is ever moved, and only when the gain is plain: the target has less than
//     half of what we have.
//   - Ties go to the first candidate after `self`, so equals share evenly instead of all choosing
//     worker 0.
//
// Comes from: worker::launch, net::serve.   Goes to: a mailbox, or nowhere.
#pragma once

#include <cstdint>
#include <span>

#include "runtime/base.hpp"

namespace coir::detail {

/// What a worker publishes of itself; a little old when others read it.
struct load {
  std::uint32_t unstarted = 0;  // in its queue or its mailbox
  std::uint32_t live = 0;       // fibers that have not ended, those in its mailbox included
};

/// The worker that should get a new unstarted fiber of `self`: `self` itself below the threshold,
/// else the least loaded neighbour if it has less than half.
constexpr unsigned deflect_target(unsigned self, std::span<const load> loads,
                                  std::uint32_t threshold) noexcept {
  const std::uint32_t mine = loads[self].unstarted;
  if (mine < threshold) return self;
  unsigned best = self;
  std::uint32_t least = COIR_MUTANT(deflect_without_gain) ? mine : mine / 2;
  for (unsigned step = 1; step < loads.size(); ++step) {
    const unsigned i = (self + step) % static_cast<unsigned>(loads.size());
    if (loads[i].unstarted >= least) continue;
    least = loads[i].unstarted;
    best = i;
  }
  return best;
}

/// The worker with the fewest live fibers: for work that will stay for long.
constexpr unsigned least_live(unsigned self, std::span<const load> loads) noexcept {
  unsigned best = self;
  for (unsigned step = 1; step < loads.size(); ++step) {
    const unsigned i = (self + step) % static_cast<unsigned>(loads.size());
    if (loads[i].live < loads[best].live) best = i;
  }
  return best;
}

}  // namespace coir::detail
