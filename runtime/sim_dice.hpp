// sim_dice.hpp: the one source of decisions in a simulated run: drawn from a seed, or read from a
// list that an earlier run has left.
//
// Always true:
//   - The same seed gives the same decisions on every machine and with every compiler, and so does
//     the same list.
//   - A decision is made only where the run itself decides, so two runs that decide alike make the
//     same decisions in the same order, each known by its place in that order.
//   - 0 is the ordinary: no fault, the least delay, the next in order. What the list does not say
//     is 0, so a list of zeros, and an empty one, is a healthy run.
//
// Comes from: sim_world, sim_disk, sim_faults, a program that chooses.   Goes to: nothing.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/base.hpp"

namespace coir::detail {

/// xorshift64* with a scrambled seed, so that neighbouring seeds have nothing in common.
class sim_dice {
 public:
  explicit sim_dice(std::uint64_t seed) noexcept;

  /// From now on the decisions are those of `list`, as far as they are possible.
  void replay(std::vector<std::uint64_t> list);
  /// Decision number i is put into into[i] as well, as long as there is room. The memory may be one
  /// that another process sees.
  void record_into(std::span<std::uint64_t> into) noexcept { record_ = into; }
  /// How many were made.
  std::uint64_t made() const noexcept { return made_; }

  /// Any number.
  std::uint64_t next() noexcept;
  /// 0 to `count` - 1; 0 when `count` is 0 or 1, and then nothing is decided.
  std::uint64_t below(std::uint64_t count) noexcept;
  /// `least` to `most`, both included.
  std::int64_t between(std::int64_t least, std::int64_t most) noexcept;
  /// True `per_mille` times of 1,000, and for the highest decisions only; never, and nothing is
  /// decided, for 0.
  bool chance(unsigned per_mille) noexcept;

 private:
  std::uint64_t draw() noexcept;
  std::uint64_t decide(std::uint64_t drawn) noexcept;

  std::uint64_t state_;
  std::uint64_t made_ = 0;
  std::vector<std::uint64_t> list_;
  bool replays_ = false;
  std::span<std::uint64_t> record_;
};

}  // namespace coir::detail
