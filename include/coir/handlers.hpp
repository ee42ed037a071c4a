// handlers.hpp: who answers the effects of a body: handlers around it, a dispatcher in place of a
// runtime, and the right to answer later.
//
// Always true:
//   - A handler answers on the stack of whoever asks, in a call; it parks like any other code of
//     that fiber, and what it asks for itself goes to the handlers outside of it.
//   - An answer is a value or an error, never both, and "more to come" carries what is still alive.
//   - A resumption resumes once. Dropped unused it makes its effect fail; nobody waits for ever for
//     an answer that cannot come.
//   - A body that is ended by its handler is not torn down: its effects answer operation_canceled
//     until it returns, so every destructor on its stack runs once.
//   - Who holds something for the body is told of its close, also when its fiber is cancelled or it
//     is to end; and may then answer not now, or later, as ever.
//   - The body is alone with its handlers: a fiber that it spawns has none of them.
//
// Comes from: the user.   Goes to: coir/detail/effect_call.hpp, runtime/handlers.cpp.
#pragma once

#include <functional>
#include <memory>
#include <tuple>
#include <typeinfo>
#include <utility>
#include <variant>

#include "coir/effects.hpp"
#include "coir/outcome.hpp"
#include "coir/sync.hpp"

namespace coir {

namespace detail {

struct finishing {
  virtual ~finishing() = default;
  virtual const std::type_info& type() const noexcept = 0;
};
template <class R>
struct finishing_with final : finishing {
  explicit finishing_with(R v) : value(std::move(v)) {}
  const std::type_info& type() const noexcept override { return typeid(R); }
  R value;
};
struct nothing {};
template <class T>
using something = std::conditional_t<std::is_void_v<T>, nothing, T>;

}  // namespace detail

/// What a handler says of one operation whose answer is a T.
template <class T>
class [[nodiscard]] dispatched {
 public:
  using value_type = T;
  using stored = detail::something<T>;

  static dispatched done(stored value = {}) { return of<0>(std::move(value)); }
  /// An answer, and the operation that goes on; it ends with `live`. An empty one is refused:
  /// errc::wrong_operation is the answer then.
  static dispatched more(stored value, live_operation live) {
    if (!live) return failed(make_error_code(errc::wrong_operation));
    return of<1>(std::pair(std::move(value), std::move(live)));
  }
  /// Not now: ask again after `hint`, or after a pause that grows (coir::backoff). Meanwhile the
  /// fiber parks, or the thread sleeps. A body in a loop, or in a step, waits as for an effect of
  /// its own that no handler sees: a sleep_operation or a poll_operation; for an event, or an
  /// answer that comes later, it sleeps a little and looks, again and again. Where whoever steps
  /// answers that with unhandled_effect or not_in_fiber, the thread sleeps after all.
  static dispatched would_block(wait_hint hint = {}) { return of<2>(hint); }
  static dispatched failed(std::error_code why) { return of<3>(why); }
  /// Not mine: the next handler outward, at last the backend.
  static dispatched forward() { return of<4>(detail::nothing{}); }
  /// Ends the body: this effect of it and all later ones answer operation_canceled, and when it has
  /// returned handle_effects returns `value` in its place. R is what the body returns, exactly
  /// (else errc::wrong_operation is the answer); none for a body that returns nothing.
  template <class R = detail::nothing>
  static dispatched finish(R value = {}) {
    return of<5>(
        std::unique_ptr<detail::finishing>(new detail::finishing_with<R>(std::move(value))));
  }
  /// The resumption that was taken from the context answers.
  static dispatched later() { return of<6>(detail::nothing{}); }

  outcome kind() const noexcept {
    switch (what_.index()) {
      case 0:
        return outcome::ok;
      case 1:
        return outcome::more;
      case 2:
        return outcome::would_block;
      default:
        return outcome::failure;
    }
  }
  std::error_code error() const noexcept {
    const auto* const why = std::get_if<3>(&what_);
    return why != nullptr ? *why : std::error_code();
  }
  /// Of done and more.
  stored& value() { return what_.index() == 0 ? std::get<0>(what_) : std::get<1>(what_).first; }
  live_operation take_live() {
    auto* const m = std::get_if<1>(&what_);
    return m != nullptr ? std::move(m->second) : live_operation();
  }

