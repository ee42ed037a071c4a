// b_bell_test.cpp: the bell of a worker is an eventfd that its own ring polls: it must be heard
// even while that ring has no place for completions.
//
// Always true:
//   - A bell that is lost is seen as a wait that never ends, and so is one that is not armed again.
//   - Each case says that the queue really did overflow.
//
// Comes from: entry B3 of the failure catalogue.   Goes to: runtime/uring.cpp.
#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "coir/coir.hpp"
#include "runtime/uring.hpp"
#include "tests/test_options.hpp"

using namespace coir::detail;
using test::at_full_speed;
using test::tested;

namespace {

io_uring_sqe nop_entry() {
  io_uring_sqe e{};
  e.opcode = IORING_OP_NOP;
  e.fd = -1;
  return e;
}

unsigned reap_operations(backend& ring) {
  unsigned seen = 0;
  (void)ring.reap({[](void* count, const completion& c) noexcept {
                     if (c.to.kind() == token_kind::operation) ++*static_cast<unsigned*>(count);
                   },
                   &seen});
  return seen;
}

/// Starts six times as many operations as the queue of a ring of 8 entries takes, and parks at none
/// of them: nothing is reaped meanwhile, so it overflows whoever else runs.
void many_at_once() {
  std::vector<coir::started<void>> all(192);
  for (auto& one : all) one = coir::start(coir::nop{});
  for (auto& one : all) REQUIRE(one.get().has_value());
}

}  // namespace

TEST_CASE("B3: a bell that rings while the completion queue overflows is heard, and the next too") {
  constexpr unsigned rounds = at_full_speed(200u, 20u), flood = 200;
  auto made = make_uring(8, [](const coir::log_record&) {});
  REQUIRE(made.has_value());
  backend& ring = **made;
  REQUIRE(ring.attach() == 0);
  for (unsigned round = 0; round < rounds; ++round) {
    // Nothing is reaped meanwhile, and there is room for 32.
    for (unsigned i = 0; i < flood; ++i)
      while (!ring.submit(nop_entry(), token::make(i, 1, token_kind::operation), false))
        ring.wait(no_wait_ns);
    std::thread([&] { ring.wake(); }).join();
    unsigned seen = 0;
    while (seen < flood) {
      ring.wait(no_wait_ns);
      seen += reap_operations(ring);
    }
    REQUIRE(seen == flood);
    ring.wait(no_wait_ns);  // the last that comes may be the bell
    CHECK(reap_operations(ring) == 0);
    std::thread again([&] { ring.wake(); });
    ring.wait(never_ns);
    again.join();
    CHECK(reap_operations(ring) == 0);
  }
  CHECK(ring.counts().overflows.get() > 0);
}

TEST_CASE("B3: wake-ups from another core reach a worker whose completions overflow all the time") {
  constexpr unsigned askers = 200, rounds = at_full_speed(5'000u, 300u);
  const coir::options o = tested({.workers = 2, .ring_entries = 8});
  const auto done = coir::run(
      [&] {
        std::atomic<bool> over{false};
        coir::event there, back;
        coir::scope flood;
        for (unsigned i = 0; i < std::min(askers, o.fibers_max - 4); ++i)
          flood.spawn(
              [&] {
                while (!over) (void)coir::perform(coir::nop{});
              },
              {.worker = 1});
        unsigned answered = 0;
        auto answers = coir::spawn(
            [&] {
              for (unsigned i = 0; i < rounds; ++i) {
                REQUIRE(there.wait().has_value());
                there.reset();
                if (i % 100 == 0) many_at_once();
                ++answered;
                back.set();
              }
            },
            {.worker = 1});
        auto asks = coir::spawn(
            [&] {
              for (unsigned i = 0; i < rounds; ++i) {
                there.set();
                REQUIRE(back.wait().has_value());
                back.reset();
              }
            },
            {.worker = 0});
        REQUIRE(asks.join().has_value());
        REQUIRE(answers.join().has_value());
        over = true;
        REQUIRE(flood.join().has_value());
        CHECK(answered == rounds);
        return coir::snapshot().total().overflows;
      },
      o);
  REQUIRE(done.has_value());
  if (test::on_a_ring("a completion queue that overflows")) CHECK(*done > 0);
}
