// on_fiber.hpp: what the tests of the public interface begin with: a fiber, and others that have
// come as far as they can.
//
// Always true:
//   - With one worker, after settle() every fiber has started and run up to a park that somebody
//     else has to end.
//
// Comes from: tests/api.   Goes to: coir::run.
#pragma once

#include <doctest/doctest.h>

#include <utility>

#include "coir/coir.hpp"
#include "tests/test_options.hpp"

namespace test {

/// Runs `body` on a fiber; an exception of it comes out here.
template <class F>
void on_fiber(F body, unsigned workers = 1) {
  CHECK(coir::run(std::move(body), tested({.workers = workers})).has_value());
}

/// Lets the others run. A fiber that yields is ready, and only every eighth pick is one that has
/// not started: so many turns as a dozen of those need.
inline void settle() {
  for (int turns = 0; turns < 100; ++turns) coir::this_fiber::yield();
}

}  // namespace test
