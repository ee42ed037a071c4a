// ready_test.cpp: the ring of those who are ready, against a plain queue.
//
// Always true: sizes are small, so that it wraps and grows within a few steps.
//
// Comes from: ctest.   Goes to: runtime/ready.hpp.
#include "runtime/ready.hpp"

#include <doctest/doctest.h>

#include <deque>
#include <vector>

using coir::detail::ready_ring;

TEST_CASE("ready: first in, first out, through every growth and every wrap") {
  constexpr int members = 3'000;
  std::vector<int> all(members);
  ready_ring<int> ring(members);
  std::deque<int*> expected;
  unsigned dice = 1;
  std::size_t next = 0;
  const auto arrive = [&] {
    int* const one = &all[next++ % all.size()];
    ring.push_back(*one);
    expected.push_back(one);
  };
  // Grows and shrinks again and again, each time to a size a little larger than before.
  for (std::size_t most = 1; most <= members; most += most / 3 + 1) {
    while (expected.size() < most) {
      arrive();
      dice = dice * 1'103'515'245 + 12'345;
      if (dice >> 30 == 0) {
        REQUIRE(ring.pop_front() == expected.front());
        expected.pop_front();
      }
    }
    REQUIRE(ring.size() == expected.size());
    for (std::uint32_t i = 0; i < ring.size(); ++i) REQUIRE(ring.ahead(i) == expected[i]);
    while (expected.size() > most / 2) {
      REQUIRE(ring.pop_front() == expected.front());
      expected.pop_front();
    }
  }
  while (!expected.empty()) {
    REQUIRE(ring.pop_front() == expected.front());
    expected.pop_front();
  }
  CHECK(ring.empty());
  CHECK(ring.pop_front() == nullptr);
}

TEST_CASE(
    "ready: one is taken out of any place, also across the wrap, and the others keep their order") {
  for (std::uint32_t turn = 0; turn < 8; ++turn)
    for (std::size_t count = 1; count <= 7; ++count)
      for (std::size_t out = 0; out < count; ++out) {
        int all[7];
        ready_ring<int> ring(7);
        for (std::uint32_t i = 0; i < turn; ++i) {
          ring.push_back(all[0]);
          ring.pop_front();
        }
        std::deque<int*> expected;
        for (std::size_t i = 0; i < count; ++i) {
          ring.push_back(all[i]);
          expected.push_back(&all[i]);
        }
        ring.erase(all[out]);
        expected.erase(expected.begin() + static_cast<std::ptrdiff_t>(out));
        for (int* const one : expected) REQUIRE(ring.pop_front() == one);
        REQUIRE(ring.pop_front() == nullptr);
      }
}

TEST_CASE("ready: a ring with a place for everybody takes everybody") {
  for (const std::uint32_t members : {1u, 2u, 3u, 511u, 512u, 513u, 1'024u}) {
    std::vector<int> all(members);
    ready_ring<int> ring(members);
    for (int round = 0; round < 3; ++round) {
      for (int& one : all) ring.push_back(one);
      CHECK(ring.size() == members);
      for (int& one : all) REQUIRE(ring.pop_front() == &one);
      CHECK(ring.empty());
    }
  }
}
