// stacks_test.cpp: slots that do not overlap, guards that hold, bounds that say so, and no byte of
// the last tenant where it was asked to be gone.
//
// Always true:
//   - Whether a page is a guard is asked of the kernel, by a write(2) from it.
//   - The environment is left as it was found.
//
// Comes from: ctest.   Goes to: runtime/stacks.hpp.
#include "runtime/stacks.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "tests/runtime/stacks_seen.hpp"
#include "tests/test_options.hpp"

using namespace coir::detail;
using coir::guard;

namespace {

using test::class_for;
using test::guarded;
using test::kib;
using test::pool_of;
using test::refused;
using test::resident;
using test::usable;

bool all_zero(const stack& s) {
  const std::byte* end = s.slot + stack_slot_bytes(s.klass);
  return std::all_of(static_cast<const std::byte*>(s.bottom), end,
                     [](std::byte b) { return b == std::byte{0}; });
}

bool guards_by_madvise() {
  auto pool = pool_of({});
  return pool->way() == guard_way::madvise;
}

struct log_lines {
  std::vector<std::string> lines;
  std::function<void(const coir::log_record&)> sink() {
    return [this](const coir::log_record& record) { lines.emplace_back(record.text); };
  }
};

class environment {
 public:
  explicit environment(const char* value) { set(value); }
  ~environment() { before_.empty() ? unsetenv("COIR_GUARD") : set(before_.c_str()); }
  environment(const environment&) = delete;
  environment& operator=(const environment&) = delete;

 private:
  static int set(const char* value) { return setenv("COIR_GUARD", value, 1); }
  static std::string now() {
    const char* text = std::getenv("COIR_GUARD");
    return text == nullptr ? "" : text;
  }
  std::string before_ = now();
};

}  // namespace

TEST_CASE("stacks: a class is the smallest that holds the bytes and a signal above its guard") {
  const auto plain = stack_shapes::make(4 * kib, 2 * kib);
  CHECK(*plain.class_of(0) == 0);
  CHECK(*plain.class_of(1) == 0);
  CHECK(*plain.class_of(16 * kib) == 0);
  CHECK(*plain.class_of(16 * kib + 1) == 1);
  CHECK(*plain.class_of(256 * kib) == 4);
  CHECK(*plain.class_of(stack_largest_bytes) == stack_classes - 1);

  // A machine whose registers fill 11 KiB cannot take a signal in a slot of 16 KiB.
  const auto wide = stack_shapes::make(4 * kib, 11 * kib);
  CHECK(*wide.class_of(16 * kib) == 1);
  CHECK_FALSE(wide.of[0].usable);
  // Nor is anything left above a guard of 64 KiB in a slot of 64 KiB.
  CHECK(*stack_shapes::make(64 * kib, 2 * kib).class_of(0) == 3);
}

TEST_CASE("stacks: a size that no class holds is refused, whatever its bits") {
  constexpr std::size_t one = 1;
  for (const std::size_t bytes :
       {stack_largest_bytes + 1, (one << 31) - 1, one << 31, (one << 31) + 1, (one << 32) - 1,
        one << 32, (one << 32) + 1, (one << 63) - 1, one << 63, SIZE_MAX}) {
    CAPTURE(bytes);
    const auto klass = stack_class(bytes);
    REQUIRE_FALSE(klass);
    CHECK(klass.error() == std::errc::invalid_argument);
  }
}

TEST_CASE("stacks: every shape leaves a signal frame and 8 KiB between its guard and any top") {
  for (const std::size_t page : {4 * kib, 16 * kib, 64 * kib}) {
    for (const std::size_t signal : {std::size_t{2048}, signal_frame_bytes()}) {
      for (const stack_shape& shape : stack_shapes::make(page, signal).of) {
        if (!shape.usable) continue;
        CAPTURE(page);
        CAPTURE(shape.slot_bytes);
        const std::size_t lowest_top = shape.slot_bytes - stack_header_bytes - shape.colour_mask;
        CHECK(lowest_top - shape.guard_bytes >= signal + stack_least_bytes);
        CHECK(shape.guard_bytes >= (shape.slot_bytes >= 128 * kib ? 64 * kib : page));
        CHECK(shape.guard_bytes % page == 0);
        CHECK(shape.colour_mask < page / 2);
      }
    }
  }
}

