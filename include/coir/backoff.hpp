// backoff.hpp: how long to wait before trying again: longer each time, up to a bound, and never in
// step with others who wait for the same thing.
//
// Always true:
//   - It computes durations and waits for none: what sleeps, a fiber or a thread, is the caller's.
//   - The pauses come in blocks: n of them in block n, each of min(n x base, max), and up to an
//     eighth more or less. So the time that was waited grows with the cube of the block, and the
//     pause with its first power. (The shape is that of iox's Backoff.)
//   - A default one is ready, and a copy goes on as the original does.
//
// Comes from: the user, copy.hpp, retries.   Goes to: this_fiber::sleep_for.
#pragma once

#include <chrono>
#include <cstdint>
#include <type_traits>

#include "coir/clock.hpp"

namespace coir {

namespace detail {
/// Another number for each fiber (the same in each run of one seed, under simulation) and, on a
/// plain thread, for each object. Never 0.
COIR_API std::uint64_t backoff_seed(const void* object) noexcept;
}  // namespace detail

class backoff {
 public:
  using duration = clock::duration;
  static constexpr duration default_base = std::chrono::microseconds(500);
  static constexpr duration default_max = std::chrono::milliseconds(100);

  constexpr backoff() noexcept = default;
  /// `base` and `max` as for set_base and set_max. `seed` decides the deviations; 0: one is drawn
  /// at the first pause.
  constexpr explicit backoff(duration base, duration max = default_max,
                             std::uint64_t seed = 0) noexcept
      : seed_(seed) {
    set_base(base);
    set_max(max);
  }

  /// The next pause, deviation included: what to give to sleep_for. Never below 0.
  constexpr duration next() noexcept {
    const duration exact = pause();
    if (++taken_ >= block_) {
      taken_ = 0;
      if (block_ != UINT32_MAX) ++block_;
    }
    const auto most = static_cast<std::uint64_t>(exact.count() / 8);
    const auto deviation =
        static_cast<duration::rep>(draw() % (2 * most + 1)) - static_cast<duration::rep>(most);
    return duration(deviation > duration::max().count() - exact.count()
                        ? duration::max().count()
                        : exact.count() + deviation);
  }
  /// Back to block 1: there was progress.
  constexpr void reset() noexcept {
    block_ = 1;
    taken_ = 0;
  }

  /// The block that the next pause is of, from 1.
  constexpr std::uint32_t block() const noexcept { return block_; }
  /// The next pause without its deviation.
  constexpr duration pause() const noexcept {
    return base_.count() > max_.count() / block_ ? max_ : base_ * block_;
  }
  constexpr duration base() const noexcept { return base_; }
  constexpr duration max() const noexcept { return max_; }
  /// From the next pause on. What is not above 0 counts as 1 ns.
  constexpr void set_base(duration base) noexcept { base_ = above_zero(base); }
  constexpr void set_max(duration max) noexcept { max_ = above_zero(max); }

 private:
  static constexpr duration above_zero(duration d) noexcept {
    return d > duration::zero() ? d : duration(1);
  }
  /// xorshift64: its state is never 0.
  constexpr std::uint64_t draw() noexcept {
    if (seed_ == 0) seed_ = std::is_constant_evaluated() ? 1 : detail::backoff_seed(this);
    seed_ ^= seed_ << 13;
    seed_ ^= seed_ >> 7;
    seed_ ^= seed_ << 17;
    return seed_;
  }

  duration base_ = default_base;
  duration max_ = default_max;
  std::uint64_t seed_ = 0;
  std::uint32_t block_ = 1;
  std::uint32_t taken_ = 0;
};

}  // namespace coir
