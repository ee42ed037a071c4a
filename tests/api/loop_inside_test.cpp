// loop_inside_test.cpp: what bodies do to the loop that they run in.
#include <doctest/doctest.h>

#include <array>
#include <cerrno>
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