TEST_CASE("stacks: B8 no two slots, guards or headers overlap, whatever the page size") {
  for (const std::size_t page : {4 * kib, 16 * kib, 64 * kib}) {
    if (page % real_page_bytes() != 0) continue;
    CAPTURE(page);
    stack_settings settings;
    settings.page_bytes = page;
    settings.region_bytes = 1 << 20;  // so that slots come from many regions
    auto pool = pool_of(settings);
    stack_cache cache(*pool);
    std::vector<stack> taken;
    for (unsigned klass = 0; klass < stack_classes; ++klass) {
      if (!pool->shape(klass).usable) continue;
      for (int i = 0; i < 20; ++i) taken.push_back(cache.take(klass));
    }
    std::sort(taken.begin(), taken.end(),
              [](const stack& a, const stack& b) { return a.slot < b.slot; });
    for (std::size_t i = 0; i < taken.size(); ++i) {
      const stack& s = taken[i];
      const std::byte* end = s.slot + stack_slot_bytes(s.klass);
      REQUIRE(s);
      CHECK(reinterpret_cast<std::uintptr_t>(s.slot) % page == 0);
      CHECK(reinterpret_cast<std::uintptr_t>(s.bottom) % page == 0);
      CHECK(reinterpret_cast<std::uintptr_t>(s.top) % 64 == 0);
      CHECK(s.bottom >= s.slot + page);
      CHECK(s.top <= static_cast<std::byte*>(header(s)));
      CHECK(static_cast<std::byte*>(header(s)) + stack_header_bytes == end);
      CHECK(s.bytes() >= signal_frame_bytes() + stack_least_bytes);
      if (i + 1 < taken.size()) CHECK(end <= taken[i + 1].slot);
      // The shape of the injected page is a multiple of the real one, so the guard really holds.
      CHECK(guarded(s));
      CHECK(usable(s));
    }
    for (const stack& s : taken) cache.give(s);
  }
}

TEST_CASE("stacks: a write into the guard of any slot is refused by the kernel") {
  for (const guard_way way : {guard_way::madvise, guard_way::mprotect}) {
    if (way == guard_way::madvise && !guards_by_madvise()) continue;
    CAPTURE(static_cast<int>(way));
    stack_settings settings;
    settings.way = way;
    auto pool = pool_of(settings);
    CHECK(pool->way() == way);
    stack_cache cache(*pool);
    std::vector<stack> taken;
    for (const std::size_t bytes : {32 * kib, 256 * kib, stack_largest_bytes}) {
      for (int i = 0; i < 40; ++i) taken.push_back(cache.take(class_for(bytes)));
    }
    for (const stack& s : taken) {
      CHECK(guarded(s));
      CHECK(usable(s));
    }
    CHECK(pool->stats().guards == taken.size());
    for (const stack& s : taken) cache.give(s);
  }
}

TEST_CASE("stacks: grouped guards lie under one stack of 16, and none under no stack") {
  for (const guard guards : {guard::grouped, guard::none}) {
    stack_settings settings;
    settings.guards = guards;
    auto pool = pool_of(settings);
    stack_cache cache(*pool);
    std::vector<stack> taken;
    for (int i = 0; i < 48; ++i) taken.push_back(cache.take(class_for(64 * kib)));
    CHECK(std::count_if(taken.begin(), taken.end(), guarded) == (guards == guard::grouped ? 3 : 0));
    CHECK(pool->stats().guards == (guards == guard::grouped ? 3 : 0));
    for (const stack& s : taken) cache.give(s);
  }
}

TEST_CASE("stacks: COIR_GUARD forces the way") {
  {
    const environment forced("mprotect");
    auto pool = pool_of({});
    CHECK(pool->way() == guard_way::mprotect);
  }
  {
    const environment forced("none");
    auto pool = pool_of({});
    CHECK(pool->way() == guard_way::none);
    stack_cache cache(*pool);
    const stack s = cache.take(class_for(64 * kib));
    CHECK_FALSE(guarded(s));
    cache.give(s);
  }
}

