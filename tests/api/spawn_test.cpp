// spawn_test.cpp: what a spawn takes, what it refuses, and what becomes of the closure.
//
// Always true:
//   - Every closure is counted: it is destroyed once, whether it ran, was refused, or threw.
//
// Comes from: coir/fiber.hpp.   Goes to: runtime/spawn.cpp.
#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "coir/coir.hpp"
#include "on_fiber.hpp"
#include "tests/test_options.hpp"

using test::tested;

TEST_CASE("spawn: options that cannot be met are refused, and the closure is destroyed") {
  const auto done = coir::run(
      [] {
        const auto kept = std::make_shared<int>(1);
        const auto why = [&](const coir::spawn_options& o) {
          const auto tried = coir::try_spawn([kept] {}, o).error();
          CHECK(coir::spawn([kept] {}, o).join().error() == tried);
          CHECK(kept.use_count() == 1);
          return tried;
        };
        CHECK(why({.worker = 2}) == std::errc::invalid_argument);
        CHECK(why({.worker = UINT32_MAX}) == std::errc::invalid_argument);
        CHECK(why({.stack_bytes = 1}) == std::errc::invalid_argument);
        CHECK(why({.stack_bytes = (16 << 10) - 1}) == std::errc::invalid_argument);
        CHECK(why({.stack_bytes = (8 << 20) + 1}) == std::errc::invalid_argument);
        CHECK(why({.stack_bytes = SIZE_MAX}) == std::errc::invalid_argument);
        for (const std::size_t fits : {std::size_t{16} << 10, std::size_t{8} << 20})
          CHECK(coir::spawn([] { return 1; }, {.stack_bytes = fits}).join().value() == 1);
        const auto sums = coir::snapshot().total();
        CHECK(sums.spawned == sums.finished + sums.live);
      },
      tested({.workers = 2}));
  CHECK(done.has_value());
}

TEST_CASE("spawn: who is cancelled may still spawn, and the child is not") {
  const auto done = coir::run(
      [] {
        coir::event started;
        auto parent = coir::spawn([&] {
          started.set();
          (void)coir::this_fiber::sleep_until(coir::never);
          auto child = coir::spawn([] { return coir::this_fiber::cancelled(); });
          while (!child.done()) coir::this_fiber::yield();
          return child.join();
        });
        REQUIRE(started.wait().has_value());
        parent.cancel();
        CHECK(parent.join().value() == false);
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE("spawn: closures of every size arrive whole, on this worker and on another") {
  const auto done = coir::run(
      [] {
        const auto sum_of = [](const auto& bytes) {
          std::uint64_t sum = 0;
          for (const unsigned char b : bytes) sum += b;
          return sum;
        };
        const auto try_size = [&]<std::size_t n>(std::array<unsigned char, n> bytes) {
          for (std::size_t i = 0; i < n; ++i) bytes[i] = static_cast<unsigned char>(i * 7 + n);
          const std::uint64_t expected = sum_of(bytes);
          for (const unsigned w : {0u, 1u})
            CHECK(coir::spawn([bytes, &sum_of] { return sum_of(bytes); }, {.worker = w})
                      .join()
                      .value() == expected);
        };
        try_size(std::array<unsigned char, 1>{});
        try_size(std::array<unsigned char, 64>{});
        try_size(std::array<unsigned char, 200>{});
        try_size(std::array<unsigned char, 4096>{});
        struct alignas(64) wide {
          unsigned char all[64];
        };
        const wide w{};
        CHECK(
            coir::spawn([w] { return reinterpret_cast<std::uintptr_t>(&w) % 64; }).join().value() ==
            0);
      },
      tested({.workers = 2}));
  CHECK(done.has_value());
}

TEST_CASE("spawn: a closure that throws while it is copied leaves no fiber behind") {
  struct thrower {
    thrower() = default;
    thrower(const thrower&) { throw std::length_error("copied"); }
    void operator()() const {}
  };
  const auto done = coir::run(
      [] {
        const auto before = coir::snapshot().total();
        const thrower t;
        CHECK_THROWS_AS((void)coir::spawn(t), std::length_error);
        CHECK_THROWS_AS((void)coir::try_spawn(t), std::length_error);
        const auto after = coir::snapshot().total();
        CHECK(after.live == before.live);
        CHECK(after.spawned - before.spawned == after.finished - before.finished);
        // Its record is free again: as many fit as ever.
        coir::event go;
        std::vector<coir::handle<void>> all;
        while (auto h = coir::try_spawn([&go] { (void)go.wait(); })) all.push_back(std::move(*h));
        CHECK(all.size() == 63);  // and this one
        go.set();
        for (auto& h : all) CHECK(h.join().has_value());
      },
      tested({.workers = 1, .fibers_max = 64}));
  CHECK(done.has_value());
}

TEST_CASE("spawn: records that a worker gave away before it ever used them are as good as others") {
  constexpr std::uint32_t room = 4096;  // the least with which a worker keeps 64 in reserve
  auto made = coir::runtime::create(tested({.workers = 1, .fibers_max = room}));
  REQUIRE(made.has_value());
  coir::runtime& rt = **made;
  REQUIRE(rt.start().has_value());
  std::uint32_t ended = 0;
  const auto root = rt.run([&] {
    coir::event over;
    std::vector<coir::handle<void>> all;
    // Up to the last 64, of which this worker takes a few; then somebody else starves for the rest.
    for (std::uint32_t i = 0; i < room - 60; ++i)
      all.push_back(coir::spawn([&] { CHECK(over.wait().has_value()); }));
    std::atomic<bool> got{false};
    std::thread outside([&] {
      auto h = rt.spawn([&] { CHECK(over.wait().has_value()); });
      got = true;
      CHECK(h.join().has_value());
    });
    while (!got) coir::this_fiber::yield();
    for (int i = 0; i < 40; ++i) all.push_back(coir::spawn([&] { ++ended; }));
    over.set();
    for (auto& h : all) CHECK(h.join().has_value());
    CHECK(coir::blocking([&] { outside.join(); }).has_value());
  });
  CHECK(root.has_value());
  CHECK(ended == 40);
}

TEST_CASE("spawn: who gives it no time lets nobody else run, also where no record is free") {
  const auto body = [] {
    coir::event first, go;
    bool ran = false;
    auto waiting = coir::spawn([&] {
      CHECK(first.wait().has_value());
      ran = true;
    });
    std::vector<coir::handle<void>> others;
    for (;;) {
      auto one = coir::try_spawn([&] { CHECK(go.wait().has_value()); });
      if (!one) break;
      others.push_back(std::move(*one));
    }
    test::settle();
    first.set();
    CHECK(coir::spawn([] {}, {.until = coir::no_wait}).join().error() == std::errc::timed_out);
    CHECK_FALSE(ran);
    go.set();
    for (auto& each : others) CHECK(each.join().has_value());
    CHECK(waiting.join().has_value());
    CHECK(coir::spawn([] {}, {.until = coir::no_wait}).join().has_value());
  };
  CHECK(coir::run(body, test::tested({.workers = 1, .fibers_max = 64})).has_value());
}
