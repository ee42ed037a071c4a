// futex.hpp: how a plain thread sleeps until a word changes, with a deadline.
//
// Always true:
//   - wait returns at once when the word is not `expected`; a spurious return is allowed, so
//     callers loop.
//   - Deadlines are absolute nanoseconds of CLOCK_MONOTONIC; INT64_MAX never comes.
//
// Comes from: waits, runtime, offload.   Goes to: futex(2).
#pragma once

#include <cstdint>

#include "coir/detail/atomic.hpp"

namespace coir::detail {

/// False when `until_ns` came first.
bool futex_wait(atomic<std::uint32_t>& word, std::uint32_t expected,
                std::int64_t until_ns) noexcept;
void futex_wake(atomic<std::uint32_t>& word, int threads) noexcept;
/// CLOCK_MONOTONIC, for plain threads; fibers ask their backend.
std::int64_t monotonic_ns() noexcept;

/// A mutual exclusion of a few instructions between threads: spins a little, then lets the holder
/// run. Never held across a park.
class word_lock {
 public:
  explicit word_lock(atomic<std::uint32_t>& word) noexcept : word_(word) {
    // acquire: pairs with the release in the destructor; what the last holder wrote is visible.
    if (word_.exchange(1, std::memory_order_acquire) != 0) [[unlikely]]
      lock_slow();
  }
  ~word_lock() { word_.store(0, std::memory_order_release); }
  word_lock(const word_lock&) = delete;
  word_lock& operator=(const word_lock&) = delete;

 private:
  void lock_slow() noexcept;
  atomic<std::uint32_t>& word_;
};

}  // namespace coir::detail
