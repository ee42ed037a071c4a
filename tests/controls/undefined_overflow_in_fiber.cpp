// undefined_overflow_in_fiber.cpp: overflows a signed number inside a fiber.
//
// Always true:
//   - The program commits the fault in every build; only a sanitizer says so.
//
// Comes from: entry A15 of the failure catalogue.   Goes to: the report of the sanitizer.
#include <climits>
#include <cstdio>

#include "coir/coir.hpp"

int main() {
  return coir::run_main(
      [] {
        auto fiber = coir::spawn([] {
          volatile int most = INT_MAX;
          coir::this_fiber::yield();
          return most + 1;
        });
        std::printf("%d\n", fiber.join().value());
      },
      {.workers = 1});
}
