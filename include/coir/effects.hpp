// effects.hpp: the one way out of a fiber: an operation is described, performed, and answered.
//
// Always true:
//   - perform parks the fiber until the operation's last completion: what the operation lends to
//     the kernel (buffers, addresses) is untouched by the kernel after perform returned, cancelled
//     or not.
//   - Success wins: a completion that beats its cancel or its deadline is delivered.
//   - Who asks does not know who answers: the handlers of the fiber, innermost first
//     (coir/handlers.hpp), then the backend. Without a handler this costs one branch.
//   - From a user's submission entry the runtime takes opcode, fd, addr, len, off and the
//     operation's flags; user_data, links, CQE_SKIP and personality are its own. What asks for
//     many completions, or for a buffer of the ring's, is refused: invalid_argument.
//
// Comes from: coir/io.hpp, coir/net.hpp, users' own operations.   Goes to: runtime/perform.hpp.
#pragma once

#include <concepts>
#include <cstdint>
#include <string_view>

#include "coir/clock.hpp"
#include "coir/detail/effect_call.hpp"
#include "coir/result.hpp"

struct io_uring_sqe;

namespace coir {

/// Something a fiber can ask for: what the answer is, and the name it is known by in every shared
/// object. Two operations of one name are one operation, so name yours with a prefix of your own.
template <class Op>
concept operation = requires {
  typename Op::value_type;
  { Op::name } -> std::convertible_to<std::string_view>;
};

/// An operation that the kernel answers: it fills a zeroed io_uring_sqe (include <linux/io_uring.h>
/// or <liburing.h>) and turns the completion's `res` (never negative here) into its value. What
/// either throws leaves perform(). A stream and a started operation fill an entry for each time
/// that they are submitted: only the first of these may throw.
template <class Op>
concept io_operation = operation<Op> && requires(const Op op, io_uring_sqe& sqe, std::int32_t res) {
  op.fill(sqe);
  { op.complete(res) } -> std::same_as<typename Op::value_type>;
};

/// An operation with many answers, pulled as a stream (coir/multishot.hpp): it fills an entry for
/// one answer, and makes an item of each completion; `res` is never negative.
template <class Op>
concept multishot_operation = operation<Op> &&
    requires(const Op op, io_uring_sqe& sqe, std::int32_t res, std::uint32_t flags) {
  op.fill(sqe);
  { op.item(res, flags) } -> std::same_as<typename Op::value_type>;
};

template <class T>
class multishot;

/// What perform() gives is a stream.
template <class Op>
concept stream_operation = multishot_operation<Op> && !io_operation<Op>;

namespace detail {
template <class Op>
struct answer_of_operation {
  using type = typename Op::value_type;
};
template <stream_operation Op>
struct answer_of_operation<Op> {
  using type = multishot<typename Op::value_type>;
};
/// What the outside does where no handler answers.
template <stream_operation Op>
void open_stream(const void* asked, deadline, void* answer);
}  // namespace detail

/// What whoever answers `Op` gives: its value, or the stream of its items.
template <operation Op>
using answer_type = typename detail::answer_of_operation<Op>::type;

/// An operation that is none of the kernel's and can be done all the same, where no handler
/// answers.
template <class Op>
concept outside_operation = operation<Op> && requires(const Op op, deadline until) {
  { op.outside(until) } -> std::same_as<result<typename Op::value_type>>;
};

namespace detail {
/// Type-erased: how to fill the entry. Returns res of the last completion, or a negative errno.
/// Negative results below this are coir's own: -(io_own_base + errc).
inline constexpr std::int32_t io_own_base = 1 << 20;
inline std::error_code io_error(std::int32_t res) noexcept {
  if (res <= -io_own_base) return make_error_code(static_cast<errc>(-res - io_own_base));
  return system_error(res);
}

using fill_function = decltype(operation_type::fill);
/// handlers_first: nothing was done, the handlers are to be asked.
COIR_API std::int32_t perform_io(fill_function fill, const void* op, deadline until);
/// The same, where they have been.
COIR_API std::int32_t perform_outside(fill_function fill, const void* op, deadline until);
COIR_API bool handlers_are_there() noexcept;

template <class Op>
constexpr fill_function filler =
    [](const void* self, io_uring_sqe& sqe) { static_cast<const Op*>(self)->fill(sqe); };

template <io_operation Op>
[[nodiscard]] result<typename Op::value_type> answer_of(const Op& op, std::int32_t res) {
  if (res < 0) return fail(io_error(res));
  if constexpr (std::is_void_v<typename Op::value_type>) {
    op.complete(res);
    return {};
  } else {
    return op.complete(res);
  }
}

template <operation Op>
constexpr operation_type make_type() noexcept {
  if constexpr (io_operation<Op>) {
    return {Op::name, filler<Op>,
            [](const void* op, std::int32_t res, void* answer) {
              static_cast<std::optional<result<typename Op::value_type>>*>(answer)->emplace(
                  answer_of(*static_cast<const Op*>(op), res));
            },
            nullptr};
  } else if constexpr (stream_operation<Op>) {
    return {Op::name, nullptr, nullptr, &open_stream<Op>};
  } else if constexpr (outside_operation<Op>) {
    return {Op::name, nullptr, nullptr, [](const void* op, deadline until, void* answer) {
              static_cast<std::optional<result<typename Op::value_type>>*>(answer)->emplace(
                  static_cast<const Op*>(op)->outside(until));
            }};
  } else {
    return {Op::name, nullptr, nullptr, nullptr};
  }
}
template <operation Op>
inline constexpr operation_type type_of = make_type<Op>();

/// Asks the handlers for `op`, and `outside()` when none of them answers.
template <class Op, class Outside>
[[nodiscard, gnu::noinline]] result<typename Op::value_type> perform_handled(
    const Op& op, deadline until, const retry_policy* policy, Outside outside,
    bool must_happen = false, bool* by_kernel = nullptr) {
  std::optional<result<typename Op::value_type>> answer;
  effect_call call{&type_of<Op>, &op, &answer, until, policy, must_happen};
  const reply said = ask_handlers(call);
  if (by_kernel != nullptr) *by_kernel = said == reply::forward || call.by_kernel;
  switch (said) {
    case reply::answered:
      return *std::move(answer);
    case reply::forward:
      return outside();
    default:
      return fail(call.why_refused());
  }
}

/// What is left when no handler answered.
template <operation Op>
[[nodiscard]] result<typename Op::value_type> perform_unhandled(const Op& op, deadline until) {
  if constexpr (io_operation<Op>) {
    return answer_of(op, perform_outside(filler<Op>, &op, until));
  } else if constexpr (outside_operation<Op>) {
    return op.outside(until);
  } else {
    return fail(errc::unhandled_effect);
  }
}
}  // namespace detail

/// Performs `op`: asks the handlers of the calling fiber, then parks it until the kernel answered.
/// Where no handler answers and the operation is none of the kernel's: errc::unhandled_effect. For
/// the kernel fibers only (errc::not_in_fiber). Errors: operation_canceled, timed_out,
/// bad_file_descriptor (also: the fd is being closed), and the operation's own. Throws what a
/// handler throws.
template <operation Op>
requires(!stream_operation<Op>)
    [[nodiscard]] result<typename Op::value_type> perform(const Op& op, deadline until = never) {
  if constexpr (io_operation<Op>) {
    const std::int32_t res = detail::perform_io(detail::filler<Op>, &op, until);
    if (res != detail::handlers_first) [[likely]]
      return detail::answer_of(op, res);
  } else if constexpr (outside_operation<Op>) {
    if (!detail::handlers_are_there()) return detail::perform_unhandled(op, until);
  }
  return detail::perform_handled(op, until, nullptr,
                                 [&] { return detail::perform_unhandled(op, until); });
}

/// An operation and how often a handler that answers "not now" is asked for it.
template <operation Op>
requires(!stream_operation<Op>) struct retry {
  Op op;
  retry_policy policy = {};
};
template <class Op>
retry(Op, retry_policy) -> retry<Op>;

/// perform() with a policy of its own.
template <operation Op>
[[nodiscard]] result<typename Op::value_type> perform(const retry<Op>& what,
                                                      deadline until = never) {
  if (!detail::handlers_are_there()) return detail::perform_unhandled(what.op, until);
  return detail::perform_handled(what.op, until, &what.policy,
                                 [&] { return detail::perform_unhandled(what.op, until); });
}

/// The cheapest effect: a round trip through the kernel that does nothing.
struct nop {
  using value_type = void;
  static constexpr std::string_view name = "nop";
  COIR_API void fill(io_uring_sqe& sqe) const noexcept;
  void complete(std::int32_t) const noexcept {}
};

}  // namespace coir
