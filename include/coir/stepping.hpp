// stepping.hpp: a body that looks blocking, driven by hand: it stops at each effect, and whoever
// steps it answers, in whatever loop that is.
//
// Always true:
//   - The same body runs on a runtime, under exec, and here: it does not know who answers.
//   - A suspension owns the stack on which its body waits. It is used once; what comes after is
//     another suspension. Destroyed unused it is discarded, never dropped: the body runs to its
//     end, and so every destructor on its stack runs once.
//   - A computation belongs to the thread that began it.
//   - Handlers inside the body are asked first; what reaches whoever steps is what they forward,
//     and, where one says "not now" or "later", what it waits for (dispatched::would_block).
//
// Comes from: the user.   Goes to: coir/detail/computation.hpp.
#pragma once

#include <cstdlib>
#include <exception>
#include <string_view>

#include "coir/detail/computation.hpp"
#include "coir/handlers.hpp"

namespace coir {

struct step_options {
  std::size_t stack_bytes = 256 << 10;  ///< 16 KiB to 8 MiB; what body itself holds lies there too
  std::string_view name = {};  ///< copied, 23 bytes; what the report of a stack overflow calls it
};

/// The operation that a computation waits for.
class operation_ref {
 public:
  operation_ref() = default;
  explicit operation_ref(const detail::effect_call* call) noexcept : call_(call) {}
  /// The operation's name; empty when there is none.
  std::string_view name() const noexcept {
    return call_ == nullptr ? std::string_view() : call_->type->name;
  }
  template <operation Op>
  bool is() const noexcept {
    return call_ != nullptr && call_->type->is(detail::type_of<Op>);
  }
  /// Null when it is another one. Valid until the suspension is used.
  template <operation Op>
  const Op* as() const noexcept {
    return is<Op>() ? static_cast<const Op*>(call_->op) : nullptr;
  }
  /// Of the perform() that asks.
  deadline until() const noexcept { return call_ == nullptr ? never : call_->until; }

 private:
  const detail::effect_call* call_ = nullptr;
};

template <class R>
class step_result;

namespace detail {

/// A computation whose body returns an R.
template <class R>
struct computation_of : computation {
  std::optional<something<R>> value;
  std::exception_ptr thrown;
  void (*destroy)(computation_of& self) noexcept = nullptr;
};

template <class R, class F>
struct computation_with final : computation_of<R> {
  explicit computation_with(F&& f) : body(std::forward<F>(f)) {
    this->run = [](computation& self) noexcept {
      auto& me = static_cast<computation_with&>(self);
      try {
        if constexpr (std::is_void_v<R>) {
          me.body();
          me.value.emplace();
        } else {
          me.value.emplace(me.body());
        }
      } catch (...) {
        me.thrown = std::current_exception();
      }
    };
    this->destroy = [](computation_of<R>& self) noexcept {
      auto& me = static_cast<computation_with&>(self);
      stepped* const inner = me.inner;
      me.~computation_with();
      give_computation_back(*inner);
    };
  }
  std::decay_t<F> body;
};

template <class R>
step_result<R> result_of_step(computation_of<R>& c);

/// To be copied: each that is made calls into the C++ library.
inline const std::error_code no_error;

}  // namespace detail

/// A body that waits for the answer to one effect. Move-only; owns the body's stack.
template <class R>
class suspension {
 public:
  suspension() = default;
  explicit suspension(detail::computation_of<R>& c) noexcept : waits_(&c) {}
  suspension(suspension&& from) noexcept : waits_(std::exchange(from.waits_, nullptr)) {}
  suspension& operator=(suspension&& from) noexcept {
    if (this != &from) {
      discard();
      waits_ = std::exchange(from.waits_, nullptr);
    }
    return *this;
  }
  ~suspension() { discard(); }

  /// False once it was used.
  explicit operator bool() const noexcept { return waits_ != nullptr; }
  /// What it waits for; without a name once it was used.
  operation_ref op() const noexcept {
    return operation_ref(waits_ == nullptr ? nullptr : waits_->asks);
  }

  /// Answers, and runs the body to its next effect or its end. Errors, on each of which nothing
  /// was done and this is what it was: errc::resumed_twice (it was used), errc::wrong_operation (it
  /// waits for another one), errc::wrong_thread.
  template <operation Op>
  [[nodiscard]] result<step_result<R>> resume(result<answer_type<Op>> answer) {
    if (const detail::refusal why = refused<Op>()) return fail(why.code());
    return go_on<Op>(std::move(answer));
  }
  /// The same; empty where resume() would answer an error.
  template <operation Op>
  std::optional<step_result<R>> try_resume(result<answer_type<Op>> answer) {
    if (refused<Op>()) return std::nullopt;
    return go_on<Op>(std::move(answer));
  }

