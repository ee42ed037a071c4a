// b_room_test.cpp: what happens when options::fibers_max fibers are alive, or a mailbox is full.
//
// Always true:
//   - "Waits without spinning" is counted in turns of the workers, never in time.
//
// Comes from: entry B9 of the failure catalogue.   Goes to: runtime/spawn.cpp.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "coir/coir.hpp"
#include "runtime/base.hpp"
#include "tests/needs.hpp"
#include "tests/test_options.hpp"

using test::at_full_speed;
using test::tested;
using namespace std::chrono_literals;

namespace {

constexpr unsigned room = 64;

coir::options small(unsigned workers) { return tested({.workers = workers, .fibers_max = room}); }

/// Turns that the workers took while the caller slept `naps` times; each nap costs a few itself.
constexpr int naps = 20;
std::uint64_t turns_of_naps(const coir::runtime& rt) {
  const std::uint64_t before = rt.snapshot().total().turns;
  for (int i = 0; i < naps; ++i) std::this_thread::sleep_for(1ms);
  return rt.snapshot().total().turns - before;
}
constexpr std::uint64_t turns_most = naps * 20;

/// `count` fibers that wait for `go`.
std::vector<coir::handle<void>> fill(coir::runtime& rt, coir::event& go, unsigned count) {
  std::vector<coir::handle<void>> all;
  for (unsigned i = 0; i < count; ++i) {
    all.push_back(rt.spawn([&go] { (void)go.wait(); }));
    REQUIRE(all.back());
  }
  return all;
}

}  // namespace

TEST_CASE("B9: with every record in use try_spawn answers arena_full at once, anywhere") {
  auto made = coir::runtime::create(small(2));
  REQUIRE(made.has_value());
  coir::runtime& rt = **made;
  REQUIRE(rt.start().has_value());
  coir::event go;
  coir::event asked;
  std::error_code on_fiber;
  auto asks = rt.spawn([&] {
    (void)asked.wait();
    on_fiber = coir::try_spawn([] {}).error();
  });
  auto all = fill(rt, go, room - 1);
  CHECK(rt.try_spawn([] {}).error() == coir::errc::arena_full);
  asked.set();
  CHECK(asks.join().has_value());
  CHECK(on_fiber == coir::errc::arena_full);
  // One has ended: one fits, and only one.
  auto fits = rt.try_spawn([&go] { (void)go.wait(); });
  REQUIRE(fits.has_value());
  CHECK(rt.try_spawn([] {}).error() == coir::errc::arena_full);
  go.set();
  CHECK(fits->join().has_value());
  for (auto& h : all) CHECK(h.join().has_value());
  CHECK(rt.shutdown().has_value());
}

TEST_CASE("B9: a fiber that waits for a record is parked, costs no turns, and gets the next one") {
  auto made = coir::runtime::create(small(2));
  REQUIRE(made.has_value());
  coir::runtime& rt = **made;
  REQUIRE(rt.start().has_value());
  coir::event go, one_goes, full;
  std::atomic<bool> waiting{false};
  auto one = rt.spawn([&] { (void)one_goes.wait(); });
  auto spawner = rt.spawn([&] {
    REQUIRE(full.wait().has_value());
    waiting = true;
    return coir::spawn([] { return 5; }).join();
  });
  auto all = fill(rt, go, room - 2);
  full.set();
  while (!waiting) coir::this_fiber::yield();
  CHECK(turns_of_naps(rt) < turns_most);
  CHECK(!spawner.done());
  one_goes.set();
  CHECK(one.join().has_value());
  one.detach();
  CHECK(spawner.join().value() == 5);
  go.set();
  for (auto& h : all) CHECK(h.join().has_value());
  CHECK(rt.shutdown().has_value());
}

TEST_CASE("B9: a thread that waits for a record sleeps, costs no turns, and gets the next one") {
  auto made = coir::runtime::create(small(2));
  REQUIRE(made.has_value());
  coir::runtime& rt = **made;
  REQUIRE(rt.start().has_value());
  coir::event go, one_goes;
  auto all = fill(rt, go, room - 1);
  auto one = rt.spawn([&] { (void)one_goes.wait(); });
  std::atomic<bool> waiting{false};
  int got = 0;
  std::thread outside([&] {
    waiting = true;
    got = rt.spawn([] { return 5; }).join().value();
  });
  while (!waiting) coir::this_fiber::yield();
  CHECK(turns_of_naps(rt) < turns_most);
  one.detach();
  one_goes.set();
  outside.join();
  CHECK(got == 5);
  go.set();
  for (auto& h : all) CHECK(h.join().has_value());
  CHECK(rt.shutdown().has_value());
}

TEST_CASE("B9: who waits for a record gives up at its deadline and when it is cancelled") {
  auto made = coir::runtime::create(small(1));
  REQUIRE(made.has_value());
  coir::runtime& rt = **made;
  REQUIRE(rt.start().has_value());
  coir::event go, full;
  auto late = rt.spawn([&] {
    (void)full.wait();
    return coir::spawn([] {}, {.until = coir::in(3ms)}).join();
  });
  auto stopped = rt.spawn([&] {
    (void)full.wait();
    return coir::spawn([] {}).join();
  });
  auto all = fill(rt, go, room - 2);
  CHECK(rt.spawn([] {}, {.until = coir::in(3ms)}).join().error() == std::errc::timed_out);
  full.set();
  while (!late.done()) coir::this_fiber::yield();  // its handle keeps its record
  stopped.cancel();
  CHECK(stopped.join().error() == std::errc::operation_canceled);
  CHECK(late.join().error() == std::errc::timed_out);
  go.set();
  for (auto& h : all) CHECK(h.join().has_value());
  CHECK(rt.shutdown().has_value());
}

