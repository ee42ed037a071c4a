// timers.cpp: the wheel behind timers.hpp: where a deadline waits, and how time moves past it.
//
// Always true:
//   - Bit s of occupied_[l] is set exactly while slot s of level l has timers, and bit l of
//     levels_used_ exactly while some bit of occupied_[l] is.
//   - When time enters a slot of level l, all lower levels are empty: so dealing the slot out in
//     list order keeps equals in the order of arming.
//
// Comes from: timers.hpp.   Goes to: nothing.
#include "runtime/timers.hpp"

#include <algorithm>
#include <bit>

namespace coir::detail {

timers::timers(std::int64_t now_ns) noexcept : time_ns_(std::max<std::int64_t>(now_ns, 0)) {}

void timers::arm(timer& one, std::int64_t deadline_ns) noexcept {
  COIR_ASSERT(!one.armed());
  one.deadline_ns = std::max(deadline_ns, time_ns_);
  link(one, place_of(one.deadline_ns));
  ++size_;
  if (one.deadline_ns < earliest_ns_) earliest_ns_ = one.deadline_ns;
}

void timers::cancel(timer& one) noexcept {
  if (!one.armed()) return;
  // Of a slot with many timers only its first moment is known, and that says nothing any more once
  // the slot is empty: whoever woke up then would find nothing due, at once and again.
  const bool last_of_slot = one.next == &one && !COIR_MUTANT(empty_slot_awaited);
  if (last_of_slot || one.deadline_ns <= earliest_ns_) earliest_ns_ = unknown;
  unlink(one);
  --size_;
}

timer* timers::expire(std::int64_t now_ns) noexcept {
  now_ns = std::max(now_ns, time_ns_);
  while (levels_used_ != 0) {
    const std::uint16_t place = earliest_place();
    const std::int64_t moment = first_moment(place);
    if (moment > now_ns) break;
    timer& first = *first_[place];
    earliest_ns_ = unknown;
    // All timers of a slot at level 0 are equals. One that is alone in a higher slot needs no
    // dealing out: most come out this way, two or three levels early.
    if (place < slots || (first.next == &first && first.deadline_ns <= now_ns))
      return take_due(first);
    time_ns_ = moment;
    deal_out(place);
  }
  // No occupied slot begins at or before now_ns, so no timer changes its place.
  time_ns_ = now_ns;
  return nullptr;
}

timer* timers::take_due(timer& due) noexcept {
  time_ns_ = due.deadline_ns;
  unlink(due);
  --size_;
  return &due;
}

std::int64_t timers::next_deadline() noexcept {
  if (levels_used_ == 0) return INT64_MAX;
  if (earliest_ns_ == unknown) earliest_ns_ = earliest_in(earliest_place());
  return earliest_ns_;
}

/// Level times 64 plus slot. The level is that of the highest digit that differs from our time.
std::uint16_t timers::place_of(std::int64_t deadline_ns) const noexcept {
  COIR_ASSERT(deadline_ns >= time_ns_);
  const auto different = static_cast<std::uint64_t>(deadline_ns ^ time_ns_);
  const unsigned level = (std::bit_width(different | 1) - 1) / digit_bits;
  const auto digit = static_cast<std::uint64_t>(deadline_ns) >> (level * digit_bits) & (slots - 1);
  return static_cast<std::uint16_t>(level * slots + digit);
}

std::uint16_t timers::earliest_place() const noexcept {
  const auto level = static_cast<unsigned>(std::countr_zero(levels_used_));
  const auto slot = static_cast<unsigned>(std::countr_zero(occupied_[level]));
  return static_cast<std::uint16_t>(level * slots + slot);
}

/// The first nanosecond that belongs to the slot: our time above its digit, zeros below.
std::int64_t timers::first_moment(std::uint16_t place) const noexcept {
  const unsigned shift = place / slots * digit_bits;
  const std::uint64_t below = (std::uint64_t{slots} << shift) - 1;  // wraps to all ones at the top
  const auto above = static_cast<std::uint64_t>(time_ns_) & ~below;
  return static_cast<std::int64_t>(above | std::uint64_t{place % slots} << shift);
}

/// The earliest deadline of the slot if it has few timers, else the slot's first moment.
std::int64_t timers::earliest_in(std::uint16_t place) const noexcept {
  if (place < slots) return first_moment(place);
  const timer* const first = first_[place];
  const timer* each = first;
  std::int64_t earliest_ns = INT64_MAX;
  for (unsigned seen = 0; seen < scan_max; ++seen) {
    earliest_ns = std::min(earliest_ns, each->deadline_ns);
    each = each->next;
    if (each == first) return earliest_ns;
  }
  return first_moment(place);
}

void timers::link(timer& one, std::uint16_t place) noexcept {
  timer*& first = first_[place];
  if (first == nullptr) {
    one.previous = &one;
    one.next = &one;
    first = &one;
    occupied_[place / slots] |= std::uint64_t{1} << place % slots;
    levels_used_ |= 1u << place / slots;
  } else {
    one.previous = first->previous;
    one.next = first;
    first->previous->next = &one;
    first->previous = &one;
  }
  one.place = place;
}

void timers::unlink(timer& one) noexcept {
  COIR_ASSERT(one.place < first_.size());
  COIR_ASSERT(one.previous->next == &one);
  timer*& first = first_[one.place];
  if (one.next == &one) {
    vacate(one.place);
  } else {
    one.previous->next = one.next;
    one.next->previous = one.previous;
    if (first == &one) first = one.next;
  }
  one.previous = nullptr;
  one.next = nullptr;
  one.place = timer::nowhere;
}

/// Time has entered the slot: every timer in it moves to the place that it has now.
void timers::deal_out(std::uint16_t place) noexcept {
  timer* const first = first_[place];
  vacate(place);
  timer* each = first;
  do {
    timer* const following = each->next;
    __builtin_prefetch(following->next);
    const std::uint16_t lower = place_of(each->deadline_ns);
    COIR_ASSERT(lower / slots < place / slots);
    link(*each, lower);
    each = following;
  } while (each != first);
}

void timers::vacate(std::uint16_t place) noexcept {
  first_[place] = nullptr;
  const unsigned level = place / slots;
  occupied_[level] &= ~(std::uint64_t{1} << place % slots);
  if (occupied_[level] == 0) levels_used_ &= ~(1u << level);
}

}  // namespace coir::detail
