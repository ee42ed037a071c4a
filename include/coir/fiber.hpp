// fiber.hpp: spawn, handle, wait and this_fiber: what a program does with fibers.
//
// Always true:
//   - A handle gives its answer away once. Dropping it detaches the fiber, which runs on.
//   - A cancelled fiber sees std::errc::operation_canceled at its park points; its stack is never
//     unwound from outside.
//
// Comes from: the user.   Goes to: coir/detail/task.hpp, runtime/worker.hpp.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "coir/clock.hpp"
#include "coir/detail/task.hpp"
#include "coir/placing.hpp"
#include "coir/result.hpp"

namespace coir {

/// What a fiber may do, and so what a switch to it has to bring. `float`: how it rounds, traps and
/// flushes (MXCSR and the x87 control word, FPCR) is its own; every other fiber finds these as a
/// fresh program does, and must leave them so when it parks. `cross_thread`: it may move_to another
/// worker.
enum class switcher : std::uint8_t {
  same_thread_no_float,
  same_thread_float,
  cross_thread_no_float,
  cross_thread_float
};

struct spawn_options {
  std::string_view name = {};  ///< copied, the first 23 bytes
  switcher sw = switcher::same_thread_no_float;
  priority prio = priority::normal;
  workload kind = workload::io;
  affinity where = affinity::any;
  std::size_t stack_bytes = 0;  ///< 16 KiB to 8 MiB; 0: options::stack_bytes of the runtime
  std::optional<unsigned> worker =
      {};                  ///< exactly there; empty: here, or a neighbour when here is busy
  deadline until = never;  ///< how long to wait for room
};

namespace detail {
template <class A>
struct awaited_as;
}

/// The right to the answer of one fiber. Move-only. Safe to use from any fiber and any thread, one
/// at a time.
template <class R>
class handle {
 public:
  using value_type = R;

  handle() = default;
  explicit handle(detail::refusal why) noexcept : refusal_(why) {}
  explicit handle(detail::task& t) noexcept : task_(&t) {}
  handle(handle&& from) noexcept
      : task_(std::exchange(from.task_, nullptr)), refusal_(from.refusal_) {}
  handle& operator=(handle&& from) noexcept {
    if (this != &from) {
      detach();
      task_ = std::exchange(from.task_, nullptr);
      refusal_ = from.refusal_;
    }
    return *this;
  }
  ~handle() { detach(); }

  /// Waits until the fiber has ended and gives its answer away; rethrows the exception that left
  /// its body. Parks a fiber, blocks a plain thread. Errors: timed_out and operation_canceled (the
  /// handle stays good), errc::deadlock (a fiber joins itself), errc::already_joined,
  /// errc::foreign_runtime (of another runtime's fiber, on a fiber; after fork). Where the body
  /// never ran: operation_canceled (cancelled before), errc::stack_limit, errc::shutting_down, or
  /// the error of a refused spawn. A plain thread that joins before its runtime was started waits
  /// for that.
  [[nodiscard]] result<R> join(deadline until = never) {
    if (task_ == nullptr) return fail(refusal());
    if (const detail::refusal why = detail::join(*task_, until)) return fail(why.code());
    return take();
  }

  /// True when join would not wait. Any thread.
  bool done() const noexcept { return task_ == nullptr || detail::done(*task_); }
  /// Asks the fiber to stop: its park points answer operation_canceled from now on. Any thread;
  /// twice is once.
  void cancel() noexcept {
    if (task_ != nullptr) detail::cancel(*task_);
  }
  /// Lets the fiber run on alone; its answer is dropped. Any thread.
  void detach() noexcept {
    if (task_ == nullptr) return;
    detail::release(*std::exchange(task_, nullptr));
    refusal_ = {};
  }
  /// The fiber's name for ever; all zero for a refused, joined or detached one.
  fiber_id id() const noexcept { return task_ == nullptr ? fiber_id{} : detail::id_of(*task_); }
  /// False for a refused spawn and after join or detach.
  explicit operator bool() const noexcept { return task_ != nullptr; }
  /// Why there is no fiber: what the spawn was refused with, or errc::already_joined. Empty while
  /// there is one.
  std::error_code refusal() const noexcept {
    if (task_ != nullptr) return {};
    return refusal_ ? refusal_.code() : make_error_code(errc::already_joined);
  }

 private:
  [[nodiscard]] result<R> take() {
    struct given_away {
      handle& h;
      ~given_away() { h.detach(); }
    } last{*this};
    detail::task& t = *task_;
    if (t.held == detail::holds::error) return fail(t.error());
    if (t.held == detail::holds::exception)
      std::rethrow_exception(std::exchange(t.exception(), {}));
    auto& answer = detail::answer_in<result<R>>(t);
    if constexpr (std::is_void_v<R>) {
      if (answer) [[likely]] {
        t.held = detail::holds::nothing;
        return {};
      }
    }
    result<R> taken = std::move(answer);
    if constexpr (detail::fits_storage<result<R>>) {  // else its box goes with it, in detach()
      std::destroy_at(&answer);
      t.held = detail::holds::nothing;
    }
    return taken;
  }

