// flight_cancels_test.cpp: cancels and closes that the kernel did not find an operation for.
//
// Always true:
//   - Time is that of the script: a pause is over when the test says so.
//
// Comes from: runtime/flight.hpp.   Goes to: ctest.
#include <algorithm>
#include <cerrno>

#include "flight_bench.hpp"

using namespace coir::detail;
using flight_test::asked;
using flight_test::bench;

namespace {

completion missed(token name) {
  return {token::make(name.slot(), name.generation(), token_kind::cancel), -ENOENT, 0};
}

}  // namespace

TEST_CASE("flight: a cancel that missed its operation is asked for again, less and less often") {
  bench b;
  asked a(IORING_OP_CONNECT, 9);
  REQUIRE(b.f.start(a.p) == 0);
  const token name = b.s.submitted[0].name;
  b.f.cancel(a.p);
  REQUIRE(b.s.cancelled.size() == 1);
  CHECK(b.f.complete(missed(name)) == nullptr);
  CHECK(b.f.waiting_for_room());  // with this turn
  b.turn();
  CHECK(b.s.cancelled.size() == 2);
  std::int64_t pause = flight::miss_pause_ns;
  for (std::size_t asked_for = 2; asked_for < 20; ++asked_for) {
    CHECK(b.f.complete(missed(name)) == nullptr);
    CHECK_FALSE(b.f.waiting_for_room());
    CHECK(b.f.next_look_ns() == b.s.now_ns + pause);
    b.s.now_ns += pause - 1;
    b.turn();
    CHECK(b.s.cancelled.size() == asked_for);
    b.s.now_ns += 1;
    b.turn();
    CHECK(b.s.cancelled.size() == asked_for + 1);
    CHECK(b.f.next_look_ns() == never_ns);
    pause = std::min(2 * pause, flight::miss_pause_max_ns);
  }
  CHECK(b.f.cancels() == 1);
  CHECK(b.f.complete({name, -ECANCELED, 0}) == &a.fiber);
  // Its last answer comes behind it.
  CHECK(b.f.complete(missed(name)) == nullptr);
  CHECK_FALSE(b.f.waiting_for_room());
  CHECK(b.f.next_look_ns() == never_ns);
}

TEST_CASE("flight: who ends between two cancels is asked for no more, and each has its own pause") {
  bench b;
  asked a(IORING_OP_CONNECT, 9), c(IORING_OP_CONNECT, 9);
  for (asked* each : {&a, &c}) REQUIRE(b.f.start(each->p) == 0);
  const token first = b.s.submitted[0].name, second = b.s.submitted[1].name;
  const auto miss = [&](token name) {
    CHECK(b.f.complete(missed(name)) == nullptr);
    b.turn();
  };
  b.f.cancel(a.p);
  miss(first);
  miss(first);
  b.s.now_ns = b.f.next_look_ns();
  b.turn();
  miss(first);  // its second pause
  const std::int64_t long_pause_ends = b.f.next_look_ns();
  b.f.cancel(c.p);
  miss(second);
  miss(second);
  b.s.now_ns = b.f.next_look_ns();
  REQUIRE(b.s.now_ns < long_pause_ends);
  b.s.cancelled.clear();
  b.turn();
  CHECK(b.s.cancelled == std::vector<token>{second});
  CHECK(b.f.next_look_ns() == long_pause_ends);
  CHECK(b.f.complete({first, 0, 0}) == &a.fiber);
  CHECK(b.f.next_look_ns() == never_ns);
  miss(second);
  CHECK(b.f.next_look_ns() != never_ns);
  CHECK(b.f.complete({second, 0, 0}) == &c.fiber);
  CHECK(b.f.next_look_ns() == never_ns);
}

