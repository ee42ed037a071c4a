// float_test.cpp: how a fiber rounds ends with the fiber.
//
// Always true:
//   - The successor in place runs on the very stack that its predecessor left, which is checked;
//     under the thread sanitizer, where every fiber is one of its own, none begins in place.
#include <doctest/doctest.h>

#include <cstdint>

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