  template <class A>
  friend struct detail::awaited_as;
  detail::task* task_ = nullptr;
  detail::refusal refusal_;  // why there never was a fiber; empty: it was joined or detached
};

namespace detail {
template <class F>
using handle_of = handle<typename body<std::decay_t<F>>::value>;
template <class F>
using flat_result = result<typename body<std::decay_t<F>>::value>;

/// A launched task, or null and `why` there is none. `Launch`: who decides where it goes.
template <auto Launch = &launch, class F>
task* spawn_task(runtime_core* core, F&& callable, const spawn_options& options, const site& where,
                 bool wait, refusal& why, scope_state* scope = nullptr) {
  using kind = body<std::decay_t<F>>;
  task* t = new_task(core, options, where, wait, why);
  if (t == nullptr) return nullptr;
  try {
    kind::put(*t, std::forward<F>(callable));
  } catch (...) {
    abandon(*t);
    throw;
  }
  if (scope != nullptr) why = adopt(*scope, *t);
  if (!why) why = Launch(*t, options, wait);
  if (why) {
    kind::drop(*t);
    abandon(*t);
    return nullptr;
  }
  if (scope != nullptr) confirm(*scope, *t);
  return t;
}

template <class F>
handle_of<F> spawn_waiting(runtime_core* core, F&& callable, const spawn_options& options,
                           const site& where, scope_state* scope = nullptr) {
  refusal why;
  task* const t = spawn_task(core, std::forward<F>(callable), options, where, true, why, scope);
  return t != nullptr ? handle_of<F>(*t) : handle_of<F>(why);
}

template <class F>
[[nodiscard]] result<handle_of<F>> spawn_at_once(runtime_core* core, F&& callable,
                                                 const spawn_options& options, const site& where) {
  refusal why;
  task* const t = spawn_task(core, std::forward<F>(callable), options, where, false, why);
  if (t == nullptr) return fail(why.code());
  return handle_of<F>(*t);
}
}  // namespace detail

/// Starts `callable()` on a fiber of the caller's runtime. Waits (parks) for a free record until
/// `options.until`; a refused spawn gives a handle whose join returns the error. Fibers only; on a
/// plain thread use runtime::spawn. Errors, by join: errc::not_in_fiber, errc::shutting_down,
/// invalid_argument (sw, stack_bytes, worker), timed_out. A callable, or an answer, of more than 64
/// bytes or aligned to more than 16 does not fit the record and gets one allocation: when that
/// fails, spawn throws std::bad_alloc. It also throws what moving or copying `callable` throws. In
/// both cases nothing was started, and the record has gone back.
template <class F>
[[nodiscard]] detail::handle_of<F> spawn(F&& callable, const spawn_options& options = {},
                                         const site& where = site::here()) {
  return detail::spawn_waiting(nullptr, std::forward<F>(callable), options, where);
}

/// spawn that never waits: errc::arena_full, errc::mailbox_full (of the worker that is named; from
/// a plain thread, of all) at once instead. Other errors as with spawn. Throws as spawn does:
/// std::bad_alloc for a callable or an answer that does not fit.
template <class F>
[[nodiscard]] result<detail::handle_of<F>> try_spawn(F&& callable,
                                                     const spawn_options& options = {},
                                                     const site& where = site::here()) {
  return detail::spawn_at_once(nullptr, std::forward<F>(callable), options, where);
}

/// Waits until the fiber `id` has ended; gives no answer, and any number may wait. Parks a fiber,
/// blocks a thread. Errors: errc::stale_handle (it ended before; success instead as long as its
/// handle or a cancel under way keeps the record), errc::deadlock (itself), foreign_runtime,
/// timed_out, canceled.
[[nodiscard]] COIR_API result<> wait(fiber_id id, deadline until = never);

namespace this_fiber {
/// Lets every other ready fiber of this worker run first. On a plain thread:
/// std::this_thread::yield, and gives runtimes that have no threads a turn.
COIR_API void yield() noexcept;
/// yield, and the next to run here is the fiber `id`; but once in options::run_budget switches
/// those come first who have waited longer. Errors: errc::not_parked (it is not ready to
/// run on this worker: it waits for something, or lives elsewhere), errc::finished,
/// errc::stale_handle, errc::foreign_runtime, errc::not_in_fiber; on each nobody else has run.
/// Costs time in proportion to the ready fibers before it.
[[nodiscard]] COIR_API result<> yield_to(fiber_id id);
/// Parks for `d`; on a plain thread sleeps. Errors: operation_canceled.
[[nodiscard]] COIR_API result<> sleep_for(clock::duration d);
/// Parks until `until`; on a plain thread sleeps. Errors: operation_canceled.
[[nodiscard]] COIR_API result<> sleep_until(deadline until);
/// True once somebody asked this fiber to stop. False on a plain thread.
COIR_API bool cancelled() noexcept;
/// All zero on a plain thread.
COIR_API fiber_id id() noexcept;
/// The index of the worker that runs this fiber; UINT_MAX on a plain thread.
COIR_API unsigned worker() noexcept;
/// Goes on on worker `worker` of this runtime: a park, which is over when the call returns. For
/// cross_thread fibers. The caller's function may have kept the address of errno or of a
/// thread_local, as compilers do: what is asked for these afterwards must be another function that
/// is not inlined. errno's value, exceptions and floating-point controls come along. Errors:
/// errc::wrong_operation (spawned same_thread, keeps a stream or a started operation, or stands in
/// a computation that it steps), invalid_argument (no such worker), operation_canceled,
/// errc::shutting_down, errc::not_in_fiber; on each the fiber is where it was.
[[nodiscard]] COIR_API result<> move_to(unsigned worker);
}  // namespace this_fiber

}  // namespace coir
