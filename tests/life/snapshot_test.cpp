// snapshot_test.cpp: each number of a snapshot moves when what it counts happens, and says what it
// says it does.
//
// Always true:
//   - Numbers of a worker that asks about itself, or that rests, are exact and compared with ==.
//   - stale_tokens and overflows are made to move where that can be arranged: sim/tokens and
//     catalogue/b_bell.
//
// Comes from: coir/runtime.hpp.   Goes to: ctest.
#include <doctest/doctest.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "coir/coir.hpp"
#include "tests/runtime/held_worker.hpp"
#include "tests/test_options.hpp"

using namespace std::chrono_literals;
using test::tested;

namespace {

std::unique_ptr<coir::runtime> started(coir::options o) {
  auto made = coir::runtime::create(tested(std::move(o)));
  REQUIRE(made.has_value());
  REQUIRE((*made)->start().has_value());
  return std::move(*made);
}

coir::worker_stats now(unsigned worker = 0) { return coir::snapshot().workers[worker]; }

constexpr std::size_t deep = 64 << 10;

/// Touches so much of the stack; 1.
[[gnu::noinline]] unsigned go_deep() {
  volatile char touched[deep];
  for (std::size_t at = 0; at < deep; at += 1024) touched[at] = 1;
  return static_cast<unsigned>(touched[0]);
}

/// A child of `all` that is ready whenever this one is not running, until `enough`.
void stays_ready(coir::scope& all, const bool& enough) {
  all.spawn([&enough] {
    while (!enough) coir::this_fiber::yield();
  });
}

}  // namespace

