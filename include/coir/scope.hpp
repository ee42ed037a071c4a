// scope.hpp: fibers that cannot outlive the block that started them.
//
// Always true:
//   - A scope is left only when every fiber it spawned has ended, on every path, exceptions
//     included.
//   - The first error of a child is kept: join returns it (or rethrows it); the destructor logs one
//     nobody took.
//
// Comes from: the user.   Goes to: runtime/scope.cpp.
#pragma once

#include "coir/fiber.hpp"

namespace coir {

class scope;
namespace detail {
scope_state* state_of(scope& s) noexcept;
/// Until no child of it is left, whatever asks the caller to hurry.
void wait_for_children(scope& of) noexcept;
}  // namespace detail

class COIR_API scope {
 public:
  scope();  ///< std::bad_alloc when there is no memory
  scope(const scope&) = delete;
  scope& operator=(const scope&) = delete;
  /// Waits for all children; cancels them first when an exception is leaving the block. Parks, or
  /// blocks a thread.
  ~scope();

  /// Spawns a child; the handle may be dropped. Fibers only. Errors, by the handle: those of
  /// coir::spawn, and operation_canceled after cancel. Throws as that does (std::bad_alloc when
  /// there is no memory for a callable or an answer that does not fit the record); then there is no
  /// child.
  template <class F>
  detail::handle_of<F> spawn(F&& callable, const spawn_options& options = {},
                             const site& where = site::here()) {
    return detail::spawn_waiting(nullptr, std::forward<F>(callable), options, where, state_);
  }
  /// Cancels every child there is and refuses new ones. Any thread.
  void cancel() noexcept;
  /// Waits until every child has ended (parks a fiber, blocks a plain thread); then the first error
  /// of a child, or its exception, is yours. The scope can be used again afterwards. Errors:
  /// timed_out and operation_canceled leave the children running.
  [[nodiscard]] result<> join(deadline until = never);
  /// Children that have not ended; 0 in the child of a fork, whose they are not.
  std::size_t live() const noexcept;

 private:
  friend detail::scope_state* detail::state_of(scope& s) noexcept;
  detail::scope_state* state_;
};

}  // namespace coir
