// walk_test.cpp: the thin path through every room: spawn, run, read, submission, completion, token,
// resume, join.
//
// Always true:
//   - Every case here uses the kernel's ring and the public interface only.
#include <doctest/doctest.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <thread>

#include "coir/coir.hpp"
#include "tests/test_options.hpp"

using namespace std::chrono_literals;
using test::tested;

TEST_CASE("walk: a fiber reads from a pipe what another one writes, and its answer is joined") {
  const auto answer = coir::run(
      [] {
        std::array<int, 2> ends{};
        REQUIRE(::pipe(ends.data()) == 0);
        coir::io::unique_fd in(ends[0]);
        coir::io::unique_fd out(ends[1]);
        auto reader = coir::spawn([&] {
          std::array<std::byte, 16> buffer{};
          const auto n = coir::io::read(in.get(), buffer);
          return std::string(reinterpret_cast<const char*>(buffer.data()), n.value());
        });
        auto writer = coir::spawn([&] {
          return coir::io::write(out.get(), std::as_bytes(std::span("hello", 5))).value();
        });
        CHECK(writer.join().value() == 5);
        return reader.join().value();
      },
      tested({.workers = 1}));
  REQUIRE(answer.has_value());
  CHECK(*answer == "hello");
}

TEST_CASE("walk: two workers, a thousand fibers that yield, sleep and answer") {
  const auto sum = coir::run(
      [] {
        long total = 0;
        for (int round = 0; round < 20; ++round) {
          std::vector<coir::handle<int>> all;
          for (int i = round * 50; i < (round + 1) * 50; ++i)
            all.push_back(coir::spawn([i] {
              coir::this_fiber::yield();
              REQUIRE(coir::this_fiber::sleep_for(1ms).has_value());
              return i;
            }));
          for (auto& h : all) total += h.join().value();
        }
        return total;
      },
      tested({.workers = 2}));
  CHECK(sum.value() == 499500);
}

TEST_CASE("walk: an exception that leaves a body is rethrown by join, and by run") {
  CHECK_THROWS_AS(
      (void)coir::run([]() -> int { throw std::runtime_error("root"); }, tested({.workers = 1})),
      std::runtime_error);
  const auto answer = coir::run(
      [] {
        auto h = coir::spawn([]() -> int { throw std::out_of_range("child"); });
        CHECK_THROWS_AS((void)h.join(), std::out_of_range);
        return 1;
      },
      tested({.workers = 1}));
  CHECK(answer.value() == 1);
}

TEST_CASE(
    "walk: a read whose deadline comes first answers timed_out, and a cancelled one "
    "operation_canceled") {
  const auto done = coir::run(
      [] {
        std::array<int, 2> ends{};
        REQUIRE(::pipe(ends.data()) == 0);
        coir::io::unique_fd in(ends[0]);
        coir::io::unique_fd out(ends[1]);
        std::array<std::byte, 4> buffer{};
        CHECK(coir::io::read(in.get(), buffer, coir::in(2ms)).error() == std::errc::timed_out);
        CHECK(coir::io::read(in.get(), buffer, coir::no_wait).error() == std::errc::timed_out);
        auto reader = coir::spawn([&] { return coir::io::read(in.get(), buffer); });
        coir::this_fiber::yield();
        reader.cancel();
        CHECK(reader.join().error() == std::errc::operation_canceled);
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE("walk: a plain thread spawns, joins and cancels") {
  auto made = coir::runtime::create(tested({.workers = 2}));
  REQUIRE(made.has_value());
  coir::runtime& rt = **made;
  auto before_start = rt.spawn([] { return 7; });
  REQUIRE(rt.start().has_value());
  CHECK(before_start.join().value() == 7);
  auto sleeper = rt.spawn([] { return coir::this_fiber::sleep_until(coir::never); });
  sleeper.cancel();
  CHECK(sleeper.join().error() == std::errc::operation_canceled);
  CHECK(rt.shutdown().has_value());
}

TEST_CASE(
    "walk: mutex, condition_variable and event work between fibers of two workers and a thread") {
  const auto done = coir::run(
      [] {
        coir::mutex m;
        coir::condition_variable cv;
        coir::event go;
        int turns = 0;
        std::vector<coir::handle<void>> all;
        for (unsigned i = 0; i < 8; ++i)
          all.push_back(coir::spawn(
              [&] {
                REQUIRE(go.wait().has_value());
                for (int k = 0; k < 1000; ++k) {
                  const std::lock_guard held(m);
                  ++turns;
                }
                cv.notify_all();
              },
              {.worker = i % 2}));
        std::thread outside([&] { go.set(); });
        {
          std::unique_lock held(m);
          CHECK(cv.wait(held, [&] { return turns == 8000; }).has_value());
        }
        for (auto& h : all) CHECK(h.join().has_value());
        outside.join();
      },
      tested({.workers = 2}));
  CHECK(done.has_value());
}

TEST_CASE("walk: a scope ends its children, blocking parks, and the loopback carries bytes") {
  const auto done = coir::run(
      [] {
        CHECK(coir::blocking([] { return 5; }).value() == 5);
        auto listener = coir::net::tcp_listener::listen();
        REQUIRE(listener.has_value());
        coir::scope children;
        children.spawn([&] {
          return listener->serve([](coir::net::tcp_stream s) {
            std::array<std::byte, 64> buffer{};
            for (;;) {
              const auto n = s.read_some(buffer);
              if (!n || *n == 0) return;
              if (!s.write_all(std::span(buffer).first(*n))) return;
            }
          });
        });
        auto s = coir::net::tcp_stream::connect("127.0.0.1", listener->port());
        REQUIRE(s.has_value());
        REQUIRE(s->write_all("ping").has_value());
        std::array<std::byte, 4> back{};
        REQUIRE(s->read_exact(back).has_value());
        CHECK(std::memcmp(back.data(), "ping", 4) == 0);
        REQUIRE(s->close().has_value());
        REQUIRE(listener->close().has_value());
        CHECK(children.join().has_value());
      },
      tested({.workers = 2}));
  CHECK(done.has_value());
}

TEST_CASE("run_main: the root's value is the exit code, an error or an exception is 1") {
  CHECK(coir::run_main([] { return 7; }, tested({.workers = 1})) == 7);
  CHECK(coir::run_main([] {}, tested({.workers = 1})) == 0);
  CHECK(coir::run_main([]() -> coir::result<> { return coir::fail(coir::errc::finished); },
                       tested({.workers = 1})) == 1);
  CHECK(coir::run_main([]() -> int { throw std::runtime_error("said"); }, tested({.workers = 1})) ==
        1);
  CHECK(coir::run_main([]() -> int { throw 7; }, tested({.workers = 1})) == 1);
}
