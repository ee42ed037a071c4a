// stepping.cpp: bodies that run one effect at a time, on stacks of their own, for whoever drives
// them by hand.
//
// Always true:
//   - A computation is left and entered in step_in() and step_out() alone.
//   - Who steps is a plain thread, a fiber, or another computation. What the computation waits for
//     in other ways than by effects (a mutex, a join) whoever steps it waits for.
//   - Its stacks come from one pool of the process, which is made at the first use and never ends;
//     each thread keeps warm ones of its own. What a thread keeps is there until its thread-locals
//     are gone; of the main thread, for ever, since statics may step while the process ends.
//   - head().notes of a fiber, and the notes of a thread, describe the stack that it stands on.
//
// Comes from: coir/stepping.hpp.   Goes to: stacks, arch/context.hpp.
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include "arch/refusal.hpp"
#include "coir/detail/atomic.hpp"
#include "coir/detail/computation.hpp"
#include "runtime/handlers.hpp"
#include "runtime/overflow.hpp"
#include "runtime/stacks.hpp"

namespace coir::detail {

/// What a thread needs to step.
struct stepping_thread {
  explicit stepping_thread(stacks& pool) : warm(pool) { arch::note_thread(notes); }
  stack_cache warm;
  arch::switch_notes notes;             // of its own stack, or of the computation that it runs
  std::optional<signal_stack> signals;  // where it had none: an overflow is reported there
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

[[gnu::tls_model("initial-exec")]] thread_local constinit stepping_thread* stepper_here = nullptr;
/// Never the same of two threads, not even one after the other; 0: it has not stepped yet.
[[gnu::tls_model("initial-exec")]] thread_local constinit std::uint64_t number_of_thread = 0;
atomic<std::uint64_t> threads_so_far{0};

/// What lies in the thread is found anew by each of these calls, since fibers move.
[[gnu::noinline]] stepping_thread*& place_of_thread() noexcept {
  asm volatile("" ::: "memory");
  return stepper_here;
}
[[gnu::noinline]] std::uint64_t number_here() noexcept {
  asm volatile("" ::: "memory");
  return number_of_thread;
}
[[gnu::noinline]] int* errno_here() noexcept {
  asm volatile("" ::: "memory");
  return &errno;
}

void thread_ends(void* what) noexcept {
  stepper_here = nullptr;
  delete static_cast<stepping_thread*>(what);
}

/// Its destructor runs after those of the thread's thread-locals, which may own computations; and
/// on the main thread never, where the destructors of statics come later still.
struct key_of_threads {
  pthread_key_t key{};
  bool made = ::pthread_key_create(&key, [](void* what) { thread_ends(what); }) == 0;
};

/// What a thread-local with a destructor would be to those who step behind it.
struct ends_early {
  ~ends_early() { number_of_thread = 0; }
};

void note_end_of_thread(stepping_thread& mine) noexcept {
  if (COIR_MUTANT(stepping_ends_with_locals)) {
    static thread_local ends_early with_the_others;
    asm volatile("" : : "r"(&with_the_others));
  }
  static const key_of_threads all;
  // Without a key, or memory for its value, what this thread keeps stays for ever.
  if (all.made) (void)::pthread_setspecific(all.key, &mine);
}

bool describe_computation(overflow_view& out) noexcept;

/// A stack overflow is reported on a stack of its own, and says whose it was.
void expect_overflows(stepping_thread& mine) noexcept {
  install_overflow_report(&describe_computation, overflow_subject::computation);
  stack_t there{};
  if (::sigaltstack(nullptr, &there) != 0 || (there.ss_flags & SS_DISABLE) == 0) return;
  if (auto made = signal_stack::make()) mine.signals.emplace(std::move(*made));
}

[[gnu::noinline]] stepping_thread* make_thread() noexcept {
  stacks* const pool = pool_of_process();
  if (pool == nullptr) return nullptr;
  stepping_thread* made = nullptr;
  try {
    made = new stepping_thread(*pool);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
  // relaxed: a number that nobody else gets, and nothing else.
  if (number_of_thread == 0)
    number_of_thread = threads_so_far.fetch_add(1, std::memory_order_relaxed) + 1;
  place_of_thread() = made;
  expect_overflows(*made);
  note_end_of_thread(*made);
  return made;
}

stepping_thread* this_thread() noexcept {
  stepping_thread* const mine = place_of_thread();
  return mine != nullptr ? mine : make_thread();
}

[[gnu::noinline]] arch::switch_notes& find_notes() noexcept {
  record* const me = current_fiber();
  return me != nullptr ? me->head().notes : this_thread()->notes;
}
/// The notes of the stack that the caller stands on.
COIR_UNINSTRUMENTED inline arch::switch_notes& notes_here() noexcept {
  static arch::switch_notes none;
  if constexpr (std::is_empty_v<arch::switch_notes>) return none;
  return find_notes();
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
  unsigned ignored_answers = 0;  // that said that it is to end
  std::uint64_t thread = 0;      // the number of the one that began it, to which these belong:
  arch::exception_state* thread_exceptions = nullptr;
  int* thread_errno = nullptr;
  stack on;
  char name[24] = {};
};

namespace {

/// A plain thread stays what it is, and so does the thread of a worker; but a simulated runtime is
/// driven by whoever waits for it, and by somebody else when a fiber of it goes on.
COIR_UNINSTRUMENTED inline void find_thread(stepped& c) noexcept {
  if (current_fiber() == nullptr) return;
  c.thread_exceptions = arch::thread_exception_state();
  c.thread_errno = errno_here();
}

/// Before a switch, in whose function nothing else looks at the thread.
inline bool is_here(const stepped& c) noexcept {
  return c.thread == number_of_thread || COIR_MUTANT(stepped_anywhere);
}

/// From whoever steps to the computation, until that stops. In the frame of resume_computation(),
/// and step_out() in that of stop_at(): each return behind a switch goes where the processor does
/// not expect it.
[[gnu::always_inline]] COIR_UNINSTRUMENTED inline void step_in(stepped& c) noexcept {
  const handler_chain here = handlers_here();
  find_thread(c);
  const int kept = std::exchange(*c.thread_errno, c.own_errno);
  c.chain = here.exchange(c.chain);
  c.steps = c.chain;
  arch::switch_notes& place = notes_here();
  c.caller_notes = place;
  place = c.own_notes;
  arch::swap_exception_state(*c.thread_exceptions, c.caller_exceptions, c.own_exceptions);
  arch::note_leave(c.caller_notes, place, false);
  arch::switch_to(c.caller, c.own);
  arch::note_arrive(place);
  c.chain = here.exchange(c.chain);
  *c.thread_errno = kept;
}

/// The way back.
[[gnu::always_inline]] COIR_UNINSTRUMENTED inline void step_out(stepped& c,
                                                                bool for_good) noexcept {
  find_thread(c);
  c.own_errno = *c.thread_errno;
  arch::switch_notes& place = notes_here();
  c.own_notes = place;
  place = c.caller_notes;
  arch::swap_exception_state(*c.thread_exceptions, c.own_exceptions, c.caller_exceptions);
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

/// A body that is to end asks on. One that does not stop would keep whoever ended it for ever; its
/// stack cannot be freed, as its frames may be known anywhere (docs/design.md, 3.15).
void count_ignored_answer(handler_frame& self) noexcept {
  constexpr unsigned most = 1000;
  auto& c = static_cast<stepped&>(self);
  if (++c.ignored_answers <= most || COIR_MUTANT(discard_never_gives_up)) return;
  std::fprintf(
      stderr,
      "coir: computation '%s' is to end and ignored %u answers of "
      "operation_canceled: its stack is kept and it never runs again; return from the body "
      "when an effect answers that\n",
      c.name, most);
  c.typed->given_up = true;
  step_out(c, true);
  COIR_ASSERT(!"a computation ran on after it was given up");
}

reply stop_at(handler_frame& self, effect_call& call) {
  auto& c = static_cast<stepped&>(self);
  if (c.ending &&
      !c.still_asked) {  // what must happen all the same; nobody is there who could do it
    count_ignored_answer(c);
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

/// The innermost one of those that run here: its frame stands behind its own handlers. In the
/// handler of a signal.
bool describe_computation(overflow_view& out) noexcept {
  const handler_frame* at = innermost_handler();
  while (at != nullptr && at->ask != &stop_at) at = at->outer;
  if (at == nullptr || COIR_MUTANT(computations_unnamed)) return false;
  const auto& c = static_cast<const stepped&>(*at);
  out.guard_low = c.on.slot;
  out.guard_high = c.on.bottom;
  out.stack_bytes = stack_slot_bytes(c.on.klass);
  out.name = c.name[0] != '\0' ? c.name : nullptr;
  return true;
}

}  // namespace

handler_frame* stepped_around(handler_frame* from) noexcept {
  while (from != nullptr && from->ask != &stop_at) from = from->outer;
  if (from == nullptr || COIR_MUTANT(handlers_block_the_loop)) return nullptr;
  const auto& c = static_cast<const stepped&>(*from);
  return c.ending && !c.still_asked ? nullptr : from;
}

void* computation_place(std::size_t bytes, std::size_t alignment, std::size_t stack_bytes,
                        std::string_view name, stepped*& inner, refusal& why) noexcept {
  stepping_thread* here = place_of_thread();
  if (here == nullptr) {
    if (arch::refusal() != nullptr && !COIR_MUTANT(shadow_stack_stepped)) {
      why = std::errc::operation_not_supported;
      return nullptr;
    }
    here = make_thread();
  }
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
  inner->ignored = &count_ignored_answer;
  inner->own_notes = notes;
  inner->chain = inner;
  inner->comes_back_elsewhere = true;
  inner->thread = number_here();
  inner->thread_exceptions = arch::thread_exception_state();
  inner->thread_errno = errno_here();
  inner->on = on;
  std::ranges::copy(name.substr(0, sizeof inner->name - 1), inner->name);
  arch::prepare(inner->own, place, &first_of, inner);
  return place;
}

void give_computation_back(stepped& inner) noexcept {
  arch::note_gone(inner.own_notes);
  const stack on = inner.on;
  inner.~stepped();
  // What the thread kept when this began may be gone by now, and is made anew. Where there is no
  // memory for it the stack stays with nobody.
  if (stepping_thread* const here = this_thread()) here->warm.give(on);
}

bool computation_is_here(const computation& c) noexcept { return is_here(*c.inner); }

void begin_computation(computation& c) noexcept {
  c.inner->typed = &c;
  step_in(*c.inner);
}

void resume_computation(computation& c, reply said) noexcept {
  COIR_ASSERT(is_here(*c.inner) && "a computation goes on on the thread that began it");
  c.inner->said = said;
  c.asks = nullptr;
  step_in(*c.inner);
}

void end_computation(computation& c, bool still_asked) noexcept {
  c.inner->still_asked = still_asked;
  c.inner->ending = !COIR_MUTANT(discard_asks_on);
}

bool discard_computation(computation& c) noexcept {
  COIR_ASSERT(computation_is_here(c) && "a suspension is destroyed by the thread that began it");
  end_computation(c, false);
  while (!c.ended && !c.given_up) {
    c.asks->refused = std::make_error_code(std::errc::operation_canceled);
    resume_computation(c, reply::refused);
  }
  return c.ended;
}

}  // namespace coir::detail
