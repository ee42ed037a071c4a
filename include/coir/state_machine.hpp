// state_machine.hpp: one state, many inputs, and a body for each that is written as if it could
// block: while one waits, others are served.
//
// Always true:
//   - The state belongs to one worker. Each input has a fiber there, so between two parks a body is
//     alone with the state, and no lock is needed.
//   - The state changes only inside update(), in which nothing parks; each change is a version.
//   - A call that gave up (deadline, cancel) leaves its input running, unless that had not begun;
//     its answer is dropped.
//   - After reset() no input that began before it changes the state any more.
//
// Comes from: the user.   Goes to: coir/detail/machine_core.hpp.
#pragma once

#include <concepts>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "coir/detail/machine_core.hpp"

namespace coir {

/// A reference into the state of a machine, good until its fiber parks or lets others run. Used
/// after that it ends the process, in every build, and names the machine and both versions.
template <class T>
class guarded_ref {
 public:
  guarded_ref(const detail::machine_core& core, T& what) noexcept
      : core_(&core), what_(&what), turn_(detail::turn_here()), version_(core.version()) {}
  T& operator*() const noexcept {
    core_->check_reference(turn_, version_);
    return *what_;
  }
  T* operator->() const noexcept { return &**this; }
  /// False once it must not be used any more.
  bool fresh() const noexcept { return turn_ == detail::turn_here(); }
  /// A reference to something inside, which lives as long: `view.to(view->at(key))`.
  template <class U>
  guarded_ref<U> to(U& inside) const noexcept {
    guarded_ref<U> part(*core_, inside);
    part.turn_ = turn_;
    part.version_ = version_;
    return part;
  }

 private:
  template <class U>
  friend class guarded_ref;
  const detail::machine_core* core_;
  T* what_;
  std::uint64_t turn_, version_;
};

/// The lock of one key of a machine; opens where it ends. On the fiber of the input that took it.
class key_lock {
 public:
  key_lock(detail::machine_core& core, std::string key) : core_(&core), key_(std::move(key)) {}
  key_lock(key_lock&& from) noexcept
      : core_(std::exchange(from.core_, nullptr)), key_(std::move(from.key_)) {}
  key_lock& operator=(key_lock&&) = delete;
  ~key_lock() {
    if (core_ != nullptr) core_->unlock_key(key_);
  }

 private:
  detail::machine_core* core_;
  std::string key_;
};

/// What the body of one input may do with the state. Its calls: on that input's own fiber.
template <class State>
class machine_context {
 public:
  machine_context(detail::machine_core& core, State& state) noexcept
      : core_(core), state_(state), era_(core.era()) {}
  machine_context(const machine_context&) = delete;
  machine_context& operator=(const machine_context&) = delete;

  /// The state as it is now. Take a new look after everything that may park.
  guarded_ref<const State> peek() const noexcept {
    core_.look();
    return {core_, state_};
  }
  /// Grows with every change of the state, by anybody.
  std::uint64_t version() const noexcept { return core_.version(); }

  /// `change(State&)`, alone with the state: no other input runs meanwhile. Returns what `change`
  /// returns. Nothing may park in it, in any build: what returns a result answers
  /// operation_canceled there at once, and update answers errc::update_would_park afterwards,
  /// whatever `change` made of it; what it did to the state stays. What cannot say so (yield,
  /// mutex::lock, a close, the end of an operation that is under way) ends the process when others
  /// have run. An exception of `change` comes out.
  /// Errors: errc::state_changed (the machine was reset since this input began; nothing was
  /// changed), errc::wrong_operation (inside another update, or not on the machine's worker).
  template <class F>
  requires std::invocable<F&, State&>
  [[nodiscard]] result<detail::flat_t<std::invoke_result_t<F&, State&>>> update(F&& change) {
    detail::machine_change now(core_, era_);
    if (const std::error_code why = now.error()) return fail(why);
    if constexpr (std::is_void_v<std::invoke_result_t<F&, State&>>) {
      std::invoke(change, state_);
      if (const std::error_code why = now.close()) return fail(why);
      return {};
    } else {
      result<detail::flat_t<std::invoke_result_t<F&, State&>>> answer = std::invoke(change, state_);
      if (const std::error_code why = now.close()) return fail(why);
      return answer;
    }
  }

