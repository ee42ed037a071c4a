// futex.cpp: the futex system call, and the slow path of the word lock.
//
// Always true:
//   - A waiter of a word lock gives its time slice away after a short spin, so a holder that lost
//     its processor gets one.
//
// Comes from: futex.hpp.   Goes to: futex(2), sched_yield(2).
#include "runtime/futex.hpp"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

#include "runtime/base.hpp"

namespace coir::detail {

bool futex_wait(atomic<std::uint32_t>& word, std::uint32_t expected,
                std::int64_t until_ns) noexcept {
  timespec until{};
  timespec* limit = nullptr;
  if (until_ns != INT64_MAX) {
    if (until_ns < 0) until_ns = 0;
    until = {until_ns / 1'000'000'000, until_ns % 1'000'000'000};
    limit = &until;
  }
  if (COIR_MUTANT(futex_never_sleeps)) return monotonic_ns() < until_ns;
  const int saved = errno;
  // FUTEX_WAIT_BITSET takes an absolute CLOCK_MONOTONIC time.
  const long n = ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word),
                           FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, expected, limit, nullptr,
                           FUTEX_BITSET_MATCH_ANY);
  const bool timed_out = n != 0 && errno == ETIMEDOUT;
  errno = saved;
  return !timed_out;
}

void futex_wake(atomic<std::uint32_t>& word, int threads) noexcept {
  const int saved = errno;
  ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAKE | FUTEX_PRIVATE_FLAG,
            threads, nullptr, nullptr, 0);
  errno = saved;
}

std::int64_t monotonic_ns() noexcept {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

void word_lock::lock_slow() noexcept {
  for (unsigned round = 0;; ++round) {
    for (unsigned spin = 0; spin < 64; ++spin) {
      pause();
      // relaxed: only a hint that the exchange is worth its cache miss.
      if (word_.load(std::memory_order_relaxed) == 0 &&
          word_.exchange(1, std::memory_order_acquire) == 0)
        return;
    }
    ::sched_yield();
  }
}

}  // namespace coir::detail
