// coroutine_test.cpp: coroutines that await the operations of fibers, and the ways across.
#include "coir/coroutine.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "coir/coir.hpp"
#include "tests/api/asked.hpp"
#include "tests/test_options.hpp"

namespace {

using coir::dispatched;
using coir::errc;
using coir::result;
using coir::task;
using test::ask_number;
using test::tell;

/// Answers ask_number with about + 1.
auto plus_one() {
  return coir::on<ask_number>([](const ask_number& op) { return op.about + 1; });
}

task<int> number(int about) { co_return (co_await ask_number{about}).value_or(-1); }

struct counted {
  explicit counted(int& n) : count(&n) { ++alive; }
  counted(counted&& from) noexcept : count(from.count) { ++alive; }
  counted(const counted&) = delete;
  ~counted() {
    --alive;
    ++*count;
  }
  int* count;
  static inline int alive = 0;
};

}  // namespace

TEST_CASE("coroutine: it begins when it is driven, and answers like a body") {
  auto by = plus_one();
  bool begun = false;
  const auto make = [&]() -> task<int> {
    begun = true;
    co_return 2 * co_await number(20);
  };
  auto t = make();
  CHECK_FALSE(begun);
  CHECK(coir::exec(by, coir::reflect(std::move(t))) == 42);
  CHECK_FALSE(t);
  const auto nothing = []() -> task<void> { co_return; };
  coir::exec(by, coir::reflect(nothing()));
}

TEST_CASE("coroutine: void effects, errors as values, and nobody who answers") {
  std::vector<int> told;
  auto by = coir::on<tell>([&](const tell& op) { told.push_back(op.what); });
  const auto body = []() -> task<std::error_code> {
    for (int i = 0; i < 3; ++i) CHECK(co_await tell{i});
    co_return (co_await ask_number{}).error();
  };
  CHECK(coir::exec(by, coir::reflect(body())) == errc::unhandled_effect);
  CHECK(told == std::vector{0, 1, 2});
}

TEST_CASE("coroutine: it runs once, and an empty one not at all") {
  auto by = plus_one();
  auto body = coir::reflect(number(1));
  CHECK(coir::exec(by, body) == 2);
  const auto again = [&] {
    try {
      (void)coir::exec(by, body);
    } catch (const std::system_error& e) {
      return e.code();
    }
    return std::error_code();
  };
  CHECK(again() == errc::resumed_twice);
  const auto outer = []() -> task<int> { co_return co_await task<int>(); };
  CHECK_THROWS_AS((void)coir::reflect(outer())(), std::system_error);
}

TEST_CASE("coroutine: never begun it is destroyed once, and moved it is one") {
  int destroyed = 0;
  const auto holds = [](counted held) -> task<int> { co_return *held.count; };
  {
    auto a = holds(counted(destroyed));
    auto b = std::move(a);
    auto& same = b;
    b = std::move(same);
    CHECK(b);
    CHECK_FALSE(a);
    CHECK(counted::alive == 1);
  }
  CHECK(counted::alive == 0);
  { const auto unused = coir::reflect(holds(counted(destroyed))); }
  CHECK(counted::alive == 0);
}

TEST_CASE("coroutine: exceptions pass through those who await, whose destructors run") {
  auto by = plus_one();
  int destroyed = 0;
  const auto inner = [&](int n) -> task<int> {
    const counted here(destroyed);
    if (co_await number(n) == 3) throw std::logic_error("three");
    co_return n;
  };
  const auto outer = [&]() -> task<int> {
    const counted here(destroyed);
    int sum = 0;
    try {
      sum += co_await inner(1);
      sum += co_await inner(2);
    } catch (const std::logic_error&) {
      sum += 100;
    }
    sum += co_await inner(5);
    co_return sum + co_await inner(2);
  };
  destroyed = 0;
  CHECK_THROWS_WITH((void)coir::exec(by, coir::reflect(outer())), "three");
  CHECK(destroyed == 5);
  CHECK(counted::alive == 0);
}

