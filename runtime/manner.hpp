// manner.hpp: how one fiber is treated, in a byte: its priority, its workload, how far it may go
// and how often it has been mailed.
//
// Always true:
//   - The usual manner is 0, so that one test tells everybody else apart.
//
// Comes from: spawn.   Goes to: worker, deflect.
#pragma once

#include <cstdint>

#include "coir/placing.hpp"

namespace coir::detail {

class manner {
 public:
  constexpr manner() noexcept = default;
  constexpr manner(priority p, workload k, affinity w) noexcept
      : bits_(static_cast<std::uint8_t>(turned(static_cast<unsigned>(p)) |
                                        turned(static_cast<unsigned>(k)) << 2 |
                                        (farthest - static_cast<unsigned>(w)) << 4)) {}

  constexpr priority prio() const noexcept { return static_cast<priority>(turned_back(bits_)); }
  constexpr workload kind() const noexcept {
    return static_cast<workload>(turned_back(bits_ >> 2u));
  }
  constexpr affinity where() const noexcept {
    return static_cast<affinity>(farthest - (bits_ >> 4u & 3u));
  }
  /// Mailings that nobody asked for by name; it counts to 3.
  constexpr unsigned hops() const noexcept { return bits_ >> 6u; }
  constexpr void count_hop() noexcept {
    if (hops() < 3) bits_ = static_cast<std::uint8_t>(bits_ + 64u);
  }

  constexpr bool usual() const noexcept { return bits_ == 0; }
  /// It was sent to one worker by name, and goes nowhere else.
  constexpr void stay() noexcept { bits_ |= 3u << 6u; }

  /// Normal priority: it waits where nearly everybody does.
  constexpr bool usual_level() const noexcept { return (bits_ & 3u) == 0; }
  /// Of the budget of a turn, in picks; a run of unknown length is paid for by a look at the clock.
  constexpr unsigned price() const noexcept {
    constexpr std::uint8_t prices[] = {32, 1, 4, 8};  // compute, io, memory, system
    return prices[static_cast<unsigned>(kind())];
  }

 private:
  static constexpr unsigned farthest = static_cast<unsigned>(affinity::any);
  // The defaults are 1 in their enumerations.
  static_assert(static_cast<unsigned>(priority::normal) == 1);
  static_assert(static_cast<unsigned>(workload::io) == 1);
  static constexpr unsigned turned(unsigned e) noexcept { return (e + 3u) & 3u; }
  static constexpr unsigned turned_back(unsigned bits) noexcept { return (bits + 1u) & 3u; }

  std::uint8_t bits_ = 0;
};
static_assert(manner(priority::normal, workload::io, affinity::any).usual());

}  // namespace coir::detail
