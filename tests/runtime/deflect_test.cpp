// deflect_test.cpp: where unstarted work goes, as tables and over every small case.
//
// Comes from: runtime/deflect.hpp.   Goes to: ctest.
#include "runtime/deflect.hpp"

#include <doctest/doctest.h>

#include <set>
#include <utility>
#include <vector>

using namespace coir::detail;

namespace {

/// A machine of equals, or two to a core, four to a cluster and eight to a node; and a push in it.
struct scene {
  std::vector<load> loads;
  bool flat = true;
  unsigned self = 0;
  std::uint32_t threshold = 8, spare = 8, seed = 0, batch_max = 1;
  worker_set hungry = {};
  cargo what = {};
  const worker_set* for_one = nullptr;
  unsigned refused_by = neighbours_max;
  mutable unsigned reads = 0;

  decision ask() const {
    const auto distance_of = [this](unsigned i) {
      if (flat) return distance::any;
      if (i / 2 == self / 2) return distance::sibling;
      if (i / 4 == self / 4) return distance::cluster;
      return i / 8 == self / 8 ? distance::node : distance::any;
    };
    const neighbours around(self, static_cast<unsigned>(loads.size()), distance_of);
    const pusher from{&around,   loads[self], threshold, spare,     seed,
                      batch_max, &hungry,     for_one,   refused_by};
    return deflect(from, what, [this](unsigned i) {
      ++reads;
      return loads[i];
    });
  }
  unsigned target() const { return ask().target; }
  /// Everybody who is chosen for some seed.
  std::set<unsigned> targets(std::uint32_t seeds = 64) {
    std::set<unsigned> all;
    for (seed = 0; seed < seeds; ++seed) all.insert(target());
    seed = 0;
    return all;
  }
};

std::vector<load> loads_of(std::initializer_list<std::uint32_t> unstarted) {
  std::vector<load> all;
  for (const std::uint32_t n : unstarted) all.push_back({n, n});
  return all;
}

std::vector<load> all_with(unsigned workers, std::uint32_t unstarted) {
  return std::vector<load>(workers, load{unstarted, unstarted});
}

/// Worker 0 has plenty, of 16 on a machine with distances, where the others have none.
scene crowded_root() {
  scene s{.loads = all_with(16, 0), .flat = false};
  s.loads[0] = {64, 64};
  return s;
}

using targets = std::set<unsigned>;

}  // namespace

TEST_CASE("deflect: below its threshold a worker keeps what it spawns") {
  CHECK(scene{.loads = loads_of({7, 0, 0})}.ask().why == outcome::kept);
  CHECK(scene{.loads = loads_of({8, 0, 0})}.ask().why == outcome::moved);
  CHECK(scene{.loads = loads_of({8, 0, 0}), .threshold = 9}.target() == 0);
  CHECK(scene{.loads = loads_of({0, 0, 0}), .self = 2, .threshold = 1}.target() == 2);
}

TEST_CASE("deflect: at the threshold the less loaded of two gets it") {
  for (std::uint32_t seed = 0; seed < 8; ++seed) {
    CHECK(scene{.loads = loads_of({64, 9, 3}), .seed = seed}.target() == 2);
    CHECK(scene{.loads = loads_of({1, 9, 64}), .self = 2, .seed = seed}.target() == 0);
    CHECK(scene{.loads = loads_of({9, 64}), .self = 1, .seed = seed}.target() == 0);
  }
}

TEST_CASE("deflect: without a plain gain nothing moves") {
  CHECK(scene{.loads = loads_of({64, 57})}.ask().why == outcome::no_gain);
  CHECK(scene{.loads = loads_of({64, 56})}.target() == 1);
  CHECK(scene{.loads = loads_of({8, 6})}.target() == 0);
  CHECK(scene{.loads = loads_of({8, 5})}.target() == 1);
  CHECK(scene{.loads = loads_of({100, 100}), .self = 1}.target() == 1);
  CHECK(scene{.loads = loads_of({1, 0}), .threshold = 1}.target() == 0);
  CHECK(scene{.loads = loads_of({100})}.target() == 0);
}

