// judging.cpp: what each completion means for an operation that lasts.
//
// Always true:
//   - judge() is the one place where a stream's completion is understood, judge_answer() where that
//     of a single operation is; ended_with() is where it is decided whether it goes on.
//
// Comes from: flight (completions).   Goes to: lasting.cpp.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "arch/sanitizers.hpp"
#include "runtime/lasting.hpp"
#include "runtime/perform.hpp"

namespace coir::detail {
namespace {

const void* lent_at(std::uint64_t address) noexcept {
  return reinterpret_cast<const void*>(static_cast<std::uintptr_t>(address));
}

/// Saturating, below what means never.
std::int64_t later(std::int64_t at, std::int64_t by) noexcept {
  std::int64_t sum = 0;
  return __builtin_add_overflow(at, by, &sum) ? never_ns - 1 : sum;
}

}  // namespace

// -- ticks without the backend: who pulls looks at the clock

void lasting_operation::tick_by_clock() noexcept {
  std::int64_t span[2];
  std::memcpy(span, lent_at(sqe().addr), sizeof span);
  if (__builtin_mul_overflow(span[0], std::int64_t{1'000'000'000}, &period_ns_))
    period_ns_ = never_ns - 1;
  period_ns_ = later(period_ns_, span[1]);
  tick_ns_ = later(home_.outside().now_ns(), period_ns_);
  look_again_ = true;
  stay(reason::unasked);
}

/// The ticks that are due by now, as far as they fit.
void lasting_operation::catch_up() noexcept {
  if (over_) return;
  const std::int64_t now = home_.outside().now_ns();
  while (tick_ns_ <= now && count_ < bounds_.capacity) {
    keep({1, 0});
    tick_ns_ = later(tick_ns_, std::max<std::int64_t>(period_ns_, 1));
  }
  if (tick_ns_ <= now) tick_ns_ = later(now, period_ns_);
}

// -- what comes

record* lasting_operation::on_completion(lasting& self, const completion& c) noexcept {
  auto& me = static_cast<lasting_operation&>(self);
  if (!c.more()) me.home_.operations().retire(me);
  if (me.kind_.many) {
    me.judge(me.with_own_buffer(c));
  } else {
    me.judge_answer(c);
  }
  if (me.over_ && me.orphan_) {
    me.let_go();
    me.free();
    return nullptr;
  }
  return me.wake();
}

record* lasting_operation::wake() noexcept {
  const bool shall = kind_.many && !unwanted_ ? anything() || look_again_ : over_;
  if (COIR_MUTANT(ends_other_parks) && watched_by_ == nullptr && fiber->at == stage::parked)
    return fiber;
  if (watched_by_ == nullptr || !shall) return nullptr;
  look_again_ = false;
  const watcher& by = *std::exchange(watched_by_, nullptr);
  if (by.shared != nullptr && !claim_at_home(*by.fiber, by.shared->epoch)) return nullptr;
  return by.fiber;
}

/// Where the operation named its buffer, the completion shall look as if the backend had picked it.
completion lasting_operation::with_own_buffer(const completion& c) noexcept {
  completion made = c;
  if (!kind_.leases || readiness_) return made;
  if (picks_buffer()) {
    if ((c.flags & IORING_CQE_F_BUFFER) != 0 && !pool()->came(c.flags >> IORING_CQE_BUFFER_SHIFT))
      made.flags &= ~static_cast<std::uint32_t>(IORING_CQE_F_BUFFER);
    return made;
  }
  if (buffer_ < 0) return made;
  made.flags = static_cast<std::uint32_t>(buffer_) << IORING_CQE_BUFFER_SHIFT | IORING_CQE_F_BUFFER;
  buffer_ = -1;
  return made;
}

void lasting_operation::judge(const completion& c) noexcept {
  if (readiness_) {
    if (c.res < 0) return ended_with(c.res);
    readiness_ = false;
    return again(false);
  }
  // A timer's way to say that it has fired.
  const bool ticked = opcode_ == IORING_OP_TIMEOUT && c.res == -ETIME;
  const std::int32_t res = ticked ? 1 : c.res;
  if (res >= 0 && !(kind_.ends != nullptr && kind_.ends(res))) return item_came(c, res);
  if ((c.flags & IORING_CQE_F_BUFFER) != 0) pool()->give(c.flags >> IORING_CQE_BUFFER_SHIFT);
  if (res >= 0) {  // its own end
    if (c.more()) return cancel();
    return finish(0);
  }
  if (c.more()) return keep({res, 0});
  ended_with(res);
}

void lasting_operation::item_came(const completion& c, std::int32_t res) noexcept {
  answered_ = true;
  const std::uint32_t shown = c.flags & ~static_cast<std::uint32_t>(IORING_CQE_F_MORE);
  if (kind_.leases && (c.flags & IORING_CQE_F_BUFFER) != 0)
    if constexpr (arch::kernel_writes_are_noted)
      arch::note_written(pool()->at(c.flags >> IORING_CQE_BUFFER_SHIFT).data(),
                         static_cast<std::size_t>(res));
  keep({res, shown});
  if (c.more()) return throttle(true);
  readiness_ = kind_.leases && !picks_buffer();
  if (bounds_.when_full == fullness::cancel && count_ > bounds_.capacity) return finish(-ENOBUFS);
  // What was asked to go on has stopped: a full completion queue, or the kernel had enough.
  if (goes_on_ && !pausing_ && !bounds_.rearms) return finish(0);
  again(goes_on_);
}

/// More than it may hold: what still comes by then is kept.
void lasting_operation::throttle(bool in_flight_still) noexcept {
  if (!in_flight_still || unwanted_ || pausing_ || cancelled_) return;
  const bool stops = (bounds_.when_full == fullness::pause && count_ >= bounds_.capacity &&
                      !COIR_MUTANT(full_stream_goes_on)) ||
                     (bounds_.when_full == fullness::cancel && count_ > bounds_.capacity);
  if (!stops) return;
  pausing_ = true;
  home_.operations().cancel(*this);
}

/// The last completion of this time was no item.
void lasting_operation::ended_with(std::int32_t res) noexcept {
  const bool stopped = res == -ECANCELED || interrupted(res);
  if (cancelled_ && (stopped || res == -ENOBUFS)) return finish(0);
  if (pausing_ && stopped) {
    if (bounds_.when_full == fullness::cancel) return finish(-ENOBUFS);
    if (count_ > bounds_.low_water) return stay(reason::full);
    return again(true);
  }
  if (res == -ENOBUFS && kind_.leases) {
    if (cancelled_) return finish(0);
    if (!bounds_.rearms) return finish(res);
    // Fed, it would take more than it may hold.
    if (bounds_.when_full == fullness::cancel && count_ > bounds_.capacity) return finish(res);
    if (is_full()) return stay(reason::full);
    // One may have come back since.
    if (pool()->out() < pool()->count() && !COIR_MUTANT(starves_beside_a_buffer))
      return again(true);
    return stay(reason::starved);
  }
  if (res == -EINVAL && goes_on_ && !answered_) {  // this kernel does not know it
    goes_on_ = false;
    return again(false);
  }
  if (res == -EINVAL && opcode_ == IORING_OP_TIMEOUT && !answered_)
    return cancelled_ || unwanted_ ? finish(0) : tick_by_clock();
  switch (classify(readiness_ ? std::uint8_t{IORING_OP_POLL_ADD} : opcode_, res)) {
    case verdict::retry:
      return again(false);
    case verdict::wait_ready:
      readiness_ = true;
      return again(false);
    case verdict::done:
    case verdict::plainly:
    case verdict::later:
    case verdict::deliver:
      if (kind_.passes != nullptr && kind_.passes(res) && bounds_.rearms) {
        keep({res, 0});
        return again(false);
      }
      return finish(res);
    case verdict::fatal:
      COIR_ASSERT(!"the kernel lost a completion (EBADR)");
  }
}

/// A single operation: its answer, or once more.
void lasting_operation::judge_answer(const completion& c) noexcept {
  if (c.more()) {  // SEND_ZC and the like: the buffer is still lent
    early_ = c.res;
    return;
  }
  const std::int32_t res = (c.flags & IORING_CQE_F_NOTIF) != 0 ? early_ : c.res;
  if (readiness_ && res >= 0) {
    readiness_ = false;
    return again(false);
  }
  if (res >= 0) {
    if constexpr (arch::kernel_writes_are_noted) note_answer(sqe(), res);
    return finish(res);
  }
  if (res == -ECANCELED || (cancelled_ && interrupted(res))) return finish(-ECANCELED);
  if (rests_for_ == reason::later) return again(false);  // the pause is over
  switch (classify(readiness_ ? std::uint8_t{IORING_OP_POLL_ADD} : opcode_, res)) {
    case verdict::retry:
      return again(false);
    case verdict::done:
      return finish(0);
    case verdict::plainly:
      plainly_ = true;
      make_plain(sqe());
      opcode_ = sqe().opcode;
      return again(false);
    case verdict::wait_ready:
      if (asked_not_to_wait(sqe())) return finish(res);
      connecting_ = opcode_ == IORING_OP_CONNECT;
      readiness_ = true;
      return again(false);
    case verdict::later:
      if (cancelled_ || COIR_MUTANT(started_connect_spins)) return again(false);
      return stay(reason::later);
    case verdict::deliver:
      return finish(connecting_ && res == -EISCONN ? 0 : res);
    case verdict::fatal:
      COIR_ASSERT(!"the kernel lost a completion (EBADR)");
  }
}

}  // namespace coir::detail
