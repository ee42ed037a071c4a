// d_shutdown_test.cpp: a shutdown while fibers are parked in everything there is.
//
// Always true:
//   - Descriptors and threads are counted before the runtime is made and after it is gone.
//
// Comes from: entry D6 of the failure catalogue.   Goes to: runtime/runtime.cpp.
#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <string>
#include <thread>

#include "coir/coir.hpp"
#include "tests/catalogue/process_facts.hpp"
#include "tests/test_options.hpp"

using test::at_full_speed;
using test::tested;

namespace {

constexpr auto canceled = std::errc::operation_canceled;

/// What the fibers park in. They all end with operation_canceled, but those that lock: lock() does
/// not heed a cancel, lock_until does.
struct places {
  int pipe_ends[2] = {-1, -1};
  coir::net::tcp_listener listener;
  coir::mutex held;
  coir::event never_set;
  std::atomic<bool> blocking_may_end{false};
  std::atomic<unsigned> arrived{0};
  std::atomic<unsigned> canceled_ones{0};
  std::atomic<unsigned> others{0};

  template <class T>
  void count(const coir::result<T>& answer) {
    (!answer && answer.error() == canceled ? canceled_ones : others).fetch_add(1);
  }

  void park(unsigned kind) {
    std::byte one{};
    arrived.fetch_add(1);
    switch (kind) {
      case 0:
        return count(coir::io::read(pipe_ends[0], {&one, 1}));
      case 1:
        return count(coir::this_fiber::sleep_until(coir::never));
      case 2:
        return count(held.lock_until(coir::never));
      case 3:
        return count(never_set.wait());
      case 4: {
        auto child = coir::spawn([this] { return never_set.wait(); });
        return child ? count(child.join()) : count(coir::result<>(coir::fail(canceled)));
      }
      case 5:
        return count(listener.accept());
      default:
        (void)coir::blocking([this] {
          while (!blocking_may_end) std::this_thread::yield();
        });
        return count(coir::this_fiber::sleep_until(coir::never));
    }
  }
};

}  // namespace

TEST_CASE(
    "D6: a shutdown ends thousands of fibers parked in everything, and leaves nothing behind") {
  const coir::options o = tested({.workers = 2, .stack_bytes = 64 << 10, .offload_threads = 4});
  // Some have a child, so half of the records are for others.
  const unsigned fibers = std::min(at_full_speed(10'000u, 1'000u), o.fibers_max / 2);
  std::thread([] {}).join();  // a sanitizer starts its own thread along with the first one
  const std::size_t fds = test::open_fds(), threads = test::live_threads();
  {
    places p;
    REQUIRE(::pipe(p.pipe_ends) == 0);
    auto listening = coir::net::tcp_listener::listen();
    REQUIRE(listening.has_value());
    p.listener = std::move(*listening);
    p.held.lock();
    auto made = coir::runtime::create(o);
    REQUIRE(made.has_value());
    coir::runtime& rt = **made;
    REQUIRE(rt.start().has_value());
    auto root = rt.spawn([&] {
      coir::scope all;
      // Blocking calls are few: each has a thread of its own or waits for one.
      for (unsigned i = 0; i < fibers; ++i)
        all.spawn([&p, kind = i < 8 ? 6 : i % 6] { p.park(kind); });
      return all.join();
    });
    while (p.arrived < fibers) coir::this_fiber::yield();
    rt.request_stop();
    p.blocking_may_end = true;
    CHECK(rt.shutdown(coir::in(std::chrono::seconds(60))).has_value());
    CHECK(root.join().error() == canceled);
    CHECK(p.canceled_ones == fibers);
    CHECK(p.others == 0);
    const auto sums = rt.snapshot().total();
    CHECK(sums.spawned == sums.finished);
    CHECK(sums.operations_open == 0);
    p.held.unlock();
    ::close(p.pipe_ends[0]);
    ::close(p.pipe_ends[1]);
  }
  CHECK(test::comes_down_to(fds, &test::open_fds));
  CHECK(test::comes_down_to(threads, &test::live_threads));
}

TEST_CASE("D6: a fiber that ignores a thousand cancels is named, and may still end later") {
  const std::size_t threads = test::live_threads();
  {
    std::atomic<bool> may_end{false};
    std::atomic<unsigned> ignored{0}, begun{0};
    std::string lines;
    std::mutex lines_lock;
    auto made =
        coir::runtime::create(tested({.workers = 2, .log = [&](const coir::log_record& line) {
                                        const std::lock_guard hold(lines_lock);
                                        lines += std::string(line.text) + "\n";
                                      }}));
    REQUIRE(made.has_value());
    coir::runtime& rt = **made;
    REQUIRE(rt.start().has_value());
    auto stubborn = rt.spawn(
        [&] {
          begun.fetch_add(1);
          while (!may_end)
            if (!coir::this_fiber::sleep_until(coir::never)) ignored.fetch_add(1);
          return 5;
        },
        {.name = "stubborn"});
    auto obedient = rt.spawn(
        [&] {
          begun.fetch_add(1);
          return coir::this_fiber::sleep_until(coir::never);
        },
        {.name = "obedient"});
    while (begun < 2) coir::this_fiber::yield();
    rt.request_stop();
    while (ignored < 1'000) coir::this_fiber::yield();
    CHECK(obedient.join().error() == canceled);
    CHECK(rt.shutdown(coir::no_wait).error() == coir::errc::survivors);
    {
      const std::lock_guard hold(lines_lock);
      CHECK(lines.find("'stubborn'") != lines.npos);
      CHECK(lines.find("'obedient'") == lines.npos);
      CHECK(lines.find("d_shutdown_test.cpp:") != lines.npos);
    }
    CHECK(rt.shutdown(coir::no_wait).error() == coir::errc::survivors);
    may_end = true;
    CHECK(stubborn.join().value() == 5);
    CHECK(rt.shutdown().has_value());
  }
  CHECK(test::comes_down_to(threads, &test::live_threads));
}

TEST_CASE("D6: new work is refused from the moment of the stop") {
  auto made = coir::runtime::create(tested({.workers = 1}));
  REQUIRE(made.has_value());
  REQUIRE((*made)->start().has_value());
  (*made)->request_stop();
  CHECK((*made)->spawn([] {}).join().error() == coir::errc::shutting_down);
  CHECK((*made)->try_spawn([] {}).error() == coir::errc::shutting_down);
  CHECK((*made)->shutdown().has_value());
  CHECK((*made)->spawn([] {}).join().error() == coir::errc::shutting_down);
}
