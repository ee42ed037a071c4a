// held_worker.hpp: two workers or more, of which some are held by a fiber that lets nobody else
// run.
//
// Always true:
//   - Worker 0 is held by the root, which does not park; so what runs meanwhile runs on another
//     one.
//   - Who waits for something that a broken build never does waits for ever: that is noticed too.
//
// Comes from: tests of placing, and of what is placed.   Goes to: coir::runtime.
#pragma once

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "coir/coir.hpp"
#include "runtime/worker.hpp"
#include "tests/test_options.hpp"

namespace test {

using count = std::atomic<unsigned>;

inline void wait_for(const auto& what) {
  while (!what()) std::this_thread::yield();  // the thread's: the fiber stays where it is
}

/// Has worker 1 for itself from its beginning to `release`.
class held_worker {
 public:
  /// `keeps`: so many fibers wait for their first run there, and go nowhere else.
  explicit held_worker(unsigned worker = 1, unsigned keeps = 0)
      : holder_(coir::spawn(
            [this, worker, keeps] {
              for (unsigned i = 0; i < keeps; ++i) coir::spawn([] {}, {.worker = worker}).detach();
              held_ = true;
              wait_for([this] { return free_.load(); });
            },
            {.worker = worker})) {
    wait_for([this] { return held_.load(); });
  }
  ~held_worker() { release(); }
  held_worker(const held_worker&) = delete;
  held_worker& operator=(const held_worker&) = delete;
  void let_go() { free_ = true; }
  void release() {
    let_go();
    CHECK((!holder_ || holder_.join().has_value()));
  }

 private:
  std::atomic<bool> held_{false}, free_{false};
  coir::handle<void> holder_;
};

/// `root` on worker 0 of some.
template <class Root>
void on_workers(unsigned workers, coir::options o, Root root) {
  o.workers = workers;
  auto made = coir::runtime::create(tested(std::move(o)));
  REQUIRE(made.has_value());
  const auto ended = (*made)->run([&] {
    coir::runtime& all = **made;
    return coir::spawn([&] { root(all); }, {.worker = 0}).join();
  });
  CHECK(ended.has_value());
}

template <class Root>
void on_two_workers(const coir::options& o, Root root) {
  on_workers(2, o, root);
}

inline std::uint64_t given_away() { return coir::snapshot().workers[0].deflected_out; }

inline void a_turn_passes() {
  CHECK(coir::this_fiber::sleep_for(std::chrono::nanoseconds(1)).has_value());
}

/// Until one of two workers is worth being fed with one fiber.
inline void wait_for_hunger() {
  wait_for([] { return coir::detail::worker::current()->shared().hungry.any_for_one(2); });
}

/// As everybody does.
inline constexpr auto spawn_usual = [](auto body) { return coir::spawn(std::move(body)); };

/// Fibers made by `spawn` that end when one of them runs on worker 1; the first waits until that
/// one is hungry.
template <class Spawn>
auto until_one_is_elsewhere(unsigned fibers, count& elsewhere, Spawn spawn) {
  std::vector<coir::handle<void>> all;
  for (unsigned i = 0; i < fibers; ++i)
    all.push_back(spawn([&elsewhere] {
      if (coir::this_fiber::worker() == 1) ++elsewhere;
      wait_for([&] {
        return elsewhere != 0 || coir::detail::worker::current()->shared().hungry.any(2);
      });
      while (elsewhere == 0) coir::this_fiber::yield();
    }));
  return all;
}

}  // namespace test
