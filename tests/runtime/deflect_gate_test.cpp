// deflect_gate_test.cpp: what a worker learns for itself: from how many on it asks, whether it asks
// at all, and whether one fiber alone is worth a mail.
//
// Comes from: runtime/deflect.hpp.   Goes to: ctest.
#include <doctest/doctest.h>

#include "runtime/deflect.hpp"

using namespace coir::detail;

TEST_CASE(
    "deflect: what kept nobody busy for half of a wake was not worth it, and is tried again after "
    "10 ms") {
  CHECK(was_worth(20'000));
  CHECK(was_worth(5'000'000'000));
  CHECK_FALSE(was_worth(19'999));
  CHECK_FALSE(was_worth(0));
  lone_tries t;
  CHECK(t.open());
  t.spend();
  for (int time = 1; time < 3; ++time) {
    CHECK_FALSE(t.open());
    t.look(5);  // from the first look on
    t.look(4 + lone_tries::pause_ns);
    CHECK_FALSE(t.open());
    t.look(5 + lone_tries::pause_ns);
    CHECK(t.open());
    t.look(0);
    CHECK(t.open());
    t.spend();
  }
}

TEST_CASE("deflect: the threshold grows while pushes are refused or in vain, up to its ceiling") {
  adaptive_threshold t(64);
  CHECK(t.tasks() == 64);
  t.learn(outcome::refused);
  CHECK(t.tasks() > 64);
  adaptive_threshold u(64);
  for (int i = 0; i < 100; ++i) u.learn(outcome::no_gain);
  CHECK(u.tasks() > 64);
  for (int i = 0; i < 1000; ++i) u.learn(outcome::no_gain);
  CHECK(u.tasks() == adaptive_threshold::most);
  // Now and then in vain is nothing to learn from.
  adaptive_threshold v(64);
  for (int i = 0; i < 1000; ++i) v.learn(i % 2 == 0 ? outcome::no_gain : outcome::moved);
  CHECK(v.tasks() == 64);
}

TEST_CASE("deflect: the threshold shrinks while others are hungry, down to its floor") {
  adaptive_threshold t(64);
  t.learn(outcome::fed);
  CHECK(t.tasks() < 64);
  for (int i = 0; i < 30; ++i) t.learn(outcome::fed);
  for (int i = 0; i < 10; ++i) t.learn(outcome::moved);
  CHECK(t.tasks() == adaptive_threshold::least);
}

TEST_CASE("deflect: whoever feeds many in a row makes larger mails, and forgets it soon") {
  adaptive_threshold t(64);
  CHECK(t.spare() == adaptive_threshold::enough_for_hungry);
  std::uint32_t fed = 0;
  for (int i = 0; i < 40; ++i) {
    t.learn(outcome::fed);
    fed += t.spare();
    CHECK(t.spare() <= adaptive_threshold::enough_for_hungry + fed / 4);
    CHECK(t.tasks() >= t.spare());
  }
  CHECK(t.spare() > 8);
  for (int i = 0; i < 1000; ++i) t.learn(outcome::fed);
  CHECK(t.spare() <= 128);
  for (int i = 0; i < 8; ++i) t.learn(outcome::kept);
  CHECK(t.spare() == adaptive_threshold::enough_for_hungry);
}

namespace {

using way = push_gate::way;

/// What a gate says to a push of so many, and how often it asked for the hungry.
struct asked_gate {
  push_gate gate = {};
  cargo what = {};
  bool hungry = false, only_more = false;
  std::uint32_t spare = 2;
  unsigned looks = 0;

  way of(std::uint32_t unstarted, std::uint32_t live = 0) {
    return gate.of({unstarted, live}, spare, 8, what, [this](bool lone) {
      ++looks;
      return hungry && !(lone && only_more);
    });
  }
};

}  // namespace

TEST_CASE(
    "deflect: a push asks from what is spare on if somebody is hungry, else from the threshold "
    "on") {
  asked_gate g;
  CHECK(g.of(1) == way::stays);
  CHECK(g.looks == 0);
  CHECK(g.of(2) == way::stays);
  CHECK(g.looks == 1);
  CHECK(g.of(8) == way::around);
  g.hungry = true;
  CHECK(g.of(1) == way::stays);
  CHECK(g.of(2) == way::hungry);
  CHECK(g.of(8) == way::hungry);
  g = {.what = {.kind = workload::io}};
  CHECK(g.of(0, 7) == way::stays);
  CHECK(g.of(0, 8) == way::around);
  g.hungry = true;
  g.what.hops = 1;  // long work is placed once
  CHECK(g.of(8, 8) == way::stays);
  // Who would get one fiber alone is asked for apart.
  g = {.hungry = true, .only_more = true, .spare = 1};
  CHECK(g.of(0) == way::stays);
  CHECK(g.of(1) == way::stays);
  CHECK(g.of(2) == way::hungry);
}

TEST_CASE(
    "deflect: whoever looked around in vain spares more pushes their looks each time, up to 63") {
  asked_gate g;
  unsigned before = 0;
  for (const unsigned spared : {0u, 1u, 3u, 7u, 15u, 31u, 63u, 63u}) {
    if (spared != 0) g.gate.learn(false);
    for (unsigned i = 0; i < spared; ++i) REQUIRE(g.of(8) == way::stays);
    CHECK(g.of(8) == way::around);
    CHECK(spared >= before);
    before = spared;
  }
  g.gate.learn(false);
  g.hungry = true;
  CHECK(g.of(8) == way::hungry);  // the hungry do not wait for that
  g.hungry = false;
  g.gate.learn(true);
  CHECK(g.of(8) == way::around);
}

TEST_CASE(
    "deflect: at a pick each kind of those who wait is asked for once, the first who may go goes") {
  neighbours around(0, 2);
  worker_set hungry;
  hungry.insert(1);
  pusher from;
  from.around = &around;
  from.mine = {40, 40};
  from.spare = 1;
  from.batch_max = 64;
  from.hungry = &hungry;
  const cargo io{affinity::any, workload::io, 0}, computes{affinity::any, workload::compute, 0},
      at_home{affinity::same_core, workload::compute, 0};
  struct look {
    unsigned at = 0, loads = 0;
    decision d;
  };
  const auto look_through = [&from](std::vector<cargo> line, std::uint32_t their_live) {
    look l;
    l.d = feed_from(
        from, l.at, static_cast<unsigned>(line.size()), [](unsigned i) { return i + 1; },
        [&](unsigned i) { return std::optional(line[i]); },
        [&](unsigned) {
          ++l.loads;
          return load{0, their_live};
        });
    return l;
  };
  // The neighbour has more fibers: no work that stays for long, and it is asked once.
  look l = look_through(std::vector(30, io), 1000);
  CHECK(l.d.count == 0);
  CHECK(l.loads == 1);
  CHECK(l.at == passed_over_most);
  l = look_through(std::vector(30, io), 0);
  CHECK(l.d.count > 0);
  CHECK(l.at == 0);
  // Behind those, and one that may not leave, stands one that may go.
  std::vector line(12, io);
  line.push_back(at_home);
  line.push_back(computes);
  l = look_through(line, 1000);
  CHECK(l.d.count > 0);
  CHECK(l.d.target == 1);
  CHECK(l.at == 13);
  CHECK(l.loads == 1);
}

TEST_CASE("deflect: a pinned threshold stays, towards the hungry too") {
  for (const std::uint32_t pinned : {1u, 20u, 5000u}) {
    adaptive_threshold t(64);
    t.pin(pinned);
    for (const outcome o : {outcome::refused, outcome::no_gain, outcome::fed, outcome::moved})
      for (int i = 0; i < 100; ++i) t.learn(o);
    CHECK(t.tasks() == pinned);
    CHECK(t.spare() == pinned);
    t.pin(pinned + 1);
    t.unpin();
    CHECK(t.tasks() == 64);
    CHECK_FALSE(t.pinned());
    t.learn(outcome::refused);
    CHECK(t.tasks() > 64);
  }
}
