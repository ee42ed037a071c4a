// sync_test.cpp: mutex, condition_variable and event: who gets them, in which order, and what a
// waiter that gives up leaves behind.
//
// Always true:
//   - One worker, so settle() says how far the others are; nothing waits for time but deadlines
//     that are over.
//
// Comes from: coir/sync.hpp.   Goes to: runtime/sync.cpp.
#include <doctest/doctest.h>

#include <chrono>
#include <mutex>
#include <vector>

#include "on_fiber.hpp"

using namespace std::chrono_literals;
using test::on_fiber;
using test::settle;
using test::tested;

namespace {

constexpr auto canceled = std::errc::operation_canceled;
constexpr auto timed_out = std::errc::timed_out;

}  // namespace

TEST_CASE("mutex: one holder at a time, also for those who only try") {
  on_fiber([] {
    coir::mutex m;
    CHECK(m.try_lock());
    CHECK_FALSE(m.try_lock());
    CHECK(m.lock_until(coir::no_wait).error() == timed_out);
    m.unlock();
    CHECK(m.lock_until(coir::no_wait).has_value());  // a free one is never late
    m.unlock();
  });
}

TEST_CASE("mutex: it is handed on in the order of arrival, and nobody overtakes") {
  on_fiber([] {
    coir::mutex m;
    std::vector<int> order;
    m.lock();
    coir::scope waiting;
    for (int i = 0; i < 4; ++i)
      waiting.spawn([&, i] {
        const std::lock_guard held(m);
        order.push_back(i);
        coir::this_fiber::yield();
      });
    settle();
    m.unlock();
    CHECK_FALSE(m.try_lock());  // it belongs to the first of them already
    REQUIRE(waiting.join().has_value());
    CHECK(order == std::vector<int>{0, 1, 2, 3});
    CHECK(m.try_lock());
    m.unlock();
  });
}

TEST_CASE("mutex: a waiter that gave up is passed over, and the last one leaves it free") {
  on_fiber([] {
    coir::mutex m;
    m.lock();
    auto late = coir::spawn([&] { return m.lock_until(coir::in(1us)); });
    auto stopped = coir::spawn([&] { return m.lock_until(coir::never); });
    auto patient = coir::spawn([&] {
      m.lock();
      m.unlock();
    });
    settle();
    stopped.cancel();
    CHECK(stopped.join().error() == canceled);
    CHECK(late.join().error() == timed_out);
    m.unlock();
    CHECK(patient.join().has_value());
    // All who wait give up while it is held: the unlock finds nobody.
    m.lock();
    auto gone = coir::spawn([&] { return m.lock_until(coir::never); });
    settle();
    gone.cancel();
    CHECK(gone.join().error() == canceled);
    m.unlock();
    CHECK(m.try_lock());
    m.unlock();
  });
}

TEST_CASE("mutex: lock ignores a cancel, so that it can be used while cleaning up") {
  on_fiber([] {
    coir::mutex m;
    m.lock();
    bool got = false;
    auto cleans_up = coir::spawn([&] {
      const std::lock_guard held(m);
      got = true;
      return coir::this_fiber::cancelled();
    });
    settle();
    cleans_up.cancel();
    settle();
    CHECK_FALSE(got);
    m.unlock();
    CHECK(cleans_up.join().value());
    CHECK(got);
  });
}

TEST_CASE("condition_variable: whatever ends the wait, the mutex is held again") {
  on_fiber([] {
    coir::mutex m;
    coir::condition_variable cv;
    std::unique_lock held(m);
    CHECK(cv.wait(held, coir::in(1us)).error() == timed_out);
    CHECK(held.owns_lock());
    CHECK_FALSE(m.try_lock());
    held.unlock();
    auto waits = coir::spawn([&] {
      std::unique_lock mine(m);
      const auto why = cv.wait(mine);
      return mine.owns_lock() && !m.try_lock() && !why && why.error() == canceled;
    });
    settle();
    waits.cancel();
    CHECK(waits.join().value());
    CHECK(m.try_lock());
    m.unlock();
  });
}

TEST_CASE("condition_variable: a predicate that holds wins over the deadline") {
  on_fiber([] {
    coir::mutex m;
    coir::condition_variable cv;
    std::unique_lock held(m);
    CHECK(cv.wait(
                held, [] { return true; }, coir::no_wait)
              .has_value());
    CHECK(cv.wait(
                held, [] { return false; }, coir::no_wait)
              .error() == timed_out);
    int looks = 0;
    // It becomes true without a notice, as the deadline passes.
    CHECK(cv.wait(
                held, [&] { return ++looks == 2; }, coir::no_wait)
              .has_value());
  });
}

TEST_CASE("condition_variable: notify_one wakes one waiter, the one that came first") {
  const auto done = coir::run(
      [] {
        coir::mutex m;
        coir::condition_variable cv;
        std::vector<int> woken;
        std::vector<coir::handle<void>> waiting;
        for (int i = 0; i < 3; ++i)
          waiting.push_back(coir::spawn([&, i] {
            std::unique_lock held(m);
            CHECK(cv.wait(held).has_value());
            woken.push_back(i);
          }));
        settle();
        for (int i = 0; i < 3; ++i) {
          cv.notify_one();
          settle();
          CHECK(woken.size() == static_cast<std::size_t>(i) + 1);
        }
        for (auto& w : waiting) CHECK(w.join().has_value());
        CHECK(woken == std::vector<int>{0, 1, 2});
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE("condition_variable: a notice that meets a waiter who gave up goes to the next one") {
  on_fiber([] {
    coir::mutex m;
    coir::condition_variable cv;
    const auto wait = [&] {
      std::unique_lock held(m);
      return cv.wait(held);
    };
    auto gives_up = coir::spawn(wait);
    auto next = coir::spawn(wait);
    settle();
    gives_up.cancel();
    cv.notify_one();
    CHECK(gives_up.join().error() == canceled);
    CHECK(next.join().has_value());
    cv.notify_one();  // nobody: nothing is kept for later
    std::unique_lock held(m);
    CHECK(cv.wait(held, coir::no_wait).error() == timed_out);
  });
}

TEST_CASE("event: it stays open until it is reset, and opens for all at once") {
  on_fiber([] {
    coir::event e;
    CHECK_FALSE(e.is_set());
    CHECK(e.wait(coir::no_wait).error() == timed_out);
    int through = 0;
    coir::scope waiting;
    for (int i = 0; i < 5; ++i)
      waiting.spawn([&] {
        if (e.wait()) ++through;
      });
    settle();
    CHECK(through == 0);
    e.set();
    CHECK(e.is_set());
    CHECK(e.wait(coir::no_wait).has_value());
    REQUIRE(waiting.join().has_value());
    CHECK(through == 5);
    e.reset();
    CHECK_FALSE(e.is_set());
    CHECK(e.wait(coir::no_wait).error() == timed_out);
  });
}
