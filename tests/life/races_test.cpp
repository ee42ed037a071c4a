// races_test.cpp: fibers that end at the moment in which fibers and threads join them, wait for
// them, cancel them or let them go.
//
// Always true:
//   - Every fiber is accounted for: its body ran to its end, or it never ran and says so, and
//     whoever asked got the one answer that fits.
//   - What each party does is drawn from a seed of its own, so the sum of what they do is the same
//     every time; who comes first is not.
//
// Comes from: the sentences on join and cancel in docs/design.md, section 3.   Goes to:
// runtime/join.cpp, runtime/ending.cpp.
#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "coir/coir.hpp"
#include "tests/test_options.hpp"

using test::at_full_speed;
using test::tested;

namespace {

constexpr auto canceled = std::errc::operation_canceled;

/// The names of the last fibers, for whoever waits by name.
class board {
 public:
  void put(coir::fiber_id id) {
    const std::lock_guard hold(lock_);
    ids_[next_++ % ids_.size()] = id;
  }
  coir::fiber_id take(std::uint64_t which) {
    const std::lock_guard hold(lock_);
    return ids_[which % ids_.size()];
  }

 private:
  std::mutex lock_;
  std::array<coir::fiber_id, 8> ids_{};
  std::size_t next_ = 0;
};

struct tally {
  std::atomic<unsigned> ran{0};       // bodies that came to their end
  std::atomic<unsigned> answered{0};  // joins that got the value
  std::atomic<unsigned> refused{0};   // joins that heard that the body never ran
  std::atomic<unsigned> let_go{0};    // handles that were dropped
  std::atomic<unsigned> waited{0};    // waits by name that had an end
  std::atomic<unsigned> wrong{0};     // answers that nobody may get
};

/// What a target gives; it keeps something alive, so that an answer that is lost or doubled shows.
using answer = std::shared_ptr<int>;

/// Makes `rounds` fibers, and races with the end of each.
void race(coir::runtime& rt, tally& sums, board& names, const answer& kept, unsigned seed,
          unsigned rounds) {
  std::mt19937 dice(seed);
  for (unsigned i = 0; i < rounds; ++i) {
    const unsigned draw = dice();
    const bool parks = draw % 4 == 1;
    auto target = rt.spawn(
        [&sums, kept, parks, yields = draw >> 2 & 3] {
          for (unsigned k = 0; k < yields; ++k) coir::this_fiber::yield();
          // Ends by a cancel, or at once where that has come already.
          if (parks) (void)coir::this_fiber::sleep_until(coir::never);
          sums.ran.fetch_add(1);
          return kept;
        },
        {.worker = draw >> 4 & 1});
    names.put(target.id());
    for (unsigned pause = draw >> 5 & 7; pause > 0; --pause) coir::this_fiber::yield();
    const bool cancels = parks || (draw >> 8 & 1) != 0;
    if (cancels) target.cancel();
    if ((draw >> 9 & 7) == 0) {
      target.detach();
      sums.let_go.fetch_add(1);
      continue;
    }
    // A join that gives up at once, against the end; the handle stays good.
    if ((draw >> 12 & 1) != 0) {
      const auto early = target.join(coir::no_wait);
      if (early) {
        sums.answered.fetch_add(1);
        continue;
      }
      if (early.error() == canceled && !target) {
        sums.refused.fetch_add(1);
        continue;
      }
      if (early.error() != std::errc::timed_out) sums.wrong.fetch_add(1);
    }
    const auto got = target.join();
    if (got && *got == kept)
      sums.answered.fetch_add(1);
    else if (!got && got.error() == canceled && cancels)
      sums.refused.fetch_add(1);
    else
      sums.wrong.fetch_add(1);
  }
}

/// Waits by name for whoever is on the board, until told to stop.
void watch(tally& sums, board& names, const std::atomic<bool>& enough, unsigned seed) {
  std::mt19937 dice(seed);
  while (!enough) {
    // A free slot's name may be taken by nobody: then the board was empty.
    const coir::fiber_id id = names.take(dice());
    if (id == coir::fiber_id{}) {
      coir::this_fiber::yield();
      continue;
    }
    const auto waited = coir::wait(id);
    if (waited || waited.error() == coir::errc::stale_handle)
      sums.waited.fetch_add(1);
    else
      sums.wrong.fetch_add(1);
    coir::this_fiber::yield();
  }
}

/// A fiber spawns children into scopes that a plain thread cancels at any moment.
void race_scopes(coir::runtime& rt, tally& sums, unsigned rounds) {
  for (unsigned i = 0; i < rounds; ++i) {
    coir::scope all;
    std::atomic<bool> begun{false};
    auto parent = rt.spawn(
        [&, i] {
          for (unsigned k = 0; k < 4; ++k) {
            all.spawn(
                [k, i] {
                  if ((k + i) % 2 == 0) coir::this_fiber::yield();
                  if (k == 3) (void)coir::this_fiber::sleep_until(coir::never);
                },
                {.worker = k % 2});
            begun = true;
          }
        },
        {.worker = i % 2});
    while (!begun) std::this_thread::yield();
    for (unsigned pause = i % 5; pause > 0; --pause) std::this_thread::yield();
    all.cancel();
    (void)parent.join();
    all.cancel();  // those who were spawned after a join had opened it again
    if (all.join().has_value() && all.live() == 0)
      sums.answered.fetch_add(1);
    else
      sums.wrong.fetch_add(1);
  }
}

/// Where one party shows its scope to those who cancel it. The lock keeps it alive meanwhile.
class shown_scope {
 public:
  void show(coir::scope* one) {
    const std::lock_guard hold(lock_);
    shown_ = one;
    ++era_;
    cancels_ = 0;
  }
  /// False: fewer than `least` have cancelled it.
  bool withdraw(unsigned least) {
    const std::lock_guard hold(lock_);
    if (cancels_ < least) return false;
    shown_ = nullptr;
    return true;
  }
  /// True: it was another one than the last time.
  bool cancel_next(std::uint64_t& seen) {
    const std::lock_guard hold(lock_);
    if (shown_ == nullptr || seen == era_) return false;
    seen = era_;
    shown_->cancel();
    ++cancels_;
    return true;
  }

