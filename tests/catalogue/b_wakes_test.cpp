// b_wakes_test.cpp: news from other cores arrives, whoever sleeps, stops or is full at that moment.
//
// Always true:
//   - Nothing here has a time-out that would hide a lost wake-up: a case that loses one never ends.
//   - Messages are counted on both sides.
//
// Comes from: entries B1, B2, B4 and B5 of the failure catalogue.   Goes to: runtime/bell.hpp,
// runtime/mailbox.hpp, runtime/waits.hpp.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include "coir/coir.hpp"
#include "tests/test_options.hpp"

using test::at_full_speed;
using test::tested;

namespace {

/// Workers that never spin go to sleep before each message.
coir::options sleepy() { return tested({.workers = 2, .idle_spin = std::chrono::microseconds(0)}); }

}  // namespace

TEST_CASE("B1: each of many wake-ups reaches a worker that has just gone to sleep") {
  constexpr unsigned rounds = at_full_speed(30'000u, 2'000u);
  const auto sleeps = coir::run(
      [] {
        std::array<coir::event, 2> ball;
        unsigned sum = 0;
        const auto play = [&](unsigned side) {
          for (unsigned i = 0; i < rounds; ++i) {
            REQUIRE(ball[side].wait().has_value());
            ball[side].reset();
            ++sum;
            ball[1 - side].set();
          }
        };
        const std::uint64_t before = coir::snapshot().total().sleeps;
        auto left = coir::spawn([&] { play(0); }, {.worker = 0});
        auto right = coir::spawn([&] { play(1); }, {.worker = 1});
        ball[0].set();
        CHECK(left.join().has_value());
        CHECK(right.join().has_value());
        CHECK(sum == 2 * rounds);
        return coir::snapshot().total().sleeps - before;
      },
      sleepy());
  CHECK(sleeps.value() >= rounds);
}

TEST_CASE(
    "B1: each of many spawns reaches a worker that has just gone to sleep, and so does its end") {
  constexpr unsigned rounds = at_full_speed(10'000u, 1'000u);
  const auto sum = coir::run(
      [] {
        const unsigned other = 1 - coir::this_fiber::worker();
        unsigned arrived = 0;
        for (unsigned i = 0; i < rounds; ++i) {
          auto there = coir::spawn([] { return coir::this_fiber::worker(); }, {.worker = other});
          if (there.join().value() == other) ++arrived;
        }
        return arrived;
      },
      sleepy());
  CHECK(sum.value() == rounds);
}

TEST_CASE("B1: a plain thread reaches sleeping workers, and is reached by them") {
  constexpr unsigned rounds = at_full_speed(10'000u, 1'000u);
  auto made = coir::runtime::create(sleepy());
  REQUIRE(made.has_value());
  REQUIRE((*made)->start().has_value());
  unsigned arrived = 0;
  for (unsigned i = 0; i < rounds; ++i) {
    coir::event go;
    auto fiber = (*made)->spawn([&go] { return go.wait(); }, {.worker = i % 2});
    go.set();
    if (fiber.join()) ++arrived;
  }
  CHECK(arrived == rounds);
  CHECK((*made)->shutdown().has_value());
}

