// deflect_test.cpp: where unstarted work goes, as tables and over every small case.
//
// Comes from: runtime/deflect.hpp.   Goes to: ctest.
#include "runtime/deflect.hpp"

#include <doctest/doctest.h>

#include <array>
#include <vector>

using namespace coir::detail;

namespace {

std::vector<load> loads_of(std::initializer_list<std::uint32_t> unstarted) {
  std::vector<load> all;
  for (const std::uint32_t n : unstarted) all.push_back({n, n});
  return all;
}

}  // namespace

TEST_CASE("deflect: below its threshold a worker keeps what it spawns") {
  CHECK(deflect_target(0, loads_of({63, 0, 0}), 64) == 0);
  CHECK(deflect_target(2, loads_of({0, 0, 0}), 1) == 2);
}

TEST_CASE("deflect: at the threshold the least loaded neighbour gets it") {
  CHECK(deflect_target(0, loads_of({64, 9, 3, 5}), 64) == 2);
  CHECK(deflect_target(3, loads_of({1, 9, 3, 64}), 64) == 0);
}

TEST_CASE("deflect: without a plain gain nothing moves") {
  CHECK(deflect_target(0, loads_of({64, 32}), 64) == 0);
  CHECK(deflect_target(0, loads_of({64, 31}), 64) == 1);
  CHECK(deflect_target(1, loads_of({100, 100}), 64) == 1);
  CHECK(deflect_target(0, loads_of({1}), 1) == 0);
}

TEST_CASE("deflect: equals are served in turn, beginning with the one after self") {
  const auto all = loads_of({0, 80, 0, 0});
  CHECK(deflect_target(1, all, 64) == 2);
  CHECK(deflect_target(3, loads_of({0, 0, 0, 80}), 64) == 0);
  CHECK(least_live(1, loads_of({4, 9, 4, 4})) == 2);
  CHECK(least_live(3, loads_of({4, 4, 4, 9})) == 0);
}

TEST_CASE("deflect: long work goes to the fewest live fibers, and stays home in a tie") {
  const std::array<load, 3> all{{{0, 7}, {9, 3}, {0, 5}}};
  CHECK(least_live(0, all) == 1);
  CHECK(least_live(1, all) == 1);
  CHECK(least_live(0, loads_of({2, 2, 2})) == 0);
}

TEST_CASE("deflect: over every small case the answer is a worker, and a move at least halves") {
  for (unsigned code = 0; code < 6u * 6 * 6; ++code)
    for (std::uint32_t threshold = 1; threshold < 5; ++threshold)
      for (unsigned self = 0; self < 3; ++self) {
        const auto all = loads_of({code % 6, code / 6 % 6, code / 36});
        const unsigned target = deflect_target(self, all, threshold);
        REQUIRE(target < 3);
        if (target != self) {
          CHECK(all[self].unstarted >= threshold);
          CHECK(all[target].unstarted < all[self].unstarted / 2);
        }
        for (const load& l : all)
          if (target != self) CHECK(all[target].unstarted <= l.unstarted);
      }
}