 private:
  std::mutex lock_;
  coir::scope* shown_ = nullptr;
  std::uint64_t era_ = 0;
  unsigned cancels_ = 0;  // of this one
};

/// Makes `rounds` scopes of five, shows each to those who cancel, and joins them one by one. It
/// cancels nobody: who parks for ever is ended by somebody else, while this one is in a join.
void join_while_cancelled(shown_scope& here, tally& sums, const answer& kept, unsigned seed,
                          unsigned rounds) {
  std::mt19937 dice(seed);
  constexpr unsigned each = 5;
  for (unsigned i = 0; i < rounds; ++i) {
    coir::scope all;
    std::array<coir::handle<answer>, each> targets;
    const unsigned draw = dice();
    for (unsigned k = 0; k < each; ++k) {
      // Before its first child, or when some are there: those who come later are refused.
      if (draw % each == k) here.show(&all);
      const bool parks = (draw >> (8 + k) & 1) != 0 || k == draw % each;
      targets[k] = all.spawn(
          [&sums, kept, parks, yields = draw >> (16 + k) & 3] {
            for (unsigned n = 0; n < yields; ++n) coir::this_fiber::yield();
            if (parks) (void)coir::this_fiber::sleep_until(coir::never);
            sums.ran.fetch_add(1);
            return kept;
          },
          {.worker = draw >> (24 + k) & 1});
    }
    for (auto& target : targets) {
      const auto got = target.join();
      if (got && *got == kept)
        sums.answered.fetch_add(1);
      else if (!got && got.error() == canceled)
        sums.refused.fetch_add(1);
      else
        sums.wrong.fetch_add(1);
    }
    // In every tenth round not before both have.
    while (!here.withdraw(i % 10 == 0 ? 2 : 1)) coir::this_fiber::yield();
    (void)all.join();
    if (all.live() != 0) sums.wrong.fetch_add(1);
  }
}

/// Cancels each scope that is shown, once, until told to stop; gives way by `rest`.
template <class Rest>
unsigned cancel_what_is_shown(std::array<shown_scope, 2>& shown, const std::atomic<bool>& enough,
                              Rest rest) {
  std::array<std::uint64_t, 2> seen{};
  unsigned count = 0;
  while (!enough) {
    for (unsigned i = 0; i < 2; ++i) count += shown[i].cancel_next(seen[i]);
    rest();
  }
  return count;
}

}  // namespace