TEST_CASE("deflect: equals are served in turn") {
  CHECK(scene{.loads = loads_of({80, 0, 0, 0})}.targets() == targets{1, 2, 3});
  CHECK(scene{.loads = loads_of({0, 80, 0, 0}), .self = 1}.targets() == targets{0, 2, 3});
  scene s{.loads = all_with(9, 0)};
  s.loads[4] = {80, 80};
  s.self = 4;
  std::vector<unsigned> times(9, 0);
  for (s.seed = 0; s.seed < 800; ++s.seed) ++times[s.target()];
  for (unsigned i = 0; i < 9; ++i)
    if (i != 4) {
      CHECK(times[i] >= 80);
      CHECK(times[i] <= 120);
    }
}

TEST_CASE("deflect: of many workers a push reads two, and comes to everybody in time") {
  scene s{.loads = all_with(256, 100)};
  s.loads[200] = {0, 0};
  CHECK(s.ask().why != outcome::kept);
  CHECK(s.reads <= looks_max);
  // The only one with less is found, also when only every 16th push asks.
  for (const std::uint32_t every : {1u, 16u}) {
    unsigned found = 0;
    for (s.seed = 0; s.seed < 2048 * every; s.seed += every) found += s.target() == 200 ? 1 : 0;
    CHECK(found > 4);
  }
  s.flat = false;
  s.loads[200] = {100, 100};
  for (s.seed = 0; s.seed < 256; ++s.seed) {
    s.reads = 0;
    (void)s.ask();
    REQUIRE(s.reads <= distances * looks_max);
  }
}

TEST_CASE("deflect: of two looks the better one counts") {
  scene s{.loads = all_with(3, 0), .seed = 0};
  s.loads[0] = {64, 64};
  for (std::uint32_t other = 1; other < 20; ++other)
    for (s.seed = 0; s.seed < 4; ++s.seed) {
      s.loads[1] = {other, other};
      s.loads[2] = {0, 0};
      CHECK(s.target() == 2);
    }
}

TEST_CASE("deflect: the nearest gain is taken, and the next distance when there is none") {
  scene s = crowded_root();
  CHECK(s.targets() == targets{1});
  s.loads[1] = {60, 60};
  CHECK(s.targets() == targets{2, 3});
  s.loads[2] = s.loads[3] = {60, 60};
  CHECK(s.targets() == targets{4, 5, 6, 7});
  for (unsigned i = 4; i < 8; ++i) s.loads[i] = {60, 60};
  CHECK(s.targets() == targets{8, 9, 10, 11, 12, 13, 14, 15});
}

TEST_CASE("deflect: affinity says how far") {
  scene s = crowded_root();
  s.hungry.insert(15);
  s.what.where = affinity::same_core;
  CHECK(s.targets() == targets{1});
  s.loads[1] = {60, 60};
  CHECK(s.targets() == targets{0});
  s.what.where = affinity::same_cluster;
  CHECK(s.targets() == targets{2, 3});
  s.loads[2] = s.loads[3] = {60, 60};
  CHECK(s.targets() == targets{0});
  s.what.where = affinity::same_numa;
  CHECK(s.targets() == targets{4, 5, 6, 7});
  s.what.where = affinity::any;
  CHECK(s.targets() == targets{15});
}

TEST_CASE("deflect: who has hopped twice stays") {
  scene s = crowded_root();
  for (const bool hungry : {false, true}) {
    if (hungry) s.hungry.insert(1);
    for (s.what.hops = 0; s.what.hops < 4; ++s.what.hops)
      CHECK(s.target() == (s.what.hops < hops_max ? 1 : 0));
  }
}

TEST_CASE("deflect: a hungry worker is fed first, from what is spare on") {
  scene s{.loads = loads_of({64, 0, 0, 9}), .spare = 2};
  s.hungry.insert(3);
  for (s.seed = 0; s.seed < 8; ++s.seed) {
    CHECK(s.target() == 3);
    CHECK(s.ask().why == outcome::fed);
  }
  CHECK(s.reads == 0);
  // Also below the threshold, but not below what is spare.
  s.loads[0] = {2, 2};
  CHECK(s.target() == 3);
  s.loads[0] = {1, 1};
  CHECK(s.ask().why == outcome::kept);
  s.loads[0] = {2, 2};
  s.spare = 3;
  CHECK(s.ask().why == outcome::kept);
}

