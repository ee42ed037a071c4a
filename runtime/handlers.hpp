// handlers.hpp: where the chain of handlers of whoever runs begins.
//
// Always true:
//   - It belongs to the fiber that runs here, or to the thread where none does.
//
// Comes from: perform, stepping, this_fiber.   Goes to: the head of a stack.
#pragma once

#include <utility>

#include "coir/detail/effect_call.hpp"
#include "runtime/waiting.hpp"

namespace coir::detail {

/// The place where it begins. Good for as long as that one runs here: parked or moved in between
/// it may be, but who may come back on another fiber asks again.
struct handler_chain {
  handler_frame** first;
  record* of;  // null: of the thread

  /// It begins with `innermost` from now on; what it began with.
  handler_frame* exchange(handler_frame* innermost) const noexcept {
    if (of != nullptr) of->asks = innermost != nullptr;
    return std::exchange(*first, innermost);
  }
};
handler_chain handlers_here() noexcept;

/// What it begins with. In the handler of a signal, too.
handler_frame* innermost_handler() noexcept;

/// Of the computations around whoever's chain begins with `from` the innermost, where it may still
/// stop for whoever steps it; null: there is none.
handler_frame* stepped_around(handler_frame* from) noexcept;

}  // namespace coir::detail
