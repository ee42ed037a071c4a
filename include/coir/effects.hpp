// effects.hpp: the one way out of a fiber: an operation is described, performed, and answered.
//
// Always true:
//   - perform parks the fiber until the operation's last completion: what the operation lends to
//     the kernel (buffers, addresses) is untouched by the kernel after perform returned, cancelled
//     or not.
//   - Success wins: a completion that beats its cancel or its deadline is delivered.
//   - From a user's submission entry the runtime takes opcode, fd, addr, len, off and the
//     operation's flags; user_data, links, CQE_SKIP and personality are its own.
//
// Comes from: coir/io.hpp, coir/net.hpp, users' own operations.   Goes to: runtime/perform.hpp.
#pragma once

#include <concepts>
#include <cstdint>
#include <string_view>

#include "coir/clock.hpp"
#include "coir/result.hpp"

struct io_uring_sqe;

namespace coir {

/// Something a fiber can ask for: what the answer is, and the name it is known by in every shared
/// object.
template <class Op>
concept operation = requires {
  typename Op::value_type;
  { Op::name } -> std::convertible_to<std::string_view>;
};

/// An operation that the kernel answers: it fills a zeroed io_uring_sqe (include <linux/io_uring.h>
/// or <liburing.h>) and turns the completion's `res` (never negative here) into its value.
template <class Op>
concept io_operation = operation<Op> && requires(const Op op, io_uring_sqe& sqe, std::int32_t res) {
  op.fill(sqe);
  { op.complete(res) } -> std::same_as<typename Op::value_type>;
};

namespace detail {
/// Type-erased: how to fill the entry. Returns res of the last completion, or a negative errno.
/// Negative results below this are coir's own: -(io_own_base + errc).
inline constexpr std::int32_t io_own_base = 1 << 20;
inline std::error_code io_error(std::int32_t res) noexcept {
  if (res <= -io_own_base) return make_error_code(static_cast<errc>(-res - io_own_base));
  return system_error(res);
}

using fill_function = void (*)(const void* op, io_uring_sqe& sqe);
COIR_API std::int32_t perform_io(fill_function fill, const void* op, deadline until) noexcept;
}  // namespace detail

/// Performs `op`: parks the calling fiber until the kernel answered. Fibers only
/// (errc::not_in_fiber). Errors: operation_canceled, timed_out, bad_file_descriptor (also: the fd
/// is being closed), and the operation's own.
template <io_operation Op>
[[nodiscard]] result<typename Op::value_type> perform(const Op& op, deadline until = never) {
  const std::int32_t res = detail::perform_io(
      [](const void* self, io_uring_sqe& sqe) { static_cast<const Op*>(self)->fill(sqe); }, &op,
      until);
  if (res < 0) return fail(detail::io_error(res));
  if constexpr (std::is_void_v<typename Op::value_type>) {
    op.complete(res);
    return {};
  } else {
    return op.complete(res);
  }
}

/// The cheapest effect: a round trip through the kernel that does nothing.
struct nop {
  using value_type = void;
  static constexpr std::string_view name = "nop";
  COIR_API void fill(io_uring_sqe& sqe) const noexcept;
  void complete(std::int32_t) const noexcept {}
};

}  // namespace coir
