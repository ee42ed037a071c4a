// handlers_test.cpp: who answers the effects of a body: T6 to T12 for exec, and what handlers may
// do.
#include "coir/handlers.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "coir/coir.hpp"
#include "tests/api/asked.hpp"
#include "tests/test_options.hpp"

namespace {

using coir::dispatched;
using coir::errc;
using coir::result;
using test::ask_number;
using test::number;
using test::script_of;
using test::scripted;
using test::tell;

coir::live_operation alive(int& ends) {
  return coir::live_operation([&ends] { ++ends; });
}

struct refuses_to_fill {
  using value_type = int;
  static constexpr std::string_view name = "test.refuses_to_fill";
  void fill(io_uring_sqe&) const { throw std::runtime_error("no entry"); }
  int complete(std::int32_t res) const noexcept { return res; }
};

}  // namespace

TEST_CASE("T6 exec: a body without effects asks nobody") {
  auto nobody = script_of();
  CHECK(coir::exec(nobody, [] { return 99; }) == 99);
  CHECK(nobody.asked == 0);
}

TEST_CASE("T7 T8 exec: one effect, and two") {
  auto one = script_of(dispatched<int>::done(42));
  CHECK(coir::exec(one, [] { return number(); }) == 42);
  auto two = script_of(dispatched<int>::done(10), dispatched<int>::done(10));
  CHECK(coir::exec(two, [] { return number() + number(); }) == 20);
  CHECK(two.asked == 2);
}

TEST_CASE("T9 exec: who answers not now is asked again until it answers") {
  scripted s;
  coir::event open;
  open.set();
  for (int i = 0; i < 5; ++i) s.script.push_back(dispatched<int>::would_block({.gate = &open}));
  s.script.push_back(dispatched<int>::done(42));
  CHECK(coir::exec(s, [] { return number(); }) == 42);
  CHECK(s.asked == 6);
}

TEST_CASE("T10 exec: an answer with more to come is an answer, and what is alive is ended once") {
  int ends = 0;
  auto s = script_of(dispatched<int>::more(10, alive(ends)), dispatched<int>::done(11));
  CHECK(coir::exec(s, [] { return number() + number(); }) == 21);
  s.script.clear();
  CHECK(ends == 1);
  CHECK(dispatched<int>::more(1, {}).error() == errc::wrong_operation);
}

TEST_CASE("T11 exec: a failure is what perform returns") {
  auto s = script_of(dispatched<int>::failed(make_error_code(std::errc::io_error)));
  CHECK(coir::exec(s, [] { return coir::perform(ask_number{}).error(); }) == std::errc::io_error);
  // Who steps is told which operation it was.
  s = script_of(dispatched<int>::failed(make_error_code(std::errc::io_error)),
                dispatched<int>::done(5));
  auto first = coir::step([] { return number(); });
  auto at = coir::advance(s, std::move(first.waiting()));
  CHECK(at.last == coir::outcome::failure);
  CHECK(at.error == std::errc::io_error);
  REQUIRE(at.state.is_suspended());
  CHECK(at.state.waiting().op().name() == "test.ask_number");
  CHECK(coir::advance(s, std::move(at.state.waiting())).state.value() == 5);
}

TEST_CASE("T12 exec: what the dispatcher does not handle answers unhandled_effect") {
  auto s = script_of();
  CHECK(coir::exec(s, [] { return coir::perform(tell{}).error(); }) == errc::unhandled_effect);
  // The kernel is no part of it, either.
  CHECK(coir::exec(s, [] { return coir::perform(coir::nop{}).error(); }) == errc::unhandled_effect);
  CHECK(coir::perform(tell{}).error() == errc::unhandled_effect);
}

TEST_CASE("handlers: the innermost is asked first, and what it forwards goes outward") {
  std::vector<int> order;
  auto outer = coir::on<ask_number>([&](const ask_number& op) {
    order.push_back(1);
    return op.about + 100;
  });
  auto inner = coir::on<ask_number>([&](const ask_number& op) {
    order.push_back(2);
    return op.about == 0 ? dispatched<int>::done(7) : dispatched<int>::forward();
  });
  const int got = coir::handle_effects(
      [&] { return coir::handle_effects([] { return number(0) + number(5); }, inner); }, outer);
  CHECK(got == 7 + 105);
  CHECK(order == std::vector{2, 2, 1});
}

