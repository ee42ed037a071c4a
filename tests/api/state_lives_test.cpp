// state_lives_test.cpp: a machine of another runtime than its maker's, and how machines end.
//
// Always true:
//   - Who is held is held by a fiber that lets nobody else run; so what runs meanwhile is certain.
//
// Comes from: coir/state_machine.hpp.   Goes to: ctest.
#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "adder.hpp"
#include "coir/coir.hpp"
#include "on_fiber.hpp"

using test::adder;

TEST_CASE("state_machine: made for another runtime it belongs to a worker of that one") {
  COIR_NOT_IN_SIM(threads);
  auto other = coir::runtime::create(test::tested({.workers = 1})).value();
  REQUIRE(other->start().has_value());
  const auto done = coir::run(
      [&] {
        auto far = coir::spawn(
            [&]() -> coir::result<int> {
              auto m = adder::create(*other, {}, [](int add, adder::context& ctx) {
                return ctx.update([add](test::counter& c) { return c.value += add; });
              });
              if (!m) return coir::fail(m.error());
              return m->call(3);
            },
            {.worker = 1});
        CHECK(far.join() == 3);
      },
      test::tested({.workers = 2}));
  CHECK(done.has_value());
  CHECK(other->shutdown().has_value());
}

TEST_CASE("state_machine: made for another runtime in a cancelled fiber it is made all the same") {
  COIR_NOT_IN_SIM(threads);
  auto other = coir::runtime::create(test::tested({.workers = 1})).value();
  REQUIRE(other->start().has_value());
  std::atomic<bool> holds{false}, go_on{false};
  auto holder = other->spawn([&] {
    holds = true;
    while (!go_on) std::this_thread::yield();
  });
  while (!holds) std::this_thread::yield();
  test::on_fiber([&] {
    auto maker = coir::spawn([&]() -> coir::result<int> {
      while (!coir::this_fiber::cancelled()) coir::this_fiber::yield();
      // It waits for the worker that is held, which uses what this fiber would free by going on.
      auto m = adder::create(*other, {},
                             [](int add, adder::context&) { return coir::result<int>(add); });
      if (!m) return coir::fail(m.error());
      return 1;
    });
    test::settle();
    maker.cancel();
    test::settle();
    CHECK_FALSE(maker.done());
    go_on = true;
    CHECK(maker.join() == 1);
  });
  CHECK(holder.join().has_value());
  CHECK(other->shutdown().has_value());
}

TEST_CASE("state_machine: a stop in a cancelled fiber returns when nothing of it runs any more") {
  test::on_fiber([] {
    coir::event begun, go_on;
    int ended = 0;
    auto m = adder::create({}, [&](int, adder::context&) -> coir::result<int> {
      begun.set();
      const auto waited = coir::blocking([&] { return go_on.is_set(); });
      while (!go_on.is_set()) coir::this_fiber::yield();
      ++ended;
      return waited ? 1 : 0;
    });
    REQUIRE(m->try_post(1, [](auto) {}).has_value());
    REQUIRE(begun.wait().has_value());
    auto stopper = coir::spawn([&] {
      while (!coir::this_fiber::cancelled()) coir::this_fiber::yield();
      const auto stopped = m->stop();
      CHECK(ended == 1);
      CHECK(m->suspended() == 0);
      return stopped;
    });
    test::settle();
    stopper.cancel();
    test::settle();
    CHECK_FALSE(stopper.done());
    go_on.set();
    CHECK(stopper.join().error() == std::errc::operation_canceled);
  });
}

TEST_CASE("state_machine: when its runtime is stopped all who wait for a place hear of it") {
  COIR_NOT_IN_SIM(threads);
  auto other = coir::runtime::create(test::tested({.workers = 1})).value();
  REQUIRE(other->start().has_value());
  coir::event never_set;
  test::on_fiber([&] {
    auto m = adder::create(*other, {},
                           [&](int, adder::context&) -> coir::result<int> {
                             auto waited = never_set.wait();
                             return coir::fail(waited.error());
                           },
                           {.inflight_max = 1, .queue_max = 1});
    REQUIRE(m.has_value());
    std::vector<coir::handle<int>> calls;
    const auto call = [&] { calls.push_back(coir::spawn([&m] { return m->call(1); })); };
    call();
    while (m->suspended() != 1) coir::this_fiber::yield();
    for (int i = 0; i < 3; ++i) call();  // one in the line, two who wait for a place in it
    test::settle();
    REQUIRE(m->queued() == 1);
    // While their worker is held no caller can pass the news on.
    other->request_stop();
    const auto live = [&] { return other->snapshot().total().live; };
    while (live() != 0) std::this_thread::yield();
    CHECK(calls[0].join().error() == std::errc::operation_canceled);
    for (int i = 1; i < 4; ++i)
      CHECK(calls[static_cast<std::size_t>(i)].join(coir::in(std::chrono::seconds(10))).error() ==
            coir::errc::shutting_down);
    CHECK(m->stop().has_value());
  });
  CHECK(other->shutdown().has_value());
}
