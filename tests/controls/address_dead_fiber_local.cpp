// address_dead_fiber_local.cpp: reads a local variable of a fiber that has returned from the
// function it lived in, so that AddressSanitizer can show that it sees stacks of fibers.
//
// Always true:
//   - The program commits the fault in every build; only a sanitizer says so.
//
// Comes from: entry A15 of the failure catalogue.   Goes to: the report of the sanitizer.
#include <cstdio>

#include "coir/coir.hpp"

namespace {

__attribute__((noinline)) const volatile int* address_of_local() {
  volatile int local = 42;
  const volatile int* volatile escaped = &local;
  return escaped;
}

}  // namespace

/// Detection of use after return is off by default in some versions.
extern "C" const char* __asan_default_options() { return "detect_stack_use_after_return=1"; }

int main() {
  return coir::run_main(
      [] {
        auto fiber = coir::spawn([] {
          const volatile int* const dead = address_of_local();
          coir::this_fiber::yield();
          return *dead;
        });
        std::printf("%d\n", fiber.join().value());
      },
      {.workers = 1});
}
