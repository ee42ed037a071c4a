// this_fiber_test.cpp: what a fiber gets from this_fiber and the clock, and what a plain thread
// gets in its place.
//
// Always true:
//   - Nobody sleeps for longer than it takes to see that he slept.
//
// Comes from: coir/fiber.hpp, coir/clock.hpp.   Goes to: runtime/this_fiber.cpp.
#include <doctest/doctest.h>

#include <chrono>
#include <climits>

#include "on_fiber.hpp"

using test::tested;
using namespace std::chrono_literals;

TEST_CASE("this_fiber: a deadline beyond the end of time is never, one before its beginning over") {
  CHECK(coir::in(coir::clock::duration::max()) == coir::never);
  CHECK(coir::in(coir::clock::duration::min()) < coir::clock::now());
  CHECK(coir::in(1s) > coir::clock::now());
  const auto done = coir::run(
      [] {
        CHECK(coir::in(coir::clock::duration::max()) == coir::never);
        CHECK(coir::this_fiber::sleep_until(coir::no_wait).has_value());
        CHECK(coir::this_fiber::sleep_for(coir::clock::duration::min()).has_value());
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE(
    "this_fiber: on a plain thread it does what the thread's own would, or says not_in_fiber") {
  coir::this_fiber::yield();
  CHECK_FALSE(coir::this_fiber::cancelled());
  CHECK(coir::this_fiber::id() == coir::fiber_id{});
  CHECK(coir::this_fiber::worker() == UINT_MAX);
  const auto before = coir::clock::now();
  CHECK(coir::this_fiber::sleep_for(1ms).has_value());
  CHECK(coir::clock::now() - before >= 1ms);
  CHECK(coir::this_fiber::yield_to({}).error() == coir::errc::not_in_fiber);
  CHECK(coir::this_fiber::move_to(0).error() == coir::errc::not_in_fiber);
}

TEST_CASE("this_fiber: a yield with nobody else, with one and with many comes back to its caller") {
  const auto done = coir::run(
      [] {
        const coir::fiber_id me = coir::this_fiber::id();
        for (const int others : {0, 1, 2, 40}) {
          int turns = 0;
          bool over = false;
          std::vector<coir::handle<void>> all;
          for (int i = 0; i < others; ++i)
            all.push_back(coir::spawn([&] {
              while (!over) {
                ++turns;
                coir::this_fiber::yield();
              }
            }));
          // Until all have begun; then each of ours is one of each of theirs.
          while (turns < 10 * others) coir::this_fiber::yield();
          const int before = turns;
          for (int i = 0; i < 600; ++i) {
            coir::this_fiber::yield();
            REQUIRE(coir::this_fiber::id() == me);
          }
          over = true;
          for (auto& h : all) REQUIRE(h.join().has_value());
          CHECK(turns - before == 600 * others);
        }
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}
