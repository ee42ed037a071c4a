// timers.hpp: the deadlines of one worker, a million of them: arm and cancel at once, expire in
// exact order.
//
// Always true:
//   - Owner only, nothing is allocated, nothing can fail: the links live in the timers.
//   - Timers come out in the order of their deadlines, to the nanosecond, and in the order of
//     arming among equals. A deadline that lies behind the wheel's time when it is armed counts as
//     that time: due at once, before all later ones.
//   - The wheel's time never goes back and never passes a timer that is still armed. A `now` behind
//     it counts as time that stands still.
//   - A timer's place is a function of its deadline and the wheel's time alone (place_of), and
//     whenever that time moves, exactly the one slot whose places change is dealt out anew.
//
// How: a deadline is eleven digits of six bits. A timer waits at the level of the highest digit in
// which its deadline differs from the wheel's time, in the slot of that digit. So the lowest level
// that is in use holds the earliest timers, and its lowest slot the earliest of them. Time enters a
// slot at its first nanosecond; the slot's timers then fall to lower levels, each at most ten times
// in its life and most of them never, because most deadlines are cancelled.
//
// Comes from: worker, waits (sleep and every `deadline` argument).   Goes to: worker::fire_timers.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "runtime/base.hpp"
#include "runtime/counter.hpp"

namespace coir::detail {

/// One deadline, inside the thing that waits for it. Zeroed memory is a timer that is not armed.
struct timer {
  static constexpr std::uint16_t nowhere = 0xffff;
  timer* previous = nullptr;
  timer* next = nullptr;
  std::int64_t deadline_ns = 0;  // as armed, but never before the wheel's time at that moment
  std::uint16_t place = nowhere;
  std::uint32_t owner = 0;  // whose it is: the business of who arms it
  bool armed() const noexcept { return next != nullptr; }
};
static_assert(sizeof(timer) <= 32);

class timers {
 public:
  explicit timers(std::int64_t now_ns) noexcept;
  timers(const timers&) = delete;
  timers& operator=(const timers&) = delete;

  /// `one` must not be armed. A deadline in the past is due at the next expire().
  void arm(timer& one, std::int64_t deadline_ns) noexcept;
  /// Does nothing if `one` is not armed; else it must be armed here.
  void cancel(timer& one) noexcept;
  /// The next timer with a deadline at or before `now_ns`, no longer armed; null when there is
  /// none.
  timer* expire(std::int64_t now_ns) noexcept;
  /// When to wake up for expire(): never after the earliest deadline, and exactly then when that is
  /// cheap to know; INT64_MAX when nothing is armed. After an expire(now) that found nothing it is
  /// later than `now`.
  std::int64_t next_deadline() noexcept;
  std::uint64_t size() const noexcept { return size_.get(); }  // any thread

 private:
  static constexpr unsigned digit_bits = 6;
  static constexpr unsigned slots = 1u << digit_bits;
  static constexpr unsigned levels = 11;
  static constexpr unsigned scan_max = 16;  // timers looked at to make next_deadline() exact
  static constexpr std::int64_t unknown = -1;
  static_assert(levels * digit_bits >= 63, "every deadline has a level");
  static_assert(levels * slots < timer::nowhere);

  std::uint16_t place_of(std::int64_t deadline_ns) const noexcept;
  std::uint16_t earliest_place() const noexcept;
  std::int64_t first_moment(std::uint16_t place) const noexcept;
  std::int64_t earliest_in(std::uint16_t place) const noexcept;
  timer* take_due(timer& due) noexcept;
  void link(timer& one, std::uint16_t place) noexcept;
  void unlink(timer& one) noexcept;
  void deal_out(std::uint16_t place) noexcept;
  void vacate(std::uint16_t place) noexcept;

  std::int64_t time_ns_;
  std::int64_t earliest_ns_ = INT64_MAX;  // next_deadline() if nothing changed, or unknown
  counter size_;
  std::uint32_t levels_used_ = 0;                 // bit l: some slot of level l is occupied
  std::array<std::uint64_t, levels> occupied_{};  // bit s: slot s of that level has timers
  std::array<timer*, levels * slots> first_{};    // circular lists; null when the slot is empty
};

}  // namespace coir::detail
