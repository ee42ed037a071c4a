// join_test.cpp: handles: how long one waits, whom one cancels, and what time does to it.
//
// Always true:
//   - Fibers end because they are let go, never because of time.
//
// Comes from: coir/fiber.hpp, coir/clock.hpp.   Goes to: runtime/join.cpp.
#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "on_fiber.hpp"

using test::settle;
using test::tested;

TEST_CASE("join: one that gives up leaves the handle good, on this worker and from another one") {
  for (const unsigned target : {0u, 1u}) {
    const auto done = coir::run(
        [target] {
          coir::event go;
          // The joins are made by a fiber of worker 0: once a neighbour, once a stranger.
          auto joins = coir::spawn(
              [&] {
                auto h = coir::spawn([&go] { return go.wait() ? 3 : 4; }, {.worker = target});
                CHECK(h.join(coir::no_wait).error() == std::errc::timed_out);
                CHECK(h.join(coir::in(std::chrono::microseconds(1))).error() ==
                      std::errc::timed_out);
                CHECK_FALSE(h.done());
                go.set();
                CHECK(h.join().value() == 3);
                CHECK_FALSE(static_cast<bool>(h));
              },
              {.worker = 0u});
          CHECK(joins.join().has_value());
        },
        tested({.workers = 2}));
    CHECK(done.has_value());
  }
}

TEST_CASE("join: who is cancelled while it joins gives up, and the other one is not harmed") {
  for (const unsigned target : {0u, 1u}) {
    const auto done = coir::run(
        [target] {
          coir::event go, joining;
          auto h = coir::spawn([&go] { return go.wait() ? 3 : 4; }, {.worker = target});
          auto joiner = coir::spawn(
              [&] {
                joining.set();
                return h.join();
              },
              {.worker = 0u});
          REQUIRE(joining.wait().has_value());
          joiner.cancel();
          CHECK(joiner.join().error() == std::errc::operation_canceled);
          go.set();
          CHECK(h.join().value() == 3);
        },
        tested({.workers = 2}));
    CHECK(done.has_value());
  }
}

TEST_CASE("join: of several fibers that wait for one on its worker, any may give up") {
  const auto done = coir::run(
      [] {
        coir::event go;
        auto target = coir::spawn([&go] { return go.wait(); });
        const coir::fiber_id id = target.id();
        std::vector<coir::handle<void>> waiting;
        for (int i = 0; i < 5; ++i) waiting.push_back(coir::spawn([id] { return coir::wait(id); }));
        settle();
        for (const std::size_t gives_up : {0u, 2u, 4u}) {
          waiting[gives_up].cancel();
          CHECK(waiting[gives_up].join().error() == std::errc::operation_canceled);
        }
        go.set();
        CHECK(waiting[1].join().has_value());
        CHECK(waiting[3].join().has_value());
        CHECK(target.join().has_value());
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE("join: an answer that cannot be copied is moved out, one that is large is kept whole") {
  const auto done = coir::run(
      [] {
        CHECK(*coir::spawn([] { return std::make_unique<int>(8); }).join().value() == 8);
        struct large {
          std::array<int, 1000> all;
        };
        auto h = coir::spawn([] {
          large l{};
          l.all[999] = 9;
          return l;
        });
        CHECK(h.join()->all[999] == 9);
        // Nobody takes this one: it is destroyed with its fiber.
        const auto kept = std::make_shared<int>(1);
        auto dropped = coir::spawn([kept] { return kept; });
        while (!dropped.done()) coir::this_fiber::yield();
        { const auto gone = std::move(dropped); }
        CHECK(kept.use_count() == 1);
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE("join: an empty handle answers, whatever is asked of it") {
  coir::handle<int> none;
  CHECK_FALSE(static_cast<bool>(none));
  CHECK(none.done());
  none.cancel();
  none.detach();
  CHECK_FALSE(none.join().has_value());
  CHECK(none.id() == coir::fiber_id{});
}
