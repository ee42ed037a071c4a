// sim_dice.cpp: decisions from a seed, or from a list.
//
// Comes from: sim_dice.hpp.   Goes to: nothing.
#include "runtime/sim_dice.hpp"

#include <algorithm>

namespace coir::detail {

sim_dice::sim_dice(std::uint64_t seed) noexcept {
  // splitmix64: zero and its neighbours become states without a pattern.
  std::uint64_t z = seed + 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  state_ = (z ^ z >> 31) | 1;  // the state must not be zero
}

void sim_dice::replay(std::vector<std::uint64_t> list) {
  list_ = std::move(list);
  replays_ = true;
}

std::uint64_t sim_dice::draw() noexcept {
  state_ ^= state_ >> 12;
  state_ ^= state_ << 25;
  state_ ^= state_ >> 27;
  return state_ * 0x2545f4914f6cdd1du;
}

/// Notes the decision; the next one has the next number.
std::uint64_t sim_dice::decide(std::uint64_t drawn) noexcept {
  if (made_ < record_.size()) record_[made_] = drawn;
  ++made_;
  return drawn;
}

std::uint64_t sim_dice::next() noexcept {
  if (replays_) return decide(made_ < list_.size() ? list_[made_] : 0);
  return decide(draw());
}

std::uint64_t sim_dice::below(std::uint64_t count) noexcept {
  if (count < 2) return 0;
  // A list that was shortened may say at one place what was meant for another.
  if (replays_) return decide(made_ < list_.size() ? std::min(list_[made_], count - 1) : 0);
  // The remainder favours small numbers by less than count / 2^64: nothing for a test.
  return decide(draw() % count);
}

std::int64_t sim_dice::between(std::int64_t least, std::int64_t most) noexcept {
  COIR_ASSERT(least <= most);
  return least + static_cast<std::int64_t>(below(static_cast<std::uint64_t>(most - least) + 1));
}

bool sim_dice::chance(unsigned per_mille) noexcept {
  return per_mille != 0 && below(1000) >= 1000 - std::min(per_mille, 1000u);
}

}  // namespace coir::detail
