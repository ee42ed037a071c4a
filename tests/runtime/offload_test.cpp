// offload_test.cpp: the pool of threads: its bounds, its end, and calls that are taken back.
//
// Always true:
//   - A thread of the pool is held by a futex word of the test, never by time.
//
// Comes from: runtime/offload.hpp.   Goes to: ctest.
#include "runtime/offload.hpp"

#include <doctest/doctest.h>
#include <signal.h>

#include <array>
#include <memory>
#include <thread>
#include <vector>

#include "runtime/waiting.hpp"

using namespace coir::detail;

namespace {

/// Calls wait inside until the door opens.
struct door {
  std::atomic<std::uint32_t> open{0};
  std::atomic<std::uint32_t> inside{0};
  void pass() noexcept {
    inside.fetch_add(1);
    futex_wake(inside, INT32_MAX);
    while (open.load() == 0) futex_wait(open, 0, INT64_MAX);
  }
  void unlock() noexcept {
    open.store(1);
    futex_wake(open, INT32_MAX);
  }
  void wait_for(std::uint32_t count) noexcept {
    for (std::uint32_t seen = 0; (seen = inside.load()) < count;)
      futex_wait(inside, seen, INT64_MAX);
  }
};

struct call : awaited_call {
  call() = default;
  explicit call(door& d) {
    argument = &d;
    run = [](void* at) noexcept { static_cast<door*>(at)->pass(); };
  }
  void finish() {
    waiter again;
    (void)wait_in(done, again, never_ns, false, [&] { return !ended; });
  }
};

}  // namespace

TEST_CASE("offload: a queue that is full refuses, and takes again when a thread came to a call") {
  door d;
  offload_pool pool(1, 2);
  call running(d);
  REQUIRE_FALSE(pool.submit(running));
  d.wait_for(1);
  call first(d);
  call second(d);
  call third(d);
  CHECK_FALSE(pool.submit(first));
  CHECK_FALSE(pool.submit(second));
  CHECK(pool.submit(third).code() == coir::errc::offload_full);
  CHECK(pool.busy() == 3);
  d.unlock();
  running.finish();
  first.finish();
  CHECK_FALSE(pool.submit(third));
  second.finish();
  third.finish();
  CHECK(d.inside.load() == 4);
  while (pool.busy() != 0) std::this_thread::yield();  // a thread tells first, and counts then
}

TEST_CASE("offload: no more threads than allowed, and none before there is work") {
  door d;
  offload_pool pool(3, 100);
  CHECK(pool.threads() == 0);
  std::vector<std::unique_ptr<call>> calls;
  for (int i = 0; i < 10; ++i) {
    calls.push_back(std::make_unique<call>(d));
    REQUIRE_FALSE(pool.submit(*calls.back()));
  }
  d.wait_for(3);
  CHECK(pool.threads() == 3);
  CHECK(d.inside.load() == 3);
  d.unlock();
  for (auto& c : calls) c->finish();
  CHECK(d.inside.load() == 10);
  CHECK(pool.threads() == 3);
}

TEST_CASE("offload: a call that still waits can be taken back, one that a thread has cannot") {
  door d;
  offload_pool pool(1, 10);
  call running(d);
  REQUIRE_FALSE(pool.submit(running));
  d.wait_for(1);
  call waiting(d);
  call after(d);
  REQUIRE_FALSE(pool.submit(waiting));
  REQUIRE_FALSE(pool.submit(after));
  CHECK_FALSE(pool.withdraw(running));
  CHECK(pool.withdraw(waiting));
  CHECK_FALSE(pool.withdraw(waiting));
  d.unlock();
  running.finish();
  after.finish();
  CHECK(d.inside.load() == 2);
  CHECK_FALSE(waiting.ended);
  CHECK_FALSE(pool.withdraw(after));
}

TEST_CASE("offload: the pool ends only after every call that it took has run") {
  door d;
  d.unlock();
  std::array<call, 20> calls;
  {
    offload_pool pool(2, 100);
    for (call& c : calls) {
      c.argument = &d;
      c.run = [](void* at) noexcept { static_cast<door*>(at)->pass(); };
      REQUIRE_FALSE(pool.submit(c));
    }
  }
  CHECK(d.inside.load() == calls.size());
  for (const call& c : calls) CHECK(c.ended);
}

TEST_CASE("offload: its threads leave the process's signals to others") {
  struct look {
    bool blocked = false;
  } seen;
  offload_pool pool(1, 1);
  call c;
  c.argument = &seen;
  c.run = [](void* at) noexcept {
    sigset_t now;
    ::pthread_sigmask(SIG_BLOCK, nullptr, &now);
    static_cast<look*>(at)->blocked =
        ::sigismember(&now, SIGTERM) == 1 && ::sigismember(&now, SIGUSR1) == 1;
  };
  REQUIRE_FALSE(pool.submit(c));
  c.finish();
  CHECK(seen.blocked);
  sigset_t mine;
  ::pthread_sigmask(SIG_BLOCK, nullptr, &mine);
  CHECK(::sigismember(&mine, SIGTERM) == 0);
}
