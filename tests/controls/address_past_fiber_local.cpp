// address_past_fiber_local.cpp: writes one past an array on a fiber's stack, after a park.
//
// Always true:
//   - The program commits the fault in every build; only a sanitizer says so.
//
// Comes from: entry A15 of the failure catalogue.   Goes to: the report of the sanitizer.
#include <cstdio>

#include "coir/coir.hpp"

int main() {
  return coir::run_main(
      [] {
        auto fiber = coir::spawn([] {
          volatile int few[4] = {};
          volatile unsigned at = 4;
          coir::this_fiber::yield();
          volatile int* const first = few;  // past what the bounds of an array can tell
          first[at] = 1;
          return static_cast<int>(few[0]);
        });
        std::printf("%d\n", fiber.join().value());
      },
      {.workers = 1});
}
