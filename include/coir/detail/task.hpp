// task.hpp: what a typed spawn and a typed handle share with the runtime, which knows no types.
//
// Always true:
//   - `storage` holds exactly one thing at a time, named by `held`: the closure, then the answer
//     (or why there is none).
//   - The closure is moved onto the fiber's own stack before it runs, so its answer may take its
//     place.
//   - Whoever writes `held` owns the task at that moment: the spawner before launch, the fiber
//     while it runs, the holder of the handle after the join word says done.
//
// Comes from: coir/fiber.hpp, coir/runtime.hpp, coir/scope.hpp.   Goes to: runtime/fiber.hpp
// (record derives from task).
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <new>
#include <type_traits>
#include <utility>

#include "coir/clock.hpp"
#include "coir/result.hpp"

namespace coir {

/// Names a fiber for ever: a slot is used again, its generation never is.
struct fiber_id {
  std::uint32_t slot = 0;
  std::uint32_t runtime = 0;
  std::uint64_t generation = 0;
  friend bool operator==(const fiber_id&, const fiber_id&) = default;
};

/// Where a fiber was spawned; shown by the overflow report and in dumps.
struct site {
  const char* file = "";
  const char* function = "";
  int line = 0;
  static constexpr site here(const char* file = __builtin_FILE(),
                             const char* function = __builtin_FUNCTION(),
                             int line = __builtin_LINE()) noexcept {
    return {file, function, line};
  }
};

struct spawn_options;

namespace detail {

class runtime_core;
struct scope_state;
struct task;

inline constexpr std::size_t storage_bytes = 64;

/// What a task's type knows how to do.
struct body_ops {
  void (*run)(task&);                          // closure -> answer; never throws out
  void (*drop)(task&) noexcept;                // destroys whatever `held` names
  std::error_code (*failure)(task&) noexcept;  // the error in the answer, if there is one
  bool trivial_answer;                         // destroying it does nothing
  bool leaves_half;  // nothing of it ever lies in the upper half of `storage`
};

enum class holds : std::uint8_t { nothing, closure, answer, error, exception };

struct task {
  alignas(16) std::byte storage[storage_bytes];
  const body_ops* ops = nullptr;
  holds held = holds::nothing;

  void fail_with(std::error_code code) noexcept {
    ::new (static_cast<void*>(storage)) std::error_code(code);
    held = holds::error;
  }
  std::error_code error() const noexcept {
    return *std::launder(reinterpret_cast<const std::error_code*>(storage));
  }
  std::exception_ptr& exception() noexcept {
    return *std::launder(reinterpret_cast<std::exception_ptr*>(storage));
  }
};

/// An allocation for what does not fit into the record of `owner`, whose runtime counts it.
COIR_API void* allocate_box(task& owner, std::size_t bytes, std::size_t alignment);
COIR_API void free_box(void* box, std::size_t bytes, std::size_t alignment) noexcept;

template <class T>
inline constexpr bool fits_storage = sizeof(T) <= storage_bytes && alignof(T) <= 16;

inline void* box_of(task& t) noexcept { return *std::launder(reinterpret_cast<void**>(t.storage)); }

/// Where the answer of a task lies: its type alone decides, so a handle knows without asking.
template <class Answer>
Answer& answer_in(task& t) noexcept {
  void* const place = fits_storage<Answer> ? t.storage : box_of(t);
  return *std::launder(static_cast<Answer*>(place));
}

/// How a callable F is kept in a task, run, and answered for. One instance of body_ops per F.
template <class F>
struct body {
  using returned = std::invoke_result_t<F&>;
  using value = flat_t<returned>;
  using answer = result<value>;
  static constexpr bool boxed_answer = !fits_storage<answer>;
  static constexpr bool boxed = boxed_answer || !fits_storage<F>;  // so is the closure
  static constexpr std::size_t box_bytes = boxed_answer && sizeof(answer) > sizeof(F)
                                               ? sizeof(answer)
                                               : sizeof(F);
  static constexpr std::size_t box_alignment = boxed_answer && alignof(answer) > alignof(F)
                                                   ? alignof(answer)
                                                   : alignof(F);

