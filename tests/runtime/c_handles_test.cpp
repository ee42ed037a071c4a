// c_handles_test.cpp: a handle names one fiber once, whatever C does with it.
//
// Comes from: ctest.   Goes to: runtime/c_handles.hpp.
#include "runtime/c_handles.hpp"

#include <doctest/doctest.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <set>
#include <vector>

#include "coir/coir.hpp"
#include "tests/test_options.hpp"

using coir::detail::c_handles;
using test::tested;

namespace {

intptr_t nothing(void*) { return 0; }

coir_fiber spawned() {
  coir_fiber made;
  REQUIRE(coir_spawn(&nothing, nullptr, nullptr, &made) == 0);
  return made;
}

int refusal_of(const coir_fiber& handle) {
  return c_handles::visit(c_handles::here(), handle).refusal();
}

/// Runs `body` on a fiber of a runtime with one worker.
template <class F>
void on_fiber(F body) {
  REQUIRE(coir::run([&] { body(); }, tested({.workers = 1})));
}

}  // namespace

TEST_CASE("c_handles: a handle that was used up is stale, also when its place is taken again") {
  on_fiber([] {
    std::vector<coir_fiber> old;
    for (int round = 0; round < 100; ++round) {
      const coir_fiber fiber = spawned();
      CHECK(refusal_of(fiber) == 0);
      for (const coir_fiber& each : old) CHECK(refusal_of(each) == ESTALE);
      REQUIRE(coir_join(fiber, nullptr) == 0);
      CHECK(refusal_of(fiber) == ESTALE);
      old.push_back(fiber);
    }
    std::set<std::uint64_t> places, generations;
    for (const coir_fiber& each : old) {
      places.insert(each.words[0]);
      generations.insert(each.words[1]);
    }
    CHECK(places.size() == 1);  // or this test does not show what it says
    CHECK(generations.size() == old.size());
  });
}

TEST_CASE("c_handles: a handle with one wrong bit is told from an old one") {
  on_fiber([] {
    const coir_fiber fiber = spawned();
    for (int bit = 0; bit < 3 * 64; ++bit) {
      coir_fiber forged = fiber;
      forged.words[bit / 64] ^= std::uint64_t{1} << (bit % 64);
      CHECK(refusal_of(forged) == EINVAL);
    }
    CHECK(refusal_of(coir_fiber{}) == EINVAL);
    CHECK(coir_join(fiber, nullptr) == 0);
  });
}

TEST_CASE("c_handles: who entered before the handle was used up may stay, nobody else enters") {
  on_fiber([] {
    const coir_fiber fiber = spawned();
    {
      c_handles::visit first(c_handles::here(), fiber);
      REQUIRE(first.refusal() == 0);
      {
        c_handles::visit second(c_handles::here(), fiber);
        REQUIRE(second.refusal() == 0);
        CHECK(&second.fiber() == &first.fiber());
        second.use_up();
        second.use_up();
      }
      CHECK(refusal_of(fiber) == ESTALE);
      // The record is kept for the first visit: no new fiber gets it.
      const coir::fiber_id kept = coir::detail::id_of(first.fiber());
      const coir_fiber other = spawned();
      CHECK(coir_join(other, nullptr) == 0);
      CHECK(coir::detail::id_of(first.fiber()) == kept);
    }
    CHECK(refusal_of(fiber) == ESTALE);
  });
}

TEST_CASE("c_handles: a handle that is withdrawn was never there") {
  on_fiber([] {
    auto fiber = coir::spawn([] { return intptr_t{0}; });
    coir::detail::refusal why;
    coir::detail::task* const task =
        coir::detail::new_task(nullptr, {}, coir::site::here(), true, why);
    REQUIRE(task != nullptr);
    const coir_fiber handle = c_handles::here().add(*task, nullptr);
    CHECK(refusal_of(handle) == 0);
    c_handles::here().withdraw(handle);
    CHECK(refusal_of(handle) == ESTALE);
    coir::detail::abandon(*task);
    CHECK(fiber.join());
  });
}

TEST_CASE("c_handles: the end of a runtime uses up its handles and those of no other runtime") {
  coir_runtime* first = nullptr;
  coir_runtime* second = nullptr;
  const coir_config config = test::tested_config(1);
  REQUIRE(coir_runtime_create(&config, &first) == 0);
  REQUIRE(coir_runtime_create(&config, &second) == 0);
  REQUIRE(coir_runtime_start(first) == 0);
  REQUIRE(coir_runtime_start(second) == 0);
  coir_fiber of_first[50], of_second[50];
  for (int i = 0; i < 50; ++i) {
    REQUIRE(coir_spawn_on(first, &nothing, nullptr, nullptr, &of_first[i]) == 0);
    REQUIRE(coir_spawn_on(second, &nothing, nullptr, nullptr, &of_second[i]) == 0);
  }
  CHECK(coir_runtime_destroy(first) == 0);
  for (int i = 0; i < 50; ++i) {
    CHECK(refusal_of(of_first[i]) == ESTALE);
    CHECK(refusal_of(of_second[i]) == 0);
  }
  for (const coir_fiber& each : of_second) CHECK(coir_join(each, nullptr) == 0);
  CHECK(coir_runtime_destroy(second) == 0);
}

TEST_CASE("c_handles: places are reused, so many short fibers need few of them") {
  on_fiber([] {
    std::set<std::uint64_t> places;
    for (int round = 0; round < 1000; ++round) {
      const coir_fiber fiber = spawned();
      places.insert(fiber.words[0]);
      REQUIRE(coir_detach(fiber) == 0);
    }
    CHECK(places.size() == 1);
  });
}
