// fiber_local_test.cpp: K15: values that are bound around a body, and who finds them.
//
// Comes from: ctest.   Goes to: coir/fiber_local.hpp, runtime/fiber_local.cpp.
#include "coir/fiber_local.hpp"

#include <doctest/doctest.h>

#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "coir/coir.hpp"
#include "tests/api/asked.hpp"
#include "tests/test_options.hpp"

namespace {

using coir::dispatched;
using coir::with_binding;
using test::ask_number;
using test::number;
using test::script_of;
using test::tested;

coir::fiber_local<int> depth(-1);
coir::fiber_local<std::string> user("nobody");

/// Answers with the depth that is bound where it stands.
struct tells_depth {
  using handles = coir::operations<ask_number>;
  dispatched<int> dispatch(const ask_number&, coir::dispatch_context<ask_number>&) {
    return dispatched<int>::done(depth.get());
  }
};

/// Steps `body`, which asks for numbers, inside of a binding of its own.
template <class F>
int step_under(int bound, F body) {
  auto state = with_binding(depth, bound, [&] { return coir::step(std::move(body)); });
  while (state.is_suspended()) {
    auto waits = std::move(state.waiting());
    state =
        with_binding(depth, bound + 1, [&] { return *waits.template try_resume<ask_number>(100); });
  }
  return state.value();
}

}  // namespace

TEST_CASE("K15 fiber_local: the innermost value is found, and the one before when it was left") {
  CHECK(depth.get() == -1);
  CHECK(depth.bound() == nullptr);
  const int sum = with_binding(depth, 1, [] {
    CHECK(user.get() == "nobody");
    const int inner = with_binding(depth, 2, [] {
      return with_binding(user, "ada", [] {
        CHECK(user.get() == "ada");
        return depth.get();
      });
    });
    return 10 * depth.get() + inner;
  });
  CHECK(sum == 12);
  CHECK(depth.get() == -1);
  CHECK_THROWS_AS(with_binding(depth, 3, [] { throw std::runtime_error("out"); }),
                  std::runtime_error);
  CHECK(depth.bound() == nullptr);
}

TEST_CASE("K15 fiber_local: a bound value is a state, and what is told into it is kept") {
  coir::fiber_local<std::vector<int>> told;
  const auto all = with_binding(told, {}, [&] {
    for (int i = 0; i < 3; ++i) told.bound()->push_back(i);
    with_binding(told, {7}, [&] { told.bound()->push_back(8); });
    return told.get();
  });
  CHECK(all == std::vector<int>{0, 1, 2});
}

TEST_CASE("K15 fiber_local: fibers of one worker find their own, whoever runs in between") {
  const auto ended = coir::run(
      [] {
        coir::scope all;
        unsigned right = 0;
        with_binding(depth, 1000, [&] {
          for (int i = 0; i < 20; ++i)
            all.spawn([i, &right] {
              right += depth.get() == -1;  // none of whoever spawned it
              with_binding(depth, i, [&] {
                for (int n = 0; n < 5; ++n) {
                  coir::this_fiber::yield();
                  right += depth.get() == i;
                }
              });
              right += depth.bound() == nullptr;
            });
          CHECK(all.join().has_value());
          CHECK(depth.get() == 1000);
        });
        CHECK(right == 20 * 7);
      },
      tested({.workers = 1}));
  CHECK(ended.has_value());
  std::thread other([] { CHECK(depth.bound() == nullptr); });
  with_binding(depth, 5, [&] { other.join(); });
}

TEST_CASE("K15 fiber_local: a handler finds what is bound around the body it answers for") {
  tells_depth outer, inner;
  const int told = with_binding(depth, 1, [&] {
    return coir::handle_effects(
        [&] {
          return with_binding(depth, 2, [&] {
            const int around = number();  // goes past the binding to the one who answers
            return 100 * around +
                   coir::handle_effects(
                       [] { return with_binding(depth, 3, [] { return number(); }); }, inner);
          });
        },
        outer);
  });
  CHECK(told == 102);
}

TEST_CASE("K15 fiber_local: a computation finds its own, and then those of whoever steps it") {
  CHECK(step_under(10, [] { return depth.get() + number() + depth.get(); }) == 10 + 100 + 11);
  CHECK(step_under(10, [] {
          return with_binding(depth, 1, [] { return depth.get() + number() + depth.get(); });
        }) == 1 + 100 + 1);
  CHECK(depth.bound() == nullptr);
  // One that is ended with its binding takes it along.
  {
    auto state = coir::step([] { return with_binding(depth, 4, [] { return number(); }); });
    REQUIRE(state.is_suspended());
    CHECK(depth.bound() == nullptr);
  }
  CHECK(depth.bound() == nullptr);
}

TEST_CASE("K15 fiber_local: inside of a binding the outside answers as it does without") {
  const auto ended = coir::run(
      [] {
        with_binding(user, "eve", [] {
          CHECK(coir::this_fiber::sleep_for(std::chrono::nanoseconds(1)).has_value());
          char byte = 0;
          CHECK(coir::io::read(-1, std::as_writable_bytes(std::span(&byte, 1))).error() ==
                std::errc::bad_file_descriptor);
          CHECK(coir::perform(ask_number{}).error() == coir::errc::unhandled_effect);
          CHECK(user.get() == "eve");
        });
      },
      tested({.workers = 1}));
  CHECK(ended.has_value());
}
