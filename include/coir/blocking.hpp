// blocking.hpp: calls that block a thread, moved off the worker: the fiber parks, a thread of the
// offload pool runs them.
//
// Always true:
//   - The callable runs to its end, cancelled or not: what it captured by reference stays valid,
//     because the fiber waits for it. The deadline and a cancel only apply while it waits for a
//     free thread.
//
// Comes from: the user.   Goes to: runtime/offload.hpp.
#pragma once

#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

#include "coir/clock.hpp"
#include "coir/detail/task.hpp"

namespace coir {

namespace detail {
using offload_function = void (*)(void* argument) noexcept;
COIR_API std::error_code offload(offload_function run, void* argument, deadline until) noexcept;
}  // namespace detail

/// Runs `callable` on a thread of the offload pool and returns its value; its exception is rethrown
/// here. On a plain thread it simply runs. Errors: timed_out and operation_canceled while it waited
/// for a thread, or for one of the options::offload_queue places of those who do;
/// errc::offload_full where all are taken and `until` is no_wait; why no thread could be had
/// (resource_unavailable_try_again, not_enough_memory).
template <class F>
[[nodiscard]] auto blocking(F&& callable, deadline until = never)
    -> result<detail::flat_t<std::invoke_result_t<F&>>> {
  using returned = std::invoke_result_t<F&>;
  using answer = result<detail::flat_t<returned>>;
  struct call {
    F& callable;
    std::optional<answer> value = {};
    std::exception_ptr thrown = {};
    static void run(void* self) noexcept {
      auto& c = *static_cast<call*>(self);
      try {
        if constexpr (std::is_void_v<returned>) {
          c.callable();
          c.value.emplace();
        } else {
          c.value.emplace(c.callable());
        }
      } catch (...) {
        c.thrown = std::current_exception();
      }
    }
  } c{callable};
  if (const std::error_code code = detail::offload(&call::run, &c, until)) return fail(code);
  if (c.thrown) std::rethrow_exception(c.thrown);
  return std::move(*c.value);
}

}  // namespace coir