  using variant =
      std::variant<stored, std::pair<stored, live_operation>, wait_hint, std::error_code,
                   detail::nothing, std::unique_ptr<detail::finishing>, detail::nothing>;
  variant& raw() noexcept { return what_; }

 private:
  template <std::size_t I, class V>
  static dispatched of(V value) {
    return dispatched(std::in_place_index<I>, std::move(value));
  }
  template <std::size_t I, class V>
  dispatched(std::in_place_index_t<I> i, V value) : what_(i, std::move(value)) {}

  variant what_;
};

namespace detail {

/// Where an answer that comes later is waited for. Shared by the asker and the resumption.
template <class T>
struct later_answer {
  enum class stand { open, resumed, given_up };
  mutex guard;  // of what follows
  stand at = stand::open;
  std::optional<result<T>> value;
  event told;

  refusal resume(result<T>&& v) {
    {
      const std::lock_guard held(guard);
      if (at == stand::resumed) return errc::resumed_twice;
      if (at == stand::given_up) return errc::finished;
      value.emplace(std::move(v));
      at = stand::resumed;
    }
    told.set();
    return {};
  }
  /// Nobody waits, or will: an answer that comes is told so.
  void give_up() noexcept {
    const std::lock_guard held(guard);
    if (at == stand::open) at = stand::given_up;
  }
  /// Empty: `value` is there. Success wins: an answer that came is taken, whatever ended the wait.
  std::error_code wait(deadline until, bool heed_cancel) {
    const std::error_code ended = wait_in_handler(told, until, heed_cancel);
    const std::lock_guard held(guard);
    if (at == stand::resumed) return {};
    at = stand::given_up;
    return ended;
  }
};

}  // namespace detail

/// The right to answer one effect, once, from any fiber or thread. Move-only. Dropped unused it
/// answers errc::unhandled_effect.
template <class T>
class resumption {
 public:
  resumption() = default;
  explicit resumption(std::shared_ptr<detail::later_answer<T>> to) noexcept : to_(std::move(to)) {}
  resumption(resumption&&) noexcept = default;
  resumption& operator=(resumption&& from) noexcept {
    if (this != &from) {
      drop();
      to_ = std::move(from.to_);
    }
    return *this;
  }
  ~resumption() { drop(); }

  /// Errors: errc::resumed_twice; errc::finished (the asker gave up: its deadline, a cancel). The
  /// answer is gone then. Several threads at once: one of them resumes.
  [[nodiscard]] result<> resume(result<T> answer) {
    if (to_ == nullptr) return fail(errc::resumed_twice);
    if (const detail::refusal why = to_->resume(std::move(answer))) return fail(why.code());
    return {};
  }
  bool try_resume(result<T> answer) noexcept {
    return to_ != nullptr && !to_->resume(std::move(answer));
  }

 private:
  void drop() noexcept {
    if (to_ != nullptr) (void)to_->resume(fail(errc::unhandled_effect));
    to_ = nullptr;
  }
  std::shared_ptr<detail::later_answer<T>> to_;
};

/// What a handler may know of the effect that it is asked for.
template <operation Op>
class dispatch_context {
 public:
  using value_type = answer_type<Op>;
  explicit dispatch_context(deadline until) noexcept : until_(until) {}
  /// Of the perform() that asks.
  deadline until() const noexcept { return until_; }
  /// Takes the right to answer; the handler then returns dispatched::later(). Taken again it is the
  /// same right.
  resumption<value_type> keep() {
    if (later_ == nullptr) later_ = std::make_shared<detail::later_answer<value_type>>();
    return resumption<value_type>(later_);
  }
  /// For whoever waits for the answer.
  std::shared_ptr<detail::later_answer<value_type>> take_kept() noexcept {
    return std::exchange(later_, nullptr);
  }
  /// Kept, but the handler answered in another way, or threw: what is resumed reaches nobody.
  ~dispatch_context() {
    if (later_ != nullptr) later_->give_up();
  }
  dispatch_context(const dispatch_context&) = delete;
  dispatch_context& operator=(const dispatch_context&) = delete;

