// result.hpp: how coir answers: a value or an error code, never both, never an exception of its
// own.
//
// Always true:
//   - Every call that can fail returns `result<T>` and is [[nodiscard]].
//   - `errc` names what only coir can refuse; everything else is the errno of the system call, in
//     std::generic_category(), so `== std::errc::operation_canceled` works.
//
// Comes from: every public header.   Goes to: the caller.
#pragma once

#include <system_error>
#include <tl/expected.hpp>
#include <type_traits>

/// Marks what the shared library shows; everything else stays inside it.
#define COIR_API __attribute__((visibility("default")))

namespace coir {

/// A value of type T, or the reason why there is none.
template <class T = void>
using result = tl::expected<T, std::error_code>;

/// What coir itself refuses. `std::error_code{errc}.message()` says what to do about it.
enum class errc {
  unhandled_effect = 1,  ///< no handler and no backend knows this operation
  resumed_twice,         ///< a one-shot resumption or suspension was used before
  stale_handle,          ///< the fiber that this id names has ended
  already_joined,        ///< this handle gave its result away, or was detached
  arena_full,            ///< options::fibers_max fibers are alive, or ended just now
  stack_limit,           ///< no further stack: memory, or vm.max_map_count
  mailbox_full,          ///< options::mailbox_slots messages wait for the target
  deadlock,              ///< nothing that is left could ever wake the waiter
  shutting_down,         ///< the runtime takes no new work
  survivors,             ///< shutdown's time is over and fibers are still alive
  not_in_fiber,          ///< this call parks, and a plain thread has nothing to park
  wrong_operation,       ///< the operation cannot be used in this way
  backend_refused,       ///< no call answers it now: create gives the errno of the kernel
  not_parked,            ///< yield_to: the target is not ready to run here
  finished,              ///< the target has ended
  not_started,           ///< no call answers it now: who joins before the start waits
  already_started,       ///< the runtime was started before
  foreign_runtime,       ///< the id belongs to another runtime, or to an inherited one after fork
  offload_full,          ///< options::offload_queue calls wait for a thread of the offload pool
  wrong_thread,          ///< this belongs to the thread that began it
  name_too_long,         ///< a Unix socket's name has more than net::unix_name_bytes_max bytes
  unexpected_end,        ///< the source ended before all bytes that were asked for
  stale_socket,          ///< a socket's file lies there, and nobody listens on it
  queue_full,            ///< machine_options::queue_max inputs wait for their turn
  state_changed,         ///< the state of the machine is another one than the input began with
  update_would_park,     ///< something inside machine_context::update would have had to wait
  opcode_refused,        ///< options::hardened_ring: the operation's opcode is not listed
};

COIR_API const std::error_category& coir_category() noexcept;
inline std::error_code make_error_code(errc e) noexcept {
  return {static_cast<int>(e), coir_category()};
}

/// Makes the failed answer: `return coir::fail(std::errc::timed_out);`
inline tl::unexpected<std::error_code> fail(std::error_code code) {
  return tl::unexpected<std::error_code>(code);
}
inline tl::unexpected<std::error_code> fail(errc code) { return fail(make_error_code(code)); }
inline tl::unexpected<std::error_code> fail(std::errc code) {
  return fail(std::make_error_code(code));
}

namespace detail {

/// Why something was refused, in one register. An error_code takes two, and to make an empty one
/// costs a call into the C++ library.
class refusal {
 public:
  constexpr refusal() noexcept = default;
  constexpr refusal(errc e) noexcept : code_(-static_cast<int>(e)) {}
  constexpr refusal(std::errc e) noexcept : code_(static_cast<int>(e)) {}
  constexpr explicit operator bool() const noexcept { return code_ != 0; }
  std::error_code code() const noexcept {
    if (code_ < 0) return make_error_code(static_cast<errc>(-code_));
    return {code_, code_ == 0 ? std::system_category() : std::generic_category()};
  }

 private:
  int code_ = 0;  // above 0 an errno, below 0 one of coir::errc
};

template <class T>
struct is_result : std::false_type {};
template <class T>
struct is_result<result<T>> : std::true_type {};

/// result<T> for a callable that returns T, and result<T> itself for one that returns result<T>.
template <class R>
struct flatten {
  using value = R;
};
template <class T>
struct flatten<result<T>> {
  using value = T;
};
template <class R>
using flat_t = typename flatten<R>::value;

inline std::error_code system_error(int negative_errno) noexcept {
  return {-negative_errno, std::generic_category()};
}
}  // namespace detail

}  // namespace coir

template <>
struct std::is_error_code_enum<coir::errc> : std::true_type {};
