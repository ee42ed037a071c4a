// state_changes_test.cpp: who may change the state of a machine: what happens to a change that
// parks, and to one that rests on a look from before a park.
//
// Comes from: coir/state_machine.hpp.   Goes to: ctest.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <span>
#include <stdexcept>
#include <vector>

#include "adder.hpp"
#include "coir/coir.hpp"
#include "on_fiber.hpp"
#include "tests/catalogue/child.hpp"

using test::adder;
using test::counter;
using test::on_fiber;
using test::park;
using test::settle;
using test::sum_of;

TEST_CASE("state_machine: what would park inside an update is refused at once, in every build") {
  on_fiber([] {
    using machine = coir::state_machine<int, int, counter>;
    coir::event never_set;
    std::vector<std::error_code> told;
    bool cancelled = true;
    int others = 0;
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    const coir::io::unique_fd from(ends[0]), to(ends[1]);
    auto m = machine::create({}, [&](int, machine::context& ctx) -> coir::result<int> {
      auto other = coir::spawn([&others] { ++others; });
      std::byte taken{};
      auto reading = coir::start(coir::read_operation(from.get(), {&taken, 1}));
      REQUIRE(reading);
      const auto done = ctx.update([&](counter& c) {
        const auto ask = [&told](auto answer) {
          told.push_back(answer ? std::error_code() : answer.error());
        };
        ask(never_set.wait());
        ask(coir::this_fiber::sleep_for(std::chrono::hours(1)));
        ask(coir::perform(coir::nop{}));
        ask(other.join());
        ask(coir::blocking([] {}));
        ask(coir::this_fiber::yield_to(other.id()));
        ask(reading.get());
        const auto any = coir::await_any(reading, other);
        CHECK(any.index == any.none);
        for (const auto& each : {std::get<0>(coir::await_all(reading)).error(),
                                 std::get<0>(coir::await_all(other)).error()})
          told.push_back(each);
        cancelled = coir::this_fiber::cancelled();
        CHECK(others == 0);
        return ++c.value;
      });
      CHECK(other.join().has_value());
      // It goes on: a wait that could not begin cancels nobody.
      CHECK(coir::io::write(to.get(), std::as_bytes(std::span("x", 1))).has_value());
      CHECK(reading.get() == 1u);
      if (!done) return coir::fail(done.error());
      return *done;
    });
    CHECK(m->call(0).error() == coir::errc::update_would_park);
    REQUIRE(told.size() == 9);
    for (const auto& why : told) CHECK(why == std::errc::operation_canceled);
    CHECK_FALSE(cancelled);
    CHECK(others == 1);
  });
}

TEST_CASE(
    "state_machine: what does not park goes through an update, and afterwards a fiber parks") {
  on_fiber([] {
    using machine = coir::state_machine<int, int, counter>;
    coir::event open;
    open.set();
    auto m = machine::create({}, [&](int, machine::context& ctx) -> coir::result<int> {
      const auto done = ctx.update([&](counter& c) {
        CHECK(open.wait().has_value());
        coir::mutex free;
        const std::lock_guard held(free);
        return ++c.value;
      });
      CHECK(coir::perform(coir::nop{}).has_value());
      CHECK(coir::this_fiber::sleep_for(std::chrono::nanoseconds(1)).has_value());
      return done;
    });
    CHECK(m->call(0).value() == 1);
  });
}

TEST_CASE("state_machine: an update that lets others run ends the process and is named") {
  const test::ending end = test::in_child([] {
    (void)coir::run(
        [] {
          using machine = coir::state_machine<int, void, counter>;
          auto m = machine::create({},
                                   [](int, machine::context& ctx) {
                                     return ctx.update([](counter& c) {
                                       ++c.value;
                                       coir::this_fiber::yield();
                                       ++c.value;
                                     });
                                   },
                                   {.name = "the ledger"});
          bool over = false;
          auto other = coir::spawn([&over] {
            while (!over) coir::this_fiber::yield();
          });
          settle();
          (void)m->call(1);
          over = true;
          (void)other.join();
        },
        test::tested({.workers = 1}));
  });
  CAPTURE(end.text);
  CHECK(end.signal == SIGABRT);
  CHECK(end.says("the ledger"));
  CHECK(end.says("park"));
}

TEST_CASE("state_machine: an exception of a change or a body comes out where the call is") {
  on_fiber([] {
    using machine = coir::state_machine<int, void, counter>;
    auto m = machine::create({}, [](int n, machine::context& ctx) {
      return ctx.update([n](counter& c) {
        c.value = n;
        if (n > 1) throw std::runtime_error("too many");
      });
    });
    CHECK(m->call(1).has_value());
    CHECK_THROWS_WITH((void)m->call(2), "too many");
    std::error_code told;
    REQUIRE(m->try_post(3, [&told](coir::result<> r) { told = r.error(); }).has_value());
    CHECK(m->call(1).has_value());
    CHECK(told == std::errc::state_not_recoverable);
  });
}

TEST_CASE("state_machine: C-T15: get, park, put loses what others put meanwhile") {
  const auto [sum, refused] = sum_of(20, [](adder::context& ctx) {
    const int seen = ctx.peek()->value;
    park();
    return ctx.update([seen](counter& c) { return c.value = seen + 1; });
  });
  CHECK(sum < 20);
  CHECK(refused == 0);
}

