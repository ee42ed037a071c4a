// order_test.cpp: the order in which one worker runs its fibers is a promise (docs/design.md,
// section 3, number 17).
//
// Always true:
//   - Every case writes down who ran, and compares the whole text.
#include <climits>
#include <functional>

#include "in_sim.hpp"

using namespace sim_test;

TEST_CASE("order: ready fibers run first in, first out") {
  sim_world world;
  std::string order;
  const auto ended = run_in_sim(world, [&] {
    std::vector<coir::handle<void>> all;
    for (const char name : {'a', 'b', 'c'})
      all.push_back(coir::spawn([&order, name] {
        // Ready fibers go before unstarted ones: so all three begin, and then become ready
        // together.
        REQUIRE(coir::this_fiber::sleep_for(std::chrono::nanoseconds(1)).has_value());
        for (int i = 0; i < 4; ++i) {
          order += name;
          coir::this_fiber::yield();
        }
      }));
    for (auto& h : all) REQUIRE(h.join().has_value());
  });
  REQUIRE(ended.has_value());
  CHECK(order == "abcabcabcabc");
}

TEST_CASE("order: yield_to runs the one that is named next, ready or unstarted, and then as ever") {
  sim_world world;
  std::string order;
  const auto ended = run_in_sim(world, [&] {
    std::vector<coir::handle<void>> all;
    for (const char name : {'a', 'b', 'c', 'd'})
      all.push_back(coir::spawn([&order, name] {
        for (int i = 0; i < 2; ++i) {
          order += name;
          coir::this_fiber::yield();
        }
      }));
    REQUIRE(coir::this_fiber::yield_to(all[2].id()).has_value());  // unstarted; then we are ready
    REQUIRE(coir::this_fiber::yield_to(all[2].id()).has_value());  // ready
    order += 'r';
    for (auto& h : all) REQUIRE(h.join().has_value());
  });
  REQUIRE(ended.has_value());
  // The join started a, so d's turn is eight picks later; c ends, and hands its turn on to b, which
  // came after a.
  CHECK(order == "ccrababdd");
}

TEST_CASE("order: yield_to that cannot be says why, and nobody else runs") {
  sim_world world;
  unsigned runs = 0;
  const auto ended = run_in_sim(world, [&] {
    coir::event gate;
    auto parked = start([&] { CHECK(gate.wait().has_value()); });
    auto other = coir::spawn([&] { ++runs; });
    const auto answer = [](coir::fiber_id id) { return coir::this_fiber::yield_to(id).error(); };
    CHECK(answer(parked.id()) == coir::errc::not_parked);
    const coir::fiber_id was = parked.id();
    coir::fiber_id foreign = was;
    foreign.runtime += 1;
    CHECK(answer(foreign) == coir::errc::foreign_runtime);
    coir::fiber_id beyond = was;
    beyond.slot = 1u << 20;
    CHECK(answer(beyond) == coir::errc::stale_handle);
    CHECK(answer({}) == coir::errc::foreign_runtime);
    CHECK(coir::this_fiber::yield_to(coir::this_fiber::id()).has_value());
    CHECK(runs == 0);
    gate.set();
    while (!parked.done()) coir::this_fiber::yield();
    CHECK(answer(was) == coir::errc::finished);
    CHECK(parked.join().has_value());
    CHECK(answer(was) == coir::errc::stale_handle);
    CHECK(other.join().has_value());
  });
  REQUIRE(ended.has_value());
  CHECK(coir::this_fiber::yield_to({}).error() == coir::errc::not_in_fiber);
}

