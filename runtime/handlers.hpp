// handlers.hpp: where the chain of handlers of whoever runs begins.
//
// Always true:
//   - It belongs to the fiber that runs here, or to the thread where none does.
//
// Comes from: perform, stepping, this_fiber.   Goes to: the head of a stack.
#pragma once

#include "coir/detail/effect_call.hpp"
#include "runtime/waiting.hpp"

namespace coir::detail {

/// The chain begins with `innermost` from now on; what it began with.
handler_frame* exchange_handlers(handler_frame* innermost) noexcept;
/// What it begins with. In the handler of a signal, too.
handler_frame* innermost_handler() noexcept;

}  // namespace coir::detail
