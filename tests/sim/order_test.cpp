// order_test.cpp: the order in which one worker runs its fibers is a promise (docs/design.md,
// section 3, number 17).
//
// Always true:
//   - Every case writes down who ran, and compares the whole text.
#include <climits>

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

TEST_CASE("order: ten unstarted fibers among ready ones start one every 8th pick, in their order") {
  sim_world world;
  std::string order;
  const auto ended = run_in_sim(world, [&] {
    std::vector<coir::handle<void>> all;
    const auto spin = [&] {
      for (int i = 0; i < 100; ++i) {
        order += '.';
        coir::this_fiber::yield();
      }
    };
    all.push_back(coir::spawn(spin));
    while (order.empty()) coir::this_fiber::yield();
    for (const char name : {'0', '1', '2', '3', '4'})
      all.push_back(coir::spawn([&order, name] { order += name; }));
    spin();
    for (auto& h : all) REQUIRE(h.join().has_value());
  });
  REQUIRE(ended.has_value());
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
  CHECK(order == "cabd");
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