  /// Optimistic: `body()` looks (peek), may park, and returns what it wants to change, a
  /// `change(State&)` or a result with one. That is done by update when nobody changed the state
  /// since body() began; otherwise body() runs again, at most `attempts_max` times. Errors:
  /// errc::state_changed after the last attempt, the error that body() returned, those of update.
  template <class F>
  [[nodiscard]] auto atomically(F&& body, unsigned attempts_max = 8) {
    using returned = std::invoke_result_t<F&>;
    using change = detail::flat_t<returned>;
    using answer = decltype(update(std::declval<change&>()));
    for (unsigned attempt = 0; attempt < attempts_max; ++attempt) {
      const std::uint64_t seen = core_.version();
      returned wanted = std::invoke(body);
      if constexpr (detail::is_result<returned>::value) {
        if (!wanted) return answer(fail(wanted.error()));
        if (core_.unchanged_since(seen)) return update(*wanted);
      } else {
        if (core_.unchanged_since(seen)) return update(wanted);
      }
    }
    return answer(fail(errc::state_changed));
  }

  /// Inputs that lock the same key have their turns in the order in which they asked; others go on.
  /// Keys are text, or values that their bytes tell apart (integers, enums). Parks. Errors:
  /// timed_out, operation_canceled, errc::deadlock (this input has it).
  template <class Key>
  [[nodiscard]] result<key_lock> lock(const Key& key, deadline until = never) {
    std::string bytes = bytes_of(key);
    if (auto locked = core_.lock_key(bytes, until); !locked) return fail(locked.error());
    return key_lock(core_, std::move(bytes));
  }

 private:
  template <class Key>
  static std::string bytes_of(const Key& key) {
    if constexpr (std::convertible_to<const Key&, std::string_view>) {
      return std::string(std::string_view(key));
    } else {
      static_assert(std::has_unique_object_representations_v<Key>,
                    "a key is text, or its bytes say which one it is");
      std::string bytes(sizeof key, '\0');
      std::memcpy(bytes.data(), &key, sizeof key);
      return bytes;
    }
  }

  detail::machine_core& core_;
  State& state_;
  const std::uint64_t era_;
};

/// Answers inputs of type In by `result<Out> body(In, machine_context<State>&)`. Its destructor
/// stops it and waits for all that has begun. It must outlive every call of it.
template <class In, class Out, class State>
class state_machine {
 public:
  using context = machine_context<State>;
  using body = std::function<result<Out>(In, context&)>;

  /// Fibers only. Errors: those of spawn (worker, stack_bytes: invalid_argument).
  [[nodiscard]] static result<state_machine> create(State state, body run,
                                                    const machine_options& o = {}) {
    return make(nullptr, std::move(state), std::move(run), o);
  }
  /// On the workers of `on`, which has been started; from any thread.
  [[nodiscard]] static result<state_machine> create(runtime& on, State state, body run,
                                                    const machine_options& o = {}) {
    return make(&on, std::move(state), std::move(run), o);
  }

  /// Hands `in` over and waits for the body's answer; rethrows its exception. Any fiber (parks),
  /// any thread (blocks); a body that calls its own machine takes a further fiber. Errors: the
  /// body's; errc::queue_full where options say so, errc::shutting_down, timed_out,
  /// operation_canceled. Throws std::bad_alloc, as all of these do; then there is no input.
  [[nodiscard]] result<Out> call(In in, deadline until = never) {
    return answer_of(std::make_shared<call_job>(*world_, std::move(in)), until);
  }

  /// Hands `in` over and goes on; `reply(result<Out>)` is called once, on the machine's worker, or,
  /// when it never began, where the machine is stopped: it must not throw, and should not park.
  /// Never waits, so a change may call it. Any fiber, any thread. An exception of the body reaches
  /// it as state_not_recoverable. Errors: errc::queue_full, errc::shutting_down; then there is no
  /// reply.
  template <class F>
  requires std::invocable<F&, result<Out>>
  [[nodiscard]] result<> try_post(In in, F reply) {
    auto job = std::make_shared<post_job<F>>(*world_, std::move(in), std::move(reply));
    if (const std::error_code why = world_->submit(std::move(job), no_wait, false))
      return fail(why);
    return {};
  }