TEST_CASE("stacks: settings without meaning are refused") {
  const auto error_of = [](auto change) {
    stack_settings settings;
    change(settings);
    const auto made = stacks::make(settings);
    return made ? std::error_code{} : made.error();
  };
  CHECK(error_of([](stack_settings& s) { s.stacks_max = 0; }) == std::errc::invalid_argument);
  CHECK(error_of([](stack_settings& s) { s.page_bytes = 4097; }) == std::errc::invalid_argument);
  CHECK(error_of([](stack_settings& s) { s.page_bytes = 512; }) == std::errc::invalid_argument);
  CHECK(error_of([](stack_settings& s) { s.region_bytes = 0; }) == std::errc::invalid_argument);
  // The largest bound there is: nothing wraps, and regions are reserved only as needed.
  stack_settings largest;
  largest.stacks_max = std::numeric_limits<std::uint32_t>::max();
  auto pool = pool_of(largest);
  stack_cache cache(*pool);
  const stack s = cache.take(stack_classes - 1);
  CHECK(s);
  cache.give(s);
}

TEST_CASE("stacks: the stack given back last is taken first, with its pages") {
  auto pool = pool_of({});
  stack_cache cache(*pool);
  const unsigned klass = class_for(64 * kib);
  const stack a = cache.take(klass), b = cache.take(klass), c = cache.take(klass);
  CHECK(pool->stats().bound == 3);
  for (const stack& s : {a, b, c}) {
    *(s.top - 1) = std::byte{7};
    cache.give(s);
  }
  CHECK(cache.warm() == 3);
  CHECK(pool->stats().bound == 0);
  for (const stack& expected : {c, b, a}) {
    const stack s = cache.take(klass);
    CHECK(s.slot == expected.slot);
    CHECK(s.bottom == expected.bottom);
    CHECK(s.top == expected.top);
    CHECK(s.klass == expected.klass);
    CHECK(*(s.top - 1) == std::byte{7});
  }
  CHECK(cache.warm() == 0);
  CHECK(pool->stats().slots == 3);
  for (const stack& s : {a, b, c}) cache.give(s);
}

TEST_CASE(
    "stacks: the header belongs to the owner of a bound stack, and nothing of it to the top") {
  auto pool = pool_of({});
  stack_cache cache(*pool);
  const unsigned klass = class_for(64 * kib);
  const stack a = cache.take(klass);
  const char nothing[stack_header_bytes] = {};
  CHECK(std::memcmp(header(a), nothing, stack_header_bytes) == 0);
  std::memset(header(a), 0xa5, stack_header_bytes);
  std::memset(a.top - 64, 0x5a, 64);
  CHECK(static_cast<unsigned char*>(header(a))[0] == 0xa5);
  cache.give(a);
  CHECK(cache.take(klass).slot == a.slot);
  cache.give(a);
}

TEST_CASE("stacks: the tops of neighbours differ in colour within half a page") {
  auto pool = pool_of({});
  stack_cache cache(*pool);
  std::vector<stack> taken;
  std::vector<std::size_t> colours;
  const std::size_t count = std::max<std::size_t>(64, real_page_bytes() / 128);
  for (std::size_t i = 0; i < count; ++i) {
    const stack s = cache.take(class_for(256 * kib));
    taken.push_back(s);
    colours.push_back(static_cast<std::size_t>(static_cast<std::byte*>(header(s)) - s.top));
  }
  CHECK(*std::max_element(colours.begin(), colours.end()) == real_page_bytes() / 2 - 64);
  std::sort(colours.begin(), colours.end());
  const auto distinct = std::unique(colours.begin(), colours.end()) - colours.begin();
  CHECK(static_cast<std::size_t>(distinct) == real_page_bytes() / 128);
  for (const stack& s : taken) cache.give(s);
}

