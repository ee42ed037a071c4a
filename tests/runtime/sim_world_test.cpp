// sim_world_test.cpp: numbers, and the record of a run.
#include "runtime/sim_world.hpp"

#include <doctest/doctest.h>

using namespace coir::detail;

TEST_CASE("sim_world: the lowest free number is given out again") {
  sim_world world;
  const auto [one, other] = world.connection();
  const int third = world.socket();
  CHECK(one == sim_world::first_fd);
  CHECK(other == one + 1);
  CHECK(third == one + 2);
  world.close(other);
  CHECK(world.open_fds() == 2);
  CHECK(world.listener(80) == other);
  world.close(other);
  world.close(other);
  world.close(-1);
  world.close(0);
  world.close(1'000'000);
  CHECK(world.open_fds() == 2);
}

TEST_CASE("sim_world: the description of a failure holds the seed that repeats it") {
  const sim_world world({.seed = 4711});
  CHECK(world.describe().find("seed 4711") != std::string::npos);
  CHECK(world.events() == 0);
  CHECK_FALSE(world.crashed());
}

TEST_CASE("sim_world: a cut of the power is told once, whether it comes by a call or by an event") {
  sim_world world;
  unsigned told = 0;
  world.crash_after(0, [&] { ++told; });
  CHECK_FALSE(world.crashed());
  world.cut_power();
  world.cut_power();
  CHECK(world.crashed());
  CHECK(told == 1);
}
