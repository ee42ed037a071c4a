// sim_dice.hpp: the one source of chance in a simulated run.
//
// Always true:
//   - The same seed gives the same numbers on every machine and with every compiler.
//   - A number is drawn only where the run itself decides, so two runs of one seed draw in the same
//     order.
//
// Comes from: sim_world, sim_disk.   Goes to: nothing.
#pragma once

#include <cstdint>

#include "runtime/base.hpp"

namespace coir::detail {

/// xorshift64* with a scrambled seed, so that neighbouring seeds have nothing in common.
class sim_dice {
 public:
  explicit sim_dice(std::uint64_t seed) noexcept;
  std::uint64_t next() noexcept;
  /// 0 to `count` - 1; 0 when `count` is 0 or 1, and then nothing is drawn.
  std::uint64_t below(std::uint64_t count) noexcept;
  /// `least` to `most`, both included.
  std::int64_t between(std::int64_t least, std::int64_t most) noexcept;

 private:
  std::uint64_t state_;
};

}  // namespace coir::detail