  /// Gives the computation up: this effect of it, and each later one, answers operation_canceled
  /// until the body has returned, and only then this returns. What the body returned or threw is
  /// dropped. Descriptors that came from whoever answered are not closed by it. A body that asks
  /// on after 1,000 such answers is given up: a line on stderr names it, its stack stays as it is
  /// for ever, and no destructor on it runs. Used already: nothing happens. On another thread than
  /// the computation's the process ends, with a line that says so.
  void discard() noexcept {
    detail::computation_of<R>* const c = std::exchange(waits_, nullptr);
    if (c == nullptr) return;
    if (detail::discard_computation(*c)) c->destroy(*c);
  }

  /// For whoever drives it by other means: the computation, which this gives up.
  detail::computation* release() noexcept { return std::exchange(waits_, nullptr); }
  /// Whether the caller is on the thread that began it. Of one that was not used.
  bool is_here() const noexcept { return detail::computation_is_here(*waits_); }
  /// For advance(): the effect itself.
  detail::effect_call* call() const noexcept { return waits_ == nullptr ? nullptr : waits_->asks; }
  /// For advance(): goes on after its answer was put where the effect wants it. Errors, by error()
  /// of what it returns, and nothing was done then: errc::resumed_twice, errc::wrong_thread.
  step_result<R> resume_answered(detail::reply said) {
    if (const detail::refusal why = unusable()) return step_result<R>(why.code());
    detail::computation_of<R>& c = *std::exchange(waits_, nullptr);
    detail::resume_computation(c, said);
    return detail::result_of_step(c);
  }
  /// Goes on with `why` for the answer, whatever operation it is. Errors as of resume_answered().
  step_result<R> resume_failing(std::error_code why) {
    if (const detail::refusal not_now = unusable()) return step_result<R>(not_now.code());
    waits_->asks->refused = why;
    return resume_answered(detail::reply::refused);
  }
  /// Goes on by throwing `what` out of the perform() that waits, as a handler that throws does.
  /// Errors as of resume_answered().
  step_result<R> resume_throwing(std::exception_ptr what) {
    if (const detail::refusal why = unusable()) return step_result<R>(why.code());
    waits_->throws = &what;
    return resume_answered(detail::reply::refused);
  }

 private:
  detail::refusal unusable() const noexcept {
    if (waits_ == nullptr) return errc::resumed_twice;
    if (!detail::computation_is_here(*waits_)) return errc::wrong_thread;
    return {};
  }
  template <class Op>
  detail::refusal refused() const noexcept {
    if (const detail::refusal why = unusable()) return why;
    if (!waits_->asks->type->is(detail::type_of<Op>)) return errc::wrong_operation;
    return {};
  }
  template <class Op>
  step_result<R> go_on(result<answer_type<Op>> answer) {
    static_cast<std::optional<result<answer_type<Op>>>*>(waits_->asks->answer)
        ->emplace(std::move(answer));
    return resume_answered(detail::reply::answered);
  }

  detail::computation_of<R>* waits_ = nullptr;
};

/// Where a computation stands after a step: it has ended with a value or an exception, it waits, or
/// it could not be begun.
template <class R>
class [[nodiscard]] step_result {
 public:
  using stored = detail::something<R>;
  explicit step_result(std::in_place_t, stored v) : value_(std::move(v)) {}
  explicit step_result(suspension<R> s) noexcept : waiting_(std::move(s)), suspended_(true) {}
  explicit step_result(std::exception_ptr thrown) noexcept : thrown_(std::move(thrown)) {}
  explicit step_result(std::error_code why) noexcept : error_(why) {}

  bool has_value() const noexcept { return value_.has_value(); }
  bool is_suspended() const noexcept { return suspended_; }
  /// Of a body that has ended with a value.
  stored& value() { return value_.value(); }
  /// Of one that waits.
  suspension<R>& waiting() noexcept { return waiting_; }
  /// What left the body; null: nothing.
  std::exception_ptr exception() const noexcept { return thrown_; }
  /// Why the body was not begun: errc::stack_limit, invalid_argument (stack_bytes),
  /// operation_not_supported (this thread has a shadow stack, see docs/design.md); or why it did
  /// not go on.
  std::error_code error() const noexcept { return error_.value_or(std::error_code()); }

