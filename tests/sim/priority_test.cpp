// priority_test.cpp: four priorities on one worker: who runs before whom, that nobody starves, and
// that everything which takes a fiber out of line finds those of other priorities too.
//
// Always true:
//   - Every case writes down who ran, and compares the whole text.
#include <algorithm>

#include "in_sim.hpp"

using namespace sim_test;

namespace {

constexpr coir::priority all_priorities[] = {coir::priority::low, coir::priority::normal,
                                             coir::priority::high, coir::priority::critical};
constexpr char letter(coir::priority p) { return "lnhc"[static_cast<unsigned>(p)]; }

}  // namespace

TEST_CASE("priority: new fibers start in the order of their priority, then of their spawn") {
  sim_world world;
  std::string order;
  const auto ended = run_in_sim(world, [&] {
    std::vector<coir::handle<void>> all;
    for (int round = 0; round < 2; ++round)
      for (const coir::priority p : all_priorities)
        all.push_back(coir::spawn(
            [&order, p] {
              order += letter(p);
              coir::this_fiber::yield();
              order += letter(p);
            },
            {.prio = p}));
    REQUIRE(coir::this_fiber::sleep_for(std::chrono::nanoseconds(1)).has_value());
    for (auto& h : all) REQUIRE(h.join().has_value());
  });
  REQUIRE(ended.has_value());
  // Ready ones before the new of their level, and the whole level before the next.
  CHECK(order == "cccchhhhnnnnllll");
}

TEST_CASE("priority: who is woken at a higher level runs before those who waited longer") {
  sim_world world;
  std::string order;
  const auto ended = run_in_sim(world, [&] {
    coir::event gate;
    std::vector<coir::handle<void>> all;
    for (const coir::priority p : all_priorities)
      all.push_back(coir::spawn(
          [&, p] {
            REQUIRE(gate.wait().has_value());
            for (int i = 0; i < 2; ++i) {
              order += letter(p);
              coir::this_fiber::yield();
            }
          },
          {.prio = p}));
    REQUIRE(coir::this_fiber::sleep_for(std::chrono::nanoseconds(1)).has_value());
    gate.set();
    for (auto& h : all) REQUIRE(h.join().has_value());
  });
  REQUIRE(ended.has_value());
  CHECK(order == "cchhnnll");
}

TEST_CASE("priority: the lowest gets on beside a critical one that is always ready") {
  sim_world world;
  unsigned critical = 0;
  const auto ended = run_in_sim(world, [&] {
    bool done = false;
    auto flood = coir::spawn(
        [&] {
          while (!done && critical < 100'000) {
            ++critical;
            coir::this_fiber::yield();
          }
        },
        {.prio = coir::priority::critical});
    auto low = coir::spawn(
        [&] {
          for (int i = 0; i < 10; ++i) coir::this_fiber::yield();
          done = true;
        },
        {.prio = coir::priority::low});
    REQUIRE(low.join().has_value());
    REQUIRE(flood.join().has_value());
  });
  REQUIRE(ended.has_value());
  CHECK(critical < 11 * 40);
  CHECK(critical > 11 * 20);
}

TEST_CASE(
    "priority: join starts an unstarted one at once, yield_to runs it next, whatever its level") {
  sim_world world;
  std::string order;
  const auto ended = run_in_sim(world, [&] {
    const auto say = [&](const char* what, coir::priority p) {
      return coir::spawn([&order, what] { order += what; }, {.prio = p});
    };
    auto high = say("h", coir::priority::critical);
    auto low = say("l", coir::priority::low);
    auto lower = say("m", coir::priority::low);
    auto normal = say("n", coir::priority::normal);
    REQUIRE(low.join().has_value());
    REQUIRE(coir::this_fiber::yield_to(lower.id()).has_value());
    order += 'r';
    for (auto* h : {&high, &lower, &normal}) REQUIRE(h->join().has_value());
  });
  REQUIRE(ended.has_value());
  CHECK(order.substr(0, 1) == "l");
  CHECK(order.find('m') < order.find('n'));
  CHECK(order.size() == 5);
}

TEST_CASE("priority: fibers of every level are cancelled before they ran, and end") {
  sim_world world;
  unsigned ran = 0;
  unsigned cancelled = 0;
  const auto ended = run_in_sim(world, [&] {
    std::vector<coir::handle<void>> all;
    for (const coir::priority p : all_priorities)
      all.push_back(coir::spawn([&] { ++ran; }, {.prio = p}));
    for (auto& h : all) h.cancel();
    for (auto& h : all) cancelled += h.join().error() == std::errc::operation_canceled;
  });
  REQUIRE(ended.has_value());
  CHECK(ran == 0);
  CHECK(cancelled == 4);
}

TEST_CASE("priority: a number that is none is refused") {
  sim_world world;
  const auto ended = run_in_sim(world, [&] {
    const auto refused = [](coir::spawn_options o) {
      return coir::spawn([] {}, o).join().error() == std::errc::invalid_argument;
    };
    CHECK(refused({.prio = static_cast<coir::priority>(4)}));
    CHECK(refused({.kind = static_cast<coir::workload>(17)}));
    CHECK(refused({.where = static_cast<coir::affinity>(255)}));
  });
  REQUIRE(ended.has_value());
}
