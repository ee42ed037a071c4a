// drivers_test.cpp: whoever drives a program, it is the same program: T57, and the laws of T59, on
// random programs.
#include <doctest/doctest.h>

#include <functional>

#include "driven.hpp"
#include "tests/test_options.hpp"

namespace {

using coir::task;
using driven::by_backend;
using driven::by_exec;
using driven::by_fiber;
using driven::by_hand;
using driven::by_handlers;
using driven::by_loop;
using driven::flaw;
using driven::pipes;
using driven::seen;
using random_program::answer;
using random_program::ask_number;
using random_program::memory;
using random_program::program;

// -- who asks -------------------------------------------------------------------------------------

auto blocking(const program& p, memory& m) {
  return [&p, &m] { return random_program::body(p, m); };
}
auto coroutine(const program& p, memory& m) {
  return coir::reflect(random_program::coroutine(p, m));
}
auto blocking_there_and_back(const program& p, memory& m) {
  return coir::reflect(coir::reify(blocking(p, m), random_program::small));
}
auto coroutine_there_and_back(const program& p, memory& m) {
  return coir::reflect(coir::reify(coroutine(p, m), random_program::small));
}

using driver = std::function<seen(const program&)>;
struct named {
  std::string name;
  driver drive;
};

/// A driver of two halves.
template <class Ask, class Answer>
driver of(Ask ask, Answer answer) {
  return [=](const program& p) {
    memory m;
    return answer(ask(p, m), m);
  };
}
#define COIR_DRIVERS_WITH(answered_by)                                                            \
  named{"blocking, " #answered_by,                                                                \
        of(blocking, [](auto body, memory& m) { return answered_by(std::move(body), m); })},      \
      named{"coroutine, " #answered_by,                                                           \
            of(coroutine, [](auto body, memory& m) { return answered_by(std::move(body), m); })}, \
      named{"reflect(reify), " #answered_by,                                                      \
            of(blocking_there_and_back,                                                           \
               [](auto body, memory& m) { return answered_by(std::move(body), m); })},            \
      named {                                                                                     \
    "reify(reflect), " #answered_by, of(coroutine_there_and_back, [](auto body, memory& m) {      \
      return answered_by(std::move(body), m);                                                     \
    })                                                                                            \
  }

/// The four who ask, answered by `answered_by(body, memory)`.
template <class By>
std::vector<named> asked_all_ways(By answered_by) {
  return {{"blocking", of(blocking, answered_by)},
          {"coroutine", of(coroutine, answered_by)},
          {"reflect(reify)", of(blocking_there_and_back, answered_by)},
          {"reify(reflect)", of(coroutine_there_and_back, answered_by)}};
}

std::vector<named> all_drivers() {
  return {COIR_DRIVERS_WITH(by_exec), COIR_DRIVERS_WITH(by_hand), COIR_DRIVERS_WITH(by_handlers),
          COIR_DRIVERS_WITH(by_loop)};
}

constexpr int programs = test::at_full_speed(300, 60);
/// Where each question goes through the system.
constexpr int programs_outside = test::at_full_speed(150, 12);

template <class Each>
void for_programs(unsigned seed, Each each, int count = programs) {
  std::mt19937 dice(seed);
  for (int i = 0; i < count; ++i) each(random_program::make(dice));
}

/// How many programs look different under `drive` than under exec.
int differing(const driver& drive, int count = programs) {
  const driver reference = of(blocking, [](auto b, memory& m) { return by_exec(b, m); });
  int n = 0;
  for_programs(
      57, [&](const program& p) { n += drive(p) == reference(p) ? 0 : 1; }, count);
  return n;
}

int depth_of(const program& p) {
  int most = 0;
  for (const auto& n : p) most = std::max({most, 1 + depth_of(n.inner), 1 + depth_of(n.other)});
  return most;
}

}  // namespace

TEST_CASE("T57 drivers: the programs are deep, and meet everything that a program may meet") {
  constexpr int enough = 300;  // for what is counted below
  int deepest = 0;
  std::size_t longest = 0, raised = 0;
  std::vector<std::string> all;
  const driver reference = of(blocking, [](auto b, memory& m) { return by_exec(b, m); });
  const auto look = [&](const program& p) {
    deepest = std::max(deepest, depth_of(p));
    const seen s = reference(p);
    longest = std::max(longest, s.trace.size());
    raised += s.gave ? 0 : 1;
    for (const auto& each : s.trace) all.push_back(each.substr(0, each.find(':')));
  };
  for_programs(57, look, enough);
  CHECK(deepest >= 12);
  CHECK(deepest <= 17);
  CHECK(longest > 50);
  CHECK(raised > 0);
  CHECK(raised < enough);
  for (const char* what :
       {"asked", "told", "got", "error", "inside", "caught", "release", "clean", "given up"})
    CHECK_MESSAGE(std::ranges::count(all, what) > 10, what);
}

