// signals_test.cpp: signals as a stream: whose they are, and what is left behind.
//
// Always true:
//   - A signal is sent before it is waited for, or while the reader is parked; nothing waits for
//     time.
//
// Comes from: coir/signals.hpp.   Goes to: runtime/signals.cpp.
#include <doctest/doctest.h>
#include <signal.h>
#include <unistd.h>

#include <utility>

#include "on_fiber.hpp"
#include "runtime/base.hpp"
#include "tests/catalogue/process_facts.hpp"

using test::settle;
using test::tested;

namespace {

using handler = void (*)(int);

handler handler_of(int number) {
  struct sigaction now {};
  REQUIRE(::sigaction(number, nullptr, &now) == 0);
  return now.sa_handler;
}

}  // namespace

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
        settle();
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

TEST_CASE("signals: a list that cannot be taken whole leaves every disposition as it was") {
  const std::size_t fds = test::open_fds();
  const handler usr1 = handler_of(SIGUSR1), usr2 = handler_of(SIGUSR2);
  {
    const auto holder = coir::signals::create({SIGUSR2});
    REQUIRE(holder.has_value());
    CHECK((handler_of(SIGUSR2) != usr2));
    CHECK(coir::signals::create({SIGUSR1, SIGUSR2}).error() == std::errc::device_or_resource_busy);
    CHECK((handler_of(SIGUSR1) == usr1));
    CHECK(coir::signals::create({SIGUSR1, SIGUSR1}).error() == std::errc::device_or_resource_busy);
    CHECK((handler_of(SIGUSR1) == usr1));
    CHECK(coir::signals::create({SIGUSR1}).has_value());
    // The C library keeps 32 and 33 for itself and refuses them.
    for (const int never : {0, -1, 32, 33, 65, SIGKILL, SIGSTOP, SIGBUS, SIGABRT})
      CHECK(coir::signals::create({SIGUSR1, never}).error() == std::errc::invalid_argument);
  }
  CHECK((handler_of(SIGUSR1) == usr1));
  CHECK((handler_of(SIGUSR2) == usr2));
  CHECK(test::open_fds() == fds);
}

TEST_CASE("signals: an object that is moved takes its signals along, and lets its own go") {
  const handler usr1 = handler_of(SIGUSR1), usr2 = handler_of(SIGUSR2);
  auto first = coir::signals::create({SIGUSR1});
  auto second = coir::signals::create({SIGUSR2});
  REQUIRE(first.has_value());
  REQUIRE(second.has_value());
  *second = std::move(*first);
  CHECK((handler_of(SIGUSR2) == usr2));
  CHECK((handler_of(SIGUSR1) != usr1));
  // Nobody holds it now, so anybody may.
  CHECK(coir::signals::create({SIGUSR2}).has_value());
  CHECK(coir::signals::create({SIGUSR1}).error() == std::errc::device_or_resource_busy);
  auto third = std::move(*second);
  const auto done = coir::run([&] { return first->next(); }, tested({.workers = 1}));
  REQUIRE_FALSE(done.has_value());
  CHECK(done.error() == std::errc::bad_file_descriptor);
  { const auto dying = std::move(third); }
  CHECK((handler_of(SIGUSR1) == usr1));
}

TEST_CASE("signals: who waits for one is cancelled like any other") {
  const auto done = coir::run(
      [] {
        auto stream = coir::signals::create({SIGUSR1});
        REQUIRE(stream.has_value());
        auto reader = coir::spawn([&] { return stream->next(); });
        settle();
        reader.cancel();
        CHECK(reader.join().error() == std::errc::operation_canceled);
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}