TEST_CASE("B2: a stop reaches workers that are just going to sleep") {
  constexpr unsigned cycles = at_full_speed(2'000u, 100u);
  for (unsigned i = 0; i < cycles; ++i) {
    auto made = coir::runtime::create(tested({.workers = 1 + i % 3,
                                              .fibers_max = 64,
                                              .ring_entries = 8,
                                              .idle_spin = std::chrono::microseconds(i % 5)}));
    REQUIRE(made.has_value());
    coir::runtime& rt = **made;
    REQUIRE(rt.start().has_value());
    // With none to three workers that had something to do until now.
    std::vector<coir::handle<void>> busy;
    for (unsigned k = 0; k < i % 4; ++k) busy.push_back(rt.spawn([] {}));
    for (auto& h : busy) (void)h.join();
    if (i % 2 == 0) rt.request_stop();
    REQUIRE(rt.shutdown().has_value());
  }
}

TEST_CASE("B4: mailboxes of one place lose nothing in a storm of all to all, and block nobody") {
  constexpr unsigned workers = 4, senders = 8;
  constexpr unsigned messages = at_full_speed(600u, 60u);
  std::array<std::atomic<unsigned>, workers> delivered{};
  std::atomic<unsigned> elsewhere{0};
  const auto done = coir::run(
      [&] {
        coir::scope all;
        for (unsigned s = 0; s < workers * senders; ++s)
          all.spawn(
              [&, s] {
                for (unsigned m = 0; m < messages; ++m) {
                  const unsigned target = (s + m) % workers;
                  auto sent = coir::spawn(
                      [&, target] {
                        delivered[target].fetch_add(1);
                        if (coir::this_fiber::worker() != target) elsewhere.fetch_add(1);
                      },
                      {.worker = target});
                  if (m % 2 == 0) REQUIRE(sent.join().has_value());
                }
              },
              {.worker = s % workers});
        REQUIRE(all.join().has_value());
        return coir::snapshot().total().mailbox_refused;
      },
      tested({.workers = workers, .mailbox_slots = 1}));
  REQUIRE(done.has_value());
  unsigned sum = 0;
  for (const auto& d : delivered) sum += d;
  CHECK(sum == workers * senders * messages);
  CHECK(elsewhere == 0);
  CHECK(*done > 0);  // the boxes really were full
}

TEST_CASE("B4: full mailboxes deflect what may run anywhere, and spawned equals finished") {
  constexpr unsigned fibers = at_full_speed(20'000u, 2'000u);
  std::atomic<unsigned> ran{0};
  auto made =
      coir::runtime::create(tested({.workers = 3, .mailbox_slots = 1, .deflect_threshold = 1}));
  REQUIRE(made.has_value());
  const auto done = (*made)->run([&] {
    coir::scope all;
    for (unsigned i = 0; i < fibers; ++i) all.spawn([&] { ran.fetch_add(1); });
    return all.join();
  });
  CHECK(done.has_value());
  CHECK(ran == fibers);
  const coir::worker_stats sums = (*made)->snapshot().total();
  CHECK(sums.spawned == sums.finished);
  CHECK(sums.spawned == fibers + 1);
  CHECK(sums.deflected_out > 0);
  CHECK(sums.mailbox_refused > 0);
}

TEST_CASE("B4: all deflect to all through mailboxes of one place, and nobody is lost or waits") {
  constexpr unsigned workers = 4, rounds = at_full_speed(100u, 10u);
  const coir::options o = tested({.workers = workers, .mailbox_slots = 1, .deflect_threshold = 1});
  const unsigned crowd = std::min(200u, (o.fibers_max - workers - 2) / workers);
  std::atomic<unsigned> ran{0};
  auto made = coir::runtime::create(o);
  REQUIRE(made.has_value());
  const auto done = (*made)->run([&] {
    coir::scope all;
    for (unsigned s = 0; s < workers; ++s)
      all.spawn(
          [&] {
            for (unsigned round = 0; round < rounds; ++round) {
              coir::scope mine;
              for (unsigned i = 0; i < crowd; ++i)
                mine.spawn([&] { ran.fetch_add(1); }, {.kind = coir::workload::compute});
              REQUIRE(mine.join().has_value());
            }
          },
          {.worker = s});
    return all.join();
  });
  CHECK(done.has_value());
  CHECK(ran == workers * rounds * crowd);
  const coir::stats now = (*made)->snapshot();
  for (const coir::worker_stats& w : now.workers) {
    CHECK(w.deflected_out > 0);
    CHECK(w.deflected_in > 0);
  }
  CHECK(now.total().mailbox_refused > 0);
  CHECK(now.total().spawned == now.total().finished);
}

namespace {

/// Whether every fiber is accounted for: it has ended, or it is alive on some worker. Counts are
/// published by each worker for itself, so the sum is looked at until all have spoken; a wrong one
/// is looked at for ever.
bool conserved(std::uint64_t alive) {
  for (;;) {
    const coir::worker_stats now = coir::snapshot().total();
    if (now.live == alive && now.spawned == now.finished + now.live) return true;
    coir::this_fiber::yield();
    std::this_thread::yield();
  }
}

}  // namespace

TEST_CASE(
    "B5: bursts of thirty-two from eight senders pass a mailbox of eight, and whenever all is "
    "quiet spawned is finished and live") {
  constexpr unsigned senders = 8, rounds = at_full_speed(200u, 20u);
  const coir::options o = tested({.workers = 3, .mailbox_slots = 8});
  const unsigned burst = std::min(32u, (o.fibers_max - senders - 2) / senders);
  std::atomic<unsigned> unconserved{0}, ran{0};
  const auto done = coir::run(
      [&] {
        for (unsigned round = 0; round < rounds; ++round) {
          coir::event go;
          std::atomic<unsigned> arrived{0};
          coir::scope sending, parked;
          // From two workers, so that several find the mailbox full at the same moment.
          for (unsigned s = 0; s < senders; ++s)
            sending.spawn(
                [&] {
                  for (unsigned m = 0; m < burst; ++m)
                    parked.spawn(
                        [&] {
                          arrived.fetch_add(1);
                          (void)go.wait();
                          ran.fetch_add(1);
                        },
                        {.worker = 2});
                },
                {.worker = s % 2});
          REQUIRE(sending.join().has_value());
          while (arrived < senders * burst) coir::this_fiber::yield();
          if (!conserved(1 + senders * burst)) unconserved.fetch_add(1);
          go.set();
          REQUIRE(parked.join().has_value());
          if (!conserved(1)) unconserved.fetch_add(1);
        }
        return coir::snapshot().total().mailbox_refused;
      },
      o);
  REQUIRE(done.has_value());
  CHECK(unconserved == 0);
  CHECK(ran == rounds * senders * burst);
  CHECK(*done > 0);  // the mailbox really was full
}