TEST_CASE("flight: who still holds up a close after a moment is asked for by name") {
  bench b;
  asked a(IORING_OP_CONNECT, 9), other(IORING_OP_READ, 8);
  REQUIRE(b.f.start(a.p) == 0);
  REQUIRE(b.f.start(other.p) == 0);
  b.f.on_drained = [](void*, int) noexcept {};
  CHECK(b.f.close_begin(9) == 1);
  CHECK(b.s.cancelled_fds == std::vector<int>{9});
  b.turn();
  CHECK(b.s.cancelled.empty());
  REQUIRE(b.f.next_look_ns() != never_ns);
  b.s.now_ns = b.f.next_look_ns();
  b.turn();
  CHECK(b.s.cancelled == std::vector<token>{b.s.submitted[0].name});
  CHECK(b.f.next_look_ns() == never_ns);
  CHECK(b.f.complete({b.s.submitted[0].name, -ECANCELED, 0}) == &a.fiber);
  // One that drains at once is not looked at.
  CHECK(b.f.close_begin(8) == 1);
  CHECK(b.f.complete({b.s.submitted[1].name, -ECANCELED, 0}) == &other.fiber);
  CHECK(b.f.next_look_ns() == never_ns);
}

TEST_CASE("flight: a close reaches at once what uses its number besides another one") {
  bench b;
  asked a(IORING_OP_SPLICE, 8);
  a.p.also = 9;
  std::vector<int> drained;
  b.f.drained_context = &drained;
  b.f.on_drained = [](void* all, int fd) noexcept {
    static_cast<std::vector<int>*>(all)->push_back(fd);
  };
  b.f.hold(9);
  b.f.hold_pair();
  REQUIRE(b.f.start(a.p) == 0);
  CHECK(b.f.close_begin(9) == 1);
  REQUIRE(b.s.cancelled.size() == 1);
  CHECK(b.s.cancelled[0] == a.p.name);
  CHECK(b.f.complete({a.p.name, -ECANCELED, 0}) == &a.fiber);
  b.f.let_go_pair();
  b.f.let_go(9);
  CHECK(b.f.count(8) == 0);
  CHECK(b.f.count(9) == 0);
  CHECK(drained == std::vector<int>{9});
}

namespace {

/// One that lasts, and counts what it hears without the kernel.
struct resting : lasting {
  explicit resting(asked& of) {
    fiber = &of.fiber;
    entry = of.p.entry;
    arrived = [](lasting& self, const completion& c) noexcept -> record* {
      auto& me = static_cast<resting&>(self);
      ++(c.res == -ETIME ? me.times : me.others);
      return me.others != 0 ? me.fiber : nullptr;
    };
  }
  unsigned times = 0, others = 0;
};

}  // namespace

TEST_CASE("flight: who rests for a while is told when that is over, and then nobody looks again") {
  bench b;
  asked one(IORING_OP_CONNECT, 9), two(IORING_OP_CONNECT, 9), ever(IORING_OP_CONNECT, 9);
  resting a(one), c(two), e(ever);
  for (resting* each : {&a, &c, &e}) REQUIRE(b.f.stand(*each) == 0);
  const std::int64_t now = b.s.now_ns;
  CHECK(b.f.rest(e));
  CHECK(b.f.next_look_ns() == never_ns);
  b.f.rest_until(a, now + 10);
  b.f.rest_until(c, now + 20);
  CHECK(b.f.next_look_ns() == now + 10);
  // The earlier one ends before its time.
  b.f.leave_rest(a);
  b.s.now_ns = now + 19;
  b.turn();
  CHECK(a.times + c.times == 0);
  CHECK(b.f.next_look_ns() == now + 20);
  b.s.now_ns = now + 20;
  b.turn();
  CHECK(c.times == 1);
  CHECK_FALSE(c.rests);
  CHECK(b.f.next_look_ns() == never_ns);
  // The only one ends before its time: no moment is left at which a worker would wake for nobody.
  b.f.rest_until(c, now + 40);
  CHECK(b.f.next_look_ns() == now + 40);
  b.f.leave_rest(c);
  CHECK(b.f.next_look_ns() == never_ns);
  // A close ends them through the line, without the kernel.
  b.f.rest_until(c, now + 50);
  b.f.on_drained = [](void*, int) noexcept {};
  CHECK(b.f.close_begin(9) == 3);
  b.turn();
  CHECK(c.others == 1);
  CHECK(e.others == 1);
  CHECK(c.times == 1);
  CHECK(b.s.submitted.empty());
  CHECK(b.f.next_look_ns() != now + 50);
  for (resting* each : {&a, &c, &e}) b.f.stand_down(*each);
}
