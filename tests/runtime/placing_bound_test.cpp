// placing_bound_test.cpp: fibers that may not travel stand in front of those that may.
//
// Comes from: runtime/placing.cpp.   Goes to: ctest.
#include <doctest/doctest.h>

#include <algorithm>
#include <climits>
#include <vector>

#include "held_worker.hpp"
#include "runtime/runtime.hpp"

using coir::detail::worker;
using namespace test;

namespace {

/// They stay on worker 0, where they are spawned.
std::vector<coir::handle<void>> bound(unsigned fibers) {
  std::vector<coir::handle<void>> all;
  for (unsigned i = 0; i < fibers; ++i) all.push_back(coir::spawn([] {}, {.worker = 0}));
  return all;
}

void join(std::vector<coir::handle<void>>& all) {
  for (auto& each : all) CHECK(each.join().has_value());
}

}  // namespace

TEST_CASE("placing_bound: a mail takes many, past those that may not travel") {
  on_two_workers({.mailbox_slots = 1, .deflect_threshold = 16}, [](coir::runtime&) {
    held_worker other;  // its mailbox has room for one mail
    auto all = bound(3);
    for (int i = 0; i < 40; ++i)
      all.push_back(coir::spawn([] {}, {.kind = coir::workload::compute}));
    CHECK(given_away() > 1);
    other.release();
    join(all);
  });
}

TEST_CASE("placing_bound: whoever pinned the greatest threshold of all feeds nobody") {
  on_two_workers({}, [](coir::runtime& rt) {
    CHECK(rt.set_deflection_threshold(0, UINT_MAX).has_value());
    a_turn_passes();
    wait_for_hunger();
    std::vector<coir::handle<void>> all;
    for (int i = 0; i < 40; ++i) all.push_back(coir::spawn([] {}));
    join(all);
    CHECK(given_away() == 0);
  });
}

TEST_CASE("placing_bound: who comes back from a full mailbox has the place it had") {
  on_two_workers({.mailbox_slots = 1, .deflect_threshold = 4}, [](coir::runtime&) {
    held_worker other;
    auto mail = coir::try_spawn([] {}, {.worker = 1});
    REQUIRE(mail.has_value());  // in its only place
    std::vector<unsigned> order;
    std::vector<coir::handle<void>> all;
    for (unsigned i = 0; i < 40; ++i) {
      const auto note = [&order, i] { order.push_back(i); };
      all.push_back(i % 4 == 0 ? coir::spawn(note, {.worker = 0})
                               : coir::spawn(note, {.kind = coir::workload::compute}));
    }
    CHECK(coir::snapshot().workers[0].mailbox_refused != 0);
    CHECK(given_away() == 0);
    while (worker::current()->own_unstarted() != 0) coir::this_fiber::yield();
    CHECK(order.size() == all.size());
    CHECK(std::is_sorted(order.begin(), order.end()));
    other.release();
    join(all);
    CHECK(mail->join().has_value());
  });
}

namespace {

/// `in_front` wait before one that is started by name, and forty that may go anywhere behind it.
template <class InFront>
void feed_past(const coir::options& o, InFront in_front) {
  on_two_workers(o, [&](coir::runtime&) {
    held_worker other;
    std::vector<coir::handle<void>> all = in_front();
    std::uint64_t gave = 0;
    auto first = coir::spawn([&gave] { gave = given_away(); });
    for (int i = 0; i < 40; ++i) all.push_back(coir::spawn([] {}));
    CHECK(given_away() == 0);
    other.let_go();
    wait_for([] { return worker::current()->shared().hungry.any(2); });
    CHECK(first.join().has_value());
    CHECK(gave != 0);
    join(all);
    other.release();
  });
}

}  // namespace

TEST_CASE("placing_bound: a hungry worker is fed at a start by name, past one that stays") {
  feed_past({.deflect_threshold = 1024}, [] { return bound(1); });
}

TEST_CASE("placing_bound: a hungry worker is fed past those that may not go as far as it is") {
  // Unpinned, nobody is anybody's sibling.
  feed_past({.topo = coir::topology::global, .deflect_threshold = 1024}, [] {
    std::vector<coir::handle<void>> near;
    for (int i = 0; i < 3; ++i)
      near.push_back(coir::spawn([] {}, {.where = coir::affinity::same_core}));
    return near;
  });
}
