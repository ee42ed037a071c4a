// coroutine.hpp: the same operations for code without a stack of its own: coroutines that await
// them, and the ways between such a coroutine and a body that looks blocking.
//
// Always true:
//   - A task begins when it is awaited or driven, once, and what was begun runs to its end: a
//     coroutine that waits is never destroyed, so what it lends to an effect (buffers, addresses)
//     is there until the effect has ended. To give one up is to make its effects fail.
//   - Whoever drives resumes one coroutine after the other, and none resumes another: a chain of
//     tasks that await each other takes no stack, however long, in every build.
//   - A task knows neither fibers nor backends: what it awaits is asked for by its driver, in its
//     place, so handlers, exec, step and the runtime answer it as they answer perform().
//   - An exception of a task, or of a handler, leaves the co_await that waits for it.
//
// Comes from: the user.   Goes to: coir/detail/task_chain.hpp, coir/stepping.hpp.
#pragma once

#include <functional>
#include <system_error>
#include <type_traits>
#include <utility>

#include "coir/detail/task_chain.hpp"
#include "coir/error_effects.hpp"
#include "coir/stepping.hpp"

namespace coir {

/// An operation (or a retry of one) that is given up after `until`: what perform(op, until) is to a
/// fiber.
template <class What>
struct timed {
  What what;
  deadline until;
};
/// `co_await until(op, deadline)`.
template <operation Op>
timed<Op> until(Op op, deadline when) {
  return {std::move(op), when};
}
template <operation Op>
timed<retry<Op>> until(retry<Op> what, deadline when) {
  return {std::move(what), when};
}

/// A coroutine whose answer is a T. It may await, and nothing else:
///   co_await op                       an operation: result<its value>, as perform() returns
///   co_await retry{op, policy}        likewise
///   co_await until(either, deadline)  likewise, given up in time
///   co_await std::move(task)          another task: its T, or what it threw
/// It may also call whatever a fiber may call; that parks the fiber that drives it. Lazy:
/// nothing of it happens before it is awaited or driven. Move-only. One allocation, of its frame.
template <class T>
class [[nodiscard]] task {
 public:
  struct promise_type final : detail::task_promise_of<T> {
    task get_return_object() noexcept { return task(*this); }
  };

  task() = default;
  task(task&& from) noexcept : whose_(std::exchange(from.whose_, nullptr)) {}
  task& operator=(task&& from) noexcept {
    task taken(std::move(from));
    std::swap(whose_, taken.whose_);
    return *this;
  }
  ~task() {
    if (whose_ != nullptr) handle_of(*whose_).destroy();
  }
  /// False once it was awaited, driven or moved away.
  explicit operator bool() const noexcept { return whose_ != nullptr; }

  /// For the driver and whoever awaits: the coroutine, which they own from now on.
  promise_type* release() noexcept { return std::exchange(whose_, nullptr); }
  static std::coroutine_handle<promise_type> handle_of(promise_type& p) noexcept {
    return std::coroutine_handle<promise_type>::from_promise(p);
  }

 private:
  explicit task(promise_type& p) noexcept : whose_(&p) {}
  promise_type* whose_ = nullptr;
};

/// A task as a body: for spawn, run, exec, step, handle_effects. Move-only; runs once.
template <class T>
class reflected {
 public:
  explicit reflected(task<T> what) noexcept : what_(std::move(what)) {}

  /// Drives the task to its end, here, and returns its answer or throws what it threw. Each effect
  /// that it awaits is performed here. A second time, or of an empty task: throws std::system_error
  /// with errc::resumed_twice.
  T operator()() {
    if (!what_) throw std::system_error(make_error_code(errc::resumed_twice));
    detail::task_frame<task<T>> whole(std::move(what_));
    detail::task_chain all;
    all.drive(whole.promise(), task<T>::handle_of(whole.promise()));
    return whole.promise().take();
  }

 private:
  task<T> what_;
};

/// The body that runs this task: `spawn(reflect(serve(fd)))`, `exec(by, reflect(...))`,
/// `step(reflect(...))`.
template <class T>
reflected<T> reflect(task<T> what) noexcept {
  return reflected<T>(std::move(what));
}

/// The task that runs this body: on a stack of its own, and each effect that leaves it is awaited.
/// The body's own handlers are asked first. Its answer is body()'s, and so are its exceptions;
/// where there is no stack it throws std::system_error (errc::stack_limit, invalid_argument). As
/// with step(), it is over on the thread on which it began: a fiber that drives it does not move to
/// another worker meanwhile (the process ends with a line that says so), and what the body waits
/// for without an effect its driver waits for. options.name is read
/// when the task begins.
template <class F, class R = std::invoke_result_t<std::decay_t<F>&>>
task<R> reify(F body, step_options options = {}) {
  step_result<R> at = step(std::move(body), options);
  if (at.error()) throw std::system_error(at.error());
  while (at.is_suspended()) {
    // Not one of the body's own exceptions: what whoever answers throws goes into the body.
    detail::answered_call said = co_await detail::erased_effect(at.waiting().call());
    if (!at.waiting().is_here()) at.waiting().discard();  // which ends the process by name
    at = said.thrown != nullptr ? at.waiting().resume_throwing(std::move(said.thrown))
                                : at.waiting().resume_answered(said.said);
  }
  if (const auto thrown = at.exception()) std::rethrow_exception(thrown);
  if constexpr (!std::is_void_v<R>) co_return std::move(at.value());
}

/// run_catching<E> of a task: its value, or the E that it raised.
template <class E, class T>
task<detail::caught<E, T>> run_catching(task<T> what) {
  // The handler of an exception cannot await, and nothing is awaited there.
  try {
    if constexpr (std::is_void_v<T>) {
      co_await std::move(what);
      co_return detail::caught<E, T>();
    } else {
      co_return detail::caught<E, T>(co_await std::move(what));
    }
  } catch (detail::raised<E>& r) {
    co_return tl::unexpected<E>(std::move(r.error));
  }
}

/// step() of a task.
template <class T>
step_result<T> step(task<T> what, const step_options& options = {}) {
  return step(reflect(std::move(what)), options);
}

}  // namespace coir
