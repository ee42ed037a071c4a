// started.hpp: operations that are submitted now and answered later, and waiting for several.
//
// Always true:
//   - What a started operation lends to the kernel is untouched by the kernel once its object has
//     ended, however that came: the destructor cancels and waits for the last completion, also
//     while an exception unwinds.
//   - It is bound to the fiber that started it, which goes on meanwhile, and which cannot move to
//     another worker while it has one.
//   - Success wins: a completion that beats its cancel is delivered, that of a loser too.
//
// Comes from: the user.   Goes to: coir/detail/lasting.hpp.
#pragma once

#include <array>
#include <exception>
#include <optional>
#include <tuple>

#include "coir/detail/lasting.hpp"
#include "coir/fiber.hpp"

namespace coir {

/// An operation that is under way. Move-only; what is with the kernel lies in one allocation
/// (counted in stats::boxes) and does not move. Its calls: only the fiber that started it; another
/// one gets errc::wrong_operation, a plain thread errc::not_in_fiber. The destructor may wait; on
/// another fiber of the same worker it does so as well, elsewhere it stops the process.
template <class T>
class started {
 public:
  using value_type = T;
  using answer_function = T (*)(const void* op, std::int32_t res);

  started() = default;
  /// What start() calls.
  started(const detail::lasting_kind& kind, const void* op, answer_function answer)
      : held_(kind, op, {}), answer_(answer) {}

  /// Parks until the last completion, and gives the answer away, once. Errors: those of the
  /// operation; timed_out when `until` came first: the operation stays started, and get() may be
  /// called again; operation_canceled after cancel(), after a close of its descriptor, and when the
  /// fiber is cancelled, which cancels the operation and waits for its end; errc::already_joined
  /// when the answer is gone; what the start was refused with: bad_file_descriptor,
  /// not_enough_memory, operation_canceled (the fiber was cancelled), errc::not_in_fiber.
  [[nodiscard]] result<T> get(deadline until = never) {
    if (held_.get() == nullptr) return fail(refusal());
    const detail::awaited a = detail::await_lasting(*held_.get(), until);
    if (!a.over) return fail(detail::io_error(a.res));
    const detail::lasting_holder last(std::move(held_));
    if (a.res < 0) return fail(detail::io_error(a.res));
    const void* const op = detail::description_of(*last.get());
    if constexpr (std::is_void_v<T>) {
      answer_(op, a.res);
      return {};
    } else {
      return answer_(op, a.res);
    }
  }
  /// True when get() would not park.
  bool done() const noexcept {
    return held_.get() == nullptr || detail::lasting_over(*held_.get());
  }
  /// Asks for the end, for which get() waits. Again: nothing.
  void cancel() noexcept {
    if (held_.get() != nullptr) detail::cancel_lasting(*held_.get());
  }
  /// False after a refused start and once the answer was given away.
  explicit operator bool() const noexcept { return held_.get() != nullptr; }
  /// Why there is nothing: what the start was refused with, or errc::already_joined.
  std::error_code refusal() const noexcept {
    if (held_.get() != nullptr) return {};
    return held_.why() != 0 ? detail::io_error(held_.why()) : make_error_code(errc::already_joined);
  }