TEST_CASE("order: two that yield to each other for ever hold up nobody") {
  sim_world world;
  world.rule({.opcode = IORING_OP_NOP, .times = 1, .delay_ns = 0});
  unsigned yields = 0;
  const auto ended = run_in_sim(world, [&] {
    bool answered = false;
    auto asks = start([&] {
      CHECK(coir::perform(coir::nop{}).has_value());
      answered = true;
    });
    const coir::fiber_id me = coir::this_fiber::id();
    auto other = coir::spawn([&] {
      while (!answered && yields < 10'000) CHECK(coir::this_fiber::yield_to(me).has_value());
    });
    for (; !answered && yields < 10'000; ++yields)
      CHECK(coir::this_fiber::yield_to(other.id()).has_value());
    CHECK(asks.join().has_value());
    CHECK(other.join().has_value());
  });
  REQUIRE(ended.has_value());
  CHECK(yields < 10'000);
}

TEST_CASE("order: unstarted fibers start in the order of their spawn, when nobody is ready") {
  sim_world world;
  std::string order;
  const auto ended = run_in_sim(world, [&] {
    for (const char name : {'a', 'b', 'c', 'd'})
      coir::spawn([&order, name] { order += name; }).detach();
    CHECK(order.empty());  // spawn does not run anybody
  });
  REQUIRE(ended.has_value());
  CHECK(order == "abcd");
}

TEST_CASE("order: fibers that are always ready hold an unstarted one back for at most 8 picks") {
  sim_world world;
  std::string order;
  const auto ended = run_in_sim(world, [&] {
    bool started = false;
    auto busy = coir::spawn([&] {
      while (!started) {
        order += 'b';
        coir::this_fiber::yield();
      }
    });
    while (order.empty()) coir::this_fiber::yield();
    auto fresh = coir::spawn([&] { started = true; });
    order.clear();
    while (!started) {
      order += 'r';
      coir::this_fiber::yield();
    }
    REQUIRE(busy.join().has_value());
    REQUIRE(fresh.join().has_value());
  });
  REQUIRE(ended.has_value());
  CHECK(order.size() <= 8);
  CHECK(order.size() >= 2);  // the ready ones go first
}

/// What `count` unstarted fibers, each of which is body(i), and `ready` others that yield all the
/// time do in turn: the number of each start, and '.' for a yield.
template <class Body>
std::string starts_among_ready(unsigned count, unsigned ready, unsigned yields, Body body) {
  sim_world world;
  std::string order;
  const auto ended = run_in_sim(world, [&] {
    std::vector<coir::handle<void>> all;
    unsigned spinning = 0;
    const auto spin = [&] {
      ++spinning;
      for (unsigned i = 0; i < yields; ++i) {
        order += '.';
        coir::this_fiber::yield();
      }
    };
    for (unsigned i = 0; i + 1 < ready; ++i) all.push_back(coir::spawn(spin));
    while (spinning + 1 < ready) coir::this_fiber::yield();
    order.clear();
    for (unsigned i = 0; i < count; ++i)
      all.push_back(coir::spawn([&order, &body, i] {
        order += static_cast<char>('0' + i % 10);
        body();
      }));
    spin();
    for (auto& h : all) REQUIRE(h.join().has_value());
  });
  REQUIRE(ended.has_value());
  return order;
}

TEST_CASE("order: unstarted fibers among ready ones start one every 8th pick, in their order") {
  const std::string order = starts_among_ready(
      5, 2, 100, [] { (void)coir::this_fiber::sleep_for(std::chrono::nanoseconds(1)); });
  std::string names;
  std::size_t last = order.find('0');
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (order[i] == '.') continue;
    names += order[i];
    if (order[i] != '0') CHECK(i - last == 8);
    last = i;
  }
  CHECK(names == "01234");
}

TEST_CASE("order: where many wait they start side by side, and the ready ones have their turn") {
  SUBCASE("where many wait, 32 start side by side in every 256 picks") {
    const std::string order = starts_among_ready(
        600, 2, 3'000, [] { (void)coir::this_fiber::sleep_for(std::chrono::nanoseconds(1)); });
    std::size_t starts = 0;
    for (std::size_t at = 0; starts < 320; ++starts, ++at) {
      const std::size_t before = at;
      while (order[at] == '.') ++at;
      // The first one may come as early as where only few wait.
      if (starts % 32 != 0) CHECK(at == before);
      if (starts % 32 == 0 && starts != 0) CHECK(at - before == 256 - 32);
      CHECK(order[at] == static_cast<char>('0' + starts % 10));
    }
  }
  SUBCASE("of a crowd that just ends no more than 9 begin before the ready ones go on") {
    const std::string order = starts_among_ready(600, 2, 1'000, [] {});
    std::size_t starts = 0, at = order.find('0');
    while (starts < 600) {
      std::size_t in_a_row = 0, between = 0;
      for (; at < order.size() && order[at] != '.'; ++at) ++in_a_row;
      for (; at < order.size() && order[at] == '.'; ++at) ++between;
      starts += in_a_row;
      CHECK(in_a_row <= 9);
      CHECK(between >= 7);
      if (starts < 600) CHECK(between <= 8);
    }
  }
  SUBCASE("a join inside a run of starts ends no run, with a deadline or without") {
    const auto order_with = [](bool deadline) {
      return starts_among_ready(600, 2, 3'000, [&] {
        auto victim =
            coir::spawn([] { (void)coir::this_fiber::sleep_for(std::chrono::seconds(1)); });
        (void)victim.join(deadline ? coir::in(std::chrono::hours(1)) : coir::never);
      });
    };
    CHECK(order_with(false) == order_with(true));
  }
}

TEST_CASE("order: a fiber that ends hands its turn on to unstarted ones, 8 times in a row") {
  const std::string order = starts_among_ready(30, 2, 100, [] {});
  CHECK(order.substr(order.find('0'), 32) == "012345678.......901234567.......");
}

TEST_CASE("order: join of an unstarted fiber of this worker starts it at once") {
  sim_world world;
  std::string order;
  const auto ended = run_in_sim(world, [&] {
    std::vector<coir::handle<void>> all;
    for (const char name : {'a', 'b', 'c', 'd'})
      all.push_back(coir::spawn([&order, name] { order += name; }));
    REQUIRE(all[2].join().has_value());
    CHECK(order.substr(0, 1) == "c");
    for (auto& h : all)
      if (h) REQUIRE(h.join().has_value());
  });
  REQUIRE(ended.has_value());
  // c hands its turn on to the one that was spawned after it.
  CHECK(order == "cdab");
}

TEST_CASE(
    "order: a tree of spawns and joins is walked depth first, whatever waits in its branches") {
  sim_world world;
  unsigned live = 0, most = 0, leaves = 0;
  const std::function<void(unsigned)> grow = [&](unsigned levels) {
    most = std::max(most, ++live);
    if (levels == 0) {
      ++leaves;
    } else {
      std::vector<coir::handle<void>> children;
      for (int i = 0; i < 10; ++i)
        children.push_back(coir::spawn([&, levels] { grow(levels - 1); }));
      for (auto& h : children) REQUIRE(h.join().has_value());
    }
    --live;
  };
  REQUIRE(run_in_sim(world, [&] { grow(4); }).has_value());
  CHECK(leaves == 10'000);
  // The oldest of those that wait still begins every 256 picks, so several branches are open.
  CHECK(most < 200);  // breadth first: 1,111
}

TEST_CASE("order: the oldest unstarted one has its turn beside one who spawns and joins for ever") {
  sim_world world;
  unsigned pairs = 0;
  bool old_one_ran = false;
  const auto ended = run_in_sim(world, [&] {
    auto old_one = coir::spawn([&] { old_one_ran = true; });
    while (!old_one_ran && pairs < 10'000) {
      ++pairs;
      auto young = coir::spawn([] { coir::this_fiber::yield(); });
      REQUIRE(young.join().has_value());
    }
    REQUIRE(old_one.join().has_value());
  });
  REQUIRE(ended.has_value());
  // Each pair is two picks or three; the first starts count as those of every 8th.
  CHECK(pairs > 8);
  CHECK(pairs <= 256 / 2);
}

TEST_CASE("order: whoever wakes others runs on until its own park point") {
  sim_world world;
  std::string order;
  const auto ended = run_in_sim(world, [&] {
    coir::event go;
    coir::mutex lock;
    lock.lock();
    std::vector<coir::handle<void>> all;
    all.push_back(start([&] {
      REQUIRE(go.wait().has_value());
      order += 'e';
    }));
    all.push_back(start([&] {
      const std::lock_guard held(lock);
      order += 'm';
    }));
    go.set();
    order += '1';
    lock.unlock();
    order += '2';
    all.push_back(coir::spawn([&] { order += 's'; }));
    order += '3';
    all.back().cancel();
    order += '4';
    for (auto& h : all) (void)h.join();
  });
  REQUIRE(ended.has_value());
  CHECK(order == "1234em");
}

TEST_CASE("order: completions that arrive together make their fibers ready in their order") {
  sim_world world;
  world.rule({.opcode = IORING_OP_NOP, .times = UINT_MAX, .delay_ns = 10});
  std::string order;
  const auto ended = run_in_sim(world, [&] {
    for (const char name : {'a', 'b', 'c', 'd'})
      coir::spawn([&order, name] {
        REQUIRE(coir::perform(coir::nop{}).has_value());
        order += name;
      }).detach();
  });
  REQUIRE(ended.has_value());
  CHECK(order == "abcd");
}

TEST_CASE("order: what is asked for is handed over once in a budget, however busy others are") {
  sim_world world;
  world.rule({.opcode = IORING_OP_NOP, .times = UINT_MAX, .delay_ns = 0});
  constexpr unsigned budget = 32;
  unsigned yields = 0;
  const auto ended = run_in_sim(world,
                                [&] {
                                  bool answered = false;
                                  auto asks = coir::spawn([&] {
                                    REQUIRE(coir::perform(coir::nop{}).has_value());
                                    answered = true;
                                  });
                                  for (; !answered && yields < 10'000; ++yields)
                                    coir::this_fiber::yield();
                                  REQUIRE(asks.join().has_value());
                                },
                                {.run_budget = budget});
  REQUIRE(ended.has_value());
  CHECK(yields <= 2 * (budget + 1));
}

// Ten fibers that yield a hundred times each are the bench DB2 of an earlier runtime, which counted
// yields that switched to nobody.
TEST_CASE("order: DB2 ten fibers that yield a hundred times are a thousand real switches") {
  sim_world world;
  coir::options o = small();
  o.run_budget = 65536;  // no visit of the loop is among them
  std::uint64_t switches = 0, turns = 0;
  const auto ended = run_in_sim(
      world,
      [&] {
        const auto now = [] { return coir::snapshot().workers[0]; };
        coir::event gate;
        std::vector<coir::handle<void>> all;
        for (int i = 0; i < 10; ++i)
          all.push_back(start([&, i] {
            REQUIRE(gate.wait().has_value());
            const auto before = now();
            for (int k = 0; k < 100; ++k) coir::this_fiber::yield();
            // The first has waited for a hundred rounds of everybody.
            if (i == 0) switches = now().switches - before.switches;
            if (i == 0) turns = now().turns - before.turns;
          }));
        gate.set();
        for (auto& h : all) REQUIRE(h.join().has_value());
      },
      std::move(o));
  REQUIRE(ended.has_value());
  CHECK(switches == 10 * 100);
  CHECK(turns == 0);
}
