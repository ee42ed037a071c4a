// several_test.cpp: several runtimes in one process know of each other only what their fibers say.
//
// Always true:
//   - A fiber that waits for one of another runtime goes on on its own worker.
//
// Comes from: runtime/runtime.hpp.   Goes to: ctest.
#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "coir/coir.hpp"
#include "tests/test_options.hpp"

using test::at_full_speed;
using test::tested;

namespace {

std::unique_ptr<coir::runtime> started(unsigned workers) {
  auto made = coir::runtime::create(
      tested({.workers = workers, .fibers_max = 256, .ring_entries = 16, .idle_spin = {}}));
  REQUIRE(made.has_value());
  REQUIRE((*made)->start().has_value());
  return std::move(*made);
}

/// Where a fiber is: its runtime and its worker there.
struct place {
  std::uint32_t runtime = coir::this_fiber::id().runtime;
  unsigned worker = coir::this_fiber::worker();
  friend bool operator==(const place&, const place&) = default;
};

}  // namespace

TEST_CASE("life: fibers spawn into another runtime, wait for it, and come back to their own") {
  constexpr unsigned rounds = at_full_speed(3'000u, 300u);
  auto left = started(2), right = started(2);
  std::atomic<unsigned> arrived{0}, misplaced{0};
  const auto visit = [&](coir::runtime& other) {
    const place mine;
    for (unsigned i = 0; i < rounds; ++i) {
      coir::event told;
      auto there = other.spawn(
          [&] {
            told.set();
            return place();
          },
          {.worker = i % 2});
      if (i % 3 == 0 && !told.wait()) return;
      const auto was = there.join();
      if (!was || was->runtime == mine.runtime || was->worker != i % 2) misplaced.fetch_add(1);
      if (!(place() == mine)) misplaced.fetch_add(1);
      arrived.fetch_add(1);
    }
  };
  // In both directions at once: were a worker to wait for the other runtime, both would stand.
  std::vector<coir::handle<void>> all;
  for (unsigned i = 0; i < 2; ++i) {
    all.push_back(left->spawn([&] { visit(*right); }, {.worker = i}));
    all.push_back(right->spawn([&] { visit(*left); }, {.worker = i}));
  }
  for (auto& h : all) CHECK(h.join().has_value());
  CHECK(arrived == 4 * rounds);
  CHECK(misplaced == 0);
  CHECK(left->shutdown().has_value());
  CHECK(right->shutdown().has_value());
  const auto a = left->snapshot().total(), b = right->snapshot().total();
  CHECK(a.spawned == 2 + 2 * rounds);
  CHECK(a.finished == a.spawned);
  CHECK(b.finished == b.spawned);
}

TEST_CASE("life: one runtime is shut down while another goes on, and who waited there is told") {
  auto lasting = started(2);
  std::atomic<bool> enough{false};
  std::uint64_t rounds = 0;
  auto traffic = lasting->spawn(
      [&] {
        while (!enough) {
          auto other = coir::spawn([] { return coir::perform(coir::nop{}); }, {.worker = 1});
          if (!other.join()) return false;
          ++rounds;
        }
        return true;
      },
      {.worker = 0});
  {
    auto ending = started(2);
    coir::fiber_id id;
    std::atomic<bool> stands{false};
    auto waits = lasting->spawn([&] {
      auto target = ending->spawn([] { return coir::this_fiber::sleep_until(coir::never); });
      id = target.id();
      stands = true;
      return target.join();  // its own answer: it was cancelled
    });
    while (!stands) coir::this_fiber::yield();
    auto by_name = lasting->spawn([id] { return coir::wait(id); });
    CHECK(ending->shutdown().has_value());
    CHECK(waits.join().error() == std::errc::operation_canceled);
    const auto heard = by_name.join();
    CHECK((heard || heard.error() == coir::errc::stale_handle));
    auto late = lasting->spawn([&] {
      return ending->try_spawn([] {}).error() == coir::errc::shutting_down &&
             ending->spawn([] {}).join().error() == coir::errc::shutting_down;
    });
    CHECK(late.join().value());
    ending.reset();
    auto after = lasting->spawn([id] { return coir::wait(id).error(); });
    CHECK(after.join().value() == coir::errc::foreign_runtime);
  }
  enough = true;
  CHECK(traffic.join().value());
  CHECK(rounds > 0);
  CHECK(lasting->shutdown().has_value());
}

TEST_CASE("life: runtimes come and go on several threads beside one that works") {
  constexpr unsigned cycles = at_full_speed(150u, 20u);
  auto lasting = started(2);
  std::atomic<bool> enough{false};
  auto traffic = lasting->spawn([&] {
    std::uint64_t rounds = 0;
    for (; !enough; ++rounds)
      if (!coir::spawn([] {}, {.worker = rounds % 2}).join()) return std::uint64_t{0};
    return rounds;
  });
  std::atomic<unsigned> lived{0};
  const auto come_and_go = [&] {
    for (unsigned i = 0; i < cycles; ++i) {
      auto brief = started(1 + i % 2);
      auto sent = brief->spawn(
          [&] { return lasting->spawn([] { return coir::this_fiber::id().runtime; }).join(); });
      auto received = lasting->spawn(
          [&brief] { return brief->spawn([] { return coir::this_fiber::id().runtime; }).join(); });
      const auto there = sent.join(), here = received.join();
      if (there && here && *there != *here) lived.fetch_add(1);
      if (i % 2 == 0 && !brief->shutdown()) return;
    }
  };
  std::thread first(come_and_go), second(come_and_go);
  first.join();
  second.join();
  CHECK(lived == 2 * cycles);
  enough = true;
  CHECK(traffic.join().value() > 0);
  CHECK(lasting->shutdown().has_value());
}

TEST_CASE("life: on a fiber no runtime can be run or waited for, its own or another") {
  auto own = started(1), other = started(1);
  auto asked = own->spawn([&] {
    const std::error_code dead = coir::errc::deadlock;
    return coir::run([] {}, tested({.workers = 1})).error() == dead &&
           other->run([] {}).error() == dead && own->shutdown().error() == dead &&
           other->shutdown().error() == dead;
  });
  CHECK(asked.join().value());
  CHECK(other->spawn([] { return 1; }).join().value() == 1);
}