 private:
  deadline until_;
  std::shared_ptr<detail::later_answer<value_type>> later_;
};

/// The operations that a dispatcher answers: `using handles = coir::operations<a, b>;`.
template <operation... Ops>
struct operations {};

/// Has dispatch() for an operation.
template <class D, class Op>
concept dispatches = operation<Op> && requires(D& d, const Op& op, dispatch_context<Op>& context) {
  { d.dispatch(op, context) } -> std::same_as<dispatched<answer_type<Op>>>;
};

namespace detail {
template <class D, class List>
inline constexpr bool dispatches_all = false;
template <class D, class... Ops>
inline constexpr bool dispatches_all<D, operations<Ops...>> = (dispatches<D, Ops> && ...);
}  // namespace detail

/// Says what it handles, and has dispatch() for each of these.
template <class D>
concept dispatcher = detail::dispatches_all<D, typename D::handles>;

/// A handler of one operation: `answer(op)` or `answer(op, context)` returns what `dispatched`
/// holds: that itself, a result, or a value.
template <operation Op, class F>
class handler_of {
 public:
  using handles = operations<Op>;
  using value_type = answer_type<Op>;
  explicit handler_of(F answer) : answer_(std::move(answer)) {}

  dispatched<value_type> dispatch(const Op& op, dispatch_context<Op>& context) {
    if constexpr (std::is_invocable_v<F&, const Op&, dispatch_context<Op>&>) {
      return wrap([&]() -> decltype(auto) { return answer_(op, context); });
    } else {
      return wrap([&]() -> decltype(auto) { return answer_(op); });
    }
  }

 private:
  template <class Call>
  static dispatched<value_type> wrap(Call call) {
    using returned = std::decay_t<decltype(call())>;
    if constexpr (std::is_same_v<returned, dispatched<value_type>>) {
      return call();
    } else if constexpr (std::is_void_v<returned>) {
      call();
      return dispatched<value_type>::done();
    } else if constexpr (std::is_same_v<returned, result<value_type>>) {
      auto r = call();
      if (!r) return dispatched<value_type>::failed(r.error());
      if constexpr (std::is_void_v<value_type>) {
        return dispatched<value_type>::done();
      } else {
        return dispatched<value_type>::done(*std::move(r));
      }
    } else {
      return dispatched<value_type>::done(call());
    }
  }
  F answer_;
};

/// `on<Op>(f)`: f answers Op.
template <operation Op, class F>
handler_of<Op, std::decay_t<F>> on(F&& answer) {
  return handler_of<Op, std::decay_t<F>>(std::forward<F>(answer));
}

namespace detail {

/// What a dispatcher says besides an answer.
struct said_besides {
  live_operation live;                // of an answer that is not the last one
  std::unique_ptr<finishing> finish;  // the body is to end
};

/// What one dispatcher says of one call, put where the asker finds it.
template <class Op, class D>
reply ask_for(D& who, effect_call& call, said_besides& besides) {
  using value_type = answer_type<Op>;
  auto& answer = *static_cast<std::optional<result<value_type>>*>(call.answer);
  const auto put = [&](something<value_type>& value) {
    if constexpr (std::is_void_v<value_type>) {
      answer.emplace();
    } else {
      answer.emplace(std::move(value));
    }
    return reply::answered;
  };
  dispatch_context<Op> context(call.until);
  dispatched<value_type> said = who.dispatch(*static_cast<const Op*>(call.op), context);
  auto& what = said.raw();
  switch (what.index()) {
    case 0:
      return put(std::get<0>(what));
    case 1:
      besides.live = std::move(std::get<1>(what).second);
      return put(std::get<1>(what).first);
    case 2:
      call.hint = std::get<2>(what);
      return reply::would_block;
    case 3:
      call.refused = std::get<3>(what);
      return reply::refused;
    case 4:
      return reply::forward;
    case 5:
      besides.finish = std::move(std::get<5>(what));
      return reply::refused;
    default:
      break;
  }
  const auto later = context.take_kept();
  if (later == nullptr) {  // it said later() and kept nothing
    call.refused = make_error_code(errc::unhandled_effect);
    return reply::refused;
  }
  if (const std::error_code ended = later->wait(call.until, !call.must_happen)) {
    call.refused = ended;
    return reply::refused;
  }
  answer.emplace(*std::move(later->value));
  return reply::answered;
}

template <class D, class... Ops>
reply ask_one_of(D& who, operations<Ops...>, effect_call& call, said_besides& besides) {
  reply said = reply::forward;
  (void)((call.type->is(type_of<Ops>) && (said = ask_for<Ops>(who, call, besides), true)) || ...);
  return said;
}

/// The handlers of one body, in the frame of handle_effects or exec.
template <class R, class... Handlers>
struct handlers_of_body : handler_frame {
  explicit handlers_of_body(bool last, Handlers&... h) : who(h...), is_last(last) {
    this->ask = &answer;
    enter_handler(*this);
  }
  ~handlers_of_body() { leave_handler(*this); }
  handlers_of_body(const handlers_of_body&) = delete;
  handlers_of_body& operator=(const handlers_of_body&) = delete;

