// yield_ring.hpp: fibers that yield in turn, timed from inside by the first of them. The same code
// for every peer, so that only spawn and yield differ.
//
// Always true:
//   - No block is timed before every fiber has started and walked one untimed block.
//   - Ready fibers run first in, first out, so between two returns of the first fiber's yield every
//     fiber ran once: one block is laps x fibers switches.
//
// Comes from: rows_yield.cpp, peer_*.cpp.   Goes to: nothing.
#pragma once

#include <algorithm>
#include <limits>

#include "bench/measure.hpp"

namespace bench {

struct ring_plan {
  unsigned fibers;
  unsigned laps;  ///< yields of each fiber per block
  unsigned blocks = 5;
};

class yield_ring {
 public:
  explicit yield_ring(const ring_plan& plan) : plan_(plan) {}

  /// Always inlined: each `Site` is a call site of its own. The marker keeps the compiler from
  /// folding two sites, equal in all else, into one.
  template <int Site, class Yield>
  [[gnu::always_inline]] void walk(unsigned index, Yield yield) {
    asm volatile("# call site %c0" : : "i"(Site));
    ++started_;
    while (started_ < plan_.fibers) yield();
    for (unsigned block = 0; block <= plan_.blocks; ++block) {
      const std::int64_t began = index == 0 ? now_ns() : 0;
      for (unsigned lap = 0; lap < plan_.laps; ++lap) yield();
      if (index == 0 && block > 0) least_ns_ = std::min(least_ns_, now_ns() - began);
    }
  }

  double per_switch_ns() const {
    return static_cast<double>(least_ns_) / plan_.laps / plan_.fibers;
  }

 private:
  const ring_plan plan_;
  unsigned started_ = 0;
  std::int64_t least_ns_ = std::numeric_limits<std::int64_t>::max();
};

}  // namespace bench
