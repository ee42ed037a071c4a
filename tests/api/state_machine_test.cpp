// state_machine_test.cpp: one state, many inputs: who is served while others wait, in which order,
// and what becomes of those whose callers left.
//
// Always true:
//   - With one worker, settle() has let a dozen inputs come as far as they can.
//
// Comes from: coir/state_machine.hpp.   Goes to: ctest.
#include "coir/state_machine.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "adder.hpp"
#include "coir/coir.hpp"
#include "on_fiber.hpp"

using test::adder;
using test::counter;
using test::on_fiber;
using test::settle;

TEST_CASE("state_machine: a call runs the body on the state and gives its answer back") {
  on_fiber([] {
    using machine = coir::state_machine<int, int, counter>;
    auto m = machine::create(counter{40}, [](int add, machine::context& ctx) -> coir::result<int> {
      return ctx.update([add](counter& c) { return c.value += add; });
    });
    REQUIRE(m.has_value());
    CHECK(m->call(1).value() == 41);
    CHECK(m->call(1).value() == 42);
    CHECK(m->suspended() == 0);
    CHECK(m->stop().has_value());
    CHECK(m->call(1).error() == coir::errc::shutting_down);
  });
}

TEST_CASE("state_machine: while one input waits others are served, and each has its own place") {
  on_fiber([] {
    using machine = coir::state_machine<int, int, counter>;
    coir::event disk;
    auto m = machine::create({}, [&](int n, machine::context& ctx) -> coir::result<int> {
      if (n < 0) return ctx.peek()->value;
      if (auto waited = disk.wait(); !waited) return coir::fail(waited.error());
      return ctx.update([n](counter& c) { return c.value += n; });
    });
    REQUIRE(m.has_value());
    constexpr int writers = 20;
    std::vector<coir::handle<int>> begun;
    for (int i = 0; i < writers; ++i) begun.push_back(coir::spawn([&m] { return m->call(1); }));
    for (int i = 0; i < writers; ++i) settle();
    CHECK(m->suspended() == writers);
    CHECK(m->call(-1).value() == 0);
    CHECK(m->call(-1).value() == 0);
    disk.set();
    for (auto& b : begun) CHECK(b.join().has_value());
    CHECK(m->call(-1).value() == writers);
  });
}

TEST_CASE("state_machine: inputs begin in the order in which they came") {
  on_fiber([] {
    using machine = coir::state_machine<int, std::vector<int>, std::vector<int>>;
    auto m = machine::create({}, [](int n, machine::context& ctx) {
      const auto kept = ctx.update([n](auto& order) {
        order.push_back(n);
        return order;
      });
      if (n % 3 == 0) coir::this_fiber::yield();
      return kept;
    });
    REQUIRE(m.has_value());
    std::vector<int> sent;
    int answered = 0;
    for (int i = 0; i < 50; ++i) {
      sent.push_back(i);
      REQUIRE(m->try_post(i, [&answered](auto r) { answered += r ? 1 : 0; }).has_value());
    }
    sent.push_back(50);
    CHECK(m->call(50).value() == sent);
    REQUIRE(m->stop().has_value());
    CHECK(answered == 50);
  });
  on_fiber([] {
    using machine = coir::state_machine<int, std::vector<int>, std::vector<int>>;
    auto m = machine::create({}, [](int n, machine::context& ctx) {
      return ctx.update([n](auto& order) {
        order.push_back(n);
        return order;
      });
    });
    for (int i = 0; i < 20; ++i) REQUIRE(m->try_post(i, [](auto) {}).has_value());
    const auto order = m->call(20).value();
    for (int i = 0; i <= 20; ++i) CHECK(order.at(static_cast<std::size_t>(i)) == i);
  });
}

TEST_CASE("state_machine: any thread may call, and several workers at once") {
  auto r = coir::runtime::create(test::tested({.workers = 2})).value();
  REQUIRE(r->start().has_value());
  {
    using machine = coir::state_machine<int, int, counter>;
    auto m = machine::create(*r, {},
                             [](int add, machine::context& ctx) -> coir::result<int> {
                               coir::this_fiber::yield();
                               return ctx.update([add](counter& c) { return c.value += add; });
                             },
                             {.worker = 1, .name = "sums"});
    REQUIRE(m.has_value());
    std::vector<std::thread> threads;
    for (int t = 0; t < 2; ++t)
      threads.emplace_back([&m] {
        for (int i = 0; i < 50; ++i) REQUIRE(m->call(1).has_value());
      });
    std::vector<coir::handle<void>> fibers;
    for (unsigned f = 0; f < 4; ++f)
      fibers.push_back(r->spawn(
          [&m]() -> coir::result<> {
            for (int i = 0; i < 50; ++i)
              if (auto done = m->call(1); !done) return coir::fail(done.error());
            return {};
          },
          {.worker = f % 2}));
    for (auto& t : threads) t.join();
    for (auto& f : fibers) CHECK(f.join().has_value());
    CHECK(m->call(0).value() == 300);
  }
  CHECK(r->shutdown().has_value());
}

