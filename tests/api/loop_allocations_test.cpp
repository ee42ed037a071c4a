// loop_allocations_test.cpp: what a loop allocates: T35. It counts operator new of the whole
// program, where no sanitizer stands in that place.
#include <doctest/doctest.h>

#include <cstdlib>
#include <new>

#include "tests/api/scripted_outside.hpp"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COIR_COUNTS_NEW 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define COIR_COUNTS_NEW 0
#else
#define COIR_COUNTS_NEW 1
#endif
#else
#define COIR_COUNTS_NEW 1
#endif

namespace {

/// Of this thread, since it began.
thread_local unsigned long allocations = 0;

}  // namespace

#if COIR_COUNTS_NEW
// The forms that are not here end in these, or in nothing that a loop uses.
void* operator new(std::size_t bytes) {
  ++allocations;
  if (void* const place = std::malloc(bytes != 0 ? bytes : 1)) return place;
  throw std::bad_alloc();
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  ++allocations;
  const auto unit = static_cast<std::size_t>(alignment);
  if (void* const place = std::aligned_alloc(unit, (bytes + unit - 1) & ~(unit - 1))) return place;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* place) noexcept { std::free(place); }
[[gnu::noinline]] void operator delete(void* place, std::size_t) noexcept { std::free(place); }
[[gnu::noinline]] void operator delete(void* place, std::align_val_t) noexcept { std::free(place); }
[[gnu::noinline]] void operator delete(void* place, std::size_t, std::align_val_t) noexcept {
  std::free(place);
}
#endif

using coir::errc;
using test::small_world;
using test::value;

TEST_CASE("T35 loop: a body without effects has ended at once and touches no backend") {
  small_world w;
  (void)w.in.submit([] { return 1; });  // the thread's first stack
  const auto before = allocations;
  auto s = w.in.submit([] { return 99; });
  CHECK(allocations - before == 0);
  CHECK(s.done());
  CHECK(s.get().value() == 99);
  CHECK(s.get().error() == errc::already_joined);
  CHECK(w.outside.submits == 0);
  CHECK(w.outside.handed_over == 0);
  CHECK(w.in.pending() == 0);
#if COIR_COUNTS_NEW
  // One that has an effect does allocate, and is counted.
  const auto counted = allocations;
  auto t = w.in.submit([] { return value(); });
  CHECK(allocations - counted > 0);
  w.outside.answer_first(1);
  CHECK(w.in.run());
#endif
}