TEST_CASE("snapshot: a worker that asks knows who is ready, parked and unstarted, exactly") {
  const coir::options o = tested({.workers = 1});
  const auto done = coir::run(
      [&o] {
        const coir::worker_stats before = now();
        CHECK(before.live == 1);
        CHECK(before.parked + before.ready + before.unstarted == 0);
        CHECK(before.stacks_bound == 1);
        bool enough = false;
        coir::event go;
        coir::scope all;
        for (int i = 0; i < 3; ++i) stays_ready(all, enough);
        for (int i = 0; i < 2; ++i) all.spawn([&go] { return go.wait(); });
        while (now().parked != 2) coir::this_fiber::yield();
        for (int i = 0; i < 4; ++i) all.spawn([] {});
        const coir::worker_stats then = now();
        CHECK(then.ready == 3);
        CHECK(then.parked == 2);
        CHECK(then.unstarted == 4);
        CHECK(then.live == 10);
        CHECK(then.stacks_bound == 6);
        CHECK(then.spawned - before.spawned == 9);
        CHECK(then.finished == before.finished);
        CHECK(then.switches > before.switches);
        CHECK(then.parks - before.parks == 2);
        enough = true;
        go.set();
        CHECK(all.join().has_value());
        const coir::worker_stats after = now();
        CHECK(after.live == 1);
        CHECK(after.parked + after.ready + after.unstarted == 0);
        CHECK(after.finished - before.finished == 9);
        CHECK(after.stacks_bound == 1);
        // With few fibers there are few stacks, and no worker keeps any.
        if (o.fibers_max > 4'096) CHECK(after.stacks_warm + after.stacks_bound >= 5);
      },
      o);
  CHECK(done.has_value());
}

TEST_CASE("snapshot: priorities other than the normal one are counted like it") {
  const auto done = coir::run(
      [] {
        bool enough = false;
        coir::scope all;
        const auto spin = [&enough] {
          while (!enough) coir::this_fiber::yield();
        };
        all.spawn(spin, {.prio = coir::priority::high});
        all.spawn(spin, {.prio = coir::priority::low});
        while (now().unstarted != 0) coir::this_fiber::yield();
        all.spawn([] {}, {.prio = coir::priority::low});
        CHECK(now().ready == 2);
        CHECK(now().unstarted == 1);
        CHECK(now().parked == 0);
        enough = true;
        CHECK(all.join().has_value());
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE(
    "snapshot: of a worker that runs everybody else knows who was ready after its last turn") {
  auto rt = started({.workers = 2});
  std::atomic<bool> enough{false};
  std::vector<coir::handle<void>> all;
  for (int i = 0; i < 5; ++i)
    all.push_back(rt->spawn(
        [&enough] {
          while (!enough) coir::this_fiber::yield();
        },
        {.worker = 1}));
  while (rt->snapshot().workers[1].ready < 4) coir::this_fiber::yield();
  CHECK(rt->snapshot().workers[1].ready <= 5);
  CHECK(rt->snapshot().workers[0].ready == 0);
  CHECK(rt->snapshot().workers[1].live >= 4);  // the last one may be on its way
  enough = true;
  for (auto& h : all) CHECK(h.join().has_value());
  CHECK(rt->shutdown().has_value());
  CHECK(rt->snapshot().workers[1].ready == 0);
}

TEST_CASE("snapshot: of a worker that rests everybody else knows who is parked, and on what") {
  auto rt = started({.workers = 2, .idle_spin = 0us});
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  auto reader = rt->spawn(
      [&] {
        std::byte b{};
        return coir::io::read(ends[0], {&b, 1});
      },
      {.worker = 1});
  auto sleeper =
      rt->spawn([] { return coir::this_fiber::sleep_for(std::chrono::hours(1)); }, {.worker = 1});
  const auto rests = [&] {
    const auto s = rt->snapshot().workers[1];
    return s.parked == 2 && s.ready == 0 && s.unstarted == 0 && s.operations_open == 1 &&
           s.timers == 1 && s.sleeps >= 1 && s.enters >= 1;
  };
  while (!rests()) coir::this_fiber::yield();
  const auto then = rt->snapshot().workers[1];
  CHECK(then.live == 2);
  CHECK(then.stacks_bound == 2);
  CHECK(then.sqes >= 1);
  CHECK(then.enters >= 1);
  CHECK(then.sleeps >= 1);
  reader.cancel();
  sleeper.cancel();
  CHECK(reader.join().error() == std::errc::operation_canceled);
  CHECK(sleeper.join().error() == std::errc::operation_canceled);
  CHECK(rt->shutdown().has_value());
  const auto end = rt->snapshot().workers[1];
  CHECK(end.cancels == 1);
  CHECK(end.operations_open + end.timers + end.live + end.stacks_bound == 0);
  if (test::on_a_ring("the entry and the completion of a cancel")) {
    CHECK(end.sqes > then.sqes);
    CHECK(end.cqes >= 2);  // of the read and of its cancel
  }
  CHECK(end.turns > then.turns);
  CHECK(end.wakes_taken >= 2);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_CASE("snapshot: a mailbox tells its depth and who was refused, and a taken mail comes in") {
  constexpr unsigned slots = 4;
  auto rt = started({.workers = 2, .mailbox_slots = slots});
  std::atomic<bool> busy{false}, enough{false};
  auto blocks = rt->spawn(
      [&] {
        busy = true;
        while (!enough) std::this_thread::yield();
      },
      {.worker = 1});
  while (!busy) std::this_thread::yield();
  const coir::stats before = rt->snapshot();
  auto sends = rt->spawn(
      [&] {
        std::vector<coir::handle<void>> sent;
        std::uint64_t refused = 0;
        for (unsigned i = 0; i < 2 * slots; ++i) {
          auto one = coir::try_spawn([] {}, {.worker = 1});
          if (one) sent.push_back(std::move(*one));
          if (!one && one.error() == coir::errc::mailbox_full) ++refused;
        }
        const coir::stats then = coir::snapshot();
        CHECK(then.workers[1].mailbox_depth == sent.size());
        CHECK(then.workers[0].mailbox_refused - before.workers[0].mailbox_refused == refused);
        CHECK(sent.size() + refused == 2 * slots);
        CHECK(refused >= slots);
        enough = true;
        for (auto& h : sent) CHECK(h.join().has_value());
        return sent.size();
      },
      {.worker = 0});
  const auto sent = sends.join();
  REQUIRE(sent.has_value());
  CHECK(blocks.join().has_value());
  CHECK(rt->shutdown().has_value());
  const coir::stats after = rt->snapshot();
  CHECK(after.workers[1].mailbox_depth == 0);
  CHECK(after.workers[1].deflected_in - before.workers[1].deflected_in == *sent);
}

TEST_CASE("snapshot: of a mailbox it tells how many fibers are in it, not how many mails") {
  const coir::options o = tested({.workers = 2, .deflect_threshold = 8});
  const unsigned least = o.mailbox_slots == 1 ? 4 : 8;  // of one mail, or of several
  const auto done = coir::run(
      [least] {
        test::held_worker held;
        std::vector<coir::handle<void>> all;
        for (int i = 0; i < 40; ++i)
          all.push_back(coir::spawn([] {}, {.kind = coir::workload::compute}));
        const coir::stats then = coir::snapshot();
        CHECK(then.workers[0].deflected_out >= least);
        CHECK(then.workers[1].mailbox_depth == then.workers[0].deflected_out);
        held.release();
        for (auto& each : all) CHECK(each.join().has_value());
      },
      o);
  CHECK(done.has_value());
}

TEST_CASE("snapshot: who is given away goes out here and comes in there") {
  auto made = coir::runtime::create(tested({.workers = 2, .deflect_threshold = 1}));
  REQUIRE(made.has_value());
  const auto done = (*made)->run([] {
    coir::scope all;
    for (int i = 0; i < 40; ++i) all.spawn([] { coir::this_fiber::yield(); });
    return all.join();
  });
  CHECK(done.has_value());
  const auto sums = (*made)->snapshot().total();
  CHECK(sums.deflected_out > 0);
  CHECK(sums.deflected_in >= sums.deflected_out);  // and the root, which came from a thread
  CHECK(sums.spawned == 41);
  CHECK(sums.finished == 41);
}

TEST_CASE("snapshot: a wake from another worker is sent and taken, and a sleeper is rung") {
  auto rt = started({.workers = 2, .idle_spin = 0us});
  constexpr unsigned rounds = 200;
  std::array<coir::event, 2> ball;
  const auto play = [&](unsigned side) {
    for (unsigned i = 0; i < rounds; ++i) {
      if (!ball[side].wait()) return;
      ball[side].reset();
      ball[1 - side].set();
    }
  };
  auto left = rt->spawn([&] { play(0); }, {.worker = 0});
  auto right = rt->spawn([&] { play(1); }, {.worker = 1});
  ball[0].set();
  CHECK(left.join().has_value());
  CHECK(right.join().has_value());
  CHECK(rt->shutdown().has_value());
  for (const auto& w : rt->snapshot().workers) {
    CHECK(w.wakes_sent > 0);
    CHECK(w.wakes_taken > 0);
    CHECK(w.bells_rung > 0);
    CHECK(w.sleeps > 0);
    CHECK(w.spins_won + w.spins_lost == 0);
  }
}

TEST_CASE("snapshot: a look for work before a sleep is won or lost") {
  auto rt = started({.workers = 2, .idle_spin = 20ms});
  const auto spins = [&] { return rt->snapshot().workers[1]; };
  // What woke it shortly after it slept teaches it to look.
  while (spins().spins_won == 0) {
    auto there = rt->spawn([] {}, {.worker = 1});
    CHECK(there.join().has_value());
  }
  while (spins().spins_lost == 0) std::this_thread::yield();
  CHECK(rt->shutdown().has_value());
}

TEST_CASE("snapshot: an operation is an entry, a completion and a part of an enter") {
  const auto done = coir::run(
      [] {
        constexpr unsigned operations = 50;
        const coir::worker_stats before = now();
        for (unsigned i = 0; i < operations; ++i) CHECK(coir::perform(coir::nop{}).has_value());
        const coir::worker_stats after = now();
        CHECK(after.sqes - before.sqes >= operations);
        CHECK(after.cqes - before.cqes >= operations);
        if (test::on_a_ring("an enter for an operation that waits for nothing"))
          CHECK(after.enters - before.enters >= operations);
        CHECK(after.turns - before.turns >= operations);
        CHECK(after.parks - before.parks == operations);
        CHECK(after.operations_open == 0);
        CHECK(after.stale_tokens == 0);
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE("snapshot: large closures are counted, and so are records and stacks that were made") {
  auto rt = started({.workers = 1});
  const coir::stats before = rt->snapshot();
  std::array<std::uint64_t, 20> large{};
  auto root = rt->spawn([large] {
    coir::scope all;
    for (int i = 0; i < 10; ++i) all.spawn([large, i] { CHECK(large[i] == 0); });
    CHECK(all.join().has_value());
    const coir::stats then = coir::snapshot();
    CHECK(then.boxes >= 10);
    CHECK(then.records_touched >= 11);
    CHECK(then.stacks_made >= 1);
  });
  CHECK(root.join().has_value());
  CHECK(rt->snapshot().boxes == before.boxes + 11);  // the root's is a thread's
  CHECK(rt->shutdown().has_value());
}

TEST_CASE("snapshot: what other threads and runtimes do counts where they do it") {
  auto rt = started({.workers = 1, .mailbox_slots = 1});
  auto other = started({.workers = 1});
  std::array<std::uint64_t, 20> large{};
  std::atomic<bool> held{false}, free{false};
  auto holder = rt->spawn([&] {
    held = true;
    while (!free) std::this_thread::yield();
  });
  while (!held) std::this_thread::yield();
  const std::uint64_t before = rt->snapshot().boxes;
  auto visitor = other->spawn([&] {
    auto first = rt->try_spawn([large] { CHECK(large[0] == 0); });  // in its only place
    REQUIRE(first.has_value());
    CHECK(rt->try_spawn([] {}).error() == coir::errc::mailbox_full);
    CHECK(coir::snapshot().boxes == 0);
    CHECK(coir::snapshot().workers[0].mailbox_refused == 0);
    free = true;
    CHECK(first->join().has_value());
  });
  CHECK(visitor.join().has_value());
  CHECK(holder.join().has_value());
  CHECK(rt->snapshot().boxes == before + 1);
  CHECK(rt->snapshot().workers[0].mailbox_refused == 1);
  CHECK(rt->shutdown().has_value());
  CHECK(other->shutdown().has_value());
}

TEST_CASE("snapshot: stacks lie in memory where they were touched, and are told when asked") {
  auto rt = started({.workers = 1, .stack_bytes = 256 << 10});
  CHECK(rt->stacks_resident_bytes().value() == 0);
  coir::event go;
  std::atomic<unsigned> arrived{0};
  std::vector<coir::handle<void>> all;
  for (int i = 0; i < 8; ++i)
    all.push_back(rt->spawn([&] {
      arrived.fetch_add(1);
      CHECK(go.wait().has_value());
      arrived.fetch_add(go_deep());
    }));
  while (arrived < 8) coir::this_fiber::yield();
  const std::uint64_t page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const std::uint64_t shallow = rt->stacks_resident_bytes().value();
  CHECK(shallow >= 8 * page);
  go.set();
  for (auto& h : all) CHECK(h.join().has_value());
  const std::uint64_t after = rt->stacks_resident_bytes().value();
  CHECK(after >= shallow + 8 * (deep - 4 * page));
  CHECK(after <= 8 * (256 << 10));
  CHECK(rt->shutdown().has_value());
}
