// stop_test.cpp: a stop that comes at every moment, from anybody, and a shutdown that names who is
// left.
//
// Always true:
//   - Every spawn is answered: its body ran, or its handle says why it did not, and its closure is
//     destroyed once either way.
//
// Comes from: runtime/runtime.cpp.   Goes to: ctest.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "coir/coir.hpp"
#include "tests/test_options.hpp"

using namespace std::chrono_literals;
using test::at_full_speed;
using test::tested;

namespace {

coir::options small(unsigned workers) {
  return tested({.workers = workers, .fibers_max = 64, .ring_entries = 8});
}

std::size_t count(const std::string& text, const std::string& words) {
  std::size_t found = 0;
  for (std::size_t at = 0; (at = text.find(words, at)) != text.npos; ++at) ++found;
  return found;
}

/// The number in front of " more", with which the list of survivors ends; 0 without it.
std::size_t not_named(const std::string& text) {
  const auto end = text.rfind(" more");
  if (end == text.npos) return 0;
  const auto begin = text.rfind(' ', end - 1) + 1;
  std::size_t number = 0;
  std::from_chars(text.data() + begin, text.data() + end, number);
  return number;
}

}  // namespace

TEST_CASE("life: a shutdown with ten thousand parked fibers ends what it can and counts the rest") {
  std::string said;
  std::mutex said_lock;
  coir::options o = tested({.workers = 2, .stack_bytes = 32 << 10});
  o.log = [&](const coir::log_record& line) {
    const std::lock_guard held(said_lock);
    said += std::string(line.text) + "\n";
  };
  const unsigned fibers = std::min(at_full_speed(10'000u, 1'000u), o.fibers_max - 2);
  const unsigned stubborn = fibers - fibers / 2;
  auto made = coir::runtime::create(std::move(o));
  REQUIRE(made.has_value());
  coir::runtime& rt = **made;
  REQUIRE(rt.start().has_value());
  coir::mutex held;  // waiting for a mutex heeds no cancel
  held.lock();
  std::atomic<unsigned> arrived{0}, obedient{0}, locked{0};
  for (unsigned i = 0; i < fibers; ++i) {
    const bool heeds = i % 2 == 1;
    auto one = rt.spawn(
        [&, heeds] {
          arrived.fetch_add(1);
          if (heeds) {
            if (!coir::this_fiber::sleep_until(coir::never)) obedient.fetch_add(1);
          } else {
            held.lock();
            locked.fetch_add(1);
            held.unlock();
          }
        },
        {.name = heeds ? "heeds" : "stubborn"});
    one.detach();
  }
  while (arrived < fibers) coir::this_fiber::yield();
  rt.request_stop();
  while (rt.snapshot().total().finished < fibers / 2) coir::this_fiber::yield();
  // Nobody else can end, so that it comes back at all says that its budget bounds it.
  REQUIRE(rt.shutdown(coir::in(50ms)).error() == coir::errc::survivors);
  CHECK(obedient == fibers / 2);
  CHECK(count(said, "'stubborn' (") == std::min(stubborn, 10u));
  CHECK(count(said, "'heeds' (") == 0);
  CHECK(count(said, "'stubborn' (") + not_named(said) == stubborn);
  CHECK(count(said, "stop_test.cpp:") == std::min(stubborn, 10u));
  said.clear();
  CHECK(rt.shutdown(coir::no_wait).error() == coir::errc::survivors);
  CHECK(count(said, "'stubborn' (") + not_named(said) == stubborn);
  held.unlock();
  CHECK(rt.shutdown().has_value());
  CHECK(locked == stubborn);
  const auto sums = rt.snapshot().total();
  CHECK(sums.spawned == fibers);
  CHECK(sums.finished == fibers);
}

TEST_CASE("life: a shutdown ends when its time is over, whoever keeps its fibers from ending") {
  // Time is virtual and moves for the holder alone, so what it has seen last is when it was over.
  const auto simulated = [](coir::options o) {
    o.backend = coir::backend_kind::sim;
    return tested(std::move(o));
  };
  std::string said;
  coir::options o = simulated({.workers = 2, .stack_bytes = 32 << 10});
  o.log = [&](const coir::log_record& line) { said += std::string(line.text) + "\n"; };
  const unsigned fibers = std::min(at_full_speed(10'000u, 1'000u), o.fibers_max - 2);
  const unsigned stubborn = fibers - fibers / 2;
  auto made = coir::runtime::create(std::move(o));
  auto other = coir::runtime::create(simulated({.workers = 1}));
  REQUIRE(made.has_value());
  REQUIRE(other.has_value());
  coir::runtime& rt = **made;
  REQUIRE(rt.start().has_value());
  REQUIRE((*other)->start().has_value());
  coir::mutex held;  // waiting for a mutex heeds no cancel
  coir::event taken;
  coir::clock::time_point seen;
  bool may_end = false;
  auto holder = (*other)->spawn([&] {
    held.lock();
    taken.set();
    while (!may_end && coir::this_fiber::sleep_for(1ms)) seen = coir::clock::now();
    held.unlock();
  });
  REQUIRE(taken.wait().has_value());
  unsigned arrived = 0, obedient = 0, locked = 0;
  for (unsigned i = 0; i < fibers; ++i) {
    const bool heeds = i % 2 == 1;
    rt.spawn(
          [&, heeds] {
            ++arrived;
            if (heeds) {
              if (!coir::this_fiber::sleep_until(coir::never)) ++obedient;
            } else {
              held.lock();
              ++locked;
              held.unlock();
            }
          },
          {.name = heeds ? "heeds" : "stubborn"})
        .detach();
  }
  while (arrived < fibers) coir::this_fiber::yield();
  for (unsigned again = 0; again < 3; ++again) {
    said.clear();
    const coir::deadline until = coir::in(50ms);
    REQUIRE(rt.shutdown(until).error() == coir::errc::survivors);
    CHECK(seen <= until);
    CHECK(seen > until - 2ms);
    CHECK(obedient == fibers / 2);
    CHECK(count(said, "'stubborn' (") == std::min(stubborn, 10u));
    CHECK(count(said, "'heeds' (") == 0);
    CHECK(count(said, "'stubborn' (") + not_named(said) == stubborn);
  }
  may_end = true;
  CHECK(rt.shutdown().has_value());
  CHECK(locked == stubborn);
  CHECK(holder.join().has_value());
}