TEST_CASE("deflect: who was fed with too little gets no fiber alone, but two") {
  scene s{.loads = loads_of({1, 0, 0}), .spare = 1, .batch_max = 64};
  s.hungry.insert(1);
  s.hungry.insert(2);
  CHECK(s.targets() == targets{1, 2});
  const worker_set second = [] {
    worker_set set;
    set.insert(2);
    return set;
  }();
  s.for_one = &second;
  CHECK(s.targets() == targets{2});
  CHECK(s.ask().count == 1);
  const worker_set nobody;
  s.for_one = &nobody;
  CHECK(s.targets() == targets{0});
  s.loads[0] = {2, 2};
  CHECK(s.targets() == targets{1, 2});
  CHECK(s.ask().count == 2);
}

TEST_CASE("deflect: whoever refused just now is not named again, and a third one is looked at") {
  scene s{.loads = loads_of({80, 0, 9})};
  s.refused_by = 1;
  for (s.seed = 0; s.seed < 16; ++s.seed) CHECK(s.target() == 2);
  s.loads = loads_of({80, 0, 0, 0});
  CHECK(s.targets() == targets{2, 3});
  s.hungry.insert(1);
  CHECK(s.targets() == targets{2, 3});
  s.hungry.insert(3);
  CHECK(s.targets() == targets{3});
  s.hungry = {};
  s.loads = loads_of({80, 0});
  CHECK(s.targets() == targets{0});
}

TEST_CASE("deflect: of the hungry the nearest is fed, in turn among equals") {
  scene s = crowded_root();
  for (const unsigned i : {1u, 2u, 3u, 6u, 9u, 12u}) s.hungry.insert(i);
  CHECK(s.targets() == targets{1});
  s.hungry.erase(1);
  CHECK(s.targets() == targets{2, 3});
  s.hungry.erase(2);
  s.hungry.erase(3);
  CHECK(s.targets() == targets{6});
  s.hungry.erase(6);
  CHECK(s.targets() == targets{9, 12});
}

TEST_CASE("deflect: a mail that will be shared on goes to anybody, the next hop to the nearest") {
  scene s = crowded_root();
  s.batch_max = 32;
  for (const unsigned i : {2u, 3u, 9u, 12u}) s.hungry.insert(i);
  CHECK(s.ask().count >= shared_on);
  CHECK(s.targets() == targets{2, 3, 9, 12});
  s.what.hops = 1;
  CHECK(s.targets() == targets{2, 3});
  s.what = {.where = affinity::same_numa};
  CHECK(s.targets() == targets{2, 3});
}

TEST_CASE("deflect: the hungry get half of what waits, others half of the difference") {
  scene s{.loads = loads_of({2, 0}), .spare = 2, .batch_max = 64};
  s.hungry.insert(1);
  CHECK(s.ask().count == 2);
  s.loads[0] = {40, 40};
  CHECK(s.ask().count == 21);
  s.batch_max = 5;
  CHECK(s.ask().count == 5);
  s.hungry.erase(1);
  s.loads[1] = {20, 20};
  CHECK(s.ask().count == 5);
  s.batch_max = 64;
  CHECK(s.ask().count == 10);
  s.batch_max = 1;
  CHECK(s.ask().count == 1);
  s.loads[1] = {40, 40};
  CHECK(s.ask().count == 0);
}

