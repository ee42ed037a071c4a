// sim_dice_test.cpp: chance that can be repeated.
#include "runtime/sim_dice.hpp"

#include <doctest/doctest.h>

#include <set>

using coir::detail::sim_dice;

TEST_CASE("sim_dice: the same seed gives the same numbers, neighbouring seeds give others") {
  std::set<std::uint64_t> firsts;
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    sim_dice one(seed), same(seed);
    const std::uint64_t first = one.next();
    CHECK(first == same.next());
    CHECK(one.next() == same.next());
    firsts.insert(first);
  }
  CHECK(firsts.size() >= 999);
}

TEST_CASE("sim_dice: numbers stay in their range and reach both of its ends") {
  sim_dice dice(3);
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 1000; ++i) seen.insert(dice.below(6));
  CHECK(seen == std::set<std::uint64_t>{0, 1, 2, 3, 4, 5});
  std::set<std::int64_t> span;
  for (int i = 0; i < 1000; ++i) span.insert(dice.between(-2, 1));
  CHECK(span == std::set<std::int64_t>{-2, -1, 0, 1});
}

TEST_CASE("sim_dice: a choice without alternatives draws nothing") {
  sim_dice one(9), other(9);
  CHECK(one.below(0) == 0);
  CHECK(one.below(1) == 0);
  CHECK(one.between(5, 5) == 5);
  CHECK(one.next() == other.next());
}
