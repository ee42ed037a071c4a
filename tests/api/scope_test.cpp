// scope_test.cpp: no child outlives its scope, and no error of a child is lost.
//
// Always true:
//   - Children end because they are told to, never because of time.
//
// Comes from: coir/scope.hpp.   Goes to: runtime/scope.cpp.
#include <doctest/doctest.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>

#include "on_fiber.hpp"

using test::settle;
using test::tested;

namespace {

constexpr auto canceled = std::errc::operation_canceled;

coir::result<> sleep_for_ever() { return coir::this_fiber::sleep_until(coir::never); }

}  // namespace

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

TEST_CASE("scope: of several errors the first is kept, and the others are dropped with it") {
  const auto done = coir::run(
      [] {
        coir::scope children;
        coir::event second;
        children.spawn([&]() -> coir::result<> {
          if (auto waited = second.wait(); !waited) return waited;
          return coir::fail(std::errc::io_error);
        });
        children.spawn([&]() -> coir::result<> {
          second.set();
          return coir::fail(std::errc::permission_denied);
        });
        CHECK(children.join().error() == std::errc::permission_denied);
        CHECK(children.join().has_value());
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE("scope: the exception of a child is rethrown by join, once") {
  const auto done = coir::run(
      [] {
        coir::scope children;
        children.spawn([] { throw std::out_of_range("child"); });
        CHECK_THROWS_AS((void)children.join(), std::out_of_range);
        CHECK(children.join().has_value());
        CHECK(children.live() == 0);
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE("scope: after a cancel it refuses children, and after the join it takes them again") {
  const auto done = coir::run(
      [] {
        coir::scope children;
        auto waits = children.spawn(&sleep_for_ever);
        CHECK(children.live() == 1);
        children.cancel();
        auto refused = children.spawn([] { return 1; });
        CHECK(refused.join().error() == canceled);
        // That a cancelled child says so is no error of the scope.
        CHECK(children.join().has_value());
        CHECK(waits.join().error() == canceled);
        CHECK(children.spawn([] { return 1; }).join().value() == 1);
        CHECK(children.join().has_value());
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE("scope: an error that is no answer to the cancel is told although it was cancelled") {
  const auto done = coir::run(
      [] {
        coir::scope children;
        bool parked = false;
        children.spawn([&]() -> coir::result<> {
          parked = true;
          (void)sleep_for_ever();
          return coir::fail(std::errc::io_error);
        });
        while (!parked) coir::this_fiber::yield();
        children.cancel();
        CHECK(children.join().error() == std::errc::io_error);
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE("scope: a join that gives up leaves the children running") {
  const auto done = coir::run(
      [] {
        coir::event go;
        bool ended = false;
        coir::scope children;
        children.spawn([&] {
          (void)go.wait();
          ended = true;
        });
        CHECK(children.join(coir::no_wait).error() == std::errc::timed_out);
        auto gives_up = coir::spawn([&] { return children.join(); });
        settle();
        gives_up.cancel();
        CHECK(gives_up.join().error() == canceled);
        CHECK(children.live() == 1);
        CHECK_FALSE(ended);
        go.set();
        CHECK(children.join().has_value());
        CHECK(ended);
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE("scope: an error that nobody took is a line of the log when the scope ends") {
  std::string said;
  coir::options o = tested({.workers = 1});
  o.log = [&](const coir::log_record& line) { said += std::string(line.text) + "\n"; };
  const auto done = coir::run(
      [] {
        {
          coir::scope fails;
          fails.spawn([]() -> coir::result<> { return coir::fail(std::errc::io_error); });
        }
        {
          coir::scope throws;
          throws.spawn([] { throw std::runtime_error("unseen"); });
        }
        coir::scope quiet;
        quiet.spawn([] {});
      },
      std::move(o));
  CHECK(done.has_value());
  const std::string begin = "a scope ended with an error that nobody took: ";
  CHECK(said.find(begin + std::make_error_code(std::errc::io_error).message()) !=
        std::string::npos);
  CHECK(said.find(begin + "an exception") != std::string::npos);
  CHECK(said.find(begin, said.rfind(begin) + 1) == std::string::npos);
}

TEST_CASE("scope: it may be cancelled and waited for by a plain thread") {
  auto made = coir::runtime::create(tested({.workers = 2}));
  REQUIRE(made.has_value());
  REQUIRE((*made)->start().has_value());
  coir::scope children;
  std::atomic<unsigned> parked{0};
  auto parent = (*made)->spawn([&] {
    for (unsigned i = 0; i < 10; ++i)
      children.spawn(
          [&] {
            parked.fetch_add(1);
            return sleep_for_ever();
          },
          {.worker = i % 2});
  });
  CHECK(parent.join().has_value());
  while (parked < 10) coir::this_fiber::yield();
  CHECK(children.join(coir::no_wait).error() == std::errc::timed_out);
  children.cancel();
  CHECK(children.join().has_value());
  CHECK(children.live() == 0);
  CHECK((*made)->shutdown().has_value());
}
