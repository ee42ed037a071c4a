// float_test.cpp: how a fiber rounds is its own when it says so, and ends with it in any case.
//
// Always true:
//   - Float fibers and others yield to each other; each notes what it finds, the test case judges.
//   - The successor in place runs on the very stack that its predecessor left, which is checked;
//     under the thread sanitizer, where every fiber is one of its own, none begins in place.
#include <doctest/doctest.h>

#include <cstdint>
#include <exception>

#include "arch/float_control.hpp"
#include "tests/arch/float_controls.hpp"
#include "tests/sim/in_sim.hpp"

using coir::test::float_controls;
using sim_test::run_in_sim;
using sim_world = coir::detail::sim_world;

namespace {

/// Where this call stands, to tell stacks apart.
[[gnu::noinline]] std::uintptr_t frame() {
  return reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
}

}  // namespace

TEST_CASE("float: A7 a fiber that ends with rounding up leaves its successor in place the start") {
  sim_world world;
  const auto before = float_controls::now();
  std::uintptr_t on_stack[3] = {};
  float_controls found[3];
  const auto done = run_in_sim(world, [&] {
    coir::scope all;
    for (int i = 0; i < 3; ++i) {
      all.spawn([&, i] {
        on_stack[i] = frame();
        found[i] = float_controls::exactly_now();
        (i == 0 ? float_controls::rounding_up() : float_controls::pattern(3)).load();
      });
    }
    return all.join();
  });
  before.load();
  REQUIRE(done.has_value());
  if (!COIR_TSAN) {
    CHECK(on_stack[0] == on_stack[1]);
    CHECK(on_stack[0] == on_stack[2]);
  }
  CHECK(found[1] == float_controls::at_start());
  CHECK(found[2] == float_controls::at_start());
}

TEST_CASE("float: A7 a fiber that starts while another one is parked rounding up finds the start") {
  sim_world world;
  const auto before = float_controls::now();
  float_controls found{};
  const auto done = run_in_sim(world, [&] {
    coir::scope all;
    coir::event seen;
    all.spawn([&] {
      float_controls::rounding_up().load();
      (void)seen.wait();
      float_controls::at_start().load();
    });
    all.spawn([&] {
      found = float_controls::exactly_now();
      seen.set();
    });
    return all.join();
  });
  before.load();
  REQUIRE(done.has_value());
  CHECK(found == float_controls::at_start());
}

TEST_CASE(
    "float: each float fiber rounds as it did before it parked, everybody else as at the start") {
  sim_world world;
  const auto before = float_controls::now();
  constexpr int rounds = 1'000;
  unsigned wrong = 0;
  const auto done = run_in_sim(world, [&] {
    coir::scope all;
    for (unsigned id = 0; id < 6; ++id) {
      const bool is_float = id % 3 != 2;
      const auto kind =
          id % 2 == 0 ? coir::switcher::same_thread_float : coir::switcher::cross_thread_float;
      all.spawn(
          [&, id, is_float] {
            wrong += !(float_controls::exactly_now() == float_controls::at_start());
            const auto mine = is_float ? float_controls::pattern(id) : float_controls::at_start();
            mine.load();
            for (int i = 0; i < rounds; ++i) {
              if (i % 16 == static_cast<int>(id)) {
                wrong += !coir::this_fiber::sleep_for(std::chrono::nanoseconds(50)).has_value();
              } else {
                coir::this_fiber::yield();
              }
              wrong += !(float_controls::now() == mine);
            }
          },
          {.sw = is_float ? kind : coir::switcher::same_thread_no_float});
    }
    return all.join();
  });
  const auto after = float_controls::now();
  before.load();
  REQUIRE(done.has_value());
  CHECK(wrong == 0);
  CHECK(after == before);  // the loop is nobody's float
}

TEST_CASE("float: a float fiber that ends rounding up leaves those who are parked the start") {
  sim_world world;
  const auto before = float_controls::now();
  unsigned wrong = 0;
  const auto done = run_in_sim(world, [&] {
    coir::scope all;
    coir::event seen;
    for (int i = 0; i < 3; ++i)
      all.spawn([&] {
        (void)seen.wait();
        wrong += !(float_controls::exactly_now() == float_controls::at_start());
      });
    all.spawn(
        [&] {
          coir::this_fiber::yield();
          float_controls::rounding_up().load();
          seen.set();  // they are ready, and next
        },
        {.sw = coir::switcher::same_thread_float});
    return all.join();
  });
  before.load();
  REQUIRE(done.has_value());
  CHECK(wrong == 0);
}

TEST_CASE("float: an exception in a float fiber keeps both its own") {
  sim_world world;
  const auto before = float_controls::now();
  unsigned wrong = 0;
  const auto done = run_in_sim(world, [&] {
    coir::scope all;
    for (unsigned id = 0; id < 4; ++id)
      all.spawn(
          [&, id] {
            const auto mine =
                id % 2 == 0 ? float_controls::pattern(id) : float_controls::at_start();
            mine.load();
            try {
              throw id;
            } catch (unsigned) {
              coir::this_fiber::yield();
              wrong += !(float_controls::now() == mine);
              try {
                throw;
              } catch (unsigned caught) {
                wrong += caught != id;
              }
            }
            coir::this_fiber::yield();
            wrong += !(float_controls::now() == mine) + static_cast<bool>(std::current_exception());
          },
          {.sw = id % 2 == 0 ? coir::switcher::same_thread_float
                             : coir::switcher::same_thread_no_float});
    return all.join();
  });
  before.load();
  REQUIRE(done.has_value());
  CHECK(wrong == 0);
}