  static reply answer(handler_frame& self, effect_call& call) {
    auto& me = static_cast<handlers_of_body&>(self);
    said_besides besides;
    reply said = reply::forward;
    std::apply(
        [&](Handlers&... each) {
          (void)(((said = ask_one_of(each, typename Handlers::handles{}, call, besides)) !=
                  reply::forward) ||
                 ...);
        },
        me.who);
    if (besides.finish != nullptr) return me.end_with(std::move(besides.finish), call);
    if (said == reply::forward && me.is_last) {
      call.refused = make_error_code(errc::unhandled_effect);
      return reply::refused;
    }
    return said;
  }

  reply end_with(std::unique_ptr<finishing> value, effect_call& call) {
    if (value->type() != typeid(something<R>)) {
      call.refused = make_error_code(errc::wrong_operation);
    } else {
      call.refused = std::make_error_code(std::errc::operation_canceled);
      this->ending = true;
      finished = std::move(value);
    }
    return reply::refused;
  }

  std::tuple<Handlers&...> who;
  bool is_last;  // nobody is asked after these
  std::unique_ptr<finishing> finished;
};

template <class R, class F, class... Handlers>
R run_handled(bool last, F&& body, Handlers&... handlers) {
  handlers_of_body<R, Handlers...> frame(last, handlers...);
  try {
    if constexpr (std::is_void_v<R>) {
      std::invoke(std::forward<F>(body));
    } else {
      R returned = std::invoke(std::forward<F>(body));
      if (frame.finished == nullptr) return returned;
    }
  } catch (...) {
    if (frame.finished == nullptr) throw;
  }
  if constexpr (!std::is_void_v<R>)
    return std::move(static_cast<finishing_with<R>&>(*frame.finished).value);
}

}  // namespace detail

/// Runs body() here, with these handlers around it, and returns what it returns, or what one of
/// them ended it with. Of the handlers the first that does not forward answers; then those around
/// this call; then the backend. Exceptions of body pass through; after a finish what body returned
/// or threw is dropped. Fibers and plain threads. The handlers are the caller's and only lent.
template <class F, class... Handlers>
requires(dispatcher<std::remove_cvref_t<Handlers>>&&...) auto handle_effects(F&& body,
                                                                             Handlers&&... handlers)
    -> std::invoke_result_t<F&&> {
  return detail::run_handled<std::invoke_result_t<F&&>>(false, std::forward<F>(body), handlers...);
}

/// Runs body() here, answered by `by` alone: what it does not handle answers
/// errc::unhandled_effect. It needs no runtime: where the dispatcher answers "not now" the fiber
/// parks, and a plain thread sleeps. Returns and throws as handle_effects does.
template <dispatcher D, class F>
[[nodiscard]] auto exec(D& by, F&& body) -> std::invoke_result_t<F&&> {
  return detail::run_handled<std::invoke_result_t<F&&>>(true, std::forward<F>(body), by);
}

}  // namespace coir
