// b_idle_test.cpp: a worker that has nothing to do sleeps, and looks to the system like one that
// sleeps.
//
// Always true:
//   - What a worker says to the kernel is checked by a filter in a child of its own: one wait that
//     counts as I/O ends the child by SIGSYS.
//   - The filter is shown such a wait, and must end the child.
//
// Comes from: entry B16 of the failure catalogue.   Goes to: runtime/uring.cpp.
#include <doctest/doctest.h>
#include <liburing.h>
#include <unistd.h>

#include "coir/coir.hpp"
#include "runtime/base.hpp"
#include "tests/catalogue/child.hpp"
#include "tests/played_kernel.hpp"
#include "tests/test_options.hpp"

using namespace std::chrono_literals;

namespace {

constexpr unsigned feature_no_iowait = 1u << 17;
constexpr unsigned enter_no_iowait = 1u << 7;

bool kernel_offers_it() {
  io_uring ring{};
  if (io_uring_queue_init(2, &ring, 0) != 0) return false;
  const bool offers = (ring.features & feature_no_iowait) != 0;
  io_uring_queue_exit(&ring);
  return offers;
}

/// From now on an io_uring_enter that waits without the flag ends the process.
bool forbid_waits_for_io() {
  return test::play_kernel(
      {{SYS_io_uring_enter,
        {test::argument(2).is_not(0), test::argument(3).lacks(enter_no_iowait)},
        test::ends_the_process}});
}

}  // namespace

TEST_CASE("B16: a worker that sleeps, with a timer or without, is not counted as waiting for I/O") {
  if (COIR_ASAN || COIR_TSAN) {
    MESSAGE("a sanitizer has threads of its own that wait");
    return;
  }
  if (!kernel_offers_it()) return;
  const test::ending slept = test::in_child([] {
    if (!forbid_waits_for_io()) ::_exit(1);
    const auto done = coir::run(
        [] {
          coir::event rung;
          auto waits = coir::spawn([&] { return rung.wait(); }, {.worker = 1});
          if (!coir::this_fiber::sleep_for(2ms)) return false;
          rung.set();
          return waits.join().has_value();
        },
        test::tested({.workers = 2, .idle_spin = 0us}));
    ::_exit(done.value_or(false) ? 0 : 2);
  });
  CAPTURE(slept.text);
  CHECK(slept.signal == 0);
  CHECK(slept.code == 0);
  const test::ending control = test::in_child([] {
    io_uring ring{};
    if (io_uring_queue_init(2, &ring, 0) != 0 || !forbid_waits_for_io()) ::_exit(1);
    io_uring_prep_nop(io_uring_get_sqe(&ring));
    (void)io_uring_submit_and_wait(&ring, 1);
  });
  CHECK(control.signal == SIGSYS);
}

TEST_CASE("b_idle: B16 a worker that has nothing to do has no turn while its neighbour sleeps") {
  const auto done = coir::run(
      [] {
        const auto other = [] { return coir::snapshot().workers[1].turns; };
        // Worker 1 rests for good when it has rested once after this.
        CHECK(coir::spawn([] {}, {.worker = 1}).join().has_value());
        CHECK(coir::this_fiber::sleep_for(20ms).has_value());
        const std::uint64_t before = other();
        CHECK(coir::this_fiber::sleep_for(200ms).has_value());
        CHECK(other() - before <= 1);
      },
      test::tested({.workers = 2, .idle_spin = std::chrono::microseconds(0)}));
  CHECK(done.has_value());
}

TEST_CASE("b_idle: a worker that has learnt to look around for work sleeps when there is none") {
  COIR_NOT_IN_SIM(processors);
  const auto done = coir::run(
      [] {
        const auto at = [](unsigned worker) { return coir::snapshot().workers[worker]; };
        const auto spins = [&at] { return at(1).spins_won + at(1).spins_lost; };
        // It learns from being woken soon after it slept. On a machine that is busy with others, or
        // that has one processor, it may never do so; what follows is true all the same.
        for (unsigned i = 0; i < 2'000 && spins() < 10; ++i)
          CHECK(coir::spawn([] {}, {.worker = 1}).join().has_value());
        if (spins() == 0) MESSAGE("worker 1 has not learnt to spin");
        const std::uint64_t learnt = spins();
        // Its last spin is lost, and then it rests; who goes to sleep for good is rung for at the
        // next message, and not before.
        for (unsigned i = 0; i < 20; ++i) CHECK(coir::this_fiber::sleep_for(10ms).has_value());
        const coir::worker_stats before = at(1);
        CHECK(before.spins_won + before.spins_lost - learnt <= 20);
        for (unsigned i = 0; i < 20; ++i) CHECK(coir::this_fiber::sleep_for(10ms).has_value());
        const coir::worker_stats after = at(1);
        CHECK(after.turns - before.turns <= 1);
        CHECK(after.sleeps - before.sleeps <= 1);
        CHECK(after.spins_won + after.spins_lost - before.spins_won - before.spins_lost <= 1);
        const std::uint64_t rung = at(0).bells_rung;
        CHECK(coir::spawn([] {}, {.worker = 1}).join().has_value());
        CHECK(at(0).bells_rung > rung);
      },
      test::tested({.workers = 2}));
  CHECK(done.has_value());
}