  /// In its turn among the inputs: the state is replaced. Inputs that began before get
  /// errc::state_changed from then on when they want to change it; those that come after begin with
  /// the new one. Errors: as call.
  [[nodiscard]] result<> reset(State state, deadline until = never) {
    return answer_of(std::make_shared<reset_job>(*world_, std::move(state)), until);
  }

  /// Takes no new inputs (errc::shutting_down), finishes those that are here, and returns when all
  /// are answered. From `until` on, or from a cancel of the caller on, those that have begun are
  /// cancelled and those that have not are refused, and it waits for their end: then timed_out, or
  /// operation_canceled. Again: the same. Not from the machine's own bodies.
  [[nodiscard]] result<> stop(deadline until = never) { return world_->stop(until); }

  /// Inputs that have begun and not ended. Seen from elsewhere than the machine's worker one of
  /// them may be running. Any thread.
  std::size_t suspended() const { return world_->suspended(); }
  /// Inputs that wait to begin. Any thread.
  std::size_t queued() const { return world_->queued(); }

 private:
  struct world final : detail::machine_core {
    world(const machine_options& o, State s, body b)
        : machine_core(o), state(std::move(s)), run(std::move(b)) {}
    ~world() override { finish(); }
    State state;
    body run;
  };

  template <class T>
  struct awaited : detail::machine_job {
    explicit awaited(world& w) : in_world(w) {}
    void refuse(std::error_code why) noexcept final { settle(fail(why)); }
    void settle(result<T> with) noexcept {
      answer = std::move(with);
      answered.set();
    }
    world& in_world;
    event answered;
    result<T> answer = fail(std::errc::operation_canceled);
    std::exception_ptr thrown;
  };

  struct call_job final : awaited<Out> {
    call_job(world& w, In i) : awaited<Out>(w), in(std::move(i)) {}
    void run() noexcept final {
      try {
        context ctx(this->in_world, this->in_world.state);
        this->answer = this->in_world.run(std::move(in), ctx);
      } catch (...) {
        this->thrown = std::current_exception();
      }
      this->answered.set();
    }
    In in;
  };

  struct reset_job final : awaited<void> {
    reset_job(world& w, State s) : awaited<void>(w), state(std::move(s)) {}
    void run() noexcept final {
      this->in_world.begin_era();
      context ctx(this->in_world, this->in_world.state);
      try {
        this->settle(ctx.update([this](State& old) { old = std::move(state); }));
      } catch (...) {
        this->thrown = std::current_exception();
        this->answered.set();
      }
    }
    State state;
  };

  template <class F>
  struct post_job final : detail::machine_job {
    post_job(world& w, In i, F r) : in_world(w), in(std::move(i)), reply(std::move(r)) {}
    void run() noexcept final {
      result<Out> answer = fail(std::errc::state_not_recoverable);
      try {
        context ctx(in_world, in_world.state);
        answer = in_world.run(std::move(in), ctx);
      } catch (...) {
        answer = fail(std::errc::state_not_recoverable);
      }
      reply(std::move(answer));
    }
    void refuse(std::error_code why) noexcept final { reply(result<Out>(fail(why))); }
    world& in_world;
    In in;
    F reply;
  };

  explicit state_machine(std::unique_ptr<world> w) noexcept : world_(std::move(w)) {}

  [[nodiscard]] static result<state_machine> make(runtime* on, State state, body run,
                                                  const machine_options& o) {
    auto made = std::make_unique<world>(o, std::move(state), std::move(run));
    if (auto started = made->start(on); !started) return fail(started.error());
    return state_machine(std::move(made));
  }

  template <class Job>
  auto answer_of(std::shared_ptr<Job> job, deadline until) -> decltype(job->answer) {
    if (const std::error_code why = world_->submit(job, until, !world_->refuses_when_full()))
      return fail(why);
    auto waited = job->answered.wait(until);
    // An answer that is here wins over a deadline and a cancel.
    if (!waited && !job->answered.is_set()) {
      (void)world_->withdraw(*job);
      return fail(waited.error());
    }
    if (job->thrown) std::rethrow_exception(job->thrown);
    return std::move(job->answer);
  }

  std::unique_ptr<world> world_;
};

}  // namespace coir
