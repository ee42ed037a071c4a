// sim_dice.cpp: numbers from a seed.
//
// Comes from: sim_dice.hpp.   Goes to: nothing.
#include "runtime/sim_dice.hpp"

namespace coir::detail {

sim_dice::sim_dice(std::uint64_t seed) noexcept {
  // splitmix64: zero and its neighbours become states without a pattern.
  std::uint64_t z = seed + 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  state_ = (z ^ z >> 31) | 1;  // the state must not be zero
}

std::uint64_t sim_dice::next() noexcept {
  state_ ^= state_ >> 12;
  state_ ^= state_ << 25;
  state_ ^= state_ >> 27;
  return state_ * 0x2545f4914f6cdd1du;
}

std::uint64_t sim_dice::below(std::uint64_t count) noexcept {
  // The remainder favours small numbers by less than count / 2^64: nothing for a test.
  return count < 2 ? 0 : next() % count;
}

std::int64_t sim_dice::between(std::int64_t least, std::int64_t most) noexcept {
  COIR_ASSERT(least <= most);
  return least + static_cast<std::int64_t>(below(static_cast<std::uint64_t>(most - least) + 1));
}

}  // namespace coir::detail
