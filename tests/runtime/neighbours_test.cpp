// neighbours_test.cpp: the order of the others, and sets of them.
//
// Comes from: runtime/neighbours.hpp.   Goes to: ctest.
#include "runtime/neighbours.hpp"

#include <doctest/doctest.h>

#include <set>

using namespace coir::detail;

namespace {

/// Two to a core, four to a cluster, eight to a node.
neighbours of_sixteen(unsigned self) {
  return {self, 16, [self](unsigned i) {
            if (i / 2 == self / 2) return distance::sibling;
            if (i / 4 == self / 4) return distance::cluster;
            return i / 8 == self / 8 ? distance::node : distance::any;
          }};
}

}  // namespace

TEST_CASE("neighbours: everybody else is there once, nearest first, beginning after oneself") {
  for (unsigned self = 0; self < 16; ++self) {
    const neighbours n = of_sixteen(self);
    CHECK(n.self() == self);
    CHECK(n.within(distance::sibling) == 1);
    CHECK(n.within(distance::cluster) == 3);
    CHECK(n.within(distance::node) == 7);
    CHECK(n.within(distance::any) == 15);
    CHECK(n.before(distance::sibling) == 0);
    CHECK(n.before(distance::any) == 7);
    CHECK(n.at(0) == (self ^ 1));
    std::set<unsigned> all;
    for (unsigned i = 0; i < 15; ++i) all.insert(n.at(i));
    CHECK(all.size() == 15);
    CHECK(!all.contains(self));
    for (unsigned i = 0; i < 7; ++i) CHECK(n.at(i) / 8 == self / 8);
  }
  CHECK(of_sixteen(5).at(7) == 8);
  CHECK(of_sixteen(12).at(7) == 0);
  CHECK(neighbours(2, 4).at(0) == 3);
  CHECK(neighbours(2, 4).at(1) == 0);
}

TEST_CASE("neighbours: the set within a reach holds who is in the list up to there") {
  const neighbours n = of_sixteen(6);
  for (const distance d : {distance::sibling, distance::cluster, distance::node, distance::any}) {
    CHECK(n.reach(d).size() == n.within(d));
    for (unsigned i = 0; i < 15; ++i) CHECK(n.reach(d).contains(n.at(i)) == (i < n.within(d)));
  }
}

TEST_CASE("neighbours: one worker alone has none, and 256 see each other") {
  CHECK(neighbours(0, 1).within(distance::any) == 0);
  const neighbours most(255, 256);
  CHECK(most.within(distance::any) == 255);
  CHECK(most.at(0) == 0);
  CHECK(most.at(254) == 254);
  CHECK(most.reach(distance::any).size() == 255);
}

TEST_CASE("neighbours: a set gives its members by rank, across words") {
  worker_set s;
  const unsigned members[] = {0, 5, 63, 64, 130, 255};
  for (const unsigned i : members) s.insert(i);
  REQUIRE(s.size() == 6);
  for (unsigned rank = 0; rank < 6; ++rank) CHECK(s.at(rank) == members[rank]);
  s.erase(63);
  CHECK(!s.contains(63));
  CHECK(s.at(2) == 64);
  worker_set other;
  other.insert(130);
  other.insert(131);
  CHECK((s & other).size() == 1);
  CHECK((s & other).at(0) == 130);
}
