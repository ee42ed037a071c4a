// address_past_fiber_local.cpp: writes one past an array on a fiber's stack, after a park.
//
// Always true:
//   - The program commits the fault in every build; only a sanitizer says so.
//
// Comes from: entry A15 of the failure catalogue.   Goes to: the report of the sanitizer.
#include <cstdio>

#include "coir/coir.hpp"

namespace {

/// Out of line: here nobody knows how long the array is, only the shadow memory does.
[[gnu::noinline]] void write_at(volatile int* where, unsigned index) { where[index] = 1; }

}  // namespace

int main() {
  return coir::run_main(
      [] {
        auto fiber = coir::spawn([] {
          volatile int few[4] = {};
          volatile unsigned at = 4;
          coir::this_fiber::yield();
          write_at(few, at);
          return static_cast<int>(few[0]);
        });
        std::printf("%d\n", fiber.join().value());
      },
      {.workers = 1});
}
