// task_chain.hpp: tasks that await each other, and the one loop that drives them all.
//
// Always true:
//   - Of a chain one coroutine runs, and only drive() resumes it: who awaits, ends or asks leaves
//     word of who is next, and returns to drive().
//   - While an effect is performed every coroutine of the chain is suspended, and none is
//     destroyed.
//   - A frame is destroyed once, by the `task_frame` that owns it, after its coroutine has ended or
//     before it has begun.
//
// Comes from: coir/coroutine.hpp.   Goes to: coir/detail/effect_call.hpp.
#pragma once

#include <concepts>
#include <coroutine>
#include <exception>
#include <optional>
#include <system_error>
#include <utility>

#include "coir/detail/effect_call.hpp"
#include "coir/effects.hpp"

namespace coir {

template <class T>
class task;
template <class What>
struct timed;

namespace detail {

/// How an effect was answered. refused: the call says why. With an exception: that.
struct answered_call {
  reply said = reply::refused;
  std::exception_ptr thrown;
};

/// Tasks that await each other. On the stack of whoever drives them.
struct task_chain {
  std::coroutine_handle<> next;  // who runs next; none: the first has ended
  effect_call* asks = nullptr;   // what is to be asked for before that
  answered_call answered;        // and how it was

  template <class Promise>
  void drive(Promise& first, std::coroutine_handle<> whose) {
    first.all = this;
    next = whose;
    while (next) {
      std::exchange(next, nullptr).resume();
      if (asks != nullptr) ask(*std::exchange(asks, nullptr));
    }
  }

 private:
  void ask(effect_call& call) noexcept {
    try {
      answered = {ask_everybody(call), nullptr};
    } catch (...) {
      answered = {reply::refused, std::current_exception()};
    }
  }
};

/// Awaits one call of a type that only its asker knows.
class erased_effect {
 public:
  explicit erased_effect(effect_call* call) noexcept : call_(call) {}
  bool await_ready() const noexcept { return false; }
  template <class Promise>
  void await_suspend(std::coroutine_handle<Promise> who) noexcept {
    all_ = who.promise().all;
    all_->asks = call_;
    all_->next = who;
  }
  answered_call await_resume() noexcept { return std::move(all_->answered); }

 private:
  effect_call* call_;
  task_chain* all_ = nullptr;
};

/// Awaits one operation.
template <operation Op>
requires(!stream_operation<Op>) class typed_effect {
 public:
  typed_effect(Op op, deadline until) : op_(std::move(op)), until_(until) {}
  typed_effect(retry<Op> what, deadline until)
      : op_(std::move(what.op)), policy_(what.policy), until_(until) {}
  bool await_ready() const noexcept { return false; }
  template <class Promise>
  void await_suspend(std::coroutine_handle<Promise> who) noexcept {
    // Only now: before, this was not yet where it stays.
    call_.emplace(effect_call{&type_of<Op>, &op_, &answer_, until_, policy_ ? &*policy_ : nullptr});
    all_ = who.promise().all;
    all_->asks = &*call_;
    all_->next = who;
  }
  [[nodiscard]] result<typename Op::value_type> await_resume() {
    if (all_->answered.thrown != nullptr)
      std::rethrow_exception(std::exchange(all_->answered.thrown, nullptr));
    if (all_->answered.said == reply::answered) return *std::move(answer_);
    return fail(call_->why_refused());
  }

 private:
  Op op_;
  std::optional<retry_policy> policy_;
  deadline until_;
  std::optional<result<typename Op::value_type>> answer_;
  std::optional<effect_call> call_;
  task_chain* all_ = nullptr;
};

/// Owns the frame of a task that is awaited or driven.
template <class Task>
class task_frame {
 public:
  explicit task_frame(Task what) noexcept : whose_(what.release()) {}
  task_frame(task_frame&& from) noexcept : whose_(std::exchange(from.whose_, nullptr)) {}
  task_frame& operator=(task_frame&&) = delete;
  ~task_frame() {
    if (whose_ != nullptr) Task::handle_of(*whose_).destroy();
  }
  explicit operator bool() const noexcept { return whose_ != nullptr; }
  auto& promise() const noexcept { return *whose_; }

 private:
  typename Task::promise_type* whose_;
};

/// Awaits another task, which it owns from then on.
template <class T>
class awaited_task {
 public:
  explicit awaited_task(coir::task<T> what) noexcept : what_(std::move(what)) {}
  /// An empty one is not waited for.
  bool await_ready() const noexcept { return !what_; }
  template <class Promise>
  void await_suspend(std::coroutine_handle<Promise> who) noexcept {
    auto& inner = what_.promise();
    inner.all = who.promise().all;
    inner.awaited_by = who;
    inner.all->next = coir::task<T>::handle_of(inner);
  }
  T await_resume() {
    if (!what_) throw std::system_error(make_error_code(errc::resumed_twice));
    return what_.promise().take();
  }

 private:
  task_frame<coir::task<T>> what_;
};

/// What the coroutines of all tasks have in common.
struct task_promise {
  task_chain* all = nullptr;           // from its beginning on
  std::coroutine_handle<> awaited_by;  // none: it is the first of its chain
  std::exception_ptr thrown;

  struct ended {
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> who) const noexcept {
      who.promise().all->next = who.promise().awaited_by;
    }
    void await_resume() const noexcept {}
  };
  std::suspend_always initial_suspend() const noexcept { return {}; }
  ended final_suspend() const noexcept { return {}; }
  void unhandled_exception() noexcept { thrown = std::current_exception(); }

  template <operation Op>
  requires(!stream_operation<Op>) typed_effect<Op> await_transform(Op op)
  const { return {std::move(op), never}; }
  template <operation Op>
  typed_effect<Op> await_transform(retry<Op> what) const {
    return {std::move(what), never};
  }
  template <operation Op>
  typed_effect<Op> await_transform(timed<Op> what) const {
    return {std::move(what.what), what.until};
  }
  template <operation Op>
  typed_effect<Op> await_transform(timed<retry<Op>> what) const {
    return {std::move(what.what), what.until};
  }
  template <class T>
  awaited_task<T> await_transform(coir::task<T> what) const noexcept {
    return awaited_task<T>(std::move(what));
  }
  erased_effect await_transform(erased_effect what) const noexcept { return what; }
};

template <class T>
struct task_promise_of : task_promise {
  std::optional<T> value;
  template <class U>
  requires std::convertible_to<U&&, T>
  void return_value(U&& v) { value.emplace(std::forward<U>(v)); }
  T take() {
    if (thrown != nullptr) std::rethrow_exception(std::move(thrown));
    return *std::move(value);
  }
};
template <>
struct task_promise_of<void> : task_promise {
  void return_void() const noexcept {}
  void take() {
    if (thrown != nullptr) std::rethrow_exception(std::move(thrown));
  }
};

}  // namespace detail
}  // namespace coir