TEST_CASE("T57 drivers: exec, by hand, handlers, a loop, coroutines, and there and back, are one") {
  for (const auto& each : all_drivers()) CHECK_MESSAGE(differing(each.drive) == 0, each.name);
}

TEST_CASE("T57 drivers: on a runtime, too, where what nobody handles goes to the backend") {
  const auto done = coir::run(
      [] {
        for (const auto& each : all_drivers()) {
          auto on_fiber = coir::spawn([&] { return differing(each.drive); });
          CHECK_MESSAGE(on_fiber.join() == 0, each.name);
        }
      },
      test::tested({.workers = 1}));
  CHECK(done);
}

TEST_CASE("T57 drivers: on a runtime each question waits for the outside, on one worker and two") {
  for (const unsigned workers : {1u, 2u}) {
    const auto done = coir::run(
        [workers] {
          const auto by = [workers](auto body, memory& m) {
            pipes through;
            return by_fiber(std::move(body), m, through, workers - 1);
          };
          for (const auto& each : asked_all_ways(by))
            CHECK_MESSAGE(differing(each.drive, programs_outside) == 0, each.name);
          CHECK(differing(of(blocking,
                             [](auto body, memory& m) {
                               pipes through;
                               return by_fiber<1>(std::move(body), m, through, 0);
                             }),
                          programs_outside) > 0);
        },
        test::tested({.workers = workers}));
    CHECK(done);
  }
}

TEST_CASE("T57 drivers: in a loop over a backend of the system's") {
  const auto outside = coir::make_backend(test::tested({}));
  REQUIRE(outside);
  const auto by = [&outside](auto body, memory& m) {
    pipes through;
    return by_backend(std::move(body), m, through, **outside);
  };
  for (const auto& each : asked_all_ways(by))
    CHECK_MESSAGE(differing(each.drive, programs_outside) == 0, each.name);
}

TEST_CASE("T57 drivers: broken ones are noticed") {
  const auto by_flawed = []<flaw F>(std::integral_constant<flaw, F>) {
    return of(blocking, [](auto b, memory& m) { return by_hand<F>(b, m); });
  };
  CHECK(differing(by_flawed(std::integral_constant<flaw, flaw::none>{})) == 0);
  CHECK(differing(by_flawed(std::integral_constant<flaw, flaw::not_now_is_an_error>{})) > 0);
  CHECK(differing(by_flawed(std::integral_constant<flaw, flaw::exceptions_are_errors>{})) > 0);
  CHECK(differing(by_flawed(std::integral_constant<flaw, flaw::asks_twice>{})) > 0);
  CHECK(differing(by_flawed(std::integral_constant<flaw, flaw::errors_are_dropped>{})) > 0);
  CHECK(differing(by_flawed(std::integral_constant<flaw, flaw::gives_up_one_effect>{})) > 0);
  CHECK(differing(of(blocking, [](auto b, memory& m) { return by_loop<1>(b, m); })) > 0);
  const auto forgetful = [](const program& p, memory& m) {
    return coir::reflect(random_program::coroutine<true>(p, m));
  };
  CHECK(differing(of(forgetful, [](auto b, memory& m) { return by_exec(std::move(b), m); })) > 0);
}

// -- T59 ------------------------------------------------------------------------------------------

namespace {

/// m, and then f of its answer: bind, where a body is a computation.
template <class M, class F>
auto then(M m, F f) {
  return [m = std::move(m), f = std::move(f)]() mutable { return f(m())(); };
}
auto pure(answer a) {
  return [a] { return a; };
}
template <class M, class F>
auto mapped(M m, F f) {
  return [m = std::move(m), f = std::move(f)]() mutable { return f(m()); };
}
task<answer> pure_task(answer a) { co_return a; }
template <class F>
task<answer> then_task(task<answer> m, F f) {
  co_return co_await f(co_await std::move(m));
}

/// Whether two ways to make a body out of a program and a memory look the same, for all programs.
template <class A, class B>
int disagree(A a, B b) {
  int n = 0;
  for_programs(59, [&](const program& p) {
    memory ma, mb;
    n += by_exec(a(p, ma), ma) == by_exec(b(p, mb), mb) ? 0 : 1;
  });
  return n;
}

/// Goes on with the same program from where it stands.
auto again(const program& p, memory& m) {
  return [&p, &m](answer a) {
    m.note("between", a ? *a : a.error().what);
    return blocking(p, m);
  };
}
auto again_task(const program& p, memory& m) {
  return [&p, &m](answer a) {
    m.note("between", a ? *a : a.error().what);
    return random_program::coroutine(p, m);
  };
}

}  // namespace

