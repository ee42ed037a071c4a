// mailbox.hpp: the one way for unstarted fibers into a worker from another core. Many senders, one
// reader, bounded.
//
// Always true:
//   - Slot i may be written when its turn == position, and read when its turn == position + 1.
//   - A full mailbox refuses; it never grows, never drops and never waits. The sender decides what
//     to do next.
//   - A sender that stops between taking its slot and publishing it holds back what lies behind it
//     here and nobody else: others send on, and the reader does not wait for it, but sleeps if it
//     has nothing to do. So whoever sends rings, and only after send() has returned (bell.hpp).
//   - A mailed record belongs to nobody between send and take. It may bring others in its mail.
//
// The scheme of turns per slot is Dmitry Vyukov's bounded queue.
//
// Comes from: worker::launch, runtime (threads).   Goes to: worker::take_mail.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "coir/detail/atomic.hpp"
#include "runtime/base.hpp"

namespace coir::detail {

struct record;

class mailbox {
 public:
  /// `slots`: 1 to 65536, rounded up to a power of two internally but refusing beyond exactly
  /// `slots`.
  explicit mailbox(std::uint32_t slots)
      : limit_(slots), mask_(power_of_two(slots) - 1), slots_(std::make_unique<slot[]>(mask_ + 1)) {
    for (std::uint64_t i = 0; i <= mask_; ++i) slots_[i].turn.store(i, std::memory_order_relaxed);
  }

  /// False when full. Any thread.
  bool send(record& fiber) noexcept {
    return send(fiber, [] {});
  }
  /// accepted() is called when the record has its place and nobody can take it out yet; not when
  /// the mailbox is full.
  /// `fibers`: how many come in this mail, `fiber` is the first of them.
  template <class Accepted>
  bool send(record& fiber, Accepted accepted, std::uint32_t fibers = 1) noexcept {
    std::uint64_t tail = tail_.load(std::memory_order_relaxed);
    for (;;) {
      // acquire: pairs with the release in take(): the reader has moved on, so the count below is
      // not too small.
      if (tail - head_.load(std::memory_order_acquire) >= limit_ &&
          !COIR_MUTANT(mailbox_overruns)) {
        const std::uint64_t again = tail_.load(std::memory_order_relaxed);
        if (again == tail) return false;
        tail = again;
        continue;
      }
      slot& s = slots_[tail & mask_];
      // acquire: pairs with the release in take(). The reader has finished with this slot.
      const auto lag = static_cast<std::int64_t>(s.turn.load(std::memory_order_acquire) - tail);
      if (lag == 0) {
        // relaxed: the CAS only hands out the slot; `turn` publishes what is put into it.
        if (!tail_.compare_exchange_weak(tail, tail + 1, std::memory_order_relaxed)) continue;
        accepted();
        // relaxed: a number that others look at.
        if (fibers > 1) more_sent_.fetch_add(fibers - 1, std::memory_order_relaxed);
        s.what = &fiber;
        // release: pairs with the acquire in take().
        s.turn.store(tail + 1, std::memory_order_release);
        return true;
      }
      if (lag < 0) return false;
      tail = tail_.load(std::memory_order_relaxed);
    }
  }

  /// Whether take() has something to give: the oldest mail is complete. The reader only; its last
  /// look before it sleeps. Not whether some was begun: that is empty().
  bool waits() const noexcept {
    const std::uint64_t head = head_.load(std::memory_order_relaxed);
    // relaxed: take() acquires what is taken; before a sleep the fences of the bell order this load
    // and the store of `turn` against the announcement. One that is not seen here sees us asleep.
    return slots_[head & mask_].turn.load(std::memory_order_relaxed) == head + 1;
  }

  /// The oldest record, null when it is not complete or there is none. The reader only.
  record* take() noexcept {
    const std::uint64_t head = head_.load(std::memory_order_relaxed);
    slot& s = slots_[head & mask_];
    // acquire: pairs with the release in send(): the record's fields are visible.
    if (s.turn.load(std::memory_order_acquire) != head + 1) return nullptr;
    record* const fiber = s.what;
    s.turn.store(head + mask_ + 1, std::memory_order_release);
    head_.store(head + 1, std::memory_order_release);
    return fiber;
  }

  /// The reader has taken `fibers` out of one mail, and tells so, once for each.
  void unpacked(std::uint32_t fibers) noexcept {
    if (fibers > 1)
      more_taken_.store(more_taken_.load(std::memory_order_relaxed) + fibers - 1,
                        std::memory_order_relaxed);
  }

  /// How many fibers are on their way; about right.
  std::uint32_t fibers() const noexcept {
    const std::uint32_t more =
        more_sent_.load(std::memory_order_relaxed) - more_taken_.load(std::memory_order_relaxed);
    return depth() + (static_cast<std::int32_t>(more) > 0 ? more : 0);
  }
  /// How many mails are on their way, those included that were only begun; exact only for the
  /// reader when nobody sends.
  std::uint32_t depth() const noexcept {
    const std::uint64_t head = head_.load(std::memory_order_relaxed);
    const std::uint64_t tail = tail_.load(std::memory_order_relaxed);
    return tail > head ? static_cast<std::uint32_t>(tail - head) : 0;
  }
  bool empty() const noexcept { return depth() == 0; }
  /// How many more mails it takes; for the reader at least so many as a sender finds.
  std::uint32_t places() const noexcept {
    const auto most = static_cast<std::uint32_t>(limit_);
    return most - std::min(most, depth());
  }

 private:
  struct slot {
    atomic<std::uint64_t> turn{0};
    plain<record*> what = nullptr;
  };
#if !defined(COIR_CHECK)
  static_assert(sizeof(slot) == 16);  // 2 MiB for 128 workers with 1,024 slots each
#endif
  static constexpr std::uint64_t power_of_two(std::uint32_t n) noexcept {
    std::uint64_t p = 1;
    while (p < n) p *= 2;
    return p;
  }

  const std::uint64_t limit_;
  const std::uint64_t mask_;
  std::unique_ptr<slot[]> slots_;
  alignas(cache_line_bytes) atomic<std::uint64_t> tail_{0};
  atomic<std::uint32_t> more_sent_{0};  // fibers beyond the first of each mail
  // Written by the reader, read by senders.
  alignas(cache_line_bytes) atomic<std::uint64_t> head_{0};
  atomic<std::uint32_t> more_taken_{0};
};

}  // namespace coir::detail
