// yield_ring.hpp: fibers that yield in turn, timed from inside by the first of them. The same code
// for every peer, so that only spawn and yield differ.
//
// Always true:
//   - No block is timed before every fiber has started and walked one untimed block.
//   - Ready fibers run first in, first out, so between two returns of the first fiber's yield every
//     fiber ran once: one block is laps x fibers switches, and all fibers end after the same block.
//   - A site is a loop of its own and a chain a set of functions of its own: the markers keep the
//     compiler from folding what is equal in all but its place.
//
// Comes from: rows_yield.cpp, peer_*.cpp.   Goes to: nothing.
#pragma once

#include <algorithm>
#include <limits>
#include <utility>

#include "bench/measure.hpp"

namespace bench {

/// What the processor sees when a fiber goes on: where its yield returns to, and through what.
enum class shape { same_site, two_sites, eight_sites, eight_mixed, one_chain, two_chains };

/// Functions of the user's between the loop and the call of yield. With yield itself there are four
/// frames to return from.
constexpr int chain_frames = 3;

struct ring_plan {
  unsigned fibers;
  unsigned laps;  ///< yields of each fiber per block
  shape of;
};

/// One function of a chain. What follows the call keeps it from becoming a jump.
template <int Chain, int Frames, class Yield>
[[gnu::noinline]] void descend(Yield& yield) {
  asm volatile("# chain %c0, %c1 frames to go" : : "i"(Chain), "i"(Frames));
  if constexpr (Frames == 1) {
    yield();
  } else {
    descend<Chain, Frames - 1>(yield);
  }
  asm volatile("# back in chain %c0" : : "i"(Chain));
}

class yield_ring {
 public:
  explicit yield_ring(const ring_plan& plan) : plan_(plan) {}

  /// What fiber `index` does. Always inlined, so that each `Site` is a call site of its own.
  template <int Site, class Yield>
  [[gnu::always_inline]] void walk(unsigned index, Yield yield) {
    asm volatile("# call site %c0" : : "i"(Site));
    ++started_;
    do yield();
    while (started_ < plan_.fibers);
    while (!ended_) {
      const std::int64_t began = index == 0 ? now_ns() : 0;
      for (unsigned lap = 0; lap < plan_.laps; ++lap) yield();
      if (index == 0) count_block(began, now_ns());
    }
  }

  double per_switch_ns() const {
    return static_cast<double>(least_ns_) / plan_.laps / plan_.fibers;
  }
  std::uint64_t switches() const { return std::uint64_t{blocks_} * plan_.laps * plan_.fibers; }

 private:
  void count_block(std::int64_t began, std::int64_t ended) {
    if (blocks_++ == 0)
      until_ = ended + spend_ns;
    else
      least_ns_ = std::min(least_ns_, ended - began);
    ended_ = blocks_ > calls_least && ended >= until_;
    operations_done += double{1} * plan_.laps * plan_.fibers;
  }

  const ring_plan plan_;
  unsigned started_ = 0;
  unsigned blocks_ = 0;
  bool ended_ = false;
  std::int64_t until_ = 0;
  std::int64_t least_ns_ = std::numeric_limits<std::int64_t>::max();
};

/// Calls start(body) for each fiber of the plan, with the body that its shape gives to it.
template <class Yield, class Start>
class ring_starter {
 public:
  ring_starter(yield_ring& ring, Yield yield, Start start)
      : ring_(ring), yield_(yield), start_(start) {}

  void all(const ring_plan& plan) {
    for (unsigned i = 0; i < plan.fibers; ++i) {
      switch (plan.of) {
        case shape::same_site:
          plain<0>(i);
          break;
        case shape::two_sites:
          i % 2 == 0 ? plain<0>(i) : plain<1>(i);
          break;
        case shape::eight_sites:
          one_of_eight(i, i * 8 / plan.fibers, std::make_integer_sequence<int, 8>());
          break;
        case shape::eight_mixed:
          one_of_eight(i, i % 8, std::make_integer_sequence<int, 8>());
          break;
        case shape::one_chain:
          chained<0>(i);
          break;
        case shape::two_chains:
          i % 2 == 0 ? chained<0>(i) : chained<1>(i);
          break;
      }
    }
  }

 private:
  template <int Site>
  void plain(unsigned i) {
    start_([&ring = ring_, i, yield = yield_] { ring.template walk<Site>(i, yield); });
  }
  template <int... Sites>
  void one_of_eight(unsigned i, unsigned site, std::integer_sequence<int, Sites...>) {
    ((static_cast<int>(site) == Sites ? plain<Sites>(i) : void()), ...);
  }
  template <int Chain>
  void chained(unsigned i) {
    start_([&ring = ring_, i, yield = yield_] {
      ring.template walk<Chain>(i, [yield] { descend<Chain, chain_frames>(yield); });
    });
  }

  yield_ring& ring_;
  Yield yield_;
  Start start_;
};

/// Fibers of the plan are started by start(body), which yield by yield().
template <class Yield, class Start>
void start_ring(yield_ring& ring, const ring_plan& plan, Yield yield, Start start) {
  ring_starter(ring, yield, start).all(plan);
}

}  // namespace bench
