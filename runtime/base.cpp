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
