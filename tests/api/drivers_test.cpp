// drivers_test.cpp: whoever drives a program, it is the same program: T57, and the laws of T59, on
// random programs.
#include <doctest/doctest.h>

#include <functional>
#include <optional>

#include "random_program.hpp"
#include "scripted_outside.hpp"
#include "tests/test_options.hpp"

namespace {

using coir::errc;
using coir::task;
using random_program::answer;
using random_program::ask_number;
using random_program::memory;
using random_program::program;
using random_program::trouble;

/// All that one can see of a run.
struct seen {
  answer gave;
  std::vector<std::string> trace;
  friend bool operator==(const seen&, const seen&) = default;
};

// -- who answers ----------------------------------------------------------------------------------

template <class F>
seen by_exec(F body, memory& m) {
  random_program::dispatcher by(m);
  auto gave = coir::exec(by, body);
  return {gave, m.trace};
}

/// On whatever fiber or thread this is; what nobody handles goes to the backend.
template <class F>
seen by_handlers(F body, memory& m) {
  random_program::dispatcher by(m);
  auto gave = coir::handle_effects(body, by);
  return {gave, m.trace};
}

enum class flaw {
  none,
  not_now_is_an_error,
  exceptions_are_errors,
  asks_twice,
  errors_are_dropped
};

template <flaw Flaw = flaw::none, class F>
seen by_hand(F body, memory& m) {
  random_program::dispatcher by(m);
  auto at = coir::step(std::move(body), {.stack_bytes = 128 << 10});
  while (at.is_suspended()) {
    auto held = std::move(at.waiting());
    std::exception_ptr thrown;
    std::optional<coir::advanced<answer>> next;
    if (Flaw == flaw::asks_twice) ++by.asked;
    try {
      next.emplace(coir::advance(by, std::move(held)));
    } catch (...) {
      thrown = std::current_exception();
    }
    if (thrown != nullptr) {
      at = Flaw == flaw::exceptions_are_errors ? held.resume_failing(errc::finished)
                                               : held.resume_throwing(std::move(thrown));
    } else if (next->last == coir::outcome::failure && Flaw != flaw::errors_are_dropped) {
      at = next->state.waiting().resume_failing(next->error);
    } else if (next->last == coir::outcome::failure) {
      at = next->state.waiting().resume_failing({});
    } else if (next->last == coir::outcome::would_block && Flaw == flaw::not_now_is_an_error) {
      at = next->state.waiting().resume_failing(errc::finished);
    } else {
      at = std::move(next->state);
    }
  }
  return {at.value(), m.trace};
}

/// To a backend and back: each number that was an answer is one of its completions.
struct wire {
  using value_type = long;
  static constexpr std::string_view name = "random.wire";
  void fill(io_uring_sqe& entry) const {
    entry.opcode = IORING_OP_NOP;
    entry.len = static_cast<unsigned>(value);
  }
  long complete(std::int32_t res) const { return res; }
  long value;
};
struct wired : random_program::dispatcher {
  using dispatcher::dispatch;
  using dispatcher::dispatcher;
  coir::dispatched<long> dispatch(const ask_number& op, coir::dispatch_context<ask_number>& c) {
    auto said = dispatcher::dispatch(op, c);
    if (said.kind() != coir::outcome::ok) return said;
    const auto got = coir::perform(wire{said.value()});
    return got ? coir::dispatched<long>::done(*got) : coir::dispatched<long>::failed(got.error());
  }
};

/// In a loop, whose backend answers what is added to `off`; 0, or it is a broken one.
template <long Off = 0, class F>
seen by_loop(F body, memory& m) {
  test::scripted_outside outside;
  auto loop = coir::loop::make(outside);
  wired by(m);
  auto one = loop->submit([&] { return coir::handle_effects(body, by); });
  while (!one.done()) {
    REQUIRE(outside.flying.size() == 1);
    outside.answer(outside.flying.front().name,
                   outside.flying.front().about + static_cast<std::int32_t>(Off));
    REQUIRE(loop->poll());
  }
  return {*one.get(), m.trace};
}

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
  const char* name;
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

std::vector<named> all_drivers() {
  return {COIR_DRIVERS_WITH(by_exec), COIR_DRIVERS_WITH(by_hand), COIR_DRIVERS_WITH(by_handlers),
          COIR_DRIVERS_WITH(by_loop)};
}

constexpr int programs = test::at_full_speed(300, 60);

template <class Each>
void for_programs(unsigned seed, Each each) {
  std::mt19937 dice(seed);
  for (int i = 0; i < programs; ++i) each(random_program::make(dice));
}

/// How many programs look different under `drive` than under exec.
int differing(const driver& drive) {
  const driver reference = of(blocking, [](auto b, memory& m) { return by_exec(b, m); });
  int n = 0;
  for_programs(57, [&](const program& p) { n += drive(p) == reference(p) ? 0 : 1; });
  return n;
}

int depth_of(const program& p) {
  int most = 0;
  for (const auto& n : p) most = std::max({most, 1 + depth_of(n.inner), 1 + depth_of(n.other)});
  return most;
}

}  // namespace

TEST_CASE("T57 drivers: the programs are deep, and meet everything that a program may meet") {
  int deepest = 0;
  std::size_t longest = 0, raised = 0;
  std::vector<std::string> all;
  const driver reference = of(blocking, [](auto b, memory& m) { return by_exec(b, m); });
  for_programs(57, [&](const program& p) {
    deepest = std::max(deepest, depth_of(p));
    const seen s = reference(p);
    longest = std::max(longest, s.trace.size());
    raised += s.gave ? 0 : 1;
    for (const auto& each : s.trace) all.push_back(each.substr(0, each.find(':')));
  });
  CHECK(deepest >= 12);
  CHECK(deepest <= 17);
  CHECK(longest > 50);
  CHECK(raised > 0);
  CHECK(raised < programs);
  for (const char* what : {"asked", "told", "got", "error", "inside", "caught", "release", "clean"})
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

TEST_CASE("T57 drivers: broken ones are noticed") {
  const auto by_flawed = []<flaw F>(std::integral_constant<flaw, F>) {
    return of(blocking, [](auto b, memory& m) { return by_hand<F>(b, m); });
  };
  CHECK(differing(by_flawed(std::integral_constant<flaw, flaw::none>{})) == 0);
  CHECK(differing(by_flawed(std::integral_constant<flaw, flaw::not_now_is_an_error>{})) > 0);
  CHECK(differing(by_flawed(std::integral_constant<flaw, flaw::exceptions_are_errors>{})) > 0);
  CHECK(differing(by_flawed(std::integral_constant<flaw, flaw::asks_twice>{})) > 0);
  CHECK(differing(by_flawed(std::integral_constant<flaw, flaw::errors_are_dropped>{})) > 0);
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
