// neighbours.hpp: where the other workers are, as one worker sees them, and sets of workers.
//
// Always true:
//   - Made once and never changed: who is near does not move.
//   - Within one distance the list begins after oneself, so that equals do not all prefer worker 0.
//
// Comes from: worker, bench/mesh_sim.   Goes to: deflect.hpp.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "runtime/base.hpp"

namespace coir::detail {

inline constexpr unsigned neighbours_max = 256;  // workers of a runtime

/// How far two workers are from each other: on one core, in one cluster, on one NUMA node, or not.
enum class distance : std::uint8_t { sibling, cluster, node, any };
inline constexpr unsigned distances = 4;

/// Some of the workers.
struct worker_set {
  std::array<std::uint64_t, neighbours_max / 64> words{};

  constexpr void insert(unsigned i) noexcept { words[i / 64] |= std::uint64_t(1) << i % 64; }
  constexpr void erase(unsigned i) noexcept { words[i / 64] &= ~(std::uint64_t(1) << i % 64); }
  constexpr bool contains(unsigned i) const noexcept { return (words[i / 64] >> i % 64 & 1) != 0; }
  constexpr unsigned size() const noexcept {
    unsigned count = 0;
    for (const std::uint64_t w : words) count += static_cast<unsigned>(std::popcount(w));
    return count;
  }
  constexpr worker_set operator&(const worker_set& other) const noexcept {
    worker_set both;
    for (unsigned w = 0; w < words.size(); ++w) both.words[w] = words[w] & other.words[w];
    return both;
  }
  /// The one that has `rank` smaller ones; rank < size().
  constexpr unsigned at(unsigned rank) const noexcept {
    unsigned w = 0;
    for (;; ++w) {
      const auto here = static_cast<unsigned>(std::popcount(words[w]));
      if (rank < here) break;
      rank -= here;
    }
    std::uint64_t left = words[w];
    for (; rank > 0; --rank) left &= left - 1;
    return w * 64 + static_cast<unsigned>(std::countr_zero(left));
  }
};

class neighbours {
 public:
  /// `distance_of(i)`: of worker i from `self`; `workers` is 1 to 256.
  template <class DistanceOf>
  constexpr neighbours(unsigned self, unsigned workers, DistanceOf distance_of) noexcept
      : self_(self) {
    unsigned count = 0;
    for (unsigned d = 0; d < distances; ++d) {
      if (d > 0) reach_[d] = reach_[d - 1];
      for (unsigned step = 1; step < workers; ++step) {
        const unsigned i = (self + step) % workers;
        if (distance_of(i) != static_cast<distance>(d)) continue;
        nearest_[count++] = static_cast<std::uint8_t>(i);
        reach_[d].insert(i);
      }
      within_[d] = static_cast<std::uint16_t>(count);
    }
  }
  /// A machine without distances.
  constexpr neighbours(unsigned self, unsigned workers) noexcept
      : neighbours(self, workers, [](unsigned) { return distance::any; }) {}

  constexpr unsigned self() const noexcept { return self_; }
  /// How many, and which, are no farther than `d`.
  constexpr unsigned within(distance d) const noexcept { return within_[index(d)]; }
  constexpr const worker_set& reach(distance d) const noexcept { return reach_[index(d)]; }
  /// How many are nearer than that.
  constexpr unsigned before(distance d) const noexcept {
    return d == distance::sibling ? 0 : within_[index(d) - 1];
  }
  /// Of another one than oneself.
  constexpr distance to(unsigned i) const noexcept {
    for (unsigned d = 0; d + 1 < distances; ++d)
      if (reach_[d].contains(i)) return static_cast<distance>(d);
    return distance::any;
  }
  /// The others, nearest first.
  constexpr unsigned at(unsigned position) const noexcept { return nearest_[position]; }

 private:
  static constexpr unsigned index(distance d) noexcept { return static_cast<unsigned>(d); }

  unsigned self_;
  std::array<std::uint16_t, distances> within_{};
  std::array<worker_set, distances> reach_{};
  std::array<std::uint8_t, neighbours_max> nearest_{};
};

}  // namespace coir::detail
