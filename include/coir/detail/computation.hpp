// computation.hpp: a body on a stack of its own that stops at each effect: what the typed half of
// stepping needs to know of it.
//
// Always true:
//   - It runs only inside begin_computation() or resume_computation(), on the thread that made it;
//     when these return it has ended or waits at `asks`.
//   - It lies at the top of its own stack, so a computation costs no allocation but that.
//
// Comes from: coir/stepping.hpp.   Goes to: runtime/stepping.cpp.
#pragma once

#include <cstddef>
#include <exception>
#include <string_view>

#include "coir/detail/effect_call.hpp"

namespace coir::detail {

struct stepped;  // the untyped half

struct computation {
  stepped* inner = nullptr;
  void (*run)(computation& self) noexcept = nullptr;  // the body; keeps its answer
  effect_call* asks = nullptr;                        // what it waits for; null: it runs, or ended
  bool ended = false;
  bool given_up = false;  // it was to end and asked on: it never runs again, and keeps its stack
  std::exception_ptr* throws = nullptr;  // what `asks` throws when it goes on; null: it does not
};

/// Where a computation of `bytes` may be built, on a stack that has `stack_bytes` in all; null and
/// `why`: errc::stack_limit, invalid_argument. `name`: of the first 23 bytes a copy is kept.
COIR_API void* computation_place(std::size_t bytes, std::size_t alignment, std::size_t stack_bytes,
                                 std::string_view name, stepped*& inner, refusal& why) noexcept;
/// Gives it back. Nothing of it was begun, or it has ended, and what was built there is destroyed.
COIR_API void give_computation_back(stepped& inner) noexcept;
/// Whether the caller is on the thread that made it.
COIR_API bool computation_is_here(const computation& c) noexcept;

/// Runs it to its first effect, or to its end.
COIR_API void begin_computation(computation& c) noexcept;
/// On the thread that made it. Goes on after `asks`, whose answer is there (or `asks->refused`,
/// when `said` is refused), to the next effect, or to the end.
COIR_API void resume_computation(computation& c, reply said) noexcept;
/// What it asks for from now on answers operation_canceled; but what must happen all the same (a
/// close) still stops it where `still_asked`.
COIR_API void end_computation(computation& c, bool still_asked) noexcept;
/// Runs it to its end: what it waits for, and all that it asks for from then on, answers
/// operation_canceled. False: it went on asking. That was reported; nothing of it runs again, and
/// it keeps its stack, so nothing there may be destroyed.
COIR_API bool discard_computation(computation& c) noexcept;

}  // namespace coir::detail
