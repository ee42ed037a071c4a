// futex_test.cpp: what a plain thread sleeps on, and the lock of a few instructions.
//
// Comes from: runtime/futex.hpp.   Goes to: ctest.
#include "runtime/futex.hpp"

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <array>
#include <cerrno>
#include <thread>

#include "runtime/base.hpp"

using namespace coir::detail;

TEST_CASE("futex: a wait for another value than the word's returns at once") {
  std::atomic<std::uint32_t> word{1};
  CHECK(futex_wait(word, 0, INT64_MAX));
}

TEST_CASE("futex: a deadline that is over, however far back, ends the wait and says so") {
  std::atomic<std::uint32_t> word{0};
  for (const std::int64_t until : {INT64_MIN, std::int64_t{-1}, std::int64_t{0}, std::int64_t{1}})
    CHECK_FALSE(futex_wait(word, 0, until));
}

TEST_CASE("futex: neither a wait nor a wake changes errno") {
  std::atomic<std::uint32_t> word{0};
  errno = ENOTTY;
  (void)futex_wait(word, 0, 1);
  (void)futex_wait(word, 5, 1);
  futex_wake(word, 1);
  CHECK(errno == ENOTTY);
}

TEST_CASE("futex: who waits sleeps in the kernel instead of asking again and again") {
  std::atomic<std::uint32_t> word{0};
  const auto given_away = [] {
    rusage now{};
    REQUIRE(::getrusage(RUSAGE_THREAD, &now) == 0);
    return now.ru_nvcsw;
  };
  // One deadline may pass before it is looked at, and a page may have to be waited for; not always.
  constexpr int rounds = 20;
  int slept = 0;
  for (int i = 0; i < rounds; ++i) {
    const long before = given_away();
    const std::int64_t until = monotonic_ns() + 2'000'000;
    while (futex_wait(word, 0, until)) {
    }
    slept += given_away() > before;
  }
  CHECK(slept > rounds / 2);
}

TEST_CASE("futex: a thread that sleeps is woken, whichever side comes first") {
  constexpr std::uint32_t count = 2'000;
  std::atomic<std::uint32_t> there{0};
  std::atomic<std::uint32_t> back{0};
  const std::int64_t limit = monotonic_ns() + 60'000'000'000;
  bool late = false;
  std::thread other([&] {
    for (std::uint32_t n = 1; n <= count; ++n) {
      while (there.load(std::memory_order_acquire) < n)
        if (!futex_wait(there, n - 1, limit)) return;
      back.store(n, std::memory_order_release);
      futex_wake(back, 1);
    }
  });
  for (std::uint32_t n = 1; n <= count && !late; ++n) {
    there.store(n, std::memory_order_release);
    futex_wake(there, 1);
    while (back.load(std::memory_order_acquire) < n && !late)
      late = !futex_wait(back, n - 1, limit);
  }
  other.join();
  CHECK_FALSE(late);
  CHECK(back.load() == count);
}

TEST_CASE("futex: the word lock lets one in at a time, and what it guarded is seen by the next") {
  constexpr unsigned threads = 4;
  constexpr unsigned rounds = COIR_TSAN ? 5'000 : 50'000;
  std::atomic<std::uint32_t> lock{0};
  std::uint64_t total = 0;  // plain on purpose
  unsigned inside = 0;
  unsigned met = 0;
  std::array<std::thread, threads> all;
  for (auto& t : all)
    t = std::thread([&] {
      for (unsigned i = 0; i < rounds; ++i) {
        const word_lock held(lock);
        if (++inside != 1) ++met;
        ++total;
        --inside;
      }
    });
  for (auto& t : all) t.join();
  CHECK(total == std::uint64_t{threads} * rounds);
  CHECK(met == 0);
  CHECK(lock.load() == 0);
}