TEST_CASE("coroutine: what a handler throws leaves the co_await, and a body that was reified") {
  auto by = coir::on<ask_number>([](const ask_number& op) -> int {
    if (op.about == 0) throw std::runtime_error("not today");
    return op.about;
  });
  const auto body = []() -> task<int> {
    bool thrown = false;
    try {
      (void)co_await ask_number{0};
    } catch (const std::runtime_error&) {
      thrown = true;
    }
    co_return (co_await ask_number{thrown ? 7 : 1}).value_or(-1);
  };
  CHECK(coir::exec(by, coir::reflect(body())) == 7);
  const auto blocking = [] {
    try {
      return coir::perform(ask_number{0}).value_or(-1);
    } catch (const std::runtime_error&) {
      return coir::perform(ask_number{8}).value_or(-1);
    }
  };
  CHECK(coir::exec(by, coir::reflect(coir::reify(blocking))) == 8);
  CHECK_THROWS_WITH((void)coir::exec(by, coir::reflect(number(0))), "not today");
}

TEST_CASE("coroutine: retry and until do what they do to a fiber") {
  int asked = 0;
  coir::event open;
  open.set();
  coir::deadline seen = coir::never;
  const auto busy = [&](const ask_number&, coir::dispatch_context<ask_number>& c) {
    ++asked;
    seen = c.until();
    return dispatched<int>::would_block({.gate = &open});
  };
  auto by = coir::on<ask_number>(busy);
  const auto body = [&]() -> task<void> {
    const coir::retry<ask_number> four{{}, {.attempts_max = 4}};
    CHECK((co_await four).error() == std::errc::resource_unavailable_try_again);
    CHECK(asked == 4);
    CHECK(seen == coir::never);
    CHECK((co_await coir::until(ask_number{}, coir::no_wait)).error() == std::errc::timed_out);
    CHECK(asked == 5);
    CHECK(seen == coir::no_wait);
    CHECK((co_await coir::until(four, coir::no_wait)).error() == std::errc::timed_out);
    CHECK(asked == 6);
  };
  coir::exec(by, coir::reflect(body()));
  CHECK(asked == 6);
}