TEST_CASE("deflect: long work goes to few live fibers, short work to few unstarted ones") {
  scene s{.loads = {{9, 50}, {9, 3}, {0, 40}}};
  const auto of = [&s](workload kind) {
    s.what.kind = kind;
    return s.targets();
  };
  CHECK(of(workload::io) == targets{1});
  CHECK(of(workload::compute) == targets{2});
  CHECK(of(workload::system) == targets{2});
  CHECK(of(workload::memory) == targets{2});
  // It is measured by live fibers at home as well, and stays in a tie.
  s.threshold = 20;
  CHECK(of(workload::io) == targets{1});
  CHECK(of(workload::compute) == targets{0});
  s.loads = loads_of({30, 30, 30});
  CHECK(of(workload::io) == targets{0});
  s.threshold = 0;
  s.loads = {{0, 1}, {0, 0}};
  CHECK(of(workload::io) == targets{1});
  // A hungry worker may have many that are parked.
  s = {.loads = {{9, 50}, {0, 60}, {9, 50}}, .spare = 2};
  s.hungry.insert(1);
  CHECK(of(workload::io) == targets{0});
  CHECK(of(workload::compute) == targets{1});
}

TEST_CASE("deflect: memory work stays on its node unless half as many wait elsewhere") {
  scene s{.loads = all_with(16, 60), .flat = false};
  s.loads[0] = {64, 64};
  s.loads[9] = {40, 40};
  const auto reached = [&s](workload kind) {
    s.what.kind = kind;
    return s.targets(512).contains(9);
  };
  CHECK(reached(workload::compute));
  CHECK(!reached(workload::memory));
  s.loads[9] = {32, 32};
  CHECK(reached(workload::memory));
  s.loads[9] = {60, 60};
  s.hungry.insert(9);
  CHECK(reached(workload::compute));
  CHECK(!reached(workload::memory));
  s.loads[6] = {40, 40};
  s.what.kind = workload::memory;
  CHECK(s.targets().contains(6));
}

TEST_CASE("deflect: over every small case the answer is a worker that has no more afterwards") {
  for (unsigned code = 0; code < 6u * 6 * 6; ++code)
    for (std::uint32_t threshold = 1; threshold < 5; ++threshold)
      for (unsigned self = 0; self < 3; ++self)
        for (std::uint32_t batch = 1; batch < 5; ++batch) {
          const scene s{.loads = loads_of({code % 6, code / 6 % 6, code / 36}),
                        .self = self,
                        .threshold = threshold,
                        .seed = code,
                        .batch_max = batch};
          const decision d = s.ask();
          REQUIRE(d.target < 3);
          CHECK((d.target == self) == (d.count == 0));
          if (d.target == self) continue;
          CHECK(s.loads[self].unstarted >= threshold);
          CHECK(d.count <= batch);
          CHECK(s.loads[d.target].unstarted + d.count <= s.loads[self].unstarted + 1 - d.count + 1);
        }
}

TEST_CASE("deflect: who is refused by one is offered to one more, and to nobody else") {
  const std::vector<load> loads = loads_of({40, 0, 1, 2});
  const neighbours around(0, 4);
  const auto load_of = [&](unsigned i) { return loads[i]; };
  const auto ask = [&](unsigned refusals, outcome then) {
    std::vector<unsigned> asked;
    pusher from{.around = &around, .mine = loads[0], .threshold = 8, .seed = 3};
    const outcome became = offer(from, {}, load_of, [&](const decision& d) {
      asked.push_back(d.target);
      return asked.size() <= refusals ? outcome::refused : then;
    });
    return std::pair(asked, became);
  };
  const auto [one, at_once] = ask(0, outcome::moved);
  CHECK(one.size() == 1);
  CHECK(at_once == outcome::moved);
  const auto [two, later] = ask(1, outcome::moved);
  REQUIRE(two.size() == 2);
  CHECK(two[0] == one[0]);
  CHECK(two[1] != two[0]);
  CHECK(later == outcome::moved);
  const auto [all, never] = ask(9, outcome::moved);
  CHECK(all == two);
  CHECK(never == outcome::refused);
  // Who came too late to feed somebody looks for nobody else.
  const auto [quick, lost] = ask(0, outcome::late);
  CHECK(quick.size() == 1);
  CHECK(lost == outcome::late);
  for (const outcome o : {outcome::kept, outcome::no_gain, outcome::refused, outcome::late})
    CHECK_FALSE(is_gone(o));
  CHECK(is_gone(outcome::moved));
  CHECK(is_gone(outcome::fed));
}
