// bell_test.cpp: the sleep handshake: nobody rings in vain, nobody sleeps through a message.
//
// Always true:
//   - The two litmus cases are bounded in rounds; a worker that would sleep for ever is counted,
//     not waited for.
//
// Comes from: runtime/bell.hpp.   Goes to: ctest.
#include "runtime/bell.hpp"

#include <doctest/doctest.h>
#include <sched.h>

#include <thread>
#include <vector>

#include "runtime/futex.hpp"

using namespace coir::detail;

namespace {

/// Two threads that begin each round within a few instructions of each other.
class rounds {
 public:
  void meet(std::uint32_t round) noexcept {
    arrived_.fetch_add(1, std::memory_order_acq_rel);
    for (unsigned spin = 0; arrived_.load(std::memory_order_acquire) < 2 * round; ++spin)
      if (spin % 4096 == 4095) ::sched_yield();
  }

 private:
  alignas(cache_line_bytes) std::atomic<std::uint32_t> arrived_{0};
};

struct alignas(cache_line_bytes) published {
  std::atomic<std::uint32_t> work{0};
};

}  // namespace

TEST_CASE("bell: a worker that is awake is not rung") {
  bell b;
  CHECK_FALSE(b.must_ring());
  b.announce();
  b.withdraw();
  CHECK_FALSE(b.must_ring());
}

TEST_CASE("bell: of all who meet one announcement exactly one rings") {
  bell b;
  for (int night = 0; night < 3; ++night) {
    b.announce();
    CHECK(b.must_ring());
    CHECK_FALSE(b.must_ring());
    b.withdraw();
  }
}

TEST_CASE("bell: between an announcement and a publication at least one side sees the other") {
  // Store buffering: without a fence on either side both may look before their store is visible.
  constexpr std::uint32_t count = COIR_TSAN ? 20'000 : 400'000;
  bell b;
  published p;
  rounds start;
  rounds end;
  std::uint32_t slept_on_work = 0;
  bool rung = false;
  std::thread sender([&] {
    for (std::uint32_t r = 1; r <= count; ++r) {
      start.meet(r);
      p.work.store(r, std::memory_order_relaxed);
      rung = b.must_ring();
      end.meet(2 * r - 1);
      end.meet(2 * r);
    }
  });
  for (std::uint32_t r = 1; r <= count; ++r) {
    start.meet(r);
    b.announce();
    const bool seen = p.work.load(std::memory_order_relaxed) == r;
    end.meet(2 * r - 1);
    if (!seen && !rung) ++slept_on_work;
    b.withdraw();
    end.meet(2 * r);
  }
  sender.join();
  CHECK(slept_on_work == 0);
}

TEST_CASE("bell: a worker that sleeps between any two messages takes them all") {
  constexpr std::uint32_t count = COIR_TSAN ? 5'000 : 30'000;
  bell b;
  published p;
  std::atomic<std::uint32_t> ring_word{0};
  std::atomic<std::uint32_t> taken{0};
  bool missed = false;
  std::thread worker([&] {
    std::uint32_t mine = 0;
    while (mine < count && !missed) {
      mine = p.work.load(std::memory_order_acquire);
      taken.store(mine, std::memory_order_release);
      b.announce();
      if (p.work.load(std::memory_order_relaxed) == mine && mine < count) {
        // A ring that came before this sleep is in the word.
        const std::int64_t long_enough_ns = monotonic_ns() + 20'000'000'000;
        while (ring_word.exchange(0, std::memory_order_acq_rel) == 0)
          if (!futex_wait(ring_word, 0, long_enough_ns)) {
            missed = true;
            break;
          }
      }
      b.withdraw();
    }
    taken.store(UINT32_MAX, std::memory_order_release);
  });
  for (std::uint32_t n = 1; n <= count; ++n) {
    p.work.store(n, std::memory_order_release);
    if (b.must_ring()) {
      ring_word.store(1, std::memory_order_release);
      futex_wake(ring_word, 1);
    }
    // Every third one waits until the worker had it, so that it goes to sleep again.
    for (unsigned spin = 0; n % 3 == 0 && taken.load(std::memory_order_acquire) < n; ++spin)
      if (spin % 256 == 255) ::sched_yield();
  }
  worker.join();
  CHECK_FALSE(missed);
}
