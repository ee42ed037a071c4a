// effect_call.hpp: one question on its way from a fiber to whoever answers it: handlers, innermost
// first, then the outside.
//
// Always true:
//   - Handlers stand in a chain that begins with the innermost; each lives on the stack of the
//     handle_effects (or exec, or step) that put it there, and leaves the chain before that stack
//     frame ends.
//   - While a handler answers, the chain of the running fiber begins with the next handler outward:
//     what a handler asks for itself goes outward.
//   - An answer is written once, into the asker's own frame, before the asker goes on.
//   - Operations are told apart by their names: the address of a template's static differs between
//     shared objects.
//
// Comes from: coir/effects.hpp, coir/handlers.hpp, coir/stepping.hpp.   Goes to:
// runtime/handlers.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "coir/backoff.hpp"
#include "coir/clock.hpp"
#include "coir/result.hpp"

struct io_uring_sqe;

namespace coir {

class event;

/// What a handler waits for before it is asked again: nothing (a pause that grows), a time, a
/// descriptor, or an event.
struct wait_hint {
  deadline until = never;  ///< not longer than this; never: it is not a time that is waited for
  int fd = -1;             ///< a descriptor that becomes ready
  unsigned events = 0;     ///< for what: POLLIN, POLLOUT, ...
  event* gate = nullptr;   ///< an event that is set
};

/// How often and how soon somebody who answers "not now" is asked again. Times from 0.
struct retry_policy {
  unsigned attempts_max =
      UINT32_MAX;  ///< asked so often in all; then resource_unavailable_try_again
  clock::duration pause = backoff::default_base;     ///< where nothing else is known, the pauses
  clock::duration pause_max = backoff::default_max;  ///< are those of backoff(pause, pause_max)
};

namespace detail {

/// A kind of operation: its name with its hash, and how the kernel is asked for it.
struct operation_type {
  std::string_view name;
  std::uint64_t hash;
  /// Fills a zeroed entry; null: none of the kernel's.
  void (*fill)(const void* op, io_uring_sqe& sqe);
  /// Turns `res` of the last completion into the answer (effect_call::answer).
  void (*complete)(const void* op, std::int32_t res, void* answer);
  /// Does it without a backend's entry, and puts the answer there; null: it cannot.
  void (*outside)(const void* op, deadline until, void* answer);

  constexpr operation_type(std::string_view text, decltype(fill) f, decltype(complete) c,
                           decltype(outside) o) noexcept
      : name(text), hash(14695981039346656037u), fill(f), complete(c), outside(o) {
    for (const char letter : text)
      hash = (hash ^ static_cast<unsigned char>(letter)) * 1099511628211u;
  }
  /// The same object nearly always; another one where two shared objects each have theirs.
  bool is(const operation_type& other) const noexcept {
    return this == &other || (hash == other.hash && name == other.name);
  }
};

/// One operation that is asked for. On the asker's stack.
struct effect_call {
  const operation_type* type;
  const void* op;
  void* answer;  // std::optional<result<answer_type<the operation>>>*
  deadline until;
  const retry_policy* policy = nullptr;
  bool must_happen = false;  // asked although the body is to end: what it holds is given back
  bool by_kernel = false;    // the answer is what the system did, and no handler's
  wait_hint hint = {};       // of the last answer "not now"
  /// When nobody could answer. Not an error_code by itself: one without an error is made by a call
  /// into the C++ library, and most questions are answered.
  std::optional<std::error_code> refused = {};

  std::error_code why_refused() const { return refused.value_or(std::error_code()); }
};

enum class reply : std::uint8_t {
  forward,      // not mine: the next one outward
  answered,     // *answer is there
  would_block,  // ask again after call.hint
  refused,      // call.refused says why
};

struct handler_frame {
  /// May throw: what it throws leaves perform() in the body.
  reply (*ask)(handler_frame& self, effect_call& call) = nullptr;
  handler_frame* outer = nullptr;
  /// The body under it is to end: every effect from there answers operation_canceled.
  bool ending = false;
  /// Of a computation while it runs: where the chain of whoever steps it begins. Nobody there is
  /// asked; but where the body of one of them is to end, so is what it steps.
  handler_frame* steps = nullptr;
  /// Told of each such answer; need not return. Null: nobody counts.
  void (*ignored)(handler_frame& self) noexcept = nullptr;
  /// Of it, or of one outward of it, ask() may return on another fiber of the thread: the body is a
  /// computation, and somebody else steps it by then.
  bool comes_back_elsewhere = false;
};

/// Puts `frame` before all others of the running fiber, or of this thread where none runs.
COIR_API void enter_handler(handler_frame& frame) noexcept;
/// Takes it away again; it is the innermost by then.
COIR_API void leave_handler(handler_frame& frame) noexcept;
/// Asks the chain; `forward` when the question is for the outside. Never would_block.
COIR_API reply ask_handlers(effect_call& call);
/// Asks in the place of whoever asked first: the handlers of whoever runs here, then the outside.
/// answered or refused.
COIR_API reply ask_everybody(effect_call& call);

/// Result of perform_io where handlers are to be asked first.
inline constexpr std::int32_t handlers_first = INT32_MIN;

}  // namespace detail
}  // namespace coir
