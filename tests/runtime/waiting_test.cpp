// waiting_test.cpp: waiting in a queue as a thread and as a fiber: why it ended, and that nothing
// stays behind.
//
// Comes from: runtime/waiting.hpp.   Goes to: ctest.
#include "runtime/waiting.hpp"

#include <doctest/doctest.h>

#include <thread>

#include "scripted_backend.hpp"

using namespace coir::detail;
using scripted::script;

namespace {

constexpr auto always = [] { return true; };

bool wake_first(wait_queue& q) {
  const word_lock held(q.lock);
  waiter* const w = dequeue(q);
  return w != nullptr && wake_waiter(*w);
}

}  // namespace

TEST_CASE("waiting: what is not blocked does not wait, thread or fiber") {
  wait_queue q;
  waiter w;
  CHECK(wait_in(q, w, never_ns, true, [] { return false; }) == woken::by_item);
  CHECK_FALSE(w.linked);
  script s;
  CHECK_FALSE(scripted::run(s, [&] {
    waiter mine;
    CHECK(wait_in(q, mine, never_ns, true, [] { return false; }) == woken::by_item);
  }));
  CHECK(q.head == nullptr);
}

TEST_CASE("waiting: a thread whose deadline comes leaves the queue") {
  wait_queue q;
  waiter w;
  CHECK(wait_in(q, w, 1, true, always) == woken::by_deadline);
  CHECK_FALSE(w.linked);
  CHECK(q.head == nullptr);
}

TEST_CASE("waiting: a thread is woken by an item, even one that comes with the deadline") {
  wait_queue q;
  waiter w;
  bool woke = false;
  std::thread other([&] {
    while (!woke) {
      woke = wake_first(q);
      std::this_thread::yield();
    }
  });
  CHECK(wait_in(q, w, never_ns, true, always) == woken::by_item);
  other.join();
  w.word.store(1);
  CHECK(sleep_as_thread(w, 1) == woken::by_item);
}

TEST_CASE("waiting: a fiber's deadline ends its wait at that time and takes it out of the queue") {
  script s;
  CHECK_FALSE(scripted::run(s, [&] {
    wait_queue q;
    waiter w;
    CHECK(wait_in(q, w, 77'000, true, always) == woken::by_deadline);
    CHECK_FALSE(w.linked);
    CHECK(s.now_ns == 77'000);
    CHECK(wait_in(q, w, no_wait_ns, true, always) == woken::by_deadline);
    CHECK(q.head == nullptr);
    CHECK_FALSE(wake_first(q));
  }));
}

TEST_CASE("waiting: a cancel ends the wait that heeds it, and not the one that does not") {
  script s;
  woken heeds = woken::by_item;
  woken deaf = woken::by_cancel;
  CHECK_FALSE(scripted::run(s, [&] {
    wait_queue q;
    auto a = coir::spawn([&] {
      waiter w;
      heeds = wait_in(q, w, never_ns, true, always);
    });
    auto b = coir::spawn([&] {
      waiter w;
      deaf = wait_in(q, w, never_ns, false, always);
    });
    while (q.head == nullptr || q.head == q.tail) coir::this_fiber::yield();
    a.cancel();
    b.cancel();
    CHECK(a.join().has_value());
    CHECK_FALSE(b.done());
    CHECK(wake_first(q));
    CHECK(b.join().has_value());
  }));
  CHECK(heeds == woken::by_cancel);
  CHECK(deaf == woken::by_item);
}

TEST_CASE("waiting: an item that was given before the deadline fires is kept") {
  script s;
  CHECK_FALSE(scripted::run(s, [&] {
    wait_queue q;
    woken why = woken::by_deadline;
    auto a = coir::spawn([&] {
      waiter w;
      why = wait_in(q, w, 1'000, true, always);
    });
    while (q.head == nullptr) coir::this_fiber::yield();
    CHECK(wake_first(q));
    s.now_ns = 5'000;
    a.cancel();
    CHECK(a.join().has_value());
    CHECK(why == woken::by_item);
  }));
}

TEST_CASE("waiting: each reason has its error") {
  CHECK_FALSE(error_of(woken::by_item));
  CHECK(error_of(woken::by_deadline) == std::errc::timed_out);
  CHECK(error_of(woken::by_cancel) == std::errc::operation_canceled);
}
