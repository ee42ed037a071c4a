// time_test.cpp: virtual time: exact, free of charge, and nobody else's.
//
// Always true:
//   - No case reads a clock of the machine.
#include <array>
#include <climits>
#include <set>

#include "in_sim.hpp"
#include "runtime/base.hpp"

using namespace sim_test;
using namespace std::chrono_literals;

TEST_CASE("E5: time passes only while everybody waits, and exactly as long as asked for") {
  sim_world world;
  const auto ended = run_in_sim(world, [] {
    const std::int64_t start = now_ns();
    volatile std::uint64_t work = 0;
    for (int i = 0; i < 1'000'000; ++i) work = work + 1;
    CHECK(now_ns() == start);
    for (int i = 0; i < 1000; ++i) coir::this_fiber::yield();
    CHECK(now_ns() == start);
    REQUIRE(coir::this_fiber::sleep_for(24h * 365).has_value());
    CHECK(now_ns() - start == std::chrono::nanoseconds(24h * 365).count());
    REQUIRE(coir::this_fiber::sleep_for(1ns).has_value());
    CHECK(now_ns() - start == std::chrono::nanoseconds(24h * 365).count() + 1);
  });
  CHECK(ended.has_value());
}

TEST_CASE("time: a deadline ends an operation at its nanosecond, not before and not after") {
  sim_world world;
  const int end = world.connection().first;
  const auto ended = run_in_sim(world, [&] {
    for (const auto d : {1ns, 2ns, 63ns, 64ns, 4095ns, 4096ns, 1'000'000'007ns}) {
      const std::int64_t start = now_ns();
      std::array<std::byte, 4> buffer{};
      const auto answer = coir::io::recv(end, buffer, 0, coir::in(d));
      CHECK(answer.error() == std::errc::timed_out);
      CHECK(now_ns() - start == d.count());
    }
  });
  CHECK(ended.has_value());
}

namespace {

/// An answer that sleeps where it is moved to, when a part of it stands there already.
struct slow_mover {
  std::array<std::int64_t, 6> numbers = {1, 2, 3, 4, 5, 6};
  slow_mover() = default;
  slow_mover(slow_mover&& from) noexcept : numbers(from.numbers) {
    (void)coir::this_fiber::sleep_for(1us);
  }
};

}  // namespace

TEST_CASE(
    "time: a deadline never lies where an answer is being put, or a closure, small or large") {
  sim_world world;
  const auto ended = run_in_sim(world, [] {
    const slow_mover never_moved;
    const auto all = coir::spawn([] { return slow_mover(); }).join();
    REQUIRE(all.has_value());
    CHECK(all->numbers == never_moved.numbers);
    const std::array<std::int64_t, 7> large = {1, 2, 3, 4, 5, 6, 7};
    const std::array<std::int64_t, 4> small = {1, 2, 3, 4};
    const auto sum = [](const auto& numbers) {
      std::int64_t got = 0;
      for (const std::int64_t n : numbers) {
        REQUIRE(coir::this_fiber::sleep_for(1us).has_value());
        got += n;
      }
      return got;
    };
    CHECK(coir::spawn([large, sum] { return sum(large); }).join().value() == 28);
    CHECK(coir::spawn([small, sum] { return sum(small); }).join().value() == 10);
  });
  CHECK(ended.has_value());
}

TEST_CASE("time: an operation that takes exactly until its deadline may end either way, once") {
  unsigned in_time = 0, late = 0;
  for (std::int64_t takes = 99; takes <= 101; ++takes) {
    sim_world world;
    world.rule({.opcode = IORING_OP_NOP, .delay_ns = takes});
    const auto ended = run_in_sim(world, [&] {
      const auto answer = coir::perform(coir::nop{}, coir::in(100ns));
      ++(answer ? in_time : late);
      if (takes < 100) CHECK(answer.has_value());
      if (takes > 100) CHECK(answer.error() == std::errc::timed_out);
    });
    CHECK(ended.has_value());
  }
  CHECK(in_time + late == 3);
}

TEST_CASE("time: a million sleepers wake in the order of their deadlines") {
  // A sleeper costs a page of stack; a sanitizer multiplies that.
  constexpr std::int64_t sleepers = COIR_ASAN || COIR_TSAN ? 10'000 : 1'000'000;
  sim_world world;
  coir::options o = small();
  o.fibers_max = sleepers + 16;
  o.stack_bytes = 16 << 10;
  o.guards = coir::guard::none;
  std::int64_t woken = 0, wrong = 0, last = 0;
  const auto ended = run_in_sim(
      world,
      [&] {
        const std::int64_t start = now_ns();
        for (std::int64_t i = 0; i < sleepers; ++i) {
          // Every nanosecond of the span once, in an order that jumps about.
          const std::int64_t until = start + 10'000'000 + i * 700'001 % sleepers;
          coir::spawn([&, until] {
            if (!coir::this_fiber::sleep_until(coir::deadline(std::chrono::nanoseconds(until))))
              ++wrong;
            if (now_ns() != until || until < last) ++wrong;
            last = until;
            ++woken;
          }).detach();
        }
      },
      o);
  REQUIRE(ended.has_value());
  CHECK(woken == sleepers);
  CHECK(wrong == 0);
}

TEST_CASE("deadlock: fibers that nothing can wake end the run with errc::deadlock, and are named") {
  sim_world world;
  std::vector<std::string> log;
  coir::event never_set;
  unsigned cancelled = 0;
  const int silent = world.connection().first;
  const auto ended = run_in_sim(
      world,
      [&] {
        auto waits = coir::spawn(
            [&] { cancelled += never_set.wait().error() == std::errc::operation_canceled ? 1 : 0; },
            {.name = "waits for ever"});
        auto reads = coir::spawn(
            [&] {
              std::array<std::byte, 4> buffer{};
              const auto n = coir::io::recv(silent, buffer);
              cancelled += n.error() == std::errc::operation_canceled ? 1 : 0;
            },
            {.name = "reads silence"});
        (void)waits.join();
        (void)reads.join();
      },
      small(), &log);
  CHECK(ended.error() == coir::errc::deadlock);
  CHECK(cancelled == 2);
  std::string all;
  for (const auto& line : log) all += line;
  CHECK(all.find("waits for ever") != std::string::npos);
  CHECK(all.find("reads silence") != std::string::npos);
}

TEST_CASE("deadlock: a sleeper is no deadlock, however long it sleeps") {
  sim_world world;
  const auto ended = run_in_sim(world, [] {
    coir::event done;
    auto setter = coir::spawn([&] {
      REQUIRE(coir::this_fiber::sleep_for(24h).has_value());
      done.set();
    });
    CHECK(done.wait().has_value());
    REQUIRE(setter.join().has_value());
  });
  CHECK(ended.has_value());
}
