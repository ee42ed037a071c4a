// backoff_test.cpp: T5: how pauses grow, where they stop, and how far they deviate.
//
// Always true:
//   - Nothing waits here: a backoff computes.
//
// Comes from: coir/backoff.hpp.   Goes to: runtime/backoff.cpp.
#include <doctest/doctest.h>

#include <cstdint>
#include <ostream>
#include <set>
#include <utility>
#include <vector>

#include "coir/backoff.hpp"
#include "on_fiber.hpp"

using coir::backoff;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

namespace {

constexpr nanoseconds after(backoff b, int pauses) {
  for (int i = 0; i < pauses; ++i) (void)b.next();
  return b.pause();
}

// It can be computed before the program runs.
static_assert(backoff().pause() == microseconds(500));
static_assert(after(backoff(), 1) == microseconds(1000));
static_assert(after(backoff(), 3) == microseconds(1500));

constexpr nanoseconds an_eighth_off(nanoseconds d) { return d / 8; }

std::vector<nanoseconds> some(backoff b, int pauses) {
  std::vector<nanoseconds> all;
  for (int i = 0; i < pauses; ++i) all.push_back(b.next());
  return all;
}

}  // namespace

TEST_CASE("backoff: T5 block n has n pauses of n times the base, until the maximum caps them") {
  backoff b;
  int pauses = 0;
  for (std::uint32_t block = 1; block <= 300; ++block) {
    for (std::uint32_t i = 0; i < block; ++i, ++pauses) {
      REQUIRE(b.block() == block);
      REQUIRE(b.pause() == std::min<nanoseconds>(block * microseconds(500), milliseconds(100)));
      (void)b.next();
    }
  }
  CHECK(pauses == 300 * 301 / 2);
}

TEST_CASE("backoff: T5 a pause deviates by an eighth at most, to both sides, and all in between") {
  for (const std::uint64_t seed : {1u, 2u, 77u}) {
    backoff b(milliseconds(8), milliseconds(8), seed);  // every pause is of 8 ms
    nanoseconds least = nanoseconds::max(), most{};
    std::set<long> parts;
    for (int i = 0; i < 10'000; ++i) {
      const nanoseconds d = b.next();
      REQUIRE(d >= milliseconds(8) - an_eighth_off(milliseconds(8)));
      REQUIRE(d <= milliseconds(8) + an_eighth_off(milliseconds(8)));
      least = std::min(least, d);
      most = std::max(most, d);
      parts.insert((d - milliseconds(7)) / microseconds(100));
    }
    CHECK(least < microseconds(7'010));
    CHECK(most > microseconds(8'990));
    CHECK(parts.size() >= 20);
  }
}

TEST_CASE("backoff: T5 reset goes back to the first block, with the base and maximum it had") {
  backoff b(milliseconds(1), milliseconds(3), 5);
  for (int i = 0; i < 40; ++i) (void)b.next();
  CHECK(b.pause() == milliseconds(3));
  b.reset();
  CHECK(b.block() == 1);
  CHECK(b.pause() == milliseconds(1));
  (void)b.next();
  CHECK(b.pause() == milliseconds(2));
  (void)b.next();
  b.reset();  // in the middle of a block too
  CHECK(b.block() == 1);
  (void)b.next();
  CHECK(b.block() == 2);
}

TEST_CASE("backoff: base and maximum can be set at any time, and no number breaks it") {
  backoff b;
  b.set_base(milliseconds(2));
  b.set_max(milliseconds(5));
  CHECK(b.pause() == milliseconds(2));
  CHECK(after(b, 3) == milliseconds(5));
  b.set_max(microseconds(1));  // below the base: it is what there is
  CHECK(b.pause() == microseconds(1));
  b.set_base(nanoseconds(-7));
  b.set_max(nanoseconds(0));
  CHECK(b.base() == nanoseconds(1));
  CHECK(b.max() == nanoseconds(1));
  CHECK(b.next() == nanoseconds(1));  // an eighth of it is nothing
  backoff huge(nanoseconds::max(), nanoseconds::max(), 3);
  for (int i = 0; i < 100; ++i) {
    REQUIRE(huge.pause() == nanoseconds::max());
    REQUIRE(huge.next() > nanoseconds::max() / 2);
  }
}

TEST_CASE("backoff: a copy goes on as the original does, and a seed decides all") {
  backoff b(milliseconds(1), milliseconds(9), 42);
  (void)b.next();
  CHECK(some(b, 50) == some(b, 50));
  CHECK(some(backoff(milliseconds(1), milliseconds(9), 42), 50) ==
        some(backoff(milliseconds(1), milliseconds(9), 42), 50));
  CHECK(some(backoff(milliseconds(1), milliseconds(9), 42), 50) !=
        some(backoff(milliseconds(1), milliseconds(9), 43), 50));
}

TEST_CASE("backoff: two that were given no seed do not go in step") {
  const backoff one, other;
  backoff a = one, b = other;
  std::vector<nanoseconds> of_a, of_b;
  for (int i = 0; i < 50; ++i) {
    of_a.push_back(a.next());
    of_b.push_back(b.next());
  }
  CHECK(of_a != of_b);
  test::on_fiber([] {
    auto first = coir::spawn([] { return some(backoff(), 50); });
    auto second = coir::spawn([] { return some(backoff(), 50); });
    CHECK(first.join().value() != second.join().value());
    // What it is used for.
    backoff pause(nanoseconds(10), nanoseconds(100));
    for (int i = 0; i < 5; ++i) CHECK(coir::this_fiber::sleep_for(pause.next()).has_value());
  });
}
