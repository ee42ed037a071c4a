// stepping.cpp: bodies that run one effect at a time, on stacks of their own, for whoever drives
// them by hand.
//
// Always true:
//   - A computation is left and entered in step_in() and step_out() alone.
//   - Who steps is a plain thread, a fiber, or another computation. What the computation waits for
//     in other ways than by effects (a mutex, a join) whoever steps it waits for.
//   - Its stacks come from one pool of the process, which is made at the first use and never ends;
//     each thread keeps warm ones of its own.
//   - head().notes of a fiber, and the notes of a thread, describe the stack that it stands on.
//
// Comes from: coir/stepping.hpp.   Goes to: stacks, arch/context.hpp.
#include <cerrno>
#include <memory>
#include <new>
#include <utility>

#include "coir/detail/computation.hpp"
#include "runtime/handlers.hpp"
#include "runtime/overflow.hpp"
#include "runtime/stacks.hpp"

namespace coir::detail {

/// What a thread needs to step.
struct stepping_thread {
  explicit stepping_thread(stacks& pool) : warm(pool) { arch::note_thread(notes); }
  stack_cache warm;
  arch::switch_notes notes;  // of its own stack, or of the computation that it runs
};

namespace {

stacks* pool_of_process() noexcept {
  // Never destroyed: a thread that ends after main() still gives its stacks back.
  static stacks* const pool = []() noexcept -> stacks* {
    auto made = stacks::make({.warm_max = 64});
    return made ? made->release() : nullptr;
  }();
  return pool;
}

/// What lies in the thread is found anew by each of these calls: a computation may come back on
/// another thread than its stepper left, where that is a fiber that moves.
[[gnu::noinline]] std::unique_ptr<stepping_thread>& place_of_thread() noexcept {
  static thread_local std::unique_ptr<stepping_thread> mine;
  asm volatile("" ::: "memory");
  return mine;
}
[[gnu::noinline]] int errno_of_thread() noexcept {
  asm volatile("" ::: "memory");
  return errno;
}
[[gnu::noinline]] void set_errno(int value) noexcept {
  errno = value;
  asm volatile("" ::: "memory");
}

[[gnu::noinline]] stepping_thread* make_thread() noexcept {
  stacks* const pool = pool_of_process();
  if (pool == nullptr) return nullptr;
  try {
    auto made = std::make_unique<stepping_thread>(*pool);
    return (place_of_thread() = std::move(made)).get();
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

stepping_thread* this_thread() noexcept {
  stepping_thread* const mine = place_of_thread().get();
  return mine != nullptr ? mine : make_thread();
}

/// The notes of the stack that the caller stands on.
[[gnu::noinline]] arch::switch_notes& notes_here() noexcept {
  record* const me = current_fiber();
  return me != nullptr ? me->head().notes : this_thread()->notes;
}

}  // namespace

struct stepped : handler_frame {
  arch::context own;     // where it goes on
  arch::context caller;  // where whoever steps goes on
  arch::switch_notes own_notes, caller_notes;
  arch::exception_state own_exceptions, caller_exceptions;
  handler_frame* chain = nullptr;  // of the one of the two who does not run
  bool still_asked = false;        // although it is to end
  int own_errno = 0;
  reply said = reply::answered;
  computation* typed = nullptr;
  stepping_thread* thread = nullptr;
  stack on;
};

namespace {

/// From whoever steps to the computation, until that stops.
[[gnu::noinline]] COIR_UNINSTRUMENTED void step_in(stepped& c) noexcept {
  const int kept = errno_of_thread();
  c.chain = exchange_handlers(c.chain);
  arch::switch_notes& place = notes_here();
  c.caller_notes = place;
  place = c.own_notes;
  arch::swap_exception_state(*arch::thread_exception_state(), c.caller_exceptions,
                             c.own_exceptions);
  set_errno(c.own_errno);
  arch::note_leave(c.caller_notes, place, false);
  arch::switch_to(c.caller, c.own);
  arch::note_arrive(place);
  c.chain = exchange_handlers(c.chain);
  set_errno(kept);
}

/// The way back.
[[gnu::noinline]] COIR_UNINSTRUMENTED void step_out(stepped& c, bool for_good) noexcept {
  c.own_errno = errno_of_thread();
  arch::switch_notes& place = notes_here();
  c.own_notes = place;
  place = c.caller_notes;
  arch::swap_exception_state(*arch::thread_exception_state(), c.own_exceptions,
                             c.caller_exceptions);
  arch::note_leave(c.own_notes, place, for_good);
  arch::switch_to(c.own, c.caller);
  arch::note_arrive(notes_here());
}

COIR_UNINSTRUMENTED void first_of(void* argument) noexcept {
  auto& c = *static_cast<stepped*>(argument);
  arch::note_arrive(notes_here());
  c.typed->run(*c.typed);
  c.typed->ended = true;
  step_out(c, true);
  COIR_ASSERT(!"a computation ran on after its end");
}

reply stop_at(handler_frame& self, effect_call& call) {
  auto& c = static_cast<stepped&>(self);
  if (c.ending &&
      !c.still_asked) {  // what must happen all the same; nobody is there who could do it
    call.refused = std::make_error_code(std::errc::operation_canceled);
    return reply::refused;
  }
  c.typed->asks = &call;
  step_out(c, false);
  if (std::exception_ptr* const thrown = std::exchange(c.typed->throws, nullptr)) {
    // Moved here first: whoever steps keeps none of it, and sees it end with the body's own.
    const std::exception_ptr mine = std::move(*thrown);
    if (!COIR_MUTANT(thrown_into_nobody)) std::rethrow_exception(mine);
  }
  return c.said;
}

}  // namespace

void* computation_place(std::size_t bytes, std::size_t alignment, std::size_t stack_bytes,
                        stepped*& inner, refusal& why) noexcept {
  stepping_thread* const here = this_thread();
  if (here == nullptr) {
    why = errc::stack_limit;
    return nullptr;
  }
  const auto klass = stack_class(stack_bytes);
  if (!klass) {
    why = std::errc::invalid_argument;
    return nullptr;
  }
  const stack on = here->warm.take(*klass);
  if (!on) {
    why = errc::stack_limit;
    return nullptr;
  }
  const auto below = [](std::byte* from, std::size_t size, std::size_t align) {
    return reinterpret_cast<std::byte*>((reinterpret_cast<std::uintptr_t>(from) - size) &
                                        ~std::uintptr_t{align - 1});
  };
  std::byte* const at = below(on.top, sizeof(stepped), alignof(stepped));
  std::byte* const place = below(at, bytes, std::max<std::size_t>(alignment, 16));
  if (place < on.bottom || place - on.bottom < static_cast<std::ptrdiff_t>(stack_least_bytes)) {
    here->warm.give(on);
    why = std::errc::invalid_argument;
    return nullptr;
  }
  arch::switch_notes notes;
  arch::note_stack(notes, on.bottom, on.bytes());
  inner = ::new (at) stepped;
  inner->ask = &stop_at;
  inner->own_notes = notes;
  inner->chain = inner;
  inner->thread = here;
  inner->on = on;
  arch::prepare(inner->own, place, &first_of, inner);
  return place;
}

void give_computation_back(stepped& inner) noexcept {
  arch::note_gone(inner.own_notes);
  stepping_thread* const home = inner.thread;
  const stack on = inner.on;
  inner.~stepped();
  home->warm.give(on);
}

bool computation_is_here(const computation& c) noexcept { return c.inner->thread == this_thread(); }

void begin_computation(computation& c) noexcept {
  c.inner->typed = &c;
  step_in(*c.inner);
}

void resume_computation(computation& c, reply said) noexcept {
  c.inner->said = said;
  c.asks = nullptr;
  step_in(*c.inner);
}

void end_computation(computation& c, bool still_asked) noexcept {
  c.inner->still_asked = still_asked;
  c.inner->ending = !COIR_MUTANT(discard_asks_on);
}

void discard_computation(computation& c) noexcept {
  COIR_ASSERT(computation_is_here(c) && "a suspension is destroyed by the thread that began it");
  end_computation(c, false);
  while (!c.ended) {
    c.asks->refused = std::make_error_code(std::errc::operation_canceled);
    resume_computation(c, reply::refused);
  }
}

}  // namespace coir::detail