TEST_CASE("handlers: what a handler asks for itself goes outward") {
  const int got = coir::handle_effects(
      [] {
        return coir::handle_effects(
            [] { return number(1); },
            coir::on<ask_number>([](const ask_number& op) { return number(op.about + 1) * 2; }));
      },
      coir::on<ask_number>([](const ask_number& op) { return op.about + 10; }));
  CHECK(got == 24);
}

TEST_CASE("handlers: of several the one that knows the operation answers, void ones too") {
  int told = 0;
  coir::handle_effects(
      [&] {
        CHECK(number(3) == 4);
        CHECK(coir::perform(tell{9}));
      },
      coir::on<tell>([&](const tell& op) { told = op.what; }),
      coir::on<ask_number>([](const ask_number& op) -> result<int> { return op.about + 1; }));
  CHECK(told == 9);
}

TEST_CASE(
    "handlers: finish ends the body, whose effects are refused, and its stack ends by itself") {
  int destroyed = 0;
  bool went_on = false;
  struct guard {
    int& count;
    ~guard() { ++count; }
  };
  const int got = coir::handle_effects(
      [&] {
        const guard g{destroyed};
        const auto first = coir::perform(ask_number{});
        CHECK(first.error() == std::errc::operation_canceled);
        CHECK(coir::perform(tell{}).error() == std::errc::operation_canceled);
        CHECK(coir::handle_effects([] { return coir::perform(tell{}).error(); },
                                   coir::on<tell>([&](const tell&) { went_on = true; })) ==
              std::errc::operation_canceled);
        return 1;
      },
      coir::on<ask_number>([](const ask_number&) { return dispatched<int>::finish(77); }),
      coir::on<tell>([&](const tell&) { went_on = true; }));
  CHECK(got == 77);
  CHECK(destroyed == 1);
  CHECK_FALSE(went_on);
  CHECK(coir::perform(tell{}).error() == errc::unhandled_effect);
}

TEST_CASE(
    "handlers: after a finish what leaves the body as an exception is dropped, however it runs") {
  const auto body = [] {
    if (!coir::perform(ask_number{})) throw std::runtime_error("its own answer to a refusal");
    return 2;
  };
  auto ends_it =
      coir::on<ask_number>([](const ask_number&) { return dispatched<int>::finish(77); });
  CHECK(coir::handle_effects(body, ends_it) == 77);
  CHECK(coir::exec(ends_it, body) == 77);
  auto begun = coir::step(body);
  auto stepped = coir::advance(ends_it, std::move(begun.waiting()));
  REQUIRE(stepped.state.has_value());
  CHECK(stepped.state.value() == 77);
  bool reached = false;
  auto ends_nothing =
      coir::on<ask_number>([](const ask_number&) { return dispatched<int>::finish(); });
  coir::handle_effects(
      [&] {
        if (!coir::perform(ask_number{})) throw std::runtime_error("as above");
        reached = true;
      },
      ends_nothing);
  CHECK_FALSE(reached);
}

TEST_CASE("handlers: finish with something that the body does not return is refused") {
  const int got = coir::handle_effects(
      [] {
        CHECK(coir::perform(ask_number{}).error() == errc::wrong_operation);
        return 3;
      },
      coir::on<ask_number>([](const ask_number&) { return dispatched<int>::finish(7.5); }));
  CHECK(got == 3);
}

TEST_CASE("handlers: an exception of a handler leaves perform in the body") {
  const int got = coir::handle_effects(
      [] {
        try {
          return number();
        } catch (const std::runtime_error&) {
          return number(1);
        }
      },
      coir::on<ask_number>([](const ask_number& op) -> int {
        if (op.about == 0) throw std::runtime_error("not today");
        return 5;
      }));
  CHECK(got == 5);
}