TEST_CASE("state_machine: C-T12: a full line makes callers wait, or refuses them by option") {
  const auto with = [](bool refuse, auto body) {
    on_fiber([&] {
      coir::event go_on;
      auto m = adder::create({},
                             [&](int n, adder::context&) -> coir::result<int> {
                               if (auto waited = go_on.wait(); !waited)
                                 return coir::fail(waited.error());
                               return n;
                             },
                             {.inflight_max = 2, .queue_max = 3, .refuse_when_full = refuse});
      std::vector<coir::handle<int>> callers;
      for (int i = 0; i < 5; ++i) {
        callers.push_back(coir::spawn([&m, i] { return m->call(i); }));
        settle();
      }
      CHECK(m->suspended() == 2);
      CHECK(m->queued() == 3);
      CHECK(m->try_post(9, [](auto) {}).error() == coir::errc::queue_full);
      body(*m);
      go_on.set();
      for (int i = 0; i < 5; ++i) CHECK(callers[static_cast<std::size_t>(i)].join().value() == i);
    });
  };
  with(false, [](adder& m) {
    CHECK(m.call(5, coir::no_wait).error() == std::errc::timed_out);
    auto sixth = coir::spawn([&m] { return m.call(5); });
    settle();
    CHECK_FALSE(sixth.done());
    sixth.cancel();
    CHECK(sixth.join().error() == std::errc::operation_canceled);
  });
  with(true, [](adder& m) { CHECK(m.call(5).error() == coir::errc::queue_full); });
}

TEST_CASE(
    "state_machine: C-T13: a caller that gave up leaves its input running; one that had not begun "
    "never does") {
  on_fiber([] {
    coir::event go_on;
    int begun = 0;
    auto m = adder::create({},
                           [&](int add, adder::context& ctx) -> coir::result<int> {
                             ++begun;
                             if (add != 0)
                               if (auto waited = go_on.wait(); !waited)
                                 return coir::fail(waited.error());
                             return ctx.update([add](counter& c) { return c.value += add; });
                           },
                           {.inflight_max = 1});
    auto leaver = coir::spawn([&] { return m->call(1); });
    settle();
    auto in_line = coir::spawn([&] { return m->call(10); });
    settle();
    leaver.cancel();
    in_line.cancel();
    CHECK(leaver.join().error() == std::errc::operation_canceled);
    CHECK(in_line.join().error() == std::errc::operation_canceled);
    CHECK(m->queued() == 0);
    go_on.set();
    CHECK(m->call(0).value() == 1);
    CHECK(begun == 2);
  });
}

TEST_CASE(
    "state_machine: C-T16: stop answers what is here and takes nothing more; out of patience it "
    "cancels") {
  on_fiber([] {
    coir::event go_on;
    const auto body = [&](int n, adder::context&) -> coir::result<int> {
      if (auto waited = go_on.wait(); !waited) return coir::fail(waited.error());
      return n;
    };
    auto m = adder::create({}, body, {.inflight_max = 1});
    auto begun = coir::spawn([&] { return m->call(1); });
    auto queued = coir::spawn([&] { return m->call(2); });
    settle();
    auto stopping = coir::spawn([&] { return m->stop(); });
    settle();
    CHECK(m->call(3).error() == coir::errc::shutting_down);
    CHECK_FALSE(stopping.done());
    go_on.set();
    CHECK(begun.join().value() == 1);
    CHECK(queued.join().value() == 2);
    CHECK(stopping.join().has_value());
    CHECK(m->stop().has_value());

    go_on.reset();
    m = adder::create({}, body, {.inflight_max = 1});
    begun = coir::spawn([&] { return m->call(1); });
    queued = coir::spawn([&] { return m->call(2); });
    settle();
    CHECK(m->stop(coir::no_wait).error() == std::errc::timed_out);
    CHECK(begun.join().error() == std::errc::operation_canceled);
    CHECK(queued.join().error() == coir::errc::shutting_down);
    CHECK(m->suspended() == 0);
  });
}

