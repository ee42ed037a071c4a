// loop_test.cpp: bodies in a loop over a backend that the test scripts: T36 to T58.
#include "coir/loop.hpp"

#include <doctest/doctest.h>
#include <poll.h>

#include <array>
#include <vector>

#include "coir/coir.hpp"
#include "tests/api/scripted_outside.hpp"

namespace {

using coir::errc;
using coir::result;
using namespace std::chrono_literals;

using test::get_value;
using test::small_world;
using test::value;

struct unknown_here {
  using value_type = int;
  static constexpr std::string_view name = "test.unknown_here";
};

}  // namespace

TEST_CASE("T36 T38 loop: pending counts, and a completion resumes whom it is for") {
  small_world w;
  auto a = w.in.submit([] { return value(1); });
  CHECK(w.in.pending() == 1);
  auto b = w.in.submit([] { return value(2) + 100; });
  CHECK(w.in.pending() == 2);
  CHECK_FALSE(a.done());
  CHECK(a.get().error() == errc::not_parked);
  w.outside.answer(w.outside.flying[1].name, 20);
  const auto did = w.in.poll();
  REQUIRE(did);
  CHECK(did->finished == 1);
  CHECK(did->resumed == 1);
  CHECK_FALSE(a.done());
  CHECK(b.get().value() == 120);
  w.outside.answer_first(10);
  CHECK(w.in.run());
  CHECK(a.get().value() == 10);
  CHECK(w.in.pending() == 0);
}

TEST_CASE("T37 loop: a submit that is refused reaches its body and no other") {
  small_world w;
  auto a = w.in.submit([] { return value(); });
  w.outside.refuse_submit = make_error_code(std::errc::io_error);
  auto b = w.in.submit([] { return coir::perform(get_value{}).error(); });
  CHECK(b.get().value() == std::errc::io_error);
  CHECK_FALSE(w.in.failed());
  CHECK(w.in.pending() == 1);
  w.outside.answer_first(3);
  CHECK(w.in.run());
  CHECK(a.get().value() == 3);
}

TEST_CASE("T39 T54 loop: a chain of operations goes on without a wait in between") {
  small_world w;
  w.outside.answers_at_once = true;
  auto s = w.in.submit([] {
    int sum = 0;
    for (int i = 0; i < 60; ++i) sum += value(i);
    return sum;
  });
  CHECK_FALSE(s.done());
  CHECK(w.in.run());
  CHECK(s.get().value() == 59 * 60 / 2);
  CHECK(w.outside.submits == 60);
  CHECK(w.outside.reaps == 60);
  CHECK(w.outside.waits == 0);
}

TEST_CASE("T40 loop: three at once, each with an answer of its own type") {
  small_world w;
  auto a = w.in.submit([] { return value(1); });
  auto b = w.in.submit([] { return std::to_string(value(2)); });
  auto c = w.in.submit([] { (void)value(3); });
  while (!w.outside.flying.empty()) {
    const auto last = w.outside.flying.back();
    w.outside.answer(last.name, last.about * 10);
    REQUIRE(w.in.poll());
  }
  CHECK(a.get().value() == 10);
  CHECK(b.get().value() == "20");
  CHECK(c.get());
}

TEST_CASE("T41 loop: a completion that failed reaches the body with its error") {
  small_world w;
  auto s = w.in.submit([] { return coir::perform(get_value{}).error(); });
  w.outside.answer_first(-EIO);
  CHECK(w.in.run());
  CHECK(s.get().value() == std::errc::io_error);
}

TEST_CASE("T42 T55 loop: a backend that has nothing is idle, and is asked again later") {
  small_world w;
  auto s = w.in.submit([] { return value(); });
  w.outside.refuse_reap = make_error_code(std::errc::operation_would_block);
  const auto idle = w.in.poll();
  REQUIRE(idle);
  CHECK_FALSE(idle->any());
  w.outside.refuse_reap = {};
  w.outside.answer_first(8);
  REQUIRE(w.in.poll());
  CHECK(s.get().value() == 8);
  CHECK(w.outside.reaps == 2);
}

TEST_CASE("loop: a reap that lost completions for want of memory ends nobody") {
  small_world w;
  auto s = w.in.submit([] { return value(); });
  w.outside.refuse_reap = make_error_code(std::errc::not_enough_memory);
  CHECK(w.in.poll());
  CHECK_FALSE(s.done());
  w.outside.refuse_reap = {};
  w.outside.answer_first(8);
  CHECK(w.in.run());
  CHECK(s.get().value() == 8);
}