TEST_CASE("races: a hundred thousand are cancelled by a fiber and a thread while a third joins") {
  constexpr unsigned rounds = at_full_speed(10'000u, 10'000u);  // two parties, five targets a round
  auto made = coir::runtime::create(tested({.workers = 2}));
  REQUIRE(made.has_value());
  coir::runtime& rt = **made;
  REQUIRE(rt.start().has_value());
  tally sums;
  std::array<shown_scope, 2> shown;
  const answer kept = std::make_shared<int>(1);
  std::atomic<bool> enough{false};
  std::vector<coir::handle<void>> joiners;
  for (unsigned i = 0; i < 2; ++i)
    joiners.push_back(rt.spawn(
        [&, i] { join_while_cancelled(shown[i], sums, kept, 11 + i, rounds); }, {.worker = i}));
  auto fiber = rt.spawn(
      [&] { return cancel_what_is_shown(shown, enough, &coir::this_fiber::yield); }, {.worker = 0});
  unsigned by_thread = 0;
  std::thread thread(
      [&] { by_thread = cancel_what_is_shown(shown, enough, [] { std::this_thread::yield(); }); });
  for (auto& one : joiners) CHECK(one.join().has_value());
  enough = true;
  thread.join();
  const auto by_fiber = fiber.join();
  REQUIRE(by_fiber.has_value());
  CHECK(rt.shutdown().has_value());
  CHECK(sums.wrong == 0);
  CHECK(sums.answered + sums.refused == 2 * 5 * rounds);
  CHECK(sums.ran == sums.answered);
  CHECK(by_thread + *by_fiber >= 2 * rounds);  // in each round somebody waits for it
  CHECK(by_thread >= 2 * rounds / 10);
  CHECK(*by_fiber >= 2 * rounds / 10);
  CHECK(kept.use_count() == 1);
  const auto counted = rt.snapshot().total();
  CHECK(counted.spawned == counted.finished);
}

TEST_CASE("races: a hundred thousand ends meet joins, waits, cancels and farewells of all sides") {
  constexpr unsigned parties = 4;  // two threads, two fibers
  constexpr unsigned rounds = at_full_speed(25'000u, 25'000u);
  auto made = coir::runtime::create(tested({.workers = 2}));
  REQUIRE(made.has_value());
  coir::runtime& rt = **made;
  REQUIRE(rt.start().has_value());
  tally sums;
  board names;
  const answer kept = std::make_shared<int>(1);
  std::atomic<bool> enough{false};
  std::vector<coir::handle<void>> fibers;
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 2; ++i) {
    fibers.push_back(
        rt.spawn([&, i] { race(rt, sums, names, kept, 1 + i, rounds); }, {.worker = i}));
    threads.emplace_back([&, i] { race(rt, sums, names, kept, 3 + i, rounds); });
  }
  auto watching = rt.spawn([&] { watch(sums, names, enough, 5); }, {.worker = 0});
  std::thread watcher([&] { watch(sums, names, enough, 6); });
  for (auto& h : fibers) CHECK(h.join().has_value());
  for (auto& t : threads) t.join();
  enough = true;
  CHECK(watching.join().has_value());
  watcher.join();
  CHECK(rt.shutdown().has_value());
  CHECK(sums.wrong == 0);
  CHECK(sums.answered + sums.refused + sums.let_go == parties * rounds);
  CHECK(sums.ran >= sums.answered);
  CHECK(sums.waited > 0);
  CHECK(kept.use_count() == 1);  // each closure and each answer ended once
  const auto counted = rt.snapshot().total();
  CHECK(counted.spawned == counted.finished);
  CHECK(counted.live == 0);
}

TEST_CASE("races: a plain thread cancels scopes while their children come and go") {
  auto made = coir::runtime::create(tested({.workers = 2}));
  REQUIRE(made.has_value());
  REQUIRE((*made)->start().has_value());
  tally sums;
  constexpr unsigned rounds = at_full_speed(5'000u, 1'000u);
  race_scopes(**made, sums, rounds);
  CHECK(sums.wrong == 0);
  CHECK(sums.answered == rounds);
  CHECK((*made)->shutdown().has_value());
  const auto counted = (*made)->snapshot().total();
  CHECK(counted.spawned == counted.finished);
}
