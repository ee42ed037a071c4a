// sim_dice_test.cpp: chance that can be repeated.
#include "runtime/sim_dice.hpp"

#include <doctest/doctest.h>

#include <array>
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

TEST_CASE("sim_dice: a choice without alternatives decides nothing") {
  sim_dice one(9), other(9);
  CHECK(one.below(0) == 0);
  CHECK(one.below(1) == 0);
  CHECK(one.between(5, 5) == 5);
  CHECK_FALSE(one.chance(0));
  CHECK(one.made() == 0);
  CHECK(one.next() == other.next());
  CHECK(one.made() == 1);
}

TEST_CASE("sim_dice: a chance is as frequent as it says, and true for the highest numbers alone") {
  sim_dice dice(5);
  int hits = 0;
  for (int i = 0; i < 10000; ++i) hits += dice.chance(100);
  CHECK(hits > 800);
  CHECK(hits < 1200);
  sim_dice list(0);
  list.replay({899, 900, 999, 5000});
  CHECK_FALSE(list.chance(100));
  CHECK(list.chance(100));
  CHECK(list.chance(100));
  CHECK(list.chance(100));
  CHECK(dice.chance(1000));
  CHECK(dice.chance(UINT32_MAX));
}

TEST_CASE("sim_dice: what was recorded can be replayed, and beyond the list all is ordinary") {
  std::array<std::uint64_t, 40> record{};
  const auto run = [](sim_dice& dice) {
    std::array<std::uint64_t, 60> got{};
    for (std::size_t i = 0; i < got.size(); ++i) got[i] = dice.below(2 + i);
    return got;
  };
  sim_dice drawn(7);
  drawn.record_into(record);
  const auto first = run(drawn);
  CHECK(drawn.made() == 60);  // more than there was room for
  sim_dice again(0);
  again.replay({record.begin(), record.end()});
  const auto second = run(again);
  for (std::size_t i = 0; i < first.size(); ++i) CHECK(second[i] == (i < 40 ? first[i] : 0));
}

TEST_CASE("sim_dice: a number of the list that is too large is the largest that is possible") {
  sim_dice dice(0);
  dice.replay({9, 9, 9});
  CHECK(dice.below(4) == 3);
  CHECK(dice.between(-1, 1) == 1);
  CHECK(dice.next() == 9);
  CHECK(dice.next() == 0);
}
