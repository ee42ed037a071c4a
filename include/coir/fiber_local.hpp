// fiber_local.hpp: values that belong to a stretch of one fiber: bound around a body, and found by
// everybody whom it calls.
//
// Always true:
//   - A value is found in the body that it was bound around and nowhere else: not by other fibers
//     of the worker, whatever runs while this one is parked, and not once the body was left.
//   - The innermost one is found; around a computation that is stepped, those of whoever steps it;
//     by a handler, those around the handle_effects() or exec() that it belongs to.
//   - Nothing is allocated.
//
// Comes from: the user.   Goes to: coir/detail/effect_call.hpp; runtime/fiber_local.cpp.
#pragma once

#include <type_traits>
#include <utility>

#include "coir/detail/effect_call.hpp"

namespace coir {

namespace detail {
/// A value in the chain of those who answer effects: it forwards all of them.
struct binding : handler_frame {
  const void* key = nullptr;
  void* value = nullptr;
};
COIR_API void enter_binding(binding& frame) noexcept;
/// The value that is bound to `key` here, or null.
COIR_API void* bound_here(const void* key) noexcept;
}  // namespace detail

/// A name for values of fibers, usually an object with static storage duration; bound by
/// with_binding. It is not changed by that, so any number of fibers and threads may use it. A fiber
/// that is spawned inside of a binding begins without it: bind what it is to have in its own body.
template <class T>
class fiber_local {
 public:
  /// `otherwise`: what get() finds where nothing is bound.
  constexpr explicit fiber_local(T otherwise = T()) : otherwise_(std::move(otherwise)) {}
  fiber_local(const fiber_local&) = delete;
  fiber_local& operator=(const fiber_local&) = delete;

  /// Good until the innermost with_binding around the caller is left. On a fiber or a plain thread.
  const T& get() const noexcept {
    const T* const mine = bound();
    return mine != nullptr ? *mine : otherwise_;
  }
  /// The innermost value that is bound here, to be changed by its fiber; null: there is none.
  T* bound() const noexcept { return static_cast<T*>(detail::bound_here(this)); }

 private:
  T otherwise_;
};

/// Returns body(); until it is left, also by an exception, `key` has `value` there. Effects inside
/// ask handlers as they would without, which takes a few nanoseconds for each binding around them.
/// On a fiber or a plain thread.
template <class T, class F>
std::invoke_result_t<F&&> with_binding(const fiber_local<T>& key, std::type_identity_t<T> value,
                                       F&& body) {
  struct binds : detail::binding {
    binds(const void* name, void* what) noexcept {
      key = name;
      this->value = what;
      detail::enter_binding(*this);
    }
    ~binds() { detail::leave_handler(*this); }
    binds(const binds&) = delete;
    binds& operator=(const binds&) = delete;
  } const here(&key, &value);
  return std::forward<F>(body)();
}

}  // namespace coir
