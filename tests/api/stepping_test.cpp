// stepping_test.cpp: bodies that are driven by hand: T13 to T26b.
#include "coir/stepping.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <thread>
#include <vector>

#include "coir/coir.hpp"
#include "on_fiber.hpp"
#include "tests/api/asked.hpp"
#include "tests/test_options.hpp"

namespace {

using coir::dispatched;
using coir::errc;
using coir::outcome;
using coir::result;

using test::ask_number;
using test::number;
using test::script_of;
using test::tell;

struct counted {
  int& count;
  explicit counted(int& c) : count(c) {}
  counted(const counted&) = delete;
  counted& operator=(const counted&) = delete;
  ~counted() { ++count; }
};

}  // namespace

TEST_CASE("T13 step: a body without effects has ended") {
  auto s = coir::step([] { return 99; });
  REQUIRE(s.has_value());
  CHECK(s.value() == 99);
  CHECK_FALSE(s.is_suspended());
  auto nothing = coir::step([] {});
  CHECK(nothing.has_value());
}

TEST_CASE("T14 step: it stops at its first effect and shows the operation") {
  auto s = coir::step([] { return number(5) + 1; });
  REQUIRE(s.is_suspended());
  CHECK_FALSE(s.has_value());
  CHECK(s.waiting().op().name() == "test.ask_number");
  CHECK(s.waiting().op().as<ask_number>()->about == 5);
  CHECK(s.waiting().op().as<tell>() == nullptr);
  auto next = s.waiting().resume<ask_number>(41);
  REQUIRE(next);
  CHECK(next->value() == 42);
}

TEST_CASE("T15 T16 advance: an answer, and one with more to come") {
  auto by = script_of(dispatched<int>::done(99));
  auto s = coir::step([] { return number(); });
  auto a = coir::advance(by, std::move(s.waiting()));
  CHECK(a.last == outcome::ok);
  CHECK(a.state.value() == 99);
  int ends = 0;
  auto more = script_of(dispatched<int>::more(7, coir::live_operation([&] { ++ends; })));
  auto t = coir::step([] { return number(); });
  {
    auto b = coir::advance(more, std::move(t.waiting()));
    CHECK(b.last == outcome::more);
    CHECK(b.state.value() == 7);
    CHECK(b.live);
    CHECK(ends == 0);
  }
  CHECK(ends == 1);
}

TEST_CASE("T17 T18 advance: not now and a failure keep the suspension, which may be tried again") {
  auto by = script_of(dispatched<int>::would_block({.fd = 3, .events = 1}),
                      dispatched<int>::failed(make_error_code(std::errc::io_error)),
                      dispatched<int>::done(8));
  auto s = coir::step([] { return number(); });
  auto a = coir::advance(by, std::move(s.waiting()));
  CHECK(a.last == outcome::would_block);
  CHECK(a.hint.fd == 3);
  REQUIRE(a.state.is_suspended());
  a = coir::advance(by, std::move(a.state.waiting()));
  CHECK(a.last == outcome::failure);
  CHECK(a.error == std::errc::io_error);
  REQUIRE(a.state.is_suspended());
  a = coir::advance(by, std::move(a.state.waiting()));
  CHECK(a.last == outcome::ok);
  CHECK(a.state.value() == 8);
}

TEST_CASE("advance: what the dispatcher does not handle fails, and the suspension is kept") {
  auto by = script_of();
  auto s = coir::step([] { return coir::perform(tell{}).error(); });
  auto a = coir::advance(by, std::move(s.waiting()));
  CHECK(a.error == errc::unhandled_effect);
  auto end = a.state.waiting().resume<tell>({});
  REQUIRE(end);
  CHECK_FALSE(end->value());
}

TEST_CASE("T19 step: a context is carried through every step, more and the end") {
  auto by = script_of(dispatched<int>::done(1), dispatched<int>::would_block(),
                      dispatched<int>::more(2, coir::live_operation([] {})));
  auto s = coir::step_with(std::string("mine"), [] { return number() + number(); });
  for (int i = 0; i < 3; ++i) {
    REQUIRE(s.is_suspended());
    s = coir::advance(by, std::move(s));
    CHECK(s.context == "mine");
  }
  CHECK(s.at.last == outcome::more);
  CHECK(s.at.state.value() == 3);
}

TEST_CASE("T20 step: a loop of three steps, and fuel for two of them") {
  auto by =
      script_of(dispatched<int>::done(10), dispatched<int>::done(10), dispatched<int>::done(10));
  const auto body = [] {
    int sum = 0;
    for (int i = 0; i < 3; ++i) sum += number();
    return sum;
  };
  coir::fuel two{2};
  auto a = coir::advance_all(by, coir::step(body), two);
  CHECK(two.steps == 0);
  REQUIRE(a.state.is_suspended());
  coir::fuel rest{5};
  a = coir::advance_all(by, std::move(a.state), rest);
  CHECK(rest.steps == 4);
  CHECK(a.state.value() == 30);
}