TEST_CASE("T43 T44 loop: an operation that was not ready is offered again, once for each time") {
  small_world w;
  std::array<std::byte, 4> some{};
  auto s = w.in.submit([&] { return coir::io::recv(5, some).value_or(77); });
  w.outside.answer_first(-EAGAIN);
  auto did = w.in.poll();
  CHECK(did->resubmitted == 1);
  REQUIRE(w.outside.flying.size() == 1);
  CHECK(w.outside.flying.front().opcode == IORING_OP_POLL_ADD);
  w.outside.answer_first(POLLIN);
  did = w.in.poll();
  CHECK(did->resubmitted == 1);
  CHECK(w.outside.flying.front().opcode == IORING_OP_RECV);
  w.outside.answer_first(4);
  CHECK(w.in.run());
  CHECK(s.get().value() == 4);
  CHECK(w.outside.submits == 3);
  // The second offer is refused: its body hears of it, and nothing is left.
  auto t = w.in.submit([&] { return coir::io::recv(5, some).error(); });
  w.outside.answer_first(-EAGAIN);
  w.outside.refuse_submit = make_error_code(std::errc::io_error);
  REQUIRE(w.in.poll());
  CHECK(t.get().value() == std::errc::io_error);
  CHECK(w.in.pending() == 0);
  CHECK_FALSE(w.in.failed());
}

TEST_CASE("T45 T46 T47 loop: a backend that fails ends every body, what had finished stays") {
  small_world w;
  int destroyed = 0;
  struct guard {
    int& n;
    ~guard() { ++n; }
  };
  auto first = w.in.submit([] { return value(); });
  auto second = w.in.submit([&] {
    const guard g{destroyed};
    const auto got = coir::perform(get_value{});
    CHECK(coir::perform(get_value{}).error() == std::errc::operation_canceled);
    return got.error();
  });
  w.outside.answer_first(5);
  REQUIRE(w.in.poll());
  w.outside.refuse_reap = make_error_code(std::errc::bad_file_descriptor);
  CHECK(w.in.poll().error() == std::errc::bad_file_descriptor);
  CHECK(w.in.pending() == 0);
  CHECK(destroyed == 1);
  CHECK(first.get().value() == 5);
  CHECK(second.get().value() == std::errc::bad_file_descriptor);
  w.outside.refuse_reap = {};
  CHECK(w.in.poll().error() == std::errc::bad_file_descriptor);
  auto late = w.in.submit([] { return 1; });
  CHECK(late.get().error() == std::errc::bad_file_descriptor);
  CHECK(w.in.failed() == std::errc::bad_file_descriptor);
  CHECK(w.in.drain() == 0);
}

TEST_CASE("T47 loop: what finished before the backend failed within one run stays, and is told") {
  small_world w;
  auto first = w.in.submit([] { return value(); });
  auto second = w.in.submit([] { return coir::perform(get_value{}).error(); });
  w.outside.answer_first(5);
  w.outside.on_wait = [&] {
    w.outside.refuse_reap = make_error_code(std::errc::bad_file_descriptor);
  };
  CHECK(w.in.run().error() == std::errc::bad_file_descriptor);
  CHECK(w.outside.waits == 1);
  CHECK(first.get().value() == 5);
  CHECK(second.get().value() == std::errc::bad_file_descriptor);
  CHECK(w.in.run().error() == std::errc::bad_file_descriptor);
}

TEST_CASE(
    "T52 loop: a drain after a failure leaves the first error there, and it is what refuses") {
  small_world w;
  auto s = w.in.submit([] { return coir::perform(get_value{}).error(); });
  w.outside.refuse_reap = make_error_code(std::errc::bad_file_descriptor);
  CHECK_FALSE(w.in.poll());
  w.outside.refuse_reap = make_error_code(std::errc::io_error);
  CHECK(w.in.drain() == 0);
  CHECK(w.in.failed() == std::errc::bad_file_descriptor);
  CHECK(w.in.run().error() == std::errc::bad_file_descriptor);
  CHECK(w.in.submit([] { return 1; }).get().error() == std::errc::bad_file_descriptor);
  CHECK(s.get().value() == std::errc::bad_file_descriptor);
  CHECK(w.outside.reaps == 1);
  CHECK(w.outside.cancelled.empty());
}

