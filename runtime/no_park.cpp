// no_park.cpp: what a fiber holds against being parked.
//
// Always true:
//   - The innermost scope's text lies at the top of the fiber's own stack; null: it may park.
//
// Comes from: coir/no_park.hpp, worker::hop.   Goes to: the end of the process.
#include "coir/no_park.hpp"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "runtime/worker.hpp"

namespace coir {
namespace detail {
namespace {

record* fiber_here() noexcept {
  worker* const here = worker::current();
  return here == nullptr ? nullptr : here->self();
}

}  // namespace

void forbidden_park(const record& fiber) noexcept {
  char text[320];
  const int n =
      std::snprintf(text, sizeof text, "coir: fiber %u '%s' (%s:%d) parks inside no_park(\"%s\")\n",
                    fiber.slot, fiber.name, fiber.file, fiber.line, fiber.head().forbids);
  if (n > 0) {
    const std::size_t length =
        static_cast<std::size_t>(n) < sizeof text ? static_cast<std::size_t>(n) : sizeof text - 1;
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text, length);
  }
  std::abort();
}

}  // namespace detail

no_park::no_park(const char* what) noexcept {
  if (detail::record* const me = detail::fiber_here())
    outer_ = std::exchange(me->head().forbids, what);
}

no_park::~no_park() {
  if (detail::record* const me = detail::fiber_here()) me->head().forbids = outer_;
}

}  // namespace coir