TEST_CASE("life: a stop that comes while a runtime starts, from several threads, is heard once") {
  constexpr unsigned cycles = at_full_speed(1'000u, 100u);
  unsigned started = 0, refused = 0, ran_or_told = 0;
  const auto closure = std::make_shared<int>(0);
  for (unsigned i = 0; i < cycles; ++i) {
    auto made = coir::runtime::create(small(1 + i % 3));
    REQUIRE(made.has_value());
    coir::runtime& rt = **made;
    auto early = rt.spawn([closure] { return 1; });
    std::atomic<unsigned> ready{0};
    const auto at_once = [&] {
      ready.fetch_add(1);
      while (ready < 3) std::this_thread::yield();
    };
    std::thread stopper([&] {
      at_once();
      for (unsigned k = 0; k < i % 7; ++k) std::this_thread::yield();
      rt.request_stop();
    });
    std::thread ender([&] {
      at_once();
      for (unsigned k = 0; k < i % 5; ++k) std::this_thread::yield();
      if (i % 4 == 0) (void)rt.shutdown();
    });
    at_once();
    const auto begun = rt.start();
    if (begun) ++started;
    if (!begun && begun.error() == coir::errc::shutting_down) ++refused;
    stopper.join();
    ender.join();
    const auto answer = early.join();  // whoever came first, without a shutdown
    REQUIRE(rt.shutdown().has_value());
    if (answer ? *answer == 1 : answer.error() == std::errc::operation_canceled) ++ran_or_told;
    CHECK(rt.start().error() == coir::errc::shutting_down);
    CHECK(rt.snapshot().total().spawned == rt.snapshot().total().finished);
  }
  CHECK(started + refused == cycles);
  CHECK(ran_or_told == cycles);
  CHECK(closure.use_count() == 1);
}

TEST_CASE("life: a stop of a runtime that never started tells those who were queued") {
  const auto closure = std::make_shared<int>(0);
  auto made = coir::runtime::create(small(2));
  REQUIRE(made.has_value());
  coir::runtime& rt = **made;
  std::vector<coir::handle<void>> all;
  for (unsigned i = 0; i < 2; ++i) {
    auto one = rt.try_spawn([closure] {}, {.worker = i});
    REQUIRE(one.has_value());
    all.push_back(std::move(*one));
  }
  rt.request_stop();
  for (auto& one : all) CHECK(one.join(coir::no_wait).error() == std::errc::operation_canceled);
  CHECK(closure.use_count() == 1);
  CHECK(rt.spawn([] {}).join().error() == coir::errc::shutting_down);
  CHECK(rt.start().error() == coir::errc::shutting_down);
  rt.request_stop();
  CHECK(rt.shutdown().has_value());
}

TEST_CASE("life: a stop before the start waits for nobody, also for those who wait for a place") {
  auto made = coir::runtime::create(tested({.workers = 1, .mailbox_slots = 1}));
  REQUIRE(made.has_value());
  coir::runtime& unbegun = **made;
  const auto done = coir::run(
      [&] {
        std::vector<coir::handle<void>> all;
        auto spawns = coir::spawn([&] {
          for (unsigned i = 0; i < 3; ++i) all.push_back(unbegun.spawn([] {}));  // parks
        });
        while (all.empty()) coir::this_fiber::yield();
        unbegun.request_stop();
        CHECK(spawns.join().has_value());
        unsigned told = 0;
        for (auto& one : all) {
          const std::error_code why = one.join().error();
          told += why == std::errc::operation_canceled || why == coir::errc::shutting_down;
        }
        CHECK(told == 3);
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
  CHECK(unbegun.shutdown().has_value());
}

TEST_CASE("life: the first fiber may stop the runtime that has just begun to run it") {
  constexpr unsigned cycles = at_full_speed(300u, 50u);
  for (unsigned i = 0; i < cycles; ++i) {
    auto made = coir::runtime::create(small(1 + i % 3));
    REQUIRE(made.has_value());
    coir::runtime& rt = **made;
    std::vector<coir::handle<bool>> all;
    for (unsigned k = 0; k < 4; ++k) {
      auto one = rt.try_spawn([&rt] {  // nobody takes them out of a mailbox yet
        rt.request_stop();
        return coir::spawn([] {}).join().error() == coir::errc::shutting_down;
      });
      if (one) all.push_back(std::move(*one));
    }
    REQUIRE(rt.start().has_value());
    unsigned stopped = 0, never_ran = 0;
    for (auto& h : all) {
      const auto answer = h.join();
      if (answer && *answer) ++stopped;
      if (!answer && answer.error() == std::errc::operation_canceled) ++never_ran;
    }
    CHECK(stopped >= 1);
    CHECK(stopped + never_ran == all.size());
    CHECK(rt.shutdown().has_value());
  }
}