TEST_CASE("T48 T49 loop: a token that nobody has, or had before, is counted and disposed of") {
  small_world w;
  auto s = w.in.submit([] { return value() + value(); });
  const auto name = w.outside.flying.front().name;
  w.outside.answer(name, 1);
  w.outside.answer(name, 2);  // twice
  w.outside.ready.push_back({{12345}, 3, 0});
  const auto did = w.in.poll();
  REQUIRE(did);
  CHECK(did->stale == 2);
  CHECK(w.outside.disposed == 2);
  CHECK(w.in.stale() == 2);
  CHECK_FALSE(s.done());
  w.outside.answer_first(10);
  CHECK(w.in.run());
  CHECK(s.get().value() == 11);
}

TEST_CASE("T48 loop: whoever asks for it gets what came for nobody, and with it what it brought") {
  small_world w;
  std::vector<std::int32_t> got;
  w.in.on_stale([&got](const coir::completion& c) { got.push_back(c.res); });
  w.outside.ready.push_back({{12345}, 3, 0});
  w.outside.ready.push_back({{12346}, 4, 0});
  REQUIRE(w.in.poll());
  CHECK(got == std::vector<std::int32_t>{3, 4});
  CHECK(w.outside.disposed == 0);
  CHECK(w.in.stale() == 2);
  w.in.on_stale({});
  w.outside.ready.push_back({{12347}, 5, 0});
  REQUIRE(w.in.poll());
  CHECK(got.size() == 2);
  CHECK(w.outside.disposed == 1);
  CHECK(w.in.stale() == 3);
}

TEST_CASE("T50 loop: more to come keeps what was lent, and the last completion answers") {
  small_world w;
  auto a = w.in.submit([] { return value(); });
  const auto name = w.outside.flying.front().name;
  w.outside.answer(name, 4, IORING_CQE_F_MORE);
  REQUIRE(w.in.poll());
  CHECK_FALSE(a.done());
  w.outside.answer(name, 0, IORING_CQE_F_NOTIF);
  CHECK(w.in.run());
  CHECK(a.get().value() == 4);
}

TEST_CASE(
    "T51 T75 loop: no more completions are asked for than were allowed, and none is refused") {
  test::scripted_outside outside;
  CHECK(coir::loop::make(outside, {.max_completions = 0}).error() == std::errc::invalid_argument);
  auto in = coir::loop::make(outside, {.max_completions = 2}).value();
  std::vector<coir::submitted<int>> all;
  for (int i = 0; i < 5; ++i) all.push_back(in.submit([] { return value(); }));
  while (!outside.flying.empty()) outside.answer_first(1);
  CHECK(in.run());
  for (auto& s : all) CHECK(s.get().value() == 1);
  for (const std::size_t n : outside.asked_for) CHECK(n == 2);
}

TEST_CASE("T52 loop: drain asks for the end, waits for it, and is done once") {
  small_world w;
  int ended = 0;
  auto s = w.in.submit([&] {
    const auto got = coir::perform(get_value{});
    ++ended;
    return got.error();
  });
  auto success = w.in.submit([&] {
    const int got = value();
    CHECK(coir::perform(get_value{}).error() == std::errc::operation_canceled);
    ++ended;
    return got;
  });
  w.outside.answer(w.outside.flying[1].name, 7);  // it wins against its cancel
  CHECK(w.in.drain() == 2);
  CHECK(w.outside.cancelled.size() == 2);
  CHECK(ended == 2);
  CHECK(s.get().value() == std::errc::operation_canceled);
  CHECK(success.get().value() == 7);
  CHECK(w.in.drain() == 0);
  CHECK(w.in.submit([] { return 1; }).get().error() == errc::shutting_down);
}

