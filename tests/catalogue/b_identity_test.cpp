// b_identity_test.cpp: a name of a fiber is never that of another one, however often its place was
// used again; and what a fiber did is there for whoever joined it.
//
// Always true:
//   - Generations are put just before the numbers at which narrower ones would wrap.
//
// Comes from: entries B7 and B15 of the failure catalogue.   Goes to: runtime/ending.cpp,
// runtime/join.cpp, runtime/c_handles.hpp.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <thread>
#include <vector>

#include "coir.h"
#include "coir/coir.hpp"
#include "runtime/runtime.hpp"
#include "tests/test_options.hpp"

using test::at_full_speed;
using test::tested;

TEST_CASE("B7: where 15, 16 and 32 bits would wrap a join waits, and an old name finds nobody") {
  const auto done = coir::run(
      [] {
        const coir::fiber_id first = coir::spawn([] {}).id();
        for (int i = 0; i < 100; ++i) coir::this_fiber::yield();  // it ends, and its record is free
        coir::detail::arena& records = coir::detail::current_core()->records;
        auto& place = *static_cast<coir::detail::record*>(records.at(first.slot));
        for (const std::uint64_t edge :
             {std::uint64_t{0x7ffe}, std::uint64_t{0xfffe}, (std::uint64_t{1} << 32) - 2}) {
          CAPTURE(edge);
          place.generation.store(edge);
          std::vector<coir::fiber_id> old;
          for (std::uint64_t life = 0; life < 5; ++life) {
            CAPTURE(life);
            bool ended = false;
            auto fiber = coir::spawn([&] {
              for (int i = 0; i < 3; ++i) coir::this_fiber::yield();
              ended = true;
            });
            REQUIRE(fiber.id().slot == first.slot);
            REQUIRE(fiber.id().generation == edge + life);
            for (const coir::fiber_id& id : old)
              CHECK(coir::wait(id).error() == coir::errc::stale_handle);
            // Those that would look the same in 15, 16 and 32 bits.
            for (const unsigned bits : {15u, 16u, 32u}) {
              coir::fiber_id alike = fiber.id();
              alike.generation += std::uint64_t{1} << bits;
              CHECK(coir::wait(alike).error() == coir::errc::stale_handle);
            }
            old.push_back(fiber.id());
            if (life % 2 == 0) {
              CHECK(coir::wait(fiber.id()).has_value());
              CHECK(ended);
            }
            CHECK(fiber.join().has_value());
            CHECK(ended);
          }
        }
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE(
    "B7: who asks for an old name is told so and disturbs none of those who wait for the new one") {
  const auto done = coir::run(
      [] {
        const coir::fiber_id old = coir::spawn([] {}).id();
        for (int i = 0; i < 100; ++i) coir::this_fiber::yield();
        coir::event go;
        auto target = coir::spawn([&] { return go.wait(); });
        REQUIRE(target.id().slot == old.slot);
        const coir::fiber_id now = target.id();
        unsigned woken = 0;
        coir::scope waiting;
        for (unsigned i = 0; i < 5; ++i)
          waiting.spawn([&] { woken += coir::wait(now).has_value() ? 1 : 0; });
        auto joins = coir::spawn([&] { return target.join(); });
        for (int i = 0; i < 200; ++i) {
          CHECK(coir::wait(old).error() == coir::errc::stale_handle);
          coir::this_fiber::yield();
        }
        CHECK(woken == 0);
        go.set();
        CHECK(joins.join().has_value());
        CHECK(waiting.join().has_value());
        CHECK(woken == 5);
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE("B7: a name of another runtime names nobody of this one") {
  auto other = coir::runtime::create(tested({.workers = 1}));
  REQUIRE(other.has_value());
  REQUIRE((*other)->start().has_value());
  const auto done = coir::run(
      [&] {
        coir::event go;
        auto mine = coir::spawn([&] { return go.wait(); });
        // The same place and life as ours, in a runtime that there is not.
        coir::fiber_id theirs = mine.id();
        theirs.runtime += 1'000;
        CHECK(coir::wait(theirs, coir::no_wait).error() == coir::errc::foreign_runtime);
        // And one that lives over there is waited for over there.
        coir::event over_there;
        auto far = (*other)->spawn([&] { return over_there.wait(); });
        CHECK(coir::wait(far.id(), coir::no_wait).error() == std::errc::timed_out);
        over_there.set();
        CHECK(coir::wait(far.id()).has_value());
        CHECK(far.join().has_value());
        go.set();
        CHECK(mine.join().has_value());
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
  CHECK((*other)->shutdown().has_value());
}

TEST_CASE(
    "B7: in C a handle of 70,000 lives ago is stale, and each of those lives was waited for") {
  struct seen {
    unsigned lives = at_full_speed(70'000u, 70'000u);
    unsigned early = 0, stale = 0, failed = 0;
  } s;
  const coir_body root = [](void* argument) -> intptr_t {
    auto& all = *static_cast<seen*>(argument);
    coir_fiber oldest{};
    for (unsigned life = 0; life <= all.lives; ++life) {
      int ended = 0;
      coir_fiber fiber;
      const coir_body body = [](void* at) -> intptr_t {
        coir_yield();
        return *static_cast<int*>(at) = 1;
      };
      intptr_t answer = 0;
      if (coir_spawn(body, &ended, nullptr, &fiber) != 0) return ++all.failed;
      if (life == 0) oldest = fiber;
      const bool edge = life == 32'768 || life == 65'536 || life == all.lives;
      if (edge && coir_join(oldest, &answer) == -ESTALE) ++all.stale;
      if (coir_join(fiber, &answer) != 0 || answer != 1) ++all.failed;
      if (ended != 1) ++all.early;
    }
    return 0;
  };
  const coir_config config = test::tested_config(1);
  intptr_t answer = 0;
  REQUIRE(coir_run(&config, root, &s, &answer) == 0);
  CHECK(s.failed == 0);
  CHECK(s.early == 0);
  CHECK(s.stale == 3);
}

namespace {

constexpr std::size_t payload_bytes = 1024;

struct payload {
  std::array<unsigned char, payload_bytes> bytes;
  explicit payload(unsigned round) { bytes.fill(static_cast<unsigned char>(round)); }
  bool is_of(unsigned round) const {
    return std::ranges::all_of(bytes,
                               [&](auto b) { return b == static_cast<unsigned char>(round); });
  }
};

}  // namespace

TEST_CASE(
    "B15: what a fiber answered and what it wrote besides is there after its join, on its worker, "
    "on "
    "another one and on a plain thread") {
  constexpr unsigned rounds = at_full_speed(4'000u, 400u);
  auto made = coir::runtime::create(tested({.workers = 2}));
  REQUIRE(made.has_value());
  coir::runtime& rt = **made;
  REQUIRE(rt.start().has_value());
  unsigned wrong = 0;
  std::array<unsigned char, payload_bytes> besides{};
  const auto check = [&](const coir::result<payload>& got, unsigned round) {
    if (!got || !got->is_of(round)) ++wrong;
    if (besides[0] != static_cast<unsigned char>(round) || besides.back() != besides[0]) ++wrong;
  };
  const auto writes = [&besides](unsigned round) {
    besides.fill(static_cast<unsigned char>(round));
    return payload(round);
  };
  for (unsigned round = 0; round < rounds; ++round) {
    auto fiber = rt.spawn([&] { return writes(round); }, {.worker = round % 2});
    check(fiber.join(), round);
  }
  auto on_fibers = rt.spawn(
      [&] {
        for (unsigned round = 0; round < rounds; ++round) {
          auto fiber = coir::spawn([&] { return writes(round); }, {.worker = round % 2});
          if (round % 3 == 0) (void)coir::wait(fiber.id());
          check(fiber.join(), round);
        }
      },
      {.worker = 0});
  CHECK(on_fibers.join().has_value());
  CHECK(wrong == 0);
  CHECK(rt.shutdown().has_value());
}
