// arena_flush_test.cpp: what a cache tells those who wait for a cell.
//
// Comes from: runtime/arena.hpp.   Goes to: ctest.
#include "runtime/arena.hpp"

#include <doctest/doctest.h>

#include <vector>

using namespace coir::detail;

TEST_CASE("arena: a flush tells of what went to the shared stack before, too") {
  arena exact = arena::make(16, 64, 0).value();
  record_cache cache;
  const std::uint32_t one = exact.take(cache);
  const std::uint32_t other = exact.take(cache);
  exact.give(cache, one);
  exact.give(cache, other);
  CHECK(exact.flush(cache) == 2);
  CHECK(exact.flush(cache) == 0);
  CHECK_FALSE(exact.caches());

  arena large = arena::make(4096, 64, 0).value();
  CHECK(large.caches());
  std::vector<std::uint32_t> taken;
  for (int i = 0; i < 200; ++i) taken.push_back(large.take(cache));
  const std::uint32_t fresh = cache.size();
  for (const std::uint32_t index : taken) large.give(cache, index);
  CHECK(cache.size() <= record_cache_most + fresh);
  CHECK(large.flush(cache) == 200 + fresh);
}