TEST_CASE(
    "state_machine: C-T18: what an input changed before it parked is seen by others, and is kept") {
  on_fiber([] {
    coir::event go_on;
    auto m = adder::create({}, [&](int n, adder::context& ctx) -> coir::result<int> {
      if (n == 0) return ctx.peek()->value;
      if (auto put = ctx.update([n](counter& c) { c.value = n; }); !put)
        return coir::fail(put.error());
      if (auto waited = go_on.wait(); !waited) return coir::fail(waited.error());
      return ctx.peek()->value;
    });
    auto input = coir::spawn([&] { return m->call(4); });
    settle();
    CHECK(m->call(0).value() == 4);
    go_on.set();
    CHECK(input.join().value() == 4);
  });
}

TEST_CASE(
    "state_machine: C-T19: one input may wait several times, and finds the latest state each "
    "time") {
  on_fiber([] {
    coir::event first, second;
    std::vector<int> seen;
    auto m = adder::create({}, [&](int n, adder::context& ctx) -> coir::result<int> {
      if (n != 0) return ctx.update([n](counter& c) { return c.value = n; });
      for (coir::event* const gate : {&first, &second}) {
        if (auto waited = gate->wait(); !waited) return coir::fail(waited.error());
        seen.push_back(ctx.peek()->value);
      }
      return ctx.update([](counter& c) { return ++c.value; });
    });
    auto input = coir::spawn([&] { return m->call(0); });
    settle();
    CHECK(m->call(10).has_value());
    first.set();
    settle();
    CHECK(m->call(20).has_value());
    second.set();
    CHECK(input.join().value() == 21);
    CHECK(seen == std::vector{10, 20});
  });
}

TEST_CASE("state_machine: where no fiber is to be had those who are there serve everybody") {
  auto o = test::tested({.workers = 1});
  o.fibers_max = 64;
  const auto ended = coir::run(
      [] {
        auto m = adder::create({}, [](int n, adder::context& ctx) -> coir::result<int> {
          coir::this_fiber::yield();
          return ctx.update([n](counter& c) { return c.value += n; });
        });
        coir::scope callers;  // more than there is room for
        for (int i = 0; i < 500; ++i) callers.spawn([&m] { return m->call(1); });
        CHECK(callers.join().has_value());
        CHECK(m->call(0).value() == 500);
      },
      o);
  CHECK(ended.has_value());
}

TEST_CASE("state_machine: what is handed over inside a change does not wait for who else does so") {
  test::on_fiber(
      [] {
        using machine = coir::state_machine<int, void, int>;
        auto sink = machine::create({}, [](int, machine::context&) { return coir::result<>(); },
                                    {.queue_max = 1u << 20, .worker = 1u})
                        .value();
        auto source = adder::create({}, [&sink](int, adder::context& ctx) {
                        return ctx.update([&sink](test::counter& c) {
                          REQUIRE(sink.try_post(c.value, [](auto) {}).has_value());
                          return ++c.value;
                        });
                      }).value();
        std::vector<coir::handle<void>> others;
        for (unsigned i = 0; i < 4; ++i)
          others.push_back(coir::spawn(
              [&sink] {
                for (int n = 0; n < 500; ++n) REQUIRE(sink.call(n).has_value());
              },
              {.worker = i % 2}));
        for (int n = 1; n <= 2000; ++n) REQUIRE(source.call(0) == n);
        for (auto& each : others) CHECK(each.join().has_value());
        CHECK(source.stop().has_value());
        CHECK(sink.stop().has_value());
      },
      2);
}

TEST_CASE("state_machine: a runtime that stops answers every caller") {
  auto r = coir::runtime::create(test::tested({.workers = 2})).value();
  REQUIRE(r->start().has_value());
  coir::event never_set;
  auto m = adder::create(*r, {},
                         [&](int, adder::context&) -> coir::result<int> {
                           if (auto waited = never_set.wait(); !waited)
                             return coir::fail(waited.error());
                           return 0;
                         },
                         {.inflight_max = 2});
  REQUIRE(m.has_value());
  std::vector<std::error_code> told(4);
  std::vector<std::thread> threads;
  for (auto& t : told) threads.emplace_back([&m, &t] { t = m->call(1).error(); });
  while (m->queued() + m->suspended() < told.size()) coir::this_fiber::yield();
  CHECK(r->shutdown().has_value());
  for (auto& t : threads) t.join();
  for (const auto& t : told)
    CHECK((t == std::errc::operation_canceled || t == coir::errc::shutting_down));
  CHECK(m->call(1).error() == coir::errc::shutting_down);
}
