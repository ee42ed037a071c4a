// sim_real_test.cpp: who waits for real descriptors, who is told, and what ends a sleep.
//
// Always true:
//   - A sleep that would never end hangs the case, so each is ended by something that is certain.
//
// Comes from: runtime/sim_real.hpp.   Goes to: ctest.
#include "runtime/sim_real.hpp"

#include <doctest/doctest.h>
#include <poll.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include "runtime/sim_world.hpp"

using namespace coir::detail;

namespace {

struct pipe_ends {
  int fd[2];
  pipe_ends() { REQUIRE(::pipe(fd) == 0); }
  ~pipe_ends() {
    ::close(fd[0]);
    ::close(fd[1]);
  }
  void say() { REQUIRE(::write(fd[1], "x", 1) == 1); }
};

using numbers = std::vector<std::uint64_t>;

}  // namespace

TEST_CASE("sim_real: who can go on is told once, in order, and each only by its own name") {
  sim_real real;
  pipe_ends a, b;
  const int me = 0, other = 0;
  real.wait_for(&me, 2, a.fd[0], POLLIN);
  real.wait_for(&me, 1, a.fd[0], POLLIN);
  real.wait_for(&me, 3, b.fd[0], POLLIN);
  real.wait_for(&other, 1, a.fd[0], POLLIN);
  CHECK_FALSE(real.look());
  CHECK(real.take_told(&me).empty());
  a.say();
  CHECK(real.look());
  CHECK(real.anybody_told());
  CHECK_FALSE(real.look());  // nobody new
  CHECK(real.take_told(&me) == numbers{1, 2});
  CHECK(real.take_told(&me).empty());
  CHECK(real.take_told(&other) == numbers{1});
  CHECK_FALSE(real.anybody_told());
  CHECK(real.any());
  real.forget(&me, 3);
  CHECK_FALSE(real.any());
}

TEST_CASE("sim_real: a number that was closed is told, so that whoever waits there learns of it") {
  sim_real real;
  const int me = 0;
  int fd = -1;
  {
    const pipe_ends gone;
    fd = gone.fd[0];
    real.wait_for(&me, 1, fd, POLLIN);
    CHECK_FALSE(real.look());
  }
  CHECK(real.look());
  CHECK(real.take_told(&me) == numbers{1});
}

TEST_CASE("sim_real: a sleep ends by what is waited for, and by a ring before it or during it") {
  sim_real real;
  pipe_ends p;
  const int me = 0;
  real.ring();
  CHECK_FALSE(real.sleep());
  for (int round = 0; round < 100; ++round) {
    std::thread rings([&] { real.ring(); });
    CHECK_FALSE(real.sleep());
    rings.join();
  }
  real.wait_for(&me, 1, p.fd[0], POLLIN);
  p.say();
  while (!real.sleep()) continue;  // the last ring may be told once more
  CHECK(real.take_told(&me) == numbers{1});
}

TEST_CASE("sim_real: who rang and ended before others were asked for is heard") {
  coir::detail::sim_world world;
  world.others_may_come = [&world] {
    world.real.ring();  // the last thing that it does
    return false;
  };
  CHECK(world.sleep_outside());
  world.others_may_come = [] { return false; };
  CHECK_FALSE(world.sleep_outside());  // once
}

TEST_CASE(
    "sim_real: the time of plain threads follows a simulated world that is ahead, and goes on") {
  const std::int64_t hour = 3'600'000'000'000;
  const std::int64_t before = thread_now_ns();
  tell_thread_now(before - hour);
  CHECK(thread_now_ns() >= before);
  CHECK(thread_now_ns() < before + hour);
  tell_thread_now(before + 2 * hour);
  CHECK(thread_now_ns() >= before + 2 * hour);
  CHECK(real_ns_of(thread_now_ns()) < before + hour);
  CHECK(real_ns_of(INT64_MAX) == INT64_MAX);
}
