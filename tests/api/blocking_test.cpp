// blocking_test.cpp: calls on the offload pool as a fiber sees them: answers, exceptions, bounds,
// and giving up before and after a thread has the call.
//
// Always true:
//   - A thread is kept busy by a door that the test opens, never by time.
//
// Comes from: coir/blocking.hpp.   Goes to: runtime/blocking.cpp.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <thread>

#include "on_fiber.hpp"

using test::settle;
using test::tested;

namespace {

constexpr auto canceled = std::errc::operation_canceled;

/// What a thread of the pool waits at.
class door {
 public:
  void pass() {
    entered_ = true;
    while (!open_) std::this_thread::yield();
  }
  void await_somebody() const {
    while (!entered_) coir::this_fiber::yield();
  }
  bool entered() const { return entered_; }
  void open() { open_ = true; }

 private:
  std::atomic<bool> entered_{false}, open_{false};
};

/// One worker, and a pool of one thread with room for one more call.
template <class F>
void with_a_narrow_pool(F body) {
  CHECK(coir::run(body, tested({.workers = 1, .offload_threads = 1, .offload_queue = 1}))
            .has_value());
}

}  // namespace

TEST_CASE("blocking: values, results, nothing and exceptions come back to the fiber") {
  COIR_NOT_IN_SIM(threads);
  with_a_narrow_pool([] {
    const auto worker = std::this_thread::get_id();
    CHECK(coir::blocking([] { return std::this_thread::get_id(); }).value() != worker);
    CHECK(*coir::blocking([] { return std::make_unique<int>(5); }).value() == 5);
    CHECK(coir::blocking([] {}).has_value());
    CHECK(coir::blocking([]() -> coir::result<int> { return 6; }).value() == 6);
    CHECK(coir::blocking([]() -> coir::result<int> {
            return coir::fail(std::errc::io_error);
          }).error() == std::errc::io_error);
    CHECK_THROWS_AS((void)coir::blocking([]() -> int { throw std::range_error("pool"); }),
                    std::range_error);
    CHECK(std::this_thread::get_id() == worker);
  });
}

TEST_CASE("blocking: while its fiber waits, the worker serves others") {
  COIR_NOT_IN_SIM(threads);
  with_a_narrow_pool([] {
    door d;
    auto call = coir::spawn([&] { return coir::blocking([&] { d.pass(); }); });
    d.await_somebody();
    CHECK(coir::spawn([] { return 1; }).join().value() == 1);
    CHECK_FALSE(call.done());
    d.open();
    CHECK(call.join().has_value());
  });
}

TEST_CASE("blocking: where the queue is full the next waits for a place; who gives up never runs") {
  COIR_NOT_IN_SIM(threads);
  with_a_narrow_pool([] {
    door d;
    std::atomic<bool> ran{false};
    auto busy = coir::spawn([&] { return coir::blocking([&] { d.pass(); }); });
    d.await_somebody();
    bool asks = false;
    auto queued = coir::spawn([&] {
      asks = true;
      return coir::blocking([&] { ran = true; });
    });
    while (!asks) coir::this_fiber::yield();
    CHECK(coir::blocking([] {}, coir::no_wait).error() == coir::errc::offload_full);
    auto leaves = coir::spawn([&] { return coir::blocking([&] { ran = true; }); });
    settle();
    CHECK_FALSE(leaves.done());
    leaves.cancel();
    CHECK(leaves.join().error() == canceled);
    queued.cancel();
    CHECK(queued.join().error() == canceled);
    CHECK(coir::blocking([&] { ran = true; }, coir::no_wait).error() == std::errc::timed_out);
    std::vector<coir::handle<int>> in_line;
    for (int i = 0; i < 4; ++i)
      in_line.push_back(coir::spawn([i] { return coir::blocking([i] { return i; }); }));
    settle();
    in_line[0].cancel();  // the place it had goes to the next
    CHECK(in_line[0].join().error() == canceled);
    d.open();
    CHECK(busy.join().has_value());
    for (int i = 1; i < 4; ++i)
      CHECK(in_line[static_cast<std::size_t>(i)].join(coir::in(std::chrono::seconds(20))) == i);
    CHECK_FALSE(ran);
    CHECK(coir::blocking([] { return 2; }).value() == 2);  // the place in the queue is free again
  });
}

TEST_CASE("blocking: a call that a thread has runs to its end although it was cancelled") {
  COIR_NOT_IN_SIM(threads);
  with_a_narrow_pool([] {
    door d;
    auto call = coir::spawn([&] {
      return coir::blocking([&] {
        d.pass();
        return 7;
      });
    });
    d.await_somebody();
    call.cancel();
    settle();
    CHECK_FALSE(call.done());
    d.open();
    CHECK(call.join().value() == 7);
  });
}

TEST_CASE("blocking: a call that a thread has runs to its end although its deadline is over") {
  COIR_NOT_IN_SIM(threads);
  with_a_narrow_pool([] {
    // Until a thread was there before the deadline was over, however slow the machine is.
    for (std::chrono::milliseconds time{1};; time *= 2) {
      door d;
      const coir::deadline until = coir::in(time);
      auto call = coir::spawn([&] {
        return coir::blocking(
            [&] {
              d.pass();
              return 7;
            },
            until);
      });
      while (!d.entered() && !call.done()) coir::this_fiber::yield();
      if (!d.entered()) {
        CHECK(call.join().error() == std::errc::timed_out);
        continue;
      }
      CHECK(coir::this_fiber::sleep_until(until).has_value());
      settle();
      CHECK_FALSE(call.done());
      d.open();
      CHECK(call.join().value() == 7);
      return;
    }
  });
}

TEST_CASE("blocking: a fiber that is cancelled already asks for nothing") {
  with_a_narrow_pool([] {
    std::atomic<bool> ran{false};
    coir::event started;
    auto fiber = coir::spawn([&] {
      started.set();
      (void)coir::this_fiber::sleep_until(coir::never);
      return coir::blocking([&] { ran = true; });
    });
    REQUIRE(started.wait().has_value());
    fiber.cancel();
    CHECK(fiber.join().error() == canceled);
    CHECK_FALSE(ran);
  });
}