TEST_CASE("B9: a record that comes back while somebody begins to wait for one is not missed") {
  COIR_NOT_IN_SIM(threads);
  auto made = coir::runtime::create(tested({.workers = 1, .fibers_max = 1}));
  REQUIRE(made.has_value());
  REQUIRE((*made)->start().has_value());
  std::atomic<long> ran{0};
  const long rounds = at_full_speed(100'000L, 5'000L);
  for (long i = 0; i < rounds; ++i) REQUIRE((*made)->spawn([&ran] { ++ran; }));
  CHECK((*made)->shutdown().has_value());
  CHECK(ran >= rounds - 1);  // the last one may have been refused its start
}

// ThreadSanitizer gives each started fiber a thread's worth of memory.
TEST_CASE("B9: a refused try_spawn brings back what workers keep, so the next one finds it" *
          doctest::skip(COIR_TSAN)) {
  COIR_NOT_IN_SIM(threads);
  const coir::options o = tested({.workers = 4, .fibers_max = 4096});
  coir::event go;
  auto made = coir::runtime::create(o);
  REQUIRE(made.has_value());
  REQUIRE((*made)->start().has_value());
  // Each worker ends some, and keeps their records.
  const unsigned some = std::min(o.fibers_max, 1024u);
  std::atomic<unsigned> ended{0};
  for (unsigned i = 0; i < some; ++i)
    (*made)
        ->spawn(
            [&] {
              (void)go.wait();
              ++ended;
            },
            {.worker = i % 4})
        .detach();
  go.set();
  while (ended != some) std::this_thread::yield();
  go.reset();
  std::vector<coir::handle<void>> all;
  long refused = 0;
  while (all.size() < o.fibers_max) {
    auto one = (*made)->try_spawn([&go] { (void)go.wait(); });
    if (one) {
      all.push_back(std::move(*one));
      continue;
    }
    if (one.error() != coir::errc::mailbox_full) REQUIRE(one.error() == coir::errc::arena_full);
    if (++refused == 100'000) break;
    std::this_thread::yield();
  }
  CHECK(all.size() == o.fibers_max);
  CHECK_FALSE((*made)->try_spawn([] {}).has_value());
  go.set();
  for (auto& each : all) CHECK(each.join().has_value());
  CHECK((*made)->shutdown().has_value());
}

TEST_CASE("B9: far more fibers than there is room for run one after another") {
  constexpr unsigned fibers = at_full_speed(20'000u, 2'000u);
  std::atomic<unsigned> ran{0};
  auto made = coir::runtime::create(small(2));
  REQUIRE(made.has_value());
  const auto done = (*made)->run([&] {
    coir::scope all;
    for (unsigned i = 0; i < fibers; ++i)
      all.spawn([&] {
        ran.fetch_add(1);
        coir::this_fiber::yield();
      });
    return all.join();
  });
  CHECK(done.has_value());
  for (unsigned i = 0; i < fibers / 10; ++i) (*made)->spawn([&] { ran.fetch_add(1); }).detach();
  CHECK((*made)->run([] {}).has_value());
  CHECK(ran == fibers + fibers / 10);
  CHECK((*made)->snapshot().records_touched <= room);
}

TEST_CASE("B9: a spawn that waits for a place in a mailbox costs no turns, and is not forgotten") {
  auto made = coir::runtime::create(tested({.workers = 2, .mailbox_slots = 1}));
  REQUIRE(made.has_value());
  coir::runtime& rt = **made;
  REQUIRE(rt.start().has_value());
  // Worker 1 is busy with a fiber that does not park, so its mailbox stays full.
  std::atomic<bool> busy{false}, over{false}, waiting{false};
  auto hog = rt.spawn(
      [&] {
        busy = true;
        while (!over) std::this_thread::yield();
      },
      {.worker = 1});
  while (!busy) std::this_thread::yield();
  auto first = rt.spawn([] { return 1; }, {.worker = 1});
  const auto late = [] { return coir::spawn_options{.worker = 1, .until = coir::in(3ms)}; };
  CHECK(rt.try_spawn([] {}, late()).error() == coir::errc::mailbox_full);
  CHECK(rt.spawn([] {}, late()).join().error() == std::errc::timed_out);
  std::thread thread([&] { CHECK(rt.spawn([] { return 4; }, {.worker = 1}).join().value() == 4); });
  auto sender = rt.spawn(
      [&] {
        CHECK(coir::try_spawn([] {}, late()).error() == coir::errc::mailbox_full);
        CHECK(coir::spawn([] {}, late()).join().error() == std::errc::timed_out);
        waiting = true;
        return coir::spawn([] { return 2; }, {.worker = 1}).join();
      },
      {.worker = 0});
  while (!waiting) coir::this_fiber::yield();
  CHECK(turns_of_naps(rt) < turns_most);
  // The fiber waits, and its worker does not.
  CHECK(rt.spawn([] { return 3; }, {.worker = 0}).join().value() == 3);
  over = true;
  CHECK(hog.join().has_value());
  CHECK(first.join().value() == 1);
  CHECK(sender.join().value() == 2);
  thread.join();
  CHECK(rt.shutdown().has_value());
}
