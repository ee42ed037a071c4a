// waiting_test.cpp: the calls of the public interface that wait for something else than bytes:
// signals, one of many waiters, readiness, the children of a scope that an exception leaves.
//
// Always true:
//   - Nothing here waits for time: what is awaited was caused before, or is caused by another
//   fiber.
#include <doctest/doctest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <stdexcept>

#include "../test_options.hpp"
#include "coir/coir.hpp"
#include "runtime/base.hpp"

using test::tested;

// ThreadSanitizer holds a signal back until the thread that got it makes a call that it knows; the
// main thread makes none while it waits.
TEST_CASE("signals: a signal is read by a fiber, and the old disposition comes back" *
          doctest::skip(COIR_TSAN)) {
  struct sigaction before {};
  REQUIRE(::sigaction(SIGUSR2, nullptr, &before) == 0);
  const auto done = coir::run(
      [] {
        auto stream = coir::signals::create({SIGUSR2});
        REQUIRE(stream.has_value());
        CHECK(coir::signals::create({SIGUSR2}).error() == std::errc::device_or_resource_busy);
        CHECK(coir::signals::create({SIGSEGV}).error() == std::errc::invalid_argument);
        auto reader = coir::spawn([&] { return stream->next(); });
        coir::this_fiber::yield();
        // To the process: workers block signals, the main thread takes it.
        ::kill(::getpid(), SIGUSR2);
        CHECK(reader.join().value() == SIGUSR2);
        CHECK(stream->next(coir::no_wait).error() == std::errc::timed_out);
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
  struct sigaction after {};
  REQUIRE(::sigaction(SIGUSR2, nullptr, &after) == 0);
  CHECK((after.sa_handler == before.sa_handler));
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
        for (int i = 0; i < 8; ++i) coir::this_fiber::yield();
        for (int i = 0; i < 3; ++i) {
          cv.notify_one();
          for (int k = 0; k < 8; ++k) coir::this_fiber::yield();
          CHECK(woken.size() == static_cast<std::size_t>(i) + 1);
        }
        for (auto& w : waiting) CHECK(w.join().has_value());
        CHECK(woken == std::vector<int>{0, 1, 2});
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE("io: poll tells what holds, and shutdown tells the peer that nothing more comes") {
  const auto done = coir::run(
      [] {
        std::array<int, 2> ends{};
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
        const coir::io::unique_fd one(ends[0]);
        const coir::io::unique_fd two(ends[1]);
        CHECK((coir::io::poll(one.get(), POLLOUT).value() & POLLOUT) != 0);
        auto reader = coir::spawn([&] { return coir::io::poll(two.get(), POLLIN); });
        coir::this_fiber::yield();
        CHECK(coir::io::shutdown(one.get(), SHUT_WR).has_value());
        CHECK((reader.join().value() & POLLIN) != 0);
        std::array<std::byte, 1> none{};
        CHECK(coir::io::recv(two.get(), none).value() == 0);
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE("scope: an exception that leaves the block cancels the children and waits for them") {
  int started = 0;
  int ended = 0;
  const auto leave = [&] {
    coir::scope children;
    for (int i = 0; i < 20; ++i)
      children.spawn([&] {
        ++started;
        if (!coir::this_fiber::sleep_until(coir::never)) ++ended;
      });
    while (started != 20) coir::this_fiber::yield();
    throw std::runtime_error("leaving");
  };
  const auto done = coir::run(
      [&] {
        CHECK_THROWS_AS(leave(), std::runtime_error);
        CHECK(ended == 20);
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE("scope: the error of a child whose handle was dropped is the scope's") {
  const auto done = coir::run(
      [] {
        coir::scope children;
        children.spawn(
            []() -> coir::result<> { return coir::fail(std::errc::no_space_on_device); });
        children.spawn([] {});
        CHECK(children.join().error() == std::errc::no_space_on_device);
        CHECK(children.join().has_value());
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE("run_main: the root's value is the exit code, an error or an exception is 1") {
  CHECK(coir::run_main([] { return 7; }, tested({.workers = 1})) == 7);
  CHECK(coir::run_main([] {}, tested({.workers = 1})) == 0);
  CHECK(coir::run_main([]() -> coir::result<> { return coir::fail(coir::errc::finished); },
                       tested({.workers = 1})) == 1);
  CHECK(coir::run_main([]() -> int { throw std::runtime_error("said"); }, tested({.workers = 1})) ==
        1);
}