TEST_CASE("T21 T22 suspension: it resumes once") {
  auto s = coir::step([] { return number(); });
  auto mine = std::move(s.waiting());
  CHECK(mine.resume<tell>({}).error() == errc::wrong_operation);
  CHECK_FALSE(mine.try_resume<tell>({}));
  REQUIRE(mine);
  CHECK(mine.resume<ask_number>(4)->value() == 4);
  CHECK_FALSE(mine);
  CHECK(mine.resume<ask_number>(5).error() == errc::resumed_twice);
  CHECK_FALSE(mine.try_resume<ask_number>(5));
  CHECK(mine.op().name().empty());
}

TEST_CASE("T23 T24 suspension: discarded it is used, and used it is not discarded") {
  auto s = coir::step([] { return number(); });
  s.waiting().discard();
  CHECK(s.waiting().resume<ask_number>(1).error() == errc::resumed_twice);
  CHECK_FALSE(s.waiting().try_resume<ask_number>(1));
  s.waiting().discard();
  auto t = coir::step([] { return number() + number(); });
  auto first = std::move(t.waiting());
  auto next = first.resume<ask_number>(1);
  first.discard();
  REQUIRE(next->is_suspended());
  CHECK(next->waiting().resume<ask_number>(2)->value() == 3);
}

TEST_CASE("T25 suspension: the earlier one is dead once the next exists") {
  auto s = coir::step([] { return number() + number(); });
  auto& first = s.waiting();
  auto next = first.resume<ask_number>(1);
  CHECK(first.resume<ask_number>(1).error() == errc::resumed_twice);
  CHECK(next->waiting().resume<ask_number>(2)->value() == 3);
}

TEST_CASE(
    "T26b discard: every effect is refused until the body ends, and its stack ends by itself") {
  int destroyed = 0;
  std::vector<std::error_code> seen;
  bool returned = false;
  {
    auto s = coir::step([&] {
      const counted outer(destroyed);
      [&] {
        const counted inner(destroyed);
        seen.push_back(coir::perform(ask_number{}).error());
      }();
      seen.push_back(coir::perform(tell{}).error());
      coir::handle_effects([&] { seen.push_back(coir::perform(tell{}).error()); },
                           coir::on<tell>([](const tell&) {}));
      returned = true;
      return 1;
    });
    REQUIRE(s.is_suspended());
    CHECK(destroyed == 0);
  }
  CHECK(returned);
  CHECK(destroyed == 2);
  CHECK(seen == std::vector<std::error_code>(3, make_error_code(std::errc::operation_canceled)));
}

TEST_CASE("step: handlers inside the body are asked first, and only what they forward stops it") {
  auto s = coir::step([] {
    return coir::handle_effects([] { return number(1) + number(0) + number(2); },
                                coir::on<ask_number>([](const ask_number& op) {
                                  return op.about == 0 ? dispatched<int>::forward()
                                                       : dispatched<int>::done(op.about);
                                }));
  });
  REQUIRE(s.is_suspended());
  // The handlers of the body are not ours.
  CHECK(coir::perform(ask_number{1}).error() == errc::unhandled_effect);
  CHECK(s.waiting().op().as<ask_number>()->about == 0);
  CHECK(s.waiting().resume<ask_number>(100)->value() == 103);
}

TEST_CASE("step: what leaves the body is kept, and what is caught belongs to the body") {
  auto s = coir::step([]() -> int {
    try {
      throw std::runtime_error("inner");
    } catch (const std::runtime_error&) {
      number();
      throw;
    }
  });
  REQUIRE(s.is_suspended());
  CHECK(std::current_exception() == nullptr);
  auto end = s.waiting().resume<ask_number>(1);
  REQUIRE(end->exception() != nullptr);
  CHECK_THROWS_WITH(std::rethrow_exception(end->exception()), "inner");
}

TEST_CASE("step: errno's value is the computation's own") {
  auto s = coir::step([] {
    errno = 5;
    number();
    return errno;
  });
  errno = 77;
  auto end = s.waiting().resume<ask_number>(1);
  CHECK(errno == 77);
  CHECK(end->value() == 5);
}

TEST_CASE("step: many at once, resumed in another order, and one inside of another") {
  std::vector<coir::suspension<int>> waiting;
  for (int i = 0; i < 200; ++i)
    waiting.push_back(std::move(coir::step([i] { return number(i) * 1000 + i; }).waiting()));
  int sum = 0;
  for (int i = 199; i >= 0; --i) {
    auto end = waiting[static_cast<std::size_t>(i)].resume<ask_number>(1);
    CHECK(end->value() == 1000 + i);
    sum += end->value();
  }
  CHECK(sum == 200 * 1000 + 199 * 100);
  auto nested = coir::step([] {
    auto inner = coir::step([] { return number(1); });
    const int mine = number(2);  // while the inner one waits
    return inner.waiting().resume<ask_number>(10)->value() + mine;
  });
  CHECK(nested.waiting().op().as<ask_number>()->about == 2);
  CHECK(nested.waiting().resume<ask_number>(5)->value() == 15);
}

