// levels_test.cpp: who of another priority has the next turn.
//
// Always true: picks are numbers of the test's own; the normal level is a flag.
//
// Comes from: ctest.   Goes to: runtime/levels.hpp.
#include "runtime/levels.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <string>

using coir::priority;

namespace {

struct member : coir::detail::list_node {
  char name = 0;
};
using levels = coir::detail::levels<member, coir::detail::list_node>;

struct crowd {
  levels waiting;
  std::array<member, 26> all;
  std::uint64_t pick = 1'000;

  member& named(char name) {
    member& m = all[static_cast<std::size_t>(name - 'a')];
    m.name = name;
    return m;
  }
  void ready(char name, priority p) { waiting.push_ready(named(name), p, pick); }
  void fresh(char name, priority p) { waiting.push_unstarted(named(name), p, pick); }
  /// 'N': the normal level's turn.
  char next(bool normal = false, bool may_start = true) {
    const member* const m = waiting.next(pick++, normal, may_start);
    return m == nullptr ? 'N' : m->name;
  }
  std::string drain(bool normal = false) {
    std::string order;
    while (waiting.any()) order += next(normal);
    return order;
  }
};

}  // namespace

TEST_CASE("levels: the highest first, within one the ready before the new, each in its order") {
  crowd c;
  c.ready('a', priority::low);
  c.fresh('b', priority::high);
  c.ready('c', priority::high);
  c.fresh('d', priority::critical);
  c.ready('e', priority::critical);
  c.ready('f', priority::critical);
  CHECK(c.drain() == "efdcba");
}

TEST_CASE("levels: the normal level stands between high and low") {
  crowd c;
  c.ready('a', priority::low);
  c.ready('b', priority::high);
  CHECK(c.next(true) == 'b');
  CHECK(c.next(true) == 'N');
  CHECK(c.next(true) == 'N');
  CHECK(c.next(false) == 'a');
  CHECK_FALSE(c.waiting.any());
}

TEST_CASE("levels: a new one has every 8th turn of its level") {
  crowd c;
  c.fresh('z', priority::high);
  std::string order;
  for (int i = 0; i < 8; ++i) {
    c.ready('a', priority::high);
    order += c.next();
    if (order.back() == 'z') break;
  }
  CHECK(order == "aaaaaaaz");
}

TEST_CASE("levels: who has waited for 32 picks is served beside a flood of the highest") {
  crowd c;
  c.ready('l', priority::low);
  c.ready('h', priority::high);
  std::string order;
  for (int i = 0; i < 200; ++i) {
    c.ready('c', priority::critical);
    order += c.next(true);
    if (order.back() == 'c') continue;
    c.waiting.erase(c.named('c'), priority::critical, false);  // it is pushed again
    if (order.back() == 'N') continue;
    c.ready(order.back(), order.back() == 'l' ? priority::low : priority::high);
  }
  const auto count = [&](char who) { return std::count(order.begin(), order.end(), who); };
  // Three levels share: each has a turn within 32 picks and two of the others.
  CHECK(count('c') > 150);
  for (const char who : {'l', 'h', 'N'}) {
    CHECK(count(who) >= 5);
    std::size_t gap = 0;
    for (std::size_t at = 0, last = 0; at < order.size(); ++at) {
      if (order[at] != who) continue;
      gap = std::max(gap, at - last);
      last = at;
    }
    CHECK(gap <= levels::ages_after + 3);
  }
}

TEST_CASE(
    "levels: without stacks only the ready have a turn, and a new one goes back to the front") {
  crowd c;
  c.fresh('a', priority::critical);
  c.fresh('b', priority::critical);
  c.ready('c', priority::low);
  CHECK(c.next(false, false) == 'c');
  CHECK(c.next(false, false) == 'N');
  CHECK(c.waiting.any());
  CHECK_FALSE(c.waiting.any_ready());
  CHECK(c.next() == 'a');
  c.waiting.put_back(c.named('a'), priority::critical);
  CHECK(c.drain() == "ab");
}

TEST_CASE("levels: whoever is wanted is taken out, wherever it stands") {
  crowd c;
  c.fresh('a', priority::low);
  c.fresh('b', priority::high);
  c.fresh('c', priority::high);
  c.ready('d', priority::high);
  const auto is = [](char name) { return [name](const member& m) { return m.name == name; }; };
  CHECK(c.waiting.take_unstarted(is('c'))->name == 'c');
  CHECK(c.waiting.take_unstarted(is('d')) == nullptr);  // it has started
  c.waiting.erase(c.named('d'), priority::high, false);
  c.waiting.erase(c.named('a'), priority::low, true);
  CHECK(c.drain() == "b");
}