 private:
  // waiting_ and thrown_ apart: side by side both are loaded at once, before both are written.
  std::optional<stored> value_;
  suspension<R> waiting_;
  std::optional<std::error_code> error_;
  std::exception_ptr thrown_;
  bool suspended_ = false;
};

namespace detail {
template <class R>
step_result<R> result_of_step(computation_of<R>& c) {
  if (c.given_up) return step_result<R>(std::make_error_code(std::errc::operation_canceled));
  if (!c.ended) return step_result<R>(suspension<R>(c));
  if (c.thrown != nullptr) {
    step_result<R> thrown(std::move(c.thrown));
    c.destroy(c);
    return thrown;
  }
  step_result<R> ended(std::in_place, *std::move(c.value));
  c.destroy(c);
  return ended;
}
}  // namespace detail

/// Runs body() on a stack of its own to its first effect, or to its end. Any thread, and fibers.
/// The computation goes on only in calls of this thread; what it waits for without an effect (a
/// mutex, a join, the next item of a stream) the caller waits for. Throws what moving `body`
/// throws.
template <class F, class R = std::invoke_result_t<std::decay_t<F>&>>
step_result<R> step(F&& body, const step_options& options = {}) {
  using whole = detail::computation_with<R, F>;
  detail::stepped* inner = nullptr;
  detail::refusal why;
  void* const place = detail::computation_place(sizeof(whole), alignof(whole), options.stack_bytes,
                                                options.name, inner, why);
  if (place == nullptr) return step_result<R>(why.code());
  whole* c = nullptr;
  try {
    c = ::new (place) whole(std::forward<F>(body));
  } catch (...) {
    detail::give_computation_back(*inner);
    throw;
  }
  c->inner = inner;
  detail::begin_computation(*c);
  return detail::result_of_step(static_cast<detail::computation_of<R>&>(*c));
}

/// What one advance() did. `last` says how the operation went:
///   ok           it was answered; `state` is where the computation stands now
///   more         likewise, and `live` is what goes on
///   would_block  nothing was answered: `state` holds the same suspension, `hint` what to wait for
///   failure      nothing was answered, and `error` says why: `state` holds the same suspension
template <class R>
struct [[nodiscard]] advanced {
  // Not an aggregate: of one the compiler clears all before it fills a part.
  explicit advanced(step_result<R>&& s, outcome o = outcome::ok,
                    std::error_code e = detail::no_error, const wait_hint& h = {})
      : state(std::move(s)), last(o), error(e), hint(h) {}
  /// Where `c` stands now.
  advanced(detail::computation_of<R>& c, outcome o, live_operation&& l)
      : state(detail::result_of_step(c)), last(o), error(detail::no_error), live(std::move(l)) {}

  step_result<R> state;
  outcome last;
  std::error_code error;
  live_operation live;
  wait_hint hint;
};

/// Has `by` answer the one operation that `held` waits for, and runs the body to its next effect.
/// What `by` does not handle fails with errc::unhandled_effect; a suspension that was used, with
/// errc::resumed_twice (and `state` is an empty suspension). A dispatcher that answers later is
/// waited for.
template <dispatcher D, class R>
advanced<R> advance(D& by, suspension<R>&& held) {
  detail::effect_call* const call = held.call();
  const auto refused = [&held](std::error_code why) {
    return advanced<R>(step_result<R>(std::move(held)), outcome::failure, why);
  };
  if (call == nullptr) return refused(make_error_code(errc::resumed_twice));
  if (!held.is_here()) return refused(make_error_code(errc::wrong_thread));
  detail::said_besides besides;
  call->refused.reset();
  switch (detail::ask_one_of(by, typename D::handles{}, *call, besides)) {
    case detail::reply::answered: {
      const outcome how = besides.live ? outcome::more : outcome::ok;
      auto& c = static_cast<detail::computation_of<R>&>(*held.release());
      detail::resume_computation(c, detail::reply::answered);
      return advanced<R>(c, how, std::move(besides.live));
    }
    case detail::reply::would_block:
      return advanced<R>(step_result<R>(std::move(held)), outcome::would_block, {}, call->hint);
    case detail::reply::forward:
      return refused(make_error_code(errc::unhandled_effect));
    case detail::reply::refused:
      break;
  }
  if (besides.finish == nullptr) return refused(call->why_refused());
  if (besides.finish->type() != typeid(detail::something<R>))
    return refused(make_error_code(errc::wrong_operation));
  held.discard();
  using whole = detail::finishing_with<detail::something<R>>;
  return advanced<R>(
      step_result<R>(std::in_place, std::move(static_cast<whole&>(*besides.finish).value)));
}

/// A suspension and what belongs to it: carried through every step, also to the end.
template <class Context, class R>
struct with_context {
  Context context;
  advanced<R> at;

  bool is_suspended() const noexcept { return at.state.is_suspended(); }
};

/// step() with a context beside it.
template <class Context, class F, class R = std::invoke_result_t<std::decay_t<F>&>>
with_context<std::decay_t<Context>, R> step_with(Context&& context, F&& body,
                                                 const step_options& options = {}) {
  return {std::forward<Context>(context), advanced<R>(step(std::forward<F>(body), options))};
}

/// advance() of one that waits; the context comes along.
template <dispatcher D, class Context, class R>
with_context<Context, R> advance(D& by, with_context<Context, R>&& held) {
  return {std::move(held.context), advance(by, std::move(held.at.state.waiting()))};
}

/// A number of operations that may still be answered.
struct fuel {
  std::uint64_t steps = 0;
};

/// Advances until the computation has ended, `by` does not answer, or the fuel is used up.
template <dispatcher D, class R>
advanced<R> advance_all(D& by, step_result<R> state, fuel& left) {
  advanced<R> at(std::move(state));
  while (at.state.is_suspended() && left.steps != 0) {
    --left.steps;
    at = advance(by, std::move(at.state.waiting()));
    if (at.last != outcome::ok && at.last != outcome::more) break;
  }
  return at;
}

}  // namespace coir
