// d_join_test.cpp: joins as they should not be done, and joins at the moment of the end.
//
// Always true:
//   - Whoever waits for a fiber by its id gets an answer, also when it ends at that very moment.
//
// Comes from: entry D5 of the failure catalogue.   Goes to: runtime/join.cpp, runtime/ending.cpp.
#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "coir/coir.hpp"
#include "tests/test_options.hpp"

using test::at_full_speed;
using test::tested;

namespace {

/// What wait() may say of a fiber that was alive when its id was taken.
bool is_answer(const coir::result<>& waited) {
  return waited || waited.error() == coir::errc::stale_handle;
}

}  // namespace

TEST_CASE(
    "D5: any number of waiters by id, fibers of both workers and a thread, all hear of the end") {
  constexpr unsigned waiters = 16;
  auto made = coir::runtime::create(tested({.workers = 2}));
  REQUIRE(made.has_value());
  coir::runtime& rt = **made;
  REQUIRE(rt.start().has_value());
  coir::event go;
  auto target = rt.spawn([&go] { return go.wait(); });
  const coir::fiber_id id = target.id();
  std::atomic<unsigned> about_to{0};
  std::vector<coir::handle<void>> all;
  for (unsigned i = 0; i < waiters; ++i)
    all.push_back(rt.spawn(
        [&, id] {
          about_to.fetch_add(1);
          return coir::wait(id);
        },
        {.worker = i % 2}));
  bool thread_heard = false;
  std::thread outside([&] {
    about_to.fetch_add(1);
    thread_heard = coir::wait(id).has_value();
  });
  while (about_to < waiters + 1) coir::this_fiber::yield();
  CHECK(coir::wait(id, coir::no_wait).error() == std::errc::timed_out);
  go.set();
  // The handle keeps the record, so late waiters hear "ended" and not "stale".
  for (auto& h : all) CHECK(h.join().has_value());
  outside.join();
  CHECK(thread_heard);
  CHECK(coir::wait(id).has_value());
  CHECK(target.join().has_value());
  CHECK(coir::wait(id).error() == coir::errc::stale_handle);
  CHECK(rt.shutdown().has_value());
}

TEST_CASE("D5: a fiber that joins itself is told so, by handle and by id") {
  const auto done = coir::run(
      [] {
        coir::event ready;
        coir::handle<bool> self;
        self = coir::spawn([&] {
          if (!ready.wait()) return false;
          return self.join().error() == coir::errc::deadlock &&
                 coir::wait(coir::this_fiber::id()).error() == coir::errc::deadlock;
        });
        ready.set();
        return self.join();
      },
      tested({.workers = 1}));
  CHECK(done.value());
}

TEST_CASE("D5: a handle gives its answer once, and none after it was let go") {
  const auto done = coir::run(
      [] {
        auto once = coir::spawn([] { return 1; });
        CHECK(once.join().value() == 1);
        CHECK(once.join().error() == coir::errc::already_joined);
        coir::event go;
        auto gone = coir::spawn([&go] { return go.wait(); });
        const coir::fiber_id id = gone.id();
        gone.detach();
        CHECK(gone.join().error() == coir::errc::already_joined);
        CHECK(gone.done());
        gone.cancel();  // names nobody any more
        CHECK(coir::wait(id, coir::no_wait).error() == std::errc::timed_out);
        go.set();
        CHECK(is_answer(coir::wait(id)));
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE("D5: a stale, forged or foreign id is refused, whoever asks") {
  const auto ask_all = [](const coir::fiber_id& stale) {
    CHECK(coir::wait(stale).error() == coir::errc::stale_handle);
    for (const coir::fiber_id& forged :
         {coir::fiber_id{stale.slot, stale.runtime, stale.generation + 1000},
          coir::fiber_id{stale.slot, stale.runtime, 0},
          coir::fiber_id{stale.slot, stale.runtime, UINT64_MAX},
          coir::fiber_id{UINT32_MAX, stale.runtime, stale.generation},
          coir::fiber_id{stale.slot, stale.runtime + 1000, stale.generation}, coir::fiber_id{}}) {
      const auto waited = coir::wait(forged);
      REQUIRE(!waited.has_value());
      CHECK((waited.error() == coir::errc::stale_handle ||
             waited.error() == coir::errc::foreign_runtime));
    }
  };
  auto made = coir::runtime::create(tested({.workers = 2}));
  REQUIRE(made.has_value());
  REQUIRE((*made)->start().has_value());
  auto ended = (*made)->spawn([] {});
  const coir::fiber_id stale = ended.id();
  CHECK(ended.join().has_value());
  ask_all(stale);
  // What the free slot will be called next is easily guessed, and names nobody yet.
  const coir::fiber_id next{stale.slot, stale.runtime, stale.generation + 1};
  CHECK(coir::wait(next, coir::no_wait).error() == coir::errc::stale_handle);
  CHECK((*made)->spawn([&] { ask_all(stale); }).join().has_value());
  CHECK((*made)->shutdown().has_value());
  made->reset();
  CHECK(coir::wait(stale).error() == coir::errc::foreign_runtime);
}

TEST_CASE("D5: joins and waits that race with the end all return, and the answer is whole") {
  constexpr unsigned rounds = at_full_speed(20'000u, 1'000u);
  unsigned whole = 0, heard = 0;
  const auto done = coir::run(
      [&] {
        struct payload {
          std::array<std::uint64_t, 16> words;
        };
        for (unsigned i = 0; i < rounds; ++i) {
          const unsigned other = 1 - coir::this_fiber::worker();
          auto racer = coir::spawn(
              [i] {
                if (i % 3 == 0) coir::this_fiber::yield();
                payload p;
                p.words.fill(i);
                return p;
              },
              {.worker = other});
          const coir::fiber_id id = racer.id();
          auto watcher = coir::spawn([id] { return is_answer(coir::wait(id)); },
                                     {.worker = i % 2 == 0 ? other : 1 - other});
          const payload p = racer.join().value();
          bool same = true;
          for (const std::uint64_t w : p.words) same = same && w == i;
          whole += same ? 1 : 0;
          heard += watcher.join().value() ? 1 : 0;
        }
      },
      tested({.workers = 2}));
  CHECK(done.has_value());
  CHECK(whole == rounds);
  CHECK(heard == rounds);
}

TEST_CASE("D5: a plain thread joins fibers that end at that moment, or lets them go") {
  constexpr unsigned rounds = at_full_speed(20'000u, 1'000u);
  auto made = coir::runtime::create(tested({.workers = 2}));
  REQUIRE(made.has_value());
  coir::runtime& rt = **made;
  REQUIRE(rt.start().has_value());
  std::atomic<unsigned> ran{0};
  auto answer = std::make_shared<int>(1);
  unsigned joined = 0;
  for (unsigned i = 0; i < rounds; ++i) {
    auto h = rt.spawn([&ran, answer] {
      ran.fetch_add(1);
      return answer;
    });
    if (i % 2 == 0) {
      h.detach();
    } else if (h.join().value() == answer) {
      ++joined;
    }
  }
  CHECK(rt.run([] {}).has_value());
  CHECK(joined == rounds / 2);
  CHECK(ran == rounds);
  CHECK(answer.use_count() == 1);  // every answer that nobody took was destroyed
  const auto sums = rt.snapshot().total();
  CHECK(sums.spawned == sums.finished);
  CHECK(rt.shutdown().has_value());
}
