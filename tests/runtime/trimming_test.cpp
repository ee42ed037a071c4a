// trimming_test.cpp: the pages of free stacks stay while they may be wanted, and go when not.
//
// Comes from: runtime/trimming.cpp.   Goes to: ctest.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "coir/coir.hpp"
#include "scripted_backend.hpp"
#include "tests/runtime/stacks_seen.hpp"

using namespace coir::detail;

namespace {

using test::class_for;
using test::guarded;
using test::kib;
using test::resident;

constexpr std::int64_t period = stacks::trim_period_ns;

/// Stacks that were used, in a pool whose caches keep sixteen.
struct used_stacks {
  used_stacks() {
    stack_settings settings;
    settings.warm_max = 16;
    pool = test::pool_of(settings);
    cache.emplace(*pool, stack_cache::spill::trimmed);
  }
  void take(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      taken.push_back(cache->take(klass));
      REQUIRE(taken.back());
    }
  }
  void use() {
    for (const stack& s : taken) std::memset(s.bottom, 7, s.bytes());
  }
  void give_all() {
    for (const stack& s : taken) cache->give(s);
    if (known.empty()) known = taken;
    taken.clear();
  }
  /// At `now`, until that is all; when to come again.
  std::int64_t trim(std::int64_t now) {
    std::int64_t next = now;
    while (next == now) next = pool->trim(now);
    return next;
  }
  long with_pages() const {
    return std::ranges::count_if(known, [](const stack& s) { return resident(s.top - 1); });
  }

  std::unique_ptr<stacks> pool;
  std::optional<stack_cache> cache;
  unsigned klass = class_for(64 * kib);
  std::vector<stack> taken, known;
};

}  // namespace

TEST_CASE("trimming: what a cache has no place for keeps its pages, and is taken first") {
  used_stacks some;
  some.take(64);
  some.use();
  CHECK_FALSE(some.cache->spilled());
  some.give_all();
  CHECK(some.cache->spilled());
  CHECK(some.cache->warm() <= 16);
  CHECK(some.with_pages() == 64);
  some.take(64);
  CHECK(std::ranges::all_of(some.taken, [](const stack& s) { return *s.bottom == std::byte{7}; }));
  CHECK(some.pool->stats().slots == 64);
  some.give_all();
}

TEST_CASE("trimming: what a whole period did not need gives its pages back, and the rest stays") {
  used_stacks some;
  some.take(64);
  some.use();
  some.give_all();
  CHECK(some.cache->trim(0) == period);  // from here on it is looked at
  CHECK(some.cache->trim(period - 1) == period);
  CHECK(some.cache->trim(period) == 2 * period);  // what is there now may be left over
  CHECK(some.with_pages() == 64);
  some.take(40);
  some.give_all();
  CHECK(some.cache->trim(2 * period) == 2 * period);  // there may be more
  CHECK(some.cache->trim(2 * period) == 3 * period);
  // Forty were in use at one moment, and a cache may have as many as a half of sixteen beyond.
  CHECK(some.with_pages() >= 40);
  CHECK(some.with_pages() <= 56);
  CHECK(some.cache->trim(3 * period) == 3 * period);
  CHECK(some.cache->trim(3 * period) == never_ns);
  CHECK(some.with_pages() <= 16);
  CHECK_FALSE(some.cache->spilled());
  some.take(64);
  some.give_all();
  CHECK(some.pool->stats().slots == 64);
}

TEST_CASE("trimming: two owners that trim by turns do not shorten the period of one another") {
  used_stacks some;
  some.take(64);
  some.use();
  some.give_all();
  CHECK(some.trim(period) == 2 * period);
  CHECK(some.trim(period + period / 4) == 2 * period);
  CHECK(some.with_pages() == 64);
  CHECK(some.trim(2 * period) == never_ns);
  CHECK(some.with_pages() <= 16);
}

TEST_CASE("trimming: pages that are dropped side by side leave each guard between them") {
  used_stacks some;
  some.take(64);
  some.use();
  some.give_all();
  some.trim(period);
  CHECK(some.trim(2 * period) == never_ns);
  CHECK(std::ranges::all_of(some.known, guarded));
  some.take(64);
  some.use();
  CHECK(std::ranges::all_of(some.taken, guarded));
  some.give_all();
}

TEST_CASE("trimming: a worker that rests gives the pages of a burst back, and sleeps on") {
  scripted::script s;
  auto core = scripted::make_core(s, {.fibers_max = 8192});
  REQUIRE(core != nullptr);
  const std::uint64_t page = real_page_bytes();
  const auto resident_pages = [&] { return core->pool->resident_bytes().value() / page; };
  constexpr std::uint64_t burst = 6000, kept = 4096;
  std::uint64_t after_burst = 0, at_rest = 0;
  unsigned rests = 0;
  {
    auto root = scripted::spawn_on(*core, [&] {
      std::vector<coir::handle<void>> fibers;
      coir::event go;
      for (std::uint64_t i = 0; i < burst; ++i)
        fibers.push_back(coir::spawn([&] { (void)go.wait(); }));
      (void)coir::this_fiber::sleep_for(std::chrono::milliseconds(1));
      go.set();
      for (auto& f : fibers) (void)f.join();
      after_burst = resident_pages();
      const unsigned before = s.waits;
      (void)coir::this_fiber::sleep_for(std::chrono::seconds(10));
      rests = s.waits - before;
      at_rest = resident_pages();
    });
    CHECK_FALSE(core->run_here());
  }
  CHECK(after_burst >= burst);
  CHECK(at_rest >= kept - 16);
  CHECK(at_rest * burst < after_burst * (kept + kept / 8));  // a stack may take several pages
  CHECK(rests <= 4 + (burst - kept) / 100);                  // some in each turn
}