TEST_CASE("state_machine: C-T15: a reference kept across a park is named, with both versions") {
  const test::ending end = test::in_child([] {
    (void)sum_of(3, [](adder::context& ctx) {
      const auto view = ctx.peek();
      park();
      return ctx.update([&view](counter& c) { return c.value = view->value + 1; });
    });
  });
  CAPTURE(end.text);
  CHECK(end.signal == SIGABRT);
  CHECK(end.says("machine 'machine'"));
  CHECK(end.says("kept across a park"));
  CHECK(end.says("at version 0"));
}

TEST_CASE("state_machine: C-T15: a reference says by itself whether it may still be used") {
  const auto [sum, refused] = sum_of(1, [](adder::context& ctx) {
    const auto view = ctx.peek();
    const auto part = view.to(view->value);
    CHECK(*part == 0);
    CHECK(view.fresh());
    // Alone, too: that nobody changed anything is luck.
    park();
    CHECK_FALSE(view.fresh());
    CHECK_FALSE(part.fresh());
    CHECK(ctx.peek().fresh());
    return ctx.update([](counter& c) { return ++c.value; });
  });
  CHECK(sum == 1);
  CHECK(refused == 0);
}

TEST_CASE(
    "state_machine: C-T15: atomically does it again when somebody changed the state meanwhile") {
  int looks = 0;
  const auto [sum, refused] = sum_of(20, [&looks](adder::context& ctx) {
    return ctx.atomically(
        [&] {
          ++looks;
          const int seen = ctx.peek()->value;
          park();
          return [seen](counter& c) { return c.value = seen + 1; };
        },
        100);
  });
  CHECK(sum == 20);
  CHECK(refused == 0);
  CHECK(looks > 20);
}

TEST_CASE("state_machine: atomically gives up after attempts_max, and then nothing has changed") {
  on_fiber([] {
    std::vector<int> looks;
    auto m = adder::create({}, [&](int attempts, adder::context& ctx) -> coir::result<int> {
      if (attempts == 0) return ctx.update([](counter& c) { return ++c.value; });
      int n = 0;
      const auto done = ctx.atomically(
          [&] {
            ++n;
            park();
            return [](counter& c) { return c.value = -1; };
          },
          static_cast<unsigned>(attempts));
      looks.push_back(n);
      return done;
    });
    for (const int attempts : {1, 3, 8}) {
      auto slow = coir::spawn([&] { return m->call(attempts); });
      while (!slow.done()) CHECK(m->call(0).value() > 0);  // changes it all the time
      CHECK(slow.join().error() == coir::errc::state_changed);
    }
    CHECK(looks == std::vector{1, 3, 8});
    // What the body refuses is the answer, at once.
    auto refusing = adder::create({}, [](int, adder::context& ctx) -> coir::result<int> {
      return ctx.atomically([&]() -> coir::result<int (*)(counter&)> {
        return coir::fail(std::errc::invalid_argument);
      });
    });
    CHECK(refusing->call(1).error() == std::errc::invalid_argument);
  });
}

TEST_CASE("state_machine: C-T15: inputs that lock one key take turns, first come first served") {
  std::vector<int> order;
  int next = 0;
  const auto [sum, refused] = sum_of(20, [&](adder::context& ctx) -> coir::result<int> {
    const int mine = next++;
    auto held = ctx.lock("the key");
    REQUIRE(held.has_value());
    order.push_back(mine);
    const int seen = ctx.peek()->value;
    park();
    return ctx.update([seen](counter& c) { return c.value = seen + 1; });
  });
  CHECK(sum == 20);
  CHECK(refused == 0);
  REQUIRE(order.size() == 20);
  for (int i = 0; i < 20; ++i) CHECK(order[static_cast<std::size_t>(i)] == i);
}

TEST_CASE("state_machine: who waits for a key keeps nobody from another one, and may give up") {
  on_fiber([] {
    coir::event go_on;
    auto m = adder::create({}, [&](int key, adder::context& ctx) -> coir::result<int> {
      auto held = ctx.lock(key, key == 2 ? coir::no_wait : coir::never);
      if (!held) return coir::fail(held.error());
      if (key == 3) return coir::fail(ctx.lock(key).error());
      if (key != 9)
        if (auto waited = go_on.wait(); !waited) return coir::fail(waited.error());
      return key;
    });
    auto first = coir::spawn([&] { return m->call(1); });
    auto second = coir::spawn([&] { return m->call(1); });
    auto other = coir::spawn([&] { return m->call(2); });
    settle();
    CHECK(m->call(9).value() == 9);
    CHECK(m->call(2).error() == std::errc::timed_out);
    CHECK(m->call(3).error() == coir::errc::deadlock);
    CHECK_FALSE(first.done());
    go_on.set();
    CHECK(first.join().value() == 1);
    CHECK(second.join().value() == 1);
    CHECK(other.join().value() == 2);
    CHECK(m->call(2).value() == 2);  // it was given back
  });
}

TEST_CASE("state_machine: C-T11: after a reset no input from before it changes the state") {
  on_fiber([] {
    coir::event disk;
    auto m = adder::create({}, [&](int add, adder::context& ctx) -> coir::result<int> {
      if (add > 0)
        if (auto waited = disk.wait(); !waited) return coir::fail(waited.error());
      return ctx.update([add](counter& c) { return c.value += add; });
    });
    auto before = coir::spawn([&] { return m->call(5); });
    settle();
    CHECK(m->reset({100}).has_value());
    auto after = coir::spawn([&] { return m->call(7); });
    settle();
    disk.set();
    CHECK(before.join().error() == coir::errc::state_changed);
    CHECK(after.join().value() == 107);
    CHECK(m->call(0).value() == 107);
  });
}
