// a_unwind_test.cpp: whoever walks the stack of a fiber finds its frames, and then an end.
//
// Always true:
//   - The walkers are the ones that programs have: backtrace(3), the unwinder, frame pointers.
//   - The innermost frame here is called at a known depth, so the frames that are found are
//     counted.
//
// Comes from: entry A6 of the failure catalogue.   Goes to: arch/x86_64.S, runtime/switching.cpp.
#include <doctest/doctest.h>
#include <execinfo.h>
#include <unwind.h>

#include <array>
#include <cstdint>
#include <stdexcept>

#include "coir/coir.hpp"
#include "runtime/base.hpp"
#include "tests/test_options.hpp"

using test::at_full_speed;
using test::tested;

namespace {

#if defined(__clang__)
#define KEPT __attribute__((noinline))
#else
#define KEPT __attribute__((noinline, noclone))
#endif

/// Only code that was built with frame pointers throughout can be walked by them.
#if !defined(__OPTIMIZE__) || COIR_ASAN || COIR_TSAN
constexpr bool has_frame_pointers = true;
#else
constexpr bool has_frame_pointers = false;
#endif

/// Calls `last` below `left` frames of its own, each of which is kept.
template <class F>
KEPT int dive(int left, F& last) {
  if (left == 0) return last();
  const int below = dive(left - 1, last);
  asm volatile("" ::: "memory");  // not a tail call
  return below;
}

struct walk {
  int frames = 0;
  _Unwind_Reason_Code end = _URC_NO_REASON;
};

KEPT walk by_unwinder() {
  walk w;
  const auto step = [](_Unwind_Context*, void* at) {
    return ++static_cast<walk*>(at)->frames < 1000 ? _URC_NO_REASON : _URC_NORMAL_STOP;
  };
  w.end = _Unwind_Backtrace(step, &w);
  return w;
}

KEPT int by_backtrace() {
  std::array<void*, 200> found{};
  return ::backtrace(found.data(), static_cast<int>(found.size()));
}

/// Follows saved frame pointers; each must lie above the one before and within `stack_bytes`. A
/// negative answer: it ran off at the frame of that number.
__attribute__((noinline, no_sanitize("address", "thread"))) int by_frame_pointers(
    std::size_t stack_bytes) {
  const auto low = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  std::uintptr_t at = low;
  for (int frames = 1; frames < 1000; ++frames) {
    const std::uintptr_t above = *reinterpret_cast<const std::uintptr_t*>(at);
    if (above == 0) return frames;
    if (above <= at || above - low > stack_bytes) return -frames;
    at = above;
  }
  return 0;
}

/// How many more frames `count` finds when it is called `deeper` frames down.
template <class F>
int more_frames(int deeper, F count) {
  const int near = dive(0, count);
  return dive(deeper, count) - near;
}

constexpr int depth = 10;
constexpr int around_most = 40;  // what the runtime may have on a fiber's stack below the body

}  // namespace

TEST_CASE("A6: in a fiber the unwinder finds each frame and then the end of the stack") {
  const auto done = coir::run(
      [] {
        walk w;
        const auto count = [&w] {
          w = by_unwinder();
          return w.frames;
        };
        for (int round = 0; round < 3; ++round) {  // on a fresh stack, and after a switch
          CHECK(more_frames(depth, count) == depth);
          CHECK(w.end == _URC_END_OF_STACK);
          CHECK(w.frames < depth + around_most);
          coir::this_fiber::yield();
          auto other = coir::spawn([] { coir::this_fiber::yield(); });
          CHECK(other.join().has_value());
        }
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE("A6: in a fiber backtrace(3) finds each frame and stops") {
  const auto done = coir::run(
      [] {
        CHECK(more_frames(depth, &by_backtrace) == depth);
        CHECK(dive(depth, by_backtrace) < depth + around_most);
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE("A6: a walk along frame pointers ends at a null one on the fiber's own stack" *
          doctest::skip(!has_frame_pointers)) {
  constexpr std::size_t bytes = 64 << 10;
  const auto walked = coir::run(
      [] {
        auto fiber = coir::spawn(
            [] {
              const auto count = [] { return by_frame_pointers(bytes); };
              CHECK(more_frames(depth, count) == depth);
              return dive(depth, count);
            },
            {.stack_bytes = bytes});
        return fiber.join();
      },
      tested({.workers = 1}));
  REQUIRE(walked.has_value());
  CHECK(*walked > depth);
}

TEST_CASE("A6: exceptions thrown 64 frames deep find their handler, ten thousand times") {
  constexpr int rounds = at_full_speed(10'000, 300);
  const auto caught = coir::run(
      [] {
        int count = 0;
        const volatile bool really = true;  // or the compiler warns that `dive` never returns
        const auto fail = [&] {
          if (count % 100 == 0) coir::this_fiber::yield();
          if (really) throw std::runtime_error("deep");
          return 0;
        };
        for (int i = 0; i < rounds; ++i) {
          try {
            (void)dive(64, fail);
          } catch (const std::runtime_error&) {
            ++count;
          }
        }
        return count;
      },
      tested({.workers = 1}));
  CHECK(caught.value() == rounds);
}