 private:
  template <class A>
  friend struct detail::awaited_as;
  detail::lasting_holder held_;
  answer_function answer_ = nullptr;
};

/// Submits `op` and returns; what it lends stays lent until get() has given the answer away or the
/// object has ended. `op` is copied. Fibers only. Throws std::bad_alloc never: without memory get()
/// answers not_enough_memory. Handlers are not asked: what is under way is the backend's.
template <io_operation Op>
[[nodiscard]] started<typename Op::value_type> start(const Op& op) {
  static constexpr detail::lasting_kind kind = {
      .bytes = sizeof(Op),
      .alignment = alignof(Op),
      .copy = &detail::copy_description<Op>,
      .destroy = &detail::destroy_description<Op>,
      .fill = &detail::fill_from<Op>,
      .ends = nullptr,
      .passes = nullptr,
      .many = false,
      .leases = false,
      .asked_each_time = false,
  };
  return {kind, &op, [](const void* self, std::int32_t res) {
            return static_cast<const Op*>(self)->complete(res);
          }};
}

// -- waiting for several

namespace detail {

/// What can be waited for together with others: a started operation, or the handle of a fiber.
template <class A>
struct awaited_as;

template <class T>
struct awaited_as<started<T>> {
  using value = T;
  static void describe(started<T>& a, waited_for& w) noexcept { w.operation = a.held_.get(); }
  static bool nothing(const started<T>& a) noexcept { return a.held_.get() == nullptr; }
  static bool failed(const started<T>& a) noexcept {
    return nothing(a) || has_failed(*a.held_.get());
  }
  [[nodiscard]] static result<T> take(started<T>& a) { return a.get(); }
};

template <class T>
struct awaited_as<handle<T>> {
  using value = T;
  static void describe(handle<T>& a, waited_for& w) noexcept { w.fiber = a.task_; }
  static bool nothing(const handle<T>& a) noexcept { return a.task_ == nullptr; }
  static bool failed(const handle<T>& a) noexcept { return nothing(a) || has_failed(*a.task_); }
  [[nodiscard]] static result<T> take(handle<T>& a) { return a.join(); }
};

template <class A>
void take_unless_taken(std::optional<result<typename awaited_as<A>::value>>& into, A& a) {
  if (!into) into.emplace(awaited_as<A>::take(a));
}
/// Of one that failed, whose answer can be lost without a loss. Keeps the first exception.
template <class A>
void take_failure(std::optional<result<typename awaited_as<A>::value>>& into, A& a,
                  std::exception_ptr& first) {
  if (!awaited_as<A>::failed(a)) return;
  try {
    take_unless_taken(into, a);
  } catch (...) {
    if (first == nullptr) first = std::current_exception();
  }
}
/// All answers, in order. Where a fiber threw its exception comes out, and who did not fail keeps
/// its answer.
template <class... A>
std::tuple<std::optional<result<typename awaited_as<A>::value>>...> take_all(A&... each) {
  std::tuple<std::optional<result<typename awaited_as<A>::value>>...> all;
  std::exception_ptr thrown;
  std::apply([&](auto&... place) { (take_failure(place, each, thrown), ...); }, all);
  if (thrown != nullptr) std::rethrow_exception(thrown);
  std::apply([&](auto&... place) { (take_unless_taken(place, each), ...); }, all);
  return all;
}

template <class A>
void note_waited(A& a, waited_for& w) noexcept {
  awaited_as<A>::describe(a, w);
  w.over = awaited_as<A>::nothing(a);
}

/// The wait was ended by a deadline or a cancel, rather than refused.
inline bool is_stop(const refusal& why) noexcept {
  const std::error_code code = why.code();
  return code == std::errc::timed_out || code == std::errc::operation_canceled;
}

inline bool all_over(std::span<const waited_for> all) noexcept {
  for (const waited_for& w : all)
    if (!w.over) return false;
  return true;
}

}  // namespace detail

/// What await_all and await_any may wait for.
template <class A>
concept waitable = requires {
  typename detail::awaited_as<A>::value;
};

/// What await_any found. `index` counts from 0; `none` when a deadline or a cancel came first.
template <class... T>
struct any_of {
  static constexpr std::size_t none = sizeof...(T);
  std::size_t index = none;
  /// Of those that came to an end by themselves: the winner, and losers that were quicker than
  /// their cancel. Empty: it was cancelled.
  std::tuple<std::optional<result<T>>...> answers;
};

/// Waits until all have ended; the first that ends with an error (or an exception) has the others
/// cancelled, and they are waited for. Gives all answers, in order. A cancel of the calling fiber
/// and `until` cancel all that have not ended; they answer operation_canceled. An exception of a
/// fiber is rethrown, after all have ended; who did not fail still has its answer then. Fibers
/// only; the started ones must be the caller's own.
template <waitable... A>
[[nodiscard]] std::tuple<result<typename detail::awaited_as<A>::value>...> await_all(deadline until,
                                                                                     A&... each) {
  std::array<detail::waited_for, sizeof...(A)> all;
  std::size_t i = 0;
  (detail::note_waited(each, all[i++]), ...);
  bool stopping = false;
  for (;;) {
    if (!stopping) {
      i = 0;
      (..., (stopping |= all[i++].over && detail::awaited_as<A>::failed(each)));
      if (stopping) (each.cancel(), ...);
    }
    if (detail::all_over(all)) break;
    const detail::refusal why = detail::await_first(all, stopping ? never : until, !stopping);
    if (!why) continue;
    if (!detail::is_stop(why)) break;  // they say themselves why they cannot be waited for
    stopping = true;
    (each.cancel(), ...);
  }
  auto taken = detail::take_all(each...);
  return std::apply(
      [](auto&... one) {
        return std::tuple<result<typename detail::awaited_as<A>::value>...>{std::move(*one)...};
      },
      taken);
}
template <waitable... A>
[[nodiscard]] auto await_all(A&... each) {
  return await_all(never, each...);
}

/// Waits until the first has ended, in whichever way; the others are cancelled and waited for, and
/// the answer of one that finished all the same is not lost: it is handed over too. Of several that
/// have ended by then the first in the list wins. When a cancel of the calling fiber or `until`
/// comes first, all are cancelled and nobody wins. Exceptions and callers: as await_all.
template <waitable... A>
[[nodiscard]] any_of<typename detail::awaited_as<A>::value...> await_any(deadline until,
                                                                         A&... each) {
  std::array<detail::waited_for, sizeof...(A)> all;
  std::size_t i = 0;
  (detail::note_waited(each, all[i++]), ...);
  any_of<typename detail::awaited_as<A>::value...> found;
  bool there = false;
  for (const detail::waited_for& w : all) there |= w.over;
  const auto is_refused = [](const detail::refusal& why) { return why && !detail::is_stop(why); };
  const detail::refusal first = there ? detail::refusal() : detail::await_first(all, until, true);
  bool refused = is_refused(first);
  for (i = 0; i < all.size() && found.index == found.none; ++i)
    if (all[i].over) found.index = i;
  i = 0;
  if (first.code() != errc::update_would_park)  // a wait that may not begin ends nobody
    (..., (all[i].over ? void() : each.cancel(), ++i));
  while (!refused && !detail::all_over(all))
    refused = is_refused(detail::await_first(all, never, false));
  found.answers = detail::take_all(each...);
  i = 0;
  const auto forget_cancelled = [&](auto& answer) {
    if (i++ != found.index && answer && !*answer &&
        answer->error() == std::errc::operation_canceled)
      answer.reset();
  };
  std::apply([&](auto&... answer) { (forget_cancelled(answer), ...); }, found.answers);
  return found;
}
template <waitable... A>
[[nodiscard]] auto await_any(A&... each) {
  return await_any(never, each...);
}

}  // namespace coir
