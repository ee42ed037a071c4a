// sleepers_test.cpp: a hundred thousand messages, each to a worker that sleeps until it is rung.
//
// Always true:
//   - Nothing here has a time-out that would hide a lost message: a case that loses one never ends.
//
// Comes from: forced_sleep.hpp.   Goes to: runtime/bell.hpp, runtime/worker.cpp.
#include <doctest/doctest.h>

#include <sys/syscall.h>
#include <unistd.h>

#include <thread>

#include "tests/catalogue/process_facts.hpp"
#include "tests/life/forced_sleep.hpp"
#include "tests/test_options.hpp"

using test::at_full_speed;
using test::message;
using test::tested;

namespace {

/// That each of them arrives. In all there are a hundred thousand.
void all_arrive(message kind) {
  constexpr std::uint64_t count = at_full_speed(16'700u, 700u);
  auto made = coir::runtime::create(tested(test::sleepy_options()));
  REQUIRE(made.has_value());
  coir::runtime& rt = **made;
  REQUIRE(rt.start().has_value());
  test::sleep_messages messages(rt, [](auto arrived) {
    while (!arrived()) std::this_thread::yield();
    return true;
  });
  CHECK(messages.send(kind, count) == count);
  CHECK(rt.shutdown().has_value());
  const auto sums = rt.snapshot().workers[test::receiver];
  CHECK(sums.sleeps >= count);
  CHECK(sums.spins_won + sums.spins_lost == 0);
}

}  // namespace

TEST_CASE("sleepers: a wake by a fiber of another worker reaches each that sleeps") {
  all_arrive(message::wake_by_fiber);
}
TEST_CASE("sleepers: a spawn by a fiber of another worker reaches each that sleeps") {
  all_arrive(message::spawn_by_fiber);
}
TEST_CASE("sleepers: a cancel by a fiber of another worker reaches each that sleeps") {
  all_arrive(message::cancel_by_fiber);
}
TEST_CASE("sleepers: a wake by a plain thread reaches each that sleeps") {
  all_arrive(message::wake_by_thread);
}
TEST_CASE("sleepers: a spawn by a plain thread reaches each that sleeps") {
  all_arrive(message::spawn_by_thread);
}
TEST_CASE("sleepers: a cancel by a plain thread reaches each that sleeps") {
  all_arrive(message::cancel_by_thread);
}

TEST_CASE("sleepers: who waits for the end sleeps on while two workers wake each other by turns") {
  constexpr std::uint64_t laps = at_full_speed(4'000u, 1'000u);
  const auto waits = ::syscall(SYS_gettid);
  std::uint64_t woken = 0;
  const auto done = coir::run(
      [&] {
        coir::event ping, pong;
        auto far = coir::spawn(
            [&] {
              for (std::uint64_t lap = 0; lap < laps && ping.wait(); ++lap) {
                ping.reset();
                pong.set();
              }
            },
            {.worker = 1});
        const std::uint64_t before = test::sleeps_of_thread(waits);
        for (std::uint64_t lap = 0; lap < laps; ++lap) {
          ping.set();
          if (!pong.wait()) break;
          pong.reset();
        }
        woken = test::sleeps_of_thread(waits) - before;
        (void)far.join();
      },
      tested({.workers = 2, .idle_spin = std::chrono::microseconds(0)}));
  CHECK(done.has_value());
  CHECK(woken < laps / 20);
}
