// loop_inside_test.cpp: what bodies do to the loop that they run in.
#include <doctest/doctest.h>

#include <array>
#include <cerrno>
#include <optional>
#include <vector>

#include "coir/coir.hpp"
#include "tests/api/scripted_outside.hpp"

namespace {

using coir::errc;
using namespace std::chrono_literals;

using test::get_value;
using test::small_world;
using test::value;

}  // namespace

TEST_CASE(
    "loop: a body that cancels itself, or others in the line, hears of it at its next effect") {
  small_world w;
  w.outside.room = 1;
  coir::submitted<std::error_code>* mine = nullptr;
  std::vector<coir::submitted<int>> others;
  auto first = w.in.submit([&] {
    (void)value(1);
    mine->cancel();
    for (auto& each : others) each.cancel();
    return coir::perform(get_value{}).error();
  });
  mine = &first;
  for (int i = 0; i < 3; ++i) others.push_back(w.in.submit([] { return value(2); }));
  w.outside.answer_first(0);
  CHECK(w.in.run());
  CHECK(first.get().value() == std::errc::operation_canceled);
  for (auto& each : others) CHECK(each.get().value() == -1);
  auto sleeper = w.in.submit([&] {
    CHECK(coir::this_fiber::sleep_until(coir::clock::time_point(1s)));
    mine->cancel();
    return coir::perform(get_value{}).error();
  });
  mine = &sleeper;
  w.outside.room = SIZE_MAX;
  CHECK(w.in.run());
  CHECK(sleeper.get().value() == std::errc::operation_canceled);
}

TEST_CASE("loop: who cancels after a deadline came is heard") {
  small_world w;
  w.outside.answers_cancels = false;
  int refused = 0;
  auto s = w.in.submit([&] {
    while (refused < 5 && !coir::perform(get_value{}, coir::clock::time_point(2s))) ++refused;
  });
  w.outside.on_wait = [&] { w.outside.at += 1s; };
  (void)w.in.poll(coir::clock::time_point(3s));
  REQUIRE(w.outside.cancelled.size() == 1);
  s.cancel();
  w.outside.answer_first(-ECANCELED);
  CHECK(w.in.run());
  CHECK(refused == 5);
}

TEST_CASE("loop: a body that polls or runs its own loop is refused") {
  small_world w;
  auto s = w.in.submit([&] {
    (void)value();
    CHECK(w.in.poll().error() == errc::deadlock);
    CHECK(w.in.run().error() == errc::deadlock);
    return value();
  });
  w.outside.answer_first(1);
  REQUIRE(w.in.poll());
  w.outside.answer_first(7);
  CHECK(w.in.run());
  CHECK(s.get().value() == 7);
}

TEST_CASE("loop: a cancelled operation that was not ready is not offered again") {
  small_world w;
  std::array<std::byte, 4> some{};
  auto s = w.in.submit([&] { return coir::io::recv(5, some).error(); });
  s.cancel();
  w.outside.answer_first(-EAGAIN);
  w.outside.ready.pop_front();  // the cancel's own answer came second
  REQUIRE(w.in.poll());
  CHECK(w.outside.flying.empty());
  CHECK(s.get().value() == std::errc::operation_canceled);
}

TEST_CASE("loop: who sleeps in the past gives way to others") {
  small_world w;
  bool told = false;
  auto waits = w.in.submit([&] {
    while (!told) CHECK(coir::this_fiber::sleep_until(coir::no_wait));
  });
  auto tells = w.in.submit([&] {
    (void)value();
    told = true;
  });
  REQUIRE(w.in.poll());
  w.outside.answer_first(1);
  CHECK(w.in.run());
  CHECK(waits.done());
  CHECK(tells.done());
}

TEST_CASE(
    "loop: a body that drains it leaves nobody behind: the next drain waits, and its end does") {
  for (const bool by_its_end : {false, true}) {
    test::scripted_outside outside;
    outside.answers_cancels = false;
    outside.on_wait = [&] {
      while (!outside.flying.empty()) outside.answer_first(-ECANCELED);
    };
    std::optional<coir::loop> in = coir::loop::make(outside).value();
    std::size_t counted = 0;
    int ended = 0;
    auto drains = in->submit([&] {
      (void)value();
      counted = in->drain();
      return coir::perform(get_value{}).error();
    });
    auto other = in->submit([&] {
      const auto got = coir::perform(get_value{}).error();
      ++ended;
      return got;
    });
    outside.answer_first(1);
    REQUIRE(in->poll());
    CHECK(counted == 2);
    CHECK(drains.get().value() == std::errc::operation_canceled);
    CHECK_FALSE(other.done());
    CHECK(in->pending() == 1);
    if (by_its_end) {
      in.reset();
    } else {
      CHECK(in->drain() == 0);
      CHECK(in->pending() == 0);
    }
    CHECK(ended == 1);
    CHECK(outside.flying.empty());
    CHECK(other.get().value() == std::errc::operation_canceled);
    CHECK(outside.cancelled.size() == 1);
  }
}

TEST_CASE("loop: a body that drains it before its first effect is ended like the others") {
  small_world w;
  auto other = w.in.submit([] { return coir::perform(get_value{}).error(); });
  auto drains = w.in.submit([&] {
    CHECK(w.in.drain() == 1);
    const auto first = coir::perform(get_value{}).error();
    CHECK(coir::perform(get_value{}).error() == std::errc::operation_canceled);
    return first;
  });
  CHECK(drains.get().value() == std::errc::operation_canceled);
  CHECK(w.outside.submits == 1);
  CHECK(w.outside.cancelled.size() == 1);
  CHECK(w.in.submit([] { return 1; }).get().error() == errc::shutting_down);
  CHECK(w.in.drain() == 0);
  CHECK(w.in.pending() == 0);
  CHECK(other.get().value() == std::errc::operation_canceled);
}

TEST_CASE(
    "loop: before its first effect a body may only ask, and what it asked for is handed over") {
  small_world w;
  auto other = w.in.submit([] { return coir::perform(get_value{}).error(); });
  std::optional<coir::submitted<int>> inner;
  const unsigned before = w.outside.handed_over;
  auto outer = w.in.submit([&] {
    CHECK(w.in.poll().error() == errc::deadlock);
    CHECK(w.in.run().error() == errc::deadlock);
    other.cancel();
    inner.emplace(w.in.submit([] { return value(); }));
    CHECK(w.outside.handed_over == before);
    return 1;
  });
  CHECK(outer.get().value() == 1);
  CHECK(w.outside.handed_over == before + 1);
  CHECK(w.outside.cancelled.size() == 1);
  w.outside.answer(w.outside.flying.back().name, 3);
  CHECK(w.in.run());
  CHECK(inner->get().value() == 3);
  CHECK(other.get().value() == std::errc::operation_canceled);
}
