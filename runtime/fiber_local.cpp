// fiber_local.cpp: which value is bound where the caller stands.
//
// Always true:
//   - A binding is one of the handlers of its stack, which forwards every effect; so it is left,
//     parked and stepped as they are.
//
// Comes from: coir/fiber_local.hpp.   Goes to: handlers.
#include "coir/fiber_local.hpp"

#include "runtime/handlers.hpp"

namespace coir::detail {
namespace {

reply forward_all(handler_frame&, effect_call&) { return reply::forward; }

/// Those of whoever steps a computation come behind its own.
handler_frame* behind(const handler_frame& one) noexcept {
  return one.outer != nullptr || COIR_MUTANT(bindings_end_at_steps) ? one.outer : one.steps;
}

}  // namespace

void enter_binding(binding& frame) noexcept {
  frame.ask = &forward_all;
  enter_handler(frame);
}

void* bound_here(const void* key) noexcept {
  void* found = nullptr;
  for (handler_frame* at = innermost_handler(); at != nullptr; at = behind(*at)) {
    if (at->ask != &forward_all || static_cast<binding*>(at)->key != key) continue;
    found = static_cast<binding*>(at)->value;
    if (!COIR_MUTANT(outermost_binding)) break;
  }
  return found;
}

}  // namespace coir::detail
