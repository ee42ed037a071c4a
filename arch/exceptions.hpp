// exceptions.hpp: the exceptions in flight belong to the fiber, not to the thread it runs on.
//
// Always true:
//   - The C++ runtime keeps two words per thread: the stack of caught exceptions and how many are
//     on their way. A switch of fibers exchanges both, so `throw;`, std::current_exception() and
//     std::uncaught_exceptions() see only what happened on their own stack.
//   - The saved state of a running fiber is empty: what is restored is moved, not copied. Otherwise
//     a fiber that parked in a handler, and later parks outside of one, would find a dead exception
//     again.
//   - Nearly every switch happens with no exception anywhere; it costs one test.
//
// Comes from: fiber.hpp, beside every switch of arch/context.hpp.   Goes to: the C++ runtime.
#pragma once

#include <cxxabi.h>

#include <cstdint>

#include "arch/sanitizers.hpp"
#include "runtime/base.hpp"

namespace coir::arch {

/// The layout of __cxa_eh_globals, which the Itanium C++ ABI fixes. A new one is what a fresh
/// thread has, and so a fresh fiber.
struct exception_state {
  void* caught = nullptr;
  unsigned uncaught = 0;

  /// Zero when nothing is caught and nothing on its way.
  [[nodiscard]] std::uintptr_t any() const noexcept {
    return reinterpret_cast<std::uintptr_t>(caught) | uncaught;
  }
};
static_assert(sizeof(exception_state) == 2 * sizeof(void*));

/// The state the C++ runtime uses on this thread. It stays valid until the thread ends; a fiber
/// that changed its thread asks again.
[[nodiscard]] inline exception_state* thread_exception_state() noexcept {
  // <cxxabi.h> declares the function constant, so a compiler would answer the second question with
  // the first answer, across a switch too. It cannot know what it is that is called here.
  abi::__cxa_eh_globals* (*ask)() = &abi::__cxa_get_globals;
  asm volatile("" : "+r"(ask));
  if (COIR_MUTANT(exceptions_asked_once)) {
    static exception_state* const once = reinterpret_cast<exception_state*>(ask());
    return once;
  }
  return reinterpret_cast<exception_state*>(ask());
}

/// Right before or after a switch: moves `live` (this thread's) into `save` and `restore` into
/// `live`. `save` belongs to the one that leaves and is empty, as that of every running fiber.
[[gnu::always_inline]] COIR_UNINSTRUMENTED inline void swap_exception_state(
    exception_state& live, exception_state& save, exception_state& restore) noexcept {
  if (COIR_MUTANT(share_exceptions)) return;
  if ((live.any() | restore.any()) == 0) [[likely]]
    return;
  save = live;
  live = restore;
  if (COIR_MUTANT(keep_restored_exceptions)) return;
  restore.caught = nullptr;
  restore.uncaught = 0;
}

}  // namespace coir::arch
