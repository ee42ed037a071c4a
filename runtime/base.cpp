// base.cpp: what happens when one of our own assumptions fails: one line to stderr, then abort.
//
// Always true:
//   - Nothing here allocates, locks or throws: it runs on whatever stack the mistake happened on.
//
// Comes from: COIR_ASSERT anywhere.   Goes to: abort(3).
#include "runtime/base.hpp"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace coir::detail {

#if defined(COIR_MUTANTS)
std::uint64_t mutant_on = 0;

namespace {
// 101 is the first number that is not the implementation's own: before every constructor of ours.
[[gnu::constructor(101)]] void choose_mutant() noexcept {
  const char* const name = std::getenv("COIR_MUTANT");
  if (name != nullptr && *name != '\0') mutant_on = mutant_number(name);
}
}  // namespace
#endif

void assertion_failed(const char* condition, const char* file, int line) noexcept {
  char text[512];
  const int n = std::snprintf(text, sizeof text, "coir: assertion failed: %s (%s:%d)\n", condition,
                              file, line);
  if (n > 0) {
    const auto length =
        static_cast<std::size_t>(n) < sizeof text ? static_cast<std::size_t>(n) : sizeof text - 1;
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text, length);
  }
  if (COIR_MUTANT(assertion_goes_on)) ::_exit(0);
  std::abort();
}

}  // namespace coir::detail