TEST_CASE("coroutine: a million awaits in a row, and a chain of a hundred thousand, in 16 KiB") {
  constexpr int many = test::at_full_speed(1'000'000, 50'000);
  constexpr int deep = test::at_full_speed(100'000, 10'000);
  struct recursion {
    static task<int> down(int n) {
      if (n == 0) co_return (co_await ask_number{0}).value_or(-1);
      co_return 1 + co_await down(n - 1);
    }
    static task<int> up(int n) {
      if (n == 0) throw std::logic_error("the bottom");
      co_return co_await up(n - 1);
    }
  };
  const auto loop = []() -> task<int> {
    int sum = 0;
    for (int i = 0; i < many; ++i) {
      const auto one = [](int k) -> task<int> { co_return k & 1; };
      sum += co_await one(i);
      if (i % 4 == 0) sum += (co_await ask_number{0}).value_or(-100);
    }
    co_return sum;
  };
  // No effect leaves the bodies, so each ends in its first step.
  const auto on_small_stack = [](auto body) {
    auto s = coir::step(
        [&] {
          auto by = plus_one();
          return coir::exec(by, coir::reflect(body()));
        },
        {.stack_bytes = 32 << 10});
    if (s.exception()) std::rethrow_exception(s.exception());
    return s.value();
  };
  CHECK(on_small_stack(loop) == many / 2 + many / 4);
  CHECK(on_small_stack([] { return recursion::down(deep); }) == deep + 1);
  CHECK_THROWS_WITH((void)on_small_stack([] { return recursion::up(deep); }), "the bottom");
}

TEST_CASE("coroutine: on a fiber the runtime answers it, and it parks its driver alone") {
  const auto done = coir::run(
      [] {
        std::array<int, 2> fds{};
        REQUIRE(::pipe(fds.data()) == 0);
        const coir::io::unique_fd in(fds[0]);
        const auto read_all = [](int fd) -> task<std::string> {
          std::array<std::byte, 4> some{};
          std::string all;
          for (;;) {
            const auto n = co_await coir::read_operation(fd, some);
            if (!n || *n == 0) break;
            all.append(reinterpret_cast<const char*>(some.data()), *n);
          }
          co_return all;
        };
        auto reader = coir::spawn(coir::reflect(read_all(in.get())));
        const auto write_all = [](int fd) -> task<result<>> {
          for (const std::string_view text : {"hel", "lo ", "world"}) {
            const auto n = co_await coir::write_operation(fd, std::as_bytes(std::span(text)));
            if (!n) co_return coir::fail(n.error());
          }
          (void)co_await coir::close_operation{fd};
          co_return result<>();
        };
        auto writer = coir::spawn(coir::reflect(write_all(fds[1])));
        CHECK(writer.join());
        CHECK(*reader.join() == "hello world");
        CHECK(coir::reflect(
            []() -> task<bool> { co_return (co_await coir::nop{}).has_value(); }())());
      },
      test::tested({.workers = 1}));
  CHECK(done);
}

TEST_CASE("coroutine: a cancel, and a discard, make what it awaits fail, and it runs to its end") {
  int destroyed = 0;
  coir::event begun;
  const auto body = [&](int fd) -> task<int> {
    const counted here(destroyed);
    begun.set();
    std::array<std::byte, 4> lent{};
    CHECK((co_await coir::read_operation(fd, lent)).error() == std::errc::operation_canceled);
    CHECK((co_await coir::nop{}).error() == std::errc::operation_canceled);
    co_return 5;
  };
  const auto done = coir::run(
      [&] {
        std::array<int, 2> fds{};
        REQUIRE(::pipe(fds.data()) == 0);
        const coir::io::unique_fd in(fds[0]), out(fds[1]);
        auto reader = coir::spawn(coir::reflect(body(in.get())));
        REQUIRE(begun.wait());
        reader.cancel();
        CHECK(reader.join() == 5);
      },
      test::tested({.workers = 1}));
  CHECK(done);
  CHECK(destroyed == 1);
  {
    auto s = coir::step(body(3));
    REQUIRE(s.is_suspended());
    CHECK(s.waiting().op().is<coir::read_operation>());
    CHECK(destroyed == 1);
  }
  CHECK(destroyed == 2);
  // And a body that a task stands in for.
  {
    auto s = coir::step(coir::reify([&] {
      const counted here(destroyed);
      return coir::perform(ask_number{}).error() == std::errc::operation_canceled ? 1 : 2;
    }));
    REQUIRE(s.is_suspended());
    s.waiting().discard();
  }
  CHECK(destroyed == 3);
  CHECK(counted::alive == 0);
}

TEST_CASE("coroutine: by hand, one effect at a time") {
  auto by = plus_one();
  const auto body = []() -> task<int> { co_return co_await number(1) * co_await number(2); };
  auto s = coir::step(body());
  std::vector<int> seen;
  while (s.is_suspended()) {
    seen.push_back(s.waiting().op().as<ask_number>()->about);
    auto at = coir::advance(by, std::move(s.waiting()));
    s = std::move(at.state);
  }
  CHECK(seen == std::vector{1, 2});
  CHECK(s.value() == 6);
}

TEST_CASE("coroutine: a body that was reified keeps its handlers, its stack and its errors") {
  auto by = plus_one();
  const auto inner = [](int n) {
    return coir::handle_effects(
        [&] {
          std::array<int, 500> own{};
          own[7] = coir::perform(ask_number{n}).value_or(-1);
          return coir::perform(tell{own[7]}) ? own[7] : -1;
        },
        coir::on<tell>([](const tell& op) {
          CHECK(coir::perform(ask_number{op.what}) == op.what + 1);  // outward, through the task
        }));
  };
  const auto outer = [&]() -> task<int> {
    int sum = 0;
    for (int i = 0; i < 3; ++i) sum += co_await coir::reify([&, i] { return inner(i); });
    co_return sum;
  };
  CHECK(coir::exec(by, coir::reflect(outer())) == 6);
  const auto throws = []() -> int { throw std::logic_error("of the body"); };
  CHECK_THROWS_WITH((void)coir::reflect(coir::reify(throws))(), "of the body");
  const auto refused = [] { return coir::reify([] { return 1; }, {.stack_bytes = 64 << 20}); };
  CHECK_THROWS_AS((void)coir::reflect(refused())(), std::system_error);
  coir::reflect(coir::reify([] {}))();
}

TEST_CASE("coroutine: what is raised is caught around a task") {
  auto by = plus_one();
  const auto raises = []() -> task<int> {
    const int n = co_await number(1);
    coir::raise(std::to_string(n));
  };
  const auto outer = [&]() -> task<std::string> {
    const auto got = co_await coir::run_catching<std::string>(raises());
    const auto fine = co_await coir::run_catching<std::string>(number(5));
    co_return got.error() + std::to_string(*fine);
  };
  CHECK(coir::exec(by, coir::reflect(outer())) == "26");
  CHECK(coir::catch_error<std::string>([&] { return coir::exec(by, coir::reflect(raises())); },
                                       [](const std::string& e) { return std::stoi(e) + 40; }) ==
        42);
}