TEST_CASE("T59 laws: bind of bodies has its identities and is associative; map is a functor") {
  CHECK(disagree([](auto& p, auto& m) { return then(pure(answer(7)), again(p, m)); },
                 [](auto& p, auto& m) { return [&] { return again(p, m)(answer(7))(); }; }) == 0);
  CHECK(disagree([](auto& p, auto& m) { return then(blocking(p, m), &pure); }, &blocking) == 0);
  CHECK(disagree(
            [](auto& p, auto& m) { return then(then(blocking(p, m), again(p, m)), again(p, m)); },
            [](auto& p, auto& m) {
              return then(blocking(p, m),
                          [&](answer a) { return then(again(p, m)(a), again(p, m)); });
            }) == 0);
  const auto f = [](answer a) { return a ? answer(*a + 1) : a; };
  const auto g = [](answer a) { return a ? answer(*a * 2) : a; };
  CHECK(disagree([](auto& p, auto& m) { return mapped(blocking(p, m), std::identity()); },
                 &blocking) == 0);
  CHECK(disagree([&](auto& p, auto& m) { return mapped(mapped(blocking(p, m), f), g); },
                 [&](auto& p, auto& m) {
                   return mapped(blocking(p, m), [&](answer a) { return g(f(a)); });
                 }) == 0);
  CHECK(disagree([&](auto& p, auto& m) { return mapped(mapped(blocking(p, m), g), f); },
                 [&](auto& p, auto& m) {
                   return mapped(blocking(p, m), [&](answer a) { return g(f(a)); });
                 }) > 0);
}

TEST_CASE("T59 laws: the same of tasks, and between tasks and bodies") {
  using coir::reflect;
  using random_program::coroutine;
  CHECK(disagree([](auto& p,
                    auto& m) { return reflect(then_task(pure_task(answer(7)), again_task(p, m))); },
                 [](auto& p, auto& m) { return then(pure(answer(7)), again(p, m)); }) == 0);
  CHECK(disagree([](auto& p, auto& m) { return reflect(then_task(coroutine(p, m), &pure_task)); },
                 &blocking) == 0);
  CHECK(disagree(
            [](auto& p, auto& m) {
              return reflect(
                  then_task(then_task(coroutine(p, m), again_task(p, m)), again_task(p, m)));
            },
            [](auto& p, auto& m) {
              return reflect(then_task(coroutine(p, m), [&](answer a) {
                return then_task(again_task(p, m)(a), again_task(p, m));
              }));
            }) == 0);
}

TEST_CASE("T59 laws: a handler that forwards all is none, and two beside each other are nested") {
  const auto forwards = [] {
    return coir::on<ask_number>(
        [](const ask_number&) { return coir::dispatched<long>::forward(); });
  };
  CHECK(disagree(
            [&](auto& p, auto& m) {
              return [&] { return coir::handle_effects(blocking(p, m), forwards()); };
            },
            &blocking) == 0);
  // Those that ask for nothing themselves: some answers here, some there, the rest outside.
  const auto takes = [](long rest, memory& m) {
    return coir::on<ask_number>([rest, &m](const ask_number& op) {
      m.note("taken", rest);
      return op.about % 3 == rest || op.about % 7 == 0
                 ? coir::dispatched<long>::done(op.about + rest)
                 : coir::dispatched<long>::forward();
    });
  };
  const auto beside = [&](long a, long b) {
    return [&takes, a, b](const program& p, memory& m) {
      return [&takes, a, b, &p, &m] {
        return coir::handle_effects(blocking(p, m), takes(a, m), takes(b, m));
      };
    };
  };
  const auto nested = [&](const program& p, memory& m) {
    return [&] {
      return coir::handle_effects([&] { return coir::handle_effects(blocking(p, m), takes(0, m)); },
                                  takes(1, m));
    };
  };
  CHECK(disagree(beside(0, 1), nested) == 0);
  CHECK(disagree(beside(1, 0), nested) > 0);
}