TEST_CASE("stacks: above the warm bound the pages go back to the kernel, and the guard stays") {
  stack_settings settings;
  settings.warm_max = 2;
  auto pool = pool_of(settings);
  stack_cache cache(*pool);
  const unsigned klass = class_for(64 * kib);
  std::vector<stack> taken;
  for (int i = 0; i < 4; ++i) {
    taken.push_back(cache.take(klass));
    std::memset(taken.back().bottom, 7, taken.back().bytes());
  }
  for (const stack& s : taken) cache.give(s);
  CHECK(cache.warm() == 2);
  CHECK(resident(taken[0].bottom));
  CHECK(resident(taken[1].bottom));
  for (const stack& s : {taken[2], taken[3]}) {
    CHECK_FALSE(resident(s.bottom));
    CHECK_FALSE(resident(s.top - 1));
    CHECK(guarded(s));
  }
  for (int i = 0; i < 4; ++i) CHECK(cache.take(klass));
  CHECK(pool->stats().slots == 4);
  for (const stack& s : taken) cache.give(s);
}

TEST_CASE("stacks: with scrub no byte of the last tenant is left, however deep it went") {
  stack_settings settings;
  settings.scrub = true;
  auto pool = pool_of(settings);
  stack_cache cache(*pool);
  const unsigned klass = class_for(256 * kib);
  const stack s = cache.take(klass);
  const std::size_t all = s.bytes();
  for (const std::size_t depth : {std::size_t{100}, 5 * kib, 31 * kib, 33 * kib, 100 * kib, all}) {
    CAPTURE(depth);
    std::memset(s.top - depth, 0xa5, depth);
    std::memset(header(s), 0xa5, stack_header_bytes);
    cache.give(s);
    CHECK(cache.take(klass).slot == s.slot);
    CHECK(all_zero(s));
    CHECK(guarded(s));
  }
  // A frame with a hole: only its far end and the top were touched.
  std::memset(s.bottom, 0xa5, 64);
  std::memset(s.top - 64, 0xa5, 64);
  cache.give(s);
  CHECK(cache.take(klass).slot == s.slot);
  CHECK(all_zero(s));
  cache.give(s);
}

TEST_CASE("stacks: the end of the pool unmaps every slot, and abandon leaves them mapped") {
  for (const bool abandon : {false, true}) {
    auto pool = pool_of({});
    stack kept;
    {
      stack_cache cache(*pool);
      kept = cache.take(class_for(64 * kib));
    }
    *(kept.top - 1) = std::byte{42};
    if (abandon) pool->abandon();
    pool.reset();
    unsigned char answer = 0;
    const bool mapped = mincore(kept.bottom, real_page_bytes(), &answer) == 0;
    // An emulator may put memory of its own where a stack was.
    CHECK((mapped == abandon || (test::emulated && !abandon)));
    if (abandon) CHECK(*(kept.top - 1) == std::byte{42});
  }
}

TEST_CASE("stacks: no stack is owned twice while four workers take and give through one pool") {
  constexpr unsigned workers = 4, held = 24, rounds = 3000;
  stack_settings settings;
  settings.stacks_max = 64;
  settings.warm_max = 8;
  auto pool = pool_of(settings);
  const unsigned klass = class_for(64 * kib);
  std::atomic<unsigned> stolen{0};
  std::vector<std::thread> threads;
  for (unsigned w = 1; w <= workers; ++w) {
    threads.emplace_back([&, w] {
      stack_cache cache(*pool);
      std::vector<stack> mine;
      std::uint32_t random = w;
      for (unsigned i = 0; i < rounds; ++i) {
        random = random * 1664525u + 1013904223u;
        if (mine.size() < held && (random >> 16) % 2 == 0) {
          const stack s = cache.take(klass);
          if (!s) continue;
          *reinterpret_cast<unsigned*>(s.bottom) = w;
          mine.push_back(s);
        } else if (!mine.empty()) {
          if (*reinterpret_cast<unsigned*>(mine.back().bottom) != w) ++stolen;
          cache.give(mine.back());
          mine.pop_back();
        }
      }
      for (const stack& s : mine) cache.give(s);
    });
  }
  for (std::thread& t : threads) t.join();
  CHECK(stolen == 0);
  CHECK(pool->stats().bound == 0);
  CHECK(pool->stats().slots <= 64);
}