TEST_CASE("handlers: an exception of the body takes them away") {
  CHECK_THROWS_AS(coir::handle_effects([]() -> int { throw std::logic_error("x"); },
                                       coir::on<ask_number>([](const ask_number&) { return 1; })),
                  std::logic_error);
  CHECK(coir::perform(ask_number{}).error() == errc::unhandled_effect);
}

TEST_CASE("handlers: a policy bounds how often one is asked") {
  coir::event open;
  open.set();
  int asked = 0;
  auto busy = coir::on<ask_number>([&](const ask_number&) {
    return ++asked < 10 ? dispatched<int>::would_block({.gate = &open}) : dispatched<int>::done(1);
  });
  coir::handle_effects(
      [] {
        CHECK(coir::perform(coir::retry<ask_number>{{}, {.attempts_max = 4}}).error() ==
              std::errc::resource_unavailable_try_again);
      },
      busy);
  CHECK(asked == 4);
}

TEST_CASE("handlers: a deadline ends the asking") {
  int asked = 0;
  auto busy = coir::on<ask_number>([&](const ask_number&) {
    ++asked;
    return dispatched<int>::would_block();
  });
  coir::handle_effects(
      [] { CHECK(coir::perform(ask_number{}, coir::no_wait).error() == std::errc::timed_out); },
      busy);
  CHECK(asked == 1);
}

TEST_CASE("handlers: on a fiber calls of io are seen, and what is forwarded reaches the kernel") {
  const auto done = coir::run(
      [] {
        int reads = 0;
        std::byte some[4] = {};
        coir::handle_effects(
            [&] {
              CHECK(coir::io::read(1234, some) == 3u);
              CHECK(coir::perform(coir::nop{}));
              CHECK(coir::io::read(-5, some).error() == std::errc::bad_file_descriptor);
            },
            coir::on<coir::read_operation>([&](const coir::read_operation& op) {
              ++reads;
              if (op.fd < 0) return dispatched<std::size_t>::forward();
              op.into[0] = std::byte{9};
              return dispatched<std::size_t>::done(3);
            }));
        CHECK(reads == 2);
        CHECK(some[0] == std::byte{9});
        // Nothing is left behind.
        CHECK(coir::io::read(-5, some).error() == std::errc::bad_file_descriptor);
        CHECK(reads == 2);
      },
      test::tested({.workers = 1}));
  CHECK(done);
}

TEST_CASE(
    "handlers: sleep and close are effects, and close is asked for when all else is refused") {
  int closed = 0;
  bool slept = false;
  const int got = coir::handle_effects(
      [&] {
        const coir::io::unique_fd fd(4321);
        CHECK(coir::this_fiber::sleep_for(std::chrono::hours(1)));
        CHECK(coir::perform(ask_number{}).error() == std::errc::operation_canceled);
        return 0;
      },
      coir::on<coir::sleep_operation>([&](const coir::sleep_operation&) { slept = true; }),
      coir::on<coir::close_operation>([&](const coir::close_operation& op) { closed += op.fd; }),
      coir::on<ask_number>([](const ask_number&) { return dispatched<int>::finish(1); }));
  CHECK(got == 1);
  CHECK(slept);
  CHECK(closed == 4321);
}

TEST_CASE("handlers: two fibers have each their own, across parks") {
  const auto done = coir::run(
      [] {
        const auto each = [](int mine) {
          return coir::handle_effects(
              [&] {
                int sum = 0;
                for (int i = 0; i < 20; ++i) {
                  coir::this_fiber::yield();
                  sum += number();
                }
                return sum;
              },
              coir::on<ask_number>([mine](const ask_number&) {
                coir::this_fiber::yield();  // a handler may park
                return mine;
              }));
        };
        auto a = coir::spawn([&] { return each(1); });
        auto b = coir::spawn([&] { return each(100); });
        CHECK(coir::perform(ask_number{}).error() == errc::unhandled_effect);
        CHECK(*a.join() == 20);
        CHECK(*b.join() == 2000);
      },
      test::tested({.workers = 1}));
  CHECK(done);
}

