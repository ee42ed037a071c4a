// error_effects.hpp: errors with a type of their own, that leave a body past everything between,
// and what is given back whichever way a body is left.
//
// Always true:
//   - raise() is an ordinary exception of this fiber: destructors run, and it passes join() and
//     steps as any other one does. Its type is private, so a catch of E itself, or of
//     std::exception, does not meet it: run_catching<E> and catch_error<E> do, and catch (...).
//   - E is matched exactly: who catches a base, or another number, does not catch it.
//   - Everything here calls its callables on the caller's stack: they may perform any effect.
//   - release runs once for each acquire that returned: after a value, an error, an exception, a
//     cancel and a discard, because the latter two only make effects fail.
//
// Comes from: the user.   Goes to: the exceptions of C++, coir/stepping.hpp.
#pragma once

#include <functional>
#include <type_traits>
#include <utility>

#include "coir/result.hpp"
#include "coir/stepping.hpp"

namespace coir {

namespace detail {
template <class E>
struct COIR_API raised {
  E error;
};

template <class T>
struct is_expected : std::false_type {};
template <class T, class E>
struct is_expected<tl::expected<T, E>> : std::true_type {};

/// What run_catching returns of a body that returns R.
template <class E, class R>
using caught = tl::expected<R, E>;
}  // namespace detail

/// Leaves the body with `error`, up to the next run_catching<E> or catch_error<E>, or out of the
/// fiber (then join() throws it again, and these catch it there).
template <class E>
[[noreturn]] void raise(E error) {
  throw detail::raised<E>{std::move(error)};
}

/// body()'s value, or the E that it raised. Everything else that it throws passes.
template <class E, class F>
[[nodiscard]] auto run_catching(F&& body) -> detail::caught<E, std::invoke_result_t<F&&>> {
  try {
    if constexpr (std::is_void_v<std::invoke_result_t<F&&>>) {
      std::invoke(std::forward<F>(body));
      return {};
    } else {
      return std::invoke(std::forward<F>(body));
    }
  } catch (detail::raised<E>& r) {
    return tl::unexpected<E>(std::move(r.error));
  }
}

/// body()'s value, or what handler(error) makes of the E that it raised. The handler runs when the
/// body is gone, exception and all, and may raise in its turn.
template <class E, class F, class H>
auto catch_error(F&& body, H&& handler) -> std::invoke_result_t<F&&> {
  using returned = std::invoke_result_t<F&&>;
  auto got = run_catching<E>(std::forward<F>(body));
  if constexpr (std::is_void_v<returned>) {
    if (!got) std::invoke(std::forward<H>(handler), std::move(got.error()));
  } else {
    if (!got)
      return static_cast<returned>(std::invoke(std::forward<H>(handler), std::move(got.error())));
    return *std::move(got);
  }
}

namespace detail {
/// What a release says may be heard: it says nothing, or the bracket answers results itself.
template <class Said, class R>
inline constexpr bool release_is_heard = std::is_void_v<Said> ||
                                         (std::is_same_v<Said, result<>> && is_result<R>::value);

/// Gives back after a value. What goes wrong with it is the answer then.
template <class Release, class A, class R>
R released(Release&& release, A& what, R answer) {
  if constexpr (std::is_void_v<std::invoke_result_t<Release&&, A&>>) {
    std::invoke(std::forward<Release>(release), what);
  } else {
    const result<> said = std::invoke(std::forward<Release>(release), what);
    if (answer && !said) return fail(said.error());
  }
  return answer;
}

/// Gives back while something else goes wrong already, which is what will be told.
template <class Release, class... A>
void release_besides(Release&& release, A&... what) noexcept {
  try {
    (void)std::invoke(std::forward<Release>(release), what...);
  } catch (...) {  // the first error is the one that is told
  }
}
}  // namespace detail

/// use(a) for a = acquire(), and then release(a), exactly once, however use() was left; returns
/// what use() returned, or throws what it threw. What acquire() throws passes, and nothing is
/// released. Of two errors the first is told: when release fails after use had failed, by an
/// exception or by the error that it returned, that is dropped. After a value of use() what release
/// throws passes, and a release that returns an error, result<>, makes it the answer; so it may
/// return one only where use() returns a result.
///
/// In a fiber that is cancelled, and in a body that is discarded or was finished by its handler,
/// effects answer operation_canceled, those of release too. What release can do all the same:
/// whatever is no effect, and io::close (unique_fd, and streams), which a cancelled fiber does, and
/// which is offered to the handlers of a body that was finished. In a discarded computation nobody
/// is there who could close: whoever answered its effects owns what it gave out.
template <class Acquire, class Use, class Release,
          class A = std::decay_t<std::invoke_result_t<Acquire&&>>>
auto bracket(Acquire&& acquire, Use&& use, Release&& release) -> std::invoke_result_t<Use&&, A&> {
  using returned = std::invoke_result_t<Use&&, A&>;
  static_assert(
      detail::release_is_heard<std::invoke_result_t<Release&&, A&>, returned>,
      "release returns nothing, or result<> where use returns a result: its error would be lost");
  A what = std::invoke(std::forward<Acquire>(acquire));
  const auto used = [&]() -> returned {
    try {
      return std::invoke(std::forward<Use>(use), what);
    } catch (...) {
      detail::release_besides(std::forward<Release>(release), what);
      throw;
    }
  };
  if constexpr (std::is_void_v<returned>) {
    used();
    std::invoke(std::forward<Release>(release), what);
  } else {
    return detail::released(std::forward<Release>(release), what, used());
  }
}

/// body()'s answer; cleanup() before it where body() failed: it threw, raised, or returned a result
/// (or another expected) that holds an error, as a cancelled body does. What cleanup throws is
/// dropped: the error of body() is the one that is told.
template <class F, class C>
auto on_error(F&& body, C&& cleanup) -> std::invoke_result_t<F&&> {
  static_assert(std::is_void_v<std::invoke_result_t<C&&>>,
                "cleanup returns nothing: the error of body is the one that is told");
  const auto run = [&]() -> std::invoke_result_t<F&&> {
    try {
      return std::invoke(std::forward<F>(body));
    } catch (...) {
      detail::release_besides(std::forward<C>(cleanup));
      throw;
    }
  };
  if constexpr (detail::is_expected<std::invoke_result_t<F&&>>::value) {
    auto answer = run();
    if (!answer) detail::release_besides(std::forward<C>(cleanup));
    return answer;
  } else {
    return run();
  }
}

/// step() of run_catching<E>(body): an E that is raised ends the computation, with the E for its
/// value.
template <class E, class F, class R = std::invoke_result_t<std::decay_t<F>&>>
step_result<detail::caught<E, R>> step_catching(F&& body, const step_options& options = {}) {
  return step([b = std::decay_t<F>(std::forward<F>(body))]() mutable { return run_catching<E>(b); },
              options);
}

/// advance(), and an E that the dispatcher raises ends the computation likewise: it is discarded,
/// and its value is the E. Everything else as with advance().
template <class E, dispatcher D, class R>
advanced<detail::caught<E, R>> advance_catching(D& by, suspension<detail::caught<E, R>>&& held) {
  using whole = detail::caught<E, R>;
  auto at = run_catching<E>([&] { return advance(by, std::move(held)); });
  if (at) return *std::move(at);
  held.discard();
  return advanced<whole>(
      step_result<whole>(std::in_place, tl::unexpected<E>(std::move(at.error()))));
}

}  // namespace coir