  static F& closure(task& t) noexcept {
    void* const place = boxed ? box_of(t) : t.storage;
    return *std::launder(static_cast<F*>(place));
  }

  template <class G>
  static void put(task& t, G&& callable) {
    if constexpr (boxed) {
      void* box = allocate_box(t, box_bytes, box_alignment);
      try {
        ::new (box) F(std::forward<G>(callable));
      } catch (...) {
        free_box(box, box_bytes, box_alignment);
        throw;
      }
      ::new (static_cast<void*>(t.storage)) void*(box);
    } else {
      ::new (static_cast<void*>(t.storage)) F(std::forward<G>(callable));
    }
    t.ops = &ops;
    t.held = holds::closure;
  }

  static void unbox(task& t) noexcept { free_box(box_of(t), box_bytes, box_alignment); }

  /// The closure has left for the fiber's stack; its box goes too, unless the answer needs it.
  static void closure_left(task& t) noexcept {
    closure(t).~F();
    if constexpr (boxed && !boxed_answer) unbox(t);
    t.held = holds::nothing;
  }

  static void run(task& t) {
    try {
      F callable(std::move(closure(t)));
      closure_left(t);
      void* place = t.storage;
      if constexpr (boxed_answer) place = box_of(t);
      if constexpr (std::is_void_v<returned>) {
        std::invoke(callable);
        ::new (place) answer();
      } else {
        ::new (place) answer(std::invoke(callable));
      }
      t.held = holds::answer;
    } catch (...) {
      if (t.held == holds::closure) closure_left(t);
      if constexpr (boxed_answer) unbox(t);
      ::new (static_cast<void*>(t.storage)) std::exception_ptr(std::current_exception());
      t.held = holds::exception;
    }
  }

  static void drop(task& t) noexcept {
    if (t.held == holds::closure) {
      closure(t).~F();
      if constexpr (boxed) unbox(t);
    } else if (t.held == holds::answer) {
      answer_in<answer>(t).~answer();
      if constexpr (boxed_answer) unbox(t);
    } else if (t.held == holds::exception) {
      t.exception().~exception_ptr();
    }
    t.held = holds::nothing;
  }

  static std::error_code failure(task& t) noexcept {
    const answer& a = answer_in<answer>(t);
    return a ? std::error_code() : a.error();
  }

  static constexpr body_ops ops{&run, &drop, &failure,
                                !boxed_answer && std::is_trivially_destructible_v<answer>,
                                (boxed || sizeof(F) <= storage_bytes / 2) &&
                                    (boxed_answer || sizeof(answer) <= storage_bytes / 2)};
};

/// Makes `t` a child of `scope`; refused when the scope was cancelled or joined.
COIR_API refusal adopt(scope_state& scope, task& t) noexcept;
/// After the launch: a cancel of the scope that came in between reaches the child now.
COIR_API void confirm(scope_state& scope, task& t) noexcept;

/// Takes a free record for `options`; nullptr and `why` when there is none. `core` null: the
/// caller's own runtime. `wait`: park (fiber) or block (thread) until one is free or
/// `options.until` is over.
COIR_API task* new_task(runtime_core* core, const spawn_options& options, const site& where,
                        bool wait, refusal& why);
/// Hands a filled task over to the workers; on an error the task is still the caller's.
COIR_API refusal launch(task& t, const spawn_options& options, bool wait) noexcept;
/// Gives back a task that was never launched, after its contents were dropped.
COIR_API void abandon(task& t) noexcept;

/// Waits for the end. Empty: it has ended, and the answer is the caller's.
COIR_API refusal join(task& t, deadline until) noexcept;
COIR_API bool done(const task& t) noexcept;
COIR_API void cancel(task& t) noexcept;
COIR_API void release(task& t) noexcept;
COIR_API fiber_id id_of(const task& t) noexcept;

}  // namespace detail
}  // namespace coir