TEST_CASE("resumption: an answer from another fiber, and from a thread") {
  const auto done = coir::run(
      [] {
        coir::resumption<int> kept;
        coir::event taken;
        auto asker = coir::spawn([&] {
          return coir::handle_effects(
              [] { return number(); },
              coir::on<ask_number>([&](const ask_number&, coir::dispatch_context<ask_number>& c) {
                kept = c.keep();
                taken.set();
                return dispatched<int>::later();
              }));
        });
        REQUIRE(taken.wait());
        CHECK(kept.resume(11));
        CHECK(kept.resume(12).error() == errc::resumed_twice);
        CHECK_FALSE(kept.try_resume(13));
        CHECK(*asker.join() == 11);
      },
      test::tested({.workers = 1}));
  CHECK(done);
  // On plain threads alone: the asker's thread sleeps.
  std::thread helper;
  const int got = coir::handle_effects(
      [] { return number(); },
      coir::on<ask_number>([&](const ask_number&, coir::dispatch_context<ask_number>& c) {
        helper = std::thread([r = c.keep()]() mutable { (void)r.resume(21); });
        return dispatched<int>::later();
      }));
  helper.join();
  CHECK(got == 21);
}

TEST_CASE("resumption: dropped, or never taken, its effect fails") {
  const auto say_later = [](bool take) {
    return coir::handle_effects(
        [] { return coir::perform(ask_number{}).error(); },
        coir::on<ask_number>([take](const ask_number&, coir::dispatch_context<ask_number>& c) {
          if (take) (void)c.keep();
          return dispatched<int>::later();
        }));
  };
  CHECK(say_later(true) == errc::unhandled_effect);
  CHECK(say_later(false) == errc::unhandled_effect);
}

TEST_CASE("resumption: kept by a handler that answers in another way, it reaches nobody") {
  coir::resumption<int> kept;
  const int got = coir::handle_effects(
      [] { return number(); },
      coir::on<ask_number>([&](const ask_number&, coir::dispatch_context<ask_number>& c) {
        kept = c.keep();
        return dispatched<int>::done(5);
      }));
  CHECK(got == 5);
  CHECK(kept.resume(1).error() == errc::finished);
}

TEST_CASE("resumption: who gave up is not answered any more") {
  coir::resumption<int> kept;
  const auto got = coir::handle_effects(
      [] { return coir::perform(ask_number{}, coir::no_wait).error(); },
      coir::on<ask_number>([&](const ask_number&, coir::dispatch_context<ask_number>& c) {
        kept = c.keep();
        return dispatched<int>::later();
      }));
  CHECK(got == std::errc::timed_out);
  CHECK(kept.resume(1).error() == errc::finished);
}

TEST_CASE("T26 resumption: of a hundred that race one resumes") {
  constexpr int racers = 100;
  for (int round = 0; round < 4; ++round) {
    std::vector<std::thread> threads;
    std::atomic<int> won{0};
    std::atomic<bool> begun{false};  // all are there
    std::shared_ptr<coir::resumption<int>> kept;
    const int got = coir::handle_effects(
        [] { return number(); },
        coir::on<ask_number>([&](const ask_number&, coir::dispatch_context<ask_number>& c) {
          kept = std::make_shared<coir::resumption<int>>(c.keep());
          for (int i = 0; i < racers; ++i) {
            threads.emplace_back([kept, &won, &begun, i] {
              begun.wait(false);
              won += kept->try_resume(i);
            });
          }
          begun = true;
          begun.notify_all();
          return dispatched<int>::later();
        }));
    for (auto& t : threads) t.join();
    CHECK(won == 1);
    CHECK(got >= 0);
  }
}

TEST_CASE("effects: what an operation's own code throws leaves perform, on every road") {
  const auto body = [] {
    const auto refused = [] { (void)coir::perform(refuses_to_fill{}); };
    CHECK_THROWS_AS(refused(), std::runtime_error);
    auto nobody =
        coir::on<coir::nop>([](const coir::nop&) { return coir::dispatched<void>::forward(); });
    CHECK_THROWS_AS(coir::handle_effects(refused, nobody), std::runtime_error);
    CHECK_THROWS_AS((void)coir::start(refuses_to_fill{}), std::runtime_error);
    CHECK(coir::perform(coir::nop{}).has_value());
  };
  CHECK(coir::run(body, test::tested({.workers = 1})).has_value());
}