TEST_CASE("T53 loop: run with nothing pending returns, and an operation of nobody is refused") {
  small_world w;
  CHECK(w.in.run());
  CHECK(w.outside.reaps == 0);
  auto s = w.in.submit([] { return coir::perform(unknown_here{}).error(); });
  CHECK(s.get().value() == errc::unhandled_effect);
  auto many = w.in.submit([] {
    int refused = 0;
    for (int i = 0; i < 100'000; ++i) refused += !coir::perform(unknown_here{});
    return refused;
  });
  CHECK(many.get().value() == 100'000);
}

TEST_CASE("loop: a queue that is full makes operations wait in line, in order") {
  small_world w;
  w.outside.room = 1;
  std::vector<int> order;
  std::vector<coir::submitted<void>> all;
  for (int i = 0; i < 4; ++i)
    all.push_back(w.in.submit([&order, i] { order.push_back(value(i)); }));
  CHECK(w.outside.flying.size() == 1);
  while (w.in.pending() != 0) {
    w.outside.answer_first(w.outside.flying.front().about);
    REQUIRE(w.in.poll());
  }
  CHECK(order == std::vector{0, 1, 2, 3});
}

TEST_CASE("loop: a deadline ends an operation by its last completion, and a sleep by itself") {
  small_world w;
  auto s =
      w.in.submit([&] { return coir::perform(get_value{}, coir::clock::time_point(3s)).error(); });
  bool woke = false;
  auto t = w.in.submit([&] {
    CHECK(coir::this_fiber::sleep_until(coir::clock::time_point(2s)));
    woke = true;
  });
  w.outside.on_wait = [&] { w.outside.at += 1s; };
  w.outside.answers_cancels = false;
  CHECK(w.in.poll(coir::never)->finished == 1);
  CHECK(woke);
  (void)w.in.poll(coir::clock::time_point(4s));
  REQUIRE(w.outside.cancelled.size() == 1);
  CHECK_FALSE(s.done());
  w.outside.answer_first(-ECANCELED);
  CHECK(w.in.run());
  CHECK(s.get().value() == std::errc::timed_out);
}

TEST_CASE("loop: one submission is cancelled, the others are not") {
  small_world w;
  auto a = w.in.submit([] { return coir::perform(get_value{}).error(); });
  auto b = w.in.submit([] { return value(); });
  a.cancel();
  a.cancel();
  REQUIRE(w.in.poll());
  CHECK(w.outside.cancelled.size() == 1);
  CHECK(a.get().value() == std::errc::operation_canceled);
  w.outside.answer_first(9);
  CHECK(w.in.run());
  CHECK(b.get().value() == 9);
}

TEST_CASE("loop: an exception that leaves a body waits in its answer") {
  small_world w;
  auto s = w.in.submit([]() -> int {
    (void)value();
    throw std::runtime_error("mine");
  });
  w.outside.answer_first(1);
  CHECK(w.in.run());
  CHECK_THROWS_WITH((void)s.get(), "mine");
}

TEST_CASE("T56 loop: hundreds with completions in any order, each resumed exactly once") {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    small_world w;
    std::uint32_t dice = seed * 2654435761u;
    const auto roll = [&dice](std::size_t n) {
      dice = dice * 1664525u + 1013904223u;
      return (dice >> 8) % n;
    };
    const int count = 1 + static_cast<int>(roll(500));
    std::vector<coir::submitted<int>> all;
    for (int i = 0; i < count; ++i) {
      all.push_back(w.in.submit([i] { return value(i) + value(i + 1); }));
    }
    int resumed = 0;
    while (!w.outside.flying.empty()) {
      const auto next = w.outside.flying[roll(w.outside.flying.size())];
      w.outside.answer(next.name, next.about);
      resumed += static_cast<int>(w.in.poll()->resumed);
    }
    CHECK(resumed == 2 * count);
    for (int i = 0; i < count; ++i)
      CHECK(all[static_cast<std::size_t>(i)].get().value() == 2 * i + 1);
    CHECK(w.in.pending() == 0);
  }
}

TEST_CASE("T58 loop: one submit fails somewhere, and all others complete") {
  for (int fails = 0; fails < 10; ++fails) {
    small_world w;
    w.outside.refuse_submit = make_error_code(std::errc::io_error);
    w.outside.refuse_after = fails;
    std::vector<coir::submitted<int>> all;
    for (int i = 0; i < 10; ++i) all.push_back(w.in.submit([] { return value(); }));
    while (!w.outside.flying.empty()) w.outside.answer_first(1);
    CHECK(w.in.run());
    int failed = 0;
    for (auto& s : all) failed += s.get().value() == -1;
    CHECK(failed == 1);
  }
}

TEST_CASE("T76 loop: the buffer for completions is made once and given back once") {
  struct counting final : std::pmr::memory_resource {
    int made = 0, given = 0;
    void* do_allocate(std::size_t n, std::size_t a) override {
      ++made;
      return std::pmr::new_delete_resource()->allocate(n, a);
    }
    void do_deallocate(void* p, std::size_t n, std::size_t a) override {
      ++given;
      std::pmr::new_delete_resource()->deallocate(p, n, a);
    }
    bool do_is_equal(const memory_resource& o) const noexcept override { return this == &o; }
  } memory;
  {
    test::scripted_outside outside;
    auto in = coir::loop::make(outside, {.memory = &memory}).value();
    CHECK(memory.made == 1);
    for (int i = 0; i < 10; ++i) {
      auto s = in.submit([] { return value(); });
      outside.answer_first(1);
      CHECK(in.run());
    }
    CHECK(memory.made == 1);
    (void)in.drain();
    CHECK(memory.given == 1);
  }
  CHECK(memory.given == 1);
}