TEST_CASE("step: a body, or a stack, of the wrong size is refused") {
  auto small = coir::step([] { return 1; }, {.stack_bytes = 64 << 20});
  CHECK(small.error() == std::errc::invalid_argument);
  std::array<char, 32 << 10> large{};
  auto body = coir::step([large] { return large[0]; }, {.stack_bytes = 32 << 10});
  CHECK(body.error() == std::errc::invalid_argument);
}

TEST_CASE("step: on another thread a suspension is refused and kept") {
  auto s = coir::step([] { return number(); });
  std::thread([&] {
    CHECK(s.waiting().resume<ask_number>(1).error() == errc::wrong_thread);
    auto by = script_of(dispatched<int>::done(1));
    auto a = coir::advance(by, std::move(s.waiting()));
    CHECK(a.error == errc::wrong_thread);
    CHECK(by.asked == 0);
    s = std::move(a.state);
  }).join();
  CHECK(s.waiting().resume<ask_number>(2)->value() == 2);
}

TEST_CASE("step: on a fiber, whose parks go on meanwhile") {
  const auto done = coir::run(
      [] {
        std::vector<int> order;
        auto other = coir::spawn([&] {
          for (int i = 0; i < 3; ++i) {
            order.push_back(100 + i);
            coir::this_fiber::yield();
          }
        });
        auto s = coir::step([&] {
          int sum = 0;
          for (int i = 0; i < 3; ++i) {
            coir::this_fiber::yield();  // the fiber that steps gives way
            sum += number(i);
          }
          return sum;
        });
        int steps = 0;
        while (s.is_suspended()) {
          ++steps;
          order.push_back(steps);
          auto next = s.waiting().resume<ask_number>(steps);
          s = std::move(*next);
        }
        CHECK(s.value() == 6);
        CHECK(coir::perform(coir::nop{}));
        CHECK(other.join());
        CHECK(order.size() == 6);
      },
      test::tested({.workers = 1}));
  CHECK(done);
}

TEST_CASE("step: a body that does I/O in blocking style is answered by hand") {
  std::string written;
  auto s = coir::step([] {
    std::array<std::byte, 8> some{};
    std::string all;
    for (;;) {
      const auto n = coir::io::read(3, some);
      if (!n) return std::string("error");
      if (*n == 0) break;
      all.append(reinterpret_cast<const char*>(some.data()), *n);
    }
    (void)coir::io::write_all(4, std::as_bytes(std::span(all)));
    return all;
  });
  int reads = 0;
  while (s.is_suspended()) {
    coir::suspension<std::string> at = std::move(s.waiting());
    if (const auto* read = at.op().as<coir::read_operation>()) {
      const std::string_view text = reads == 0 ? "hello " : reads == 1 ? "world" : "";
      std::memcpy(read->into.data(), text.data(), text.size());
      ++reads;
      s = *at.resume<coir::read_operation>(text.size());
    } else {
      const auto* const write = at.op().as<coir::write_operation>();
      REQUIRE(write != nullptr);
      written.append(reinterpret_cast<const char*>(write->from.data()), 1);
      s = *at.resume<coir::write_operation>(1u);
    }
  }
  CHECK(s.value() == "hello world");
  CHECK(written == "hello world");
}

TEST_CASE(
    "step: a body that another fiber goes on with keeps its handlers, and that fiber its own") {
  test::on_fiber([] {
    const auto answers = [](int n) {
      return coir::on<ask_number>([n](const ask_number&) { return n; });
    };
    std::optional<coir::step_result<int>> state;
    // What its handler asks for goes outward, and so to whoever steps.
    auto first = coir::spawn([&] {
      state.emplace(coir::step([] {
        return coir::handle_effects([] { return number() * 10 + number(); },
                                    coir::on<ask_number>([](const ask_number&) {
                                      CHECK(coir::perform(tell{}).has_value());
                                      return 7;
                                    }));
      }));
      CHECK(coir::handle_effects([] { return number(); }, answers(1)) == 1);
    });
    CHECK(first.join().has_value());
    REQUIRE(state->is_suspended());
    coir::handle_effects(
        [&] {
          auto second = state->waiting().resume<tell>({});
          REQUIRE(second->is_suspended());
          CHECK(number() == 2);
          auto last = second->waiting().resume<tell>({});
          REQUIRE(last->has_value());
          CHECK(last->value() == 77);
          CHECK(number() == 2);
        },
        answers(2));
    CHECK(coir::perform(ask_number{}).error() == errc::unhandled_effect);
  });
}
