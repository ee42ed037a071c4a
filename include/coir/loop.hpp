// loop.hpp: many bodies that look blocking, on one thread, over any backend and without a runtime;
// alone, or as a part of somebody else's event loop.
//
// Always true:
//   - A failure of one operation reaches the body that asked for it and no other.
//   - Each submission has an answer of its own type; what was finished before the backend failed
//     stays there.
//   - A queue that is full makes operations wait in line; it is no error.
//   - Bodies end before their stacks do: a loop that ends, or is drained, asks for the end of what
//     is under way, waits for the last completions, and lets every body return.
//   - One thread: the one that made it.
//   - It waits for effects. What a body waits for in other ways (a mutex, a join, an item of a
//     stream, what was start()ed) the whole loop waits for.
//
// Comes from: the user.   Goes to: coir/stepping.hpp, coir/detail/loop_core.hpp.
#pragma once

#include "coir/detail/loop_core.hpp"
#include "coir/stepping.hpp"

namespace coir {

struct loop_options {
  unsigned max_completions = 256;       ///< taken from the backend at a time, 1 to 65536
  std::size_t stack_bytes = 256 << 10;  ///< of each body, 16 KiB to 8 MiB
  /// Of the buffer for completions, made once and given back when the loop ends.
  std::pmr::memory_resource* memory = std::pmr::get_default_resource();
};

using progress = detail::loop_progress;
using stale_sink = detail::stale_sink;

/// The answer of one submission. Move-only; dropped, its body goes on and the answer is lost.
template <class R>
class submitted {
 public:
  explicit submitted(step_result<R> ready) noexcept : ready_(std::move(ready)) {}
  struct job final : detail::loop_job {
    void ended() noexcept override {
      answer.emplace(detail::result_of_step(static_cast<detail::computation_of<R>&>(*body)));
    }
    std::optional<step_result<R>> answer;
  };
  submitted(std::shared_ptr<job> waits, detail::loop_core* in) noexcept
      : waits_(std::move(waits)), in_(in) {}

  /// The body has ended.
  bool done() const noexcept { return ready_.has_value() || waits_->answer.has_value(); }
  /// What the body returned; rethrows what left it. Errors: errc::not_parked (it has not ended),
  /// errc::already_joined (this was called before), and why it was not begun.
  [[nodiscard]] result<R> get() {
    if (!done()) return fail(errc::not_parked);
    if (std::exchange(taken_, true)) return fail(errc::already_joined);
    step_result<R>& at = ready_ ? *ready_ : *waits_->answer;
    if (at.exception() != nullptr) std::rethrow_exception(at.exception());
    if (at.error()) return fail(at.error());
    if constexpr (std::is_void_v<R>) {
      return {};
    } else {
      return std::move(at.value());
    }
  }
  /// Asks for the end of what the body waits for: that effect and all later ones answer
  /// operation_canceled. A body that has ended: nothing. One that asks on after 1,000 such answers
  /// is given up as by suspension::discard, and get() answers operation_canceled.
  void cancel() {
    if (!done() && !waits_->done) in_->cancel(*waits_);
  }

 private:
  std::optional<step_result<R>> ready_;
  std::shared_ptr<job> waits_;
  detail::loop_core* in_ = nullptr;
  bool taken_ = false;
};

class loop {
 public:
  /// `outside` must outlive the loop. Errors: invalid_argument (max_completions).
  [[nodiscard]] static result<loop> make(backend& outside, const loop_options& o = {}) {
    if (o.max_completions == 0 || o.max_completions > 65536 || o.memory == nullptr)
      return fail(std::errc::invalid_argument);
    return loop(outside, o);
  }

  /// Runs body() to its first effect, and hands that over; one without effects has ended when this
  /// returns and touched neither backend nor heap. Errors, by get(): those of step(),
  /// errc::shutting_down (after drain), or why the loop failed; the body did not run then. One that
  /// drains the loop before its first effect is answered like all others: that effect and all later
  /// ones answer operation_canceled.
  /// `name`: what the report of a stack overflow calls it; 23 bytes are copied.
  template <class F, class R = std::invoke_result_t<std::decay_t<F>&>>
  [[nodiscard]] submitted<R> submit(F&& body, std::string_view name = {}) {
    if (const std::error_code why = core_->refuses()) return submitted<R>(step_result<R>(why));
    step_result<R> first = [&] {
      const detail::loop_core::inside now(*core_);
      return step(std::forward<F>(body), {stack_bytes_, name});
    }();
    if (!first.is_suspended()) {
      core_->settle();
      return submitted<R>(std::move(first));
    }
    auto waits = std::make_shared<typename submitted<R>::job>();
    core_->make_room();
    waits->body = first.waiting().release();
    core_->take(waits);
    return submitted<R>(std::move(waits), core_.get());
  }

  /// Takes what has come, answers, and hands over what was asked for then. Waits until something
  /// came, at most until `until`. All of progress is 0: nothing did. Errors: why the backend, and
  /// with it the loop, failed, and every body has been ended by then; errc::deadlock in a body of
  /// this loop.
  [[nodiscard]] result<progress> poll(deadline until = no_wait) { return core_->poll(until); }
  /// Polls until nothing is pending. Errors: timed_out; as poll.
  [[nodiscard]] result<> run(deadline until = never) { return core_->run(until); }
  /// Bodies that have not ended.
  std::size_t pending() const noexcept { return core_->pending(); }
  /// Why the loop takes nothing more; empty: it does.
  std::error_code failed() const noexcept { return core_->failed(); }
  /// Completions that came for nobody.
  std::uint64_t stale() const noexcept { return core_->stale(); }
  /// Each of these is given to `sink`, within poll, run or drain, in place of backend::dispose: a
  /// descriptor or a buffer that it brought belongs to `sink`, which may call dispose itself. It
  /// must not throw, nor call this loop. Empty, as in the beginning: they are disposed of.
  void on_stale(stale_sink sink) noexcept { core_->on_stale(std::move(sink)); }
  /// Ends every body, as ~loop does, and returns when all have; how many there were, 0 when it was
  /// called before. From then on submit is refused (errc::shutting_down, or the error that was
  /// there before). In a body of this loop it asks for their end and waits for nobody: they end in
  /// the polls that follow, or in the next drain, or with the loop.
  std::size_t drain() { return core_->drain(); }
  /// Readable while poll() may find something: for a foreign event loop, which calls poll(no_wait)
  /// then. -1: the backend has none. Deadlines and sleeps of bodies do not make it readable.
  int native_fd() const noexcept { return core_->native_fd(); }
  /// When the next of these is due, and poll() is to be called at the latest; never: there is none.
  deadline next_deadline() const noexcept { return core_->next_deadline(); }

 private:
  loop(backend& outside, const loop_options& o)
      : core_(std::make_unique<detail::loop_core>(outside, o.max_completions, o.memory)),
        stack_bytes_(o.stack_bytes) {}

  std::unique_ptr<detail::loop_core> core_;
  std::size_t stack_bytes_;
};

}  // namespace coir
