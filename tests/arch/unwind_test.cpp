// unwind_test.cpp: whoever walks the stack of a fiber finds its frames and stops at its entry, and
// exceptions find their handlers there.
//
// Always true:
//   - No doctest check stands inside a fiber or a signal handler.
#include <doctest/doctest.h>
#include <execinfo.h>
#include <signal.h>
#include <unwind.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>

#include "tests/arch/loose_fiber.hpp"
#include "tests/test_options.hpp"

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace {

using namespace coir;
using namespace coir::test;

constexpr unsigned depth = 10;

using address = std::uintptr_t;

/// Where the frame description of the function starts that returns to `frame`.
address function_of(address frame) {
  return reinterpret_cast<address>(_Unwind_FindEnclosingFunction(reinterpret_cast<void*>(frame)));
}

/// One walk up a stack.
struct walk {
  std::array<address, 48> frames{};
  unsigned count = 0;
  _Unwind_Reason_Code end = _URC_NO_REASON;

  void add(address frame) {
    // libgcc reports the end as one more frame, at 0.
    if (frame != 0 && count < frames.size()) frames[count++] = frame;
  }
  [[nodiscard]] address last() const { return count == 0 ? 0 : frames[count - 1]; }
  [[nodiscard]] bool is_last_but_one(address function) const {
    return count > 1 && function_of(frames[count - 2]) == function;
  }
  [[nodiscard]] unsigned frames_of(address function) const {
    return static_cast<unsigned>(
        std::count_if(frames.begin(), frames.begin() + count,
                      [function](address frame) { return function_of(frame) == function; }));
  }
};

_Unwind_Reason_Code add_frame(_Unwind_Context* at, void* to) {
  auto& taken = *static_cast<walk*>(to);
  if (taken.count == taken.frames.size()) return _URC_NORMAL_STOP;
  taken.add(_Unwind_GetIP(at));
  return _URC_NO_REASON;
}

[[gnu::noinline]] walk unwound() {
  walk taken;
  taken.end = _Unwind_Backtrace(&add_frame, &taken);
  return taken;
}

[[gnu::noinline]] walk backtraced() {
  std::array<void*, 48> frames;
  walk taken;
  const int count = backtrace(frames.data(), static_cast<int>(frames.size()));
  for (int i = 0; i < count; ++i) taken.add(reinterpret_cast<address>(frames[i]));
  return taken;
}

/// A saved return address as code knows it: a build that signs them (pac-ret) leaves a mark above.
address unsigned_address(void* saved) {
#if defined(__aarch64__)
  register void* plain asm("x30") = saved;
  asm("hint #7" : "+r"(plain));  // xpaclri, which older processors pass over
  return reinterpret_cast<address>(plain);
#else
  return reinterpret_cast<address>(saved);
#endif
}

/// Follows saved frame pointers; `base` of a frame that has one. Stops after 48 frames.
walk along_frame_pointers(void* base) {
  walk taken;
  while (base != nullptr && taken.count < taken.frames.size()) {
    void* link[2];
    std::memcpy(link, base, sizeof link);
    taken.add(unsigned_address(link[1]));
    base = link[0];
  }
  return taken;
}

struct three_walks {
  bare_fiber<>* fiber = nullptr;
  walk by_unwinder, by_backtrace, by_frame_pointers;
};

void descend(three_walks& taken, unsigned levels);
// Called through memory, so that no compiler folds the levels into one frame.
void (*volatile descend_again)(three_walks&, unsigned) = &descend;

[[gnu::noinline]] void descend(three_walks& taken, unsigned levels) {
  void* const base = __builtin_frame_address(0);  // forces a frame pointer
  if (levels > 1) {
    descend_again(taken, levels - 1);
  } else {
    taken.by_unwinder = unwound();
    taken.by_backtrace = backtraced();
    taken.by_frame_pointers = along_frame_pointers(base);
  }
  asm volatile("" : : "r"(base) : "memory");  // no tail call
}

COIR_UNINSTRUMENTED void descend_from_entry(void* argument) noexcept {
  auto& taken = *static_cast<three_walks*>(argument);
  void* const base = __builtin_frame_address(0);
  arch::note_arrive(taken.fiber->own.notes);
  descend_again(taken, depth);
  asm volatile("" : : "r"(base) : "memory");
  taken.fiber->leave_for_good();
}

template <class Function>
address start_of(Function* function) {
  return function_of(reinterpret_cast<address>(function) + 1);
}

/// Whether `frame` is where every fiber starts: coir_fiber_entry, seen at the address its call
/// returns to, at most 28 bytes in. With Boost.Context that is a function nobody else can name.
bool is_fiber_entry([[maybe_unused]] address frame) {
#if COIR_BOOST_CONTEXT
  return true;
#else
  constexpr address entry_bytes = 28;
  return frame - reinterpret_cast<address>(&coir_fiber_entry) <= entry_bytes;
#endif
}

}  // namespace

TEST_CASE("context: A6 an unwinder stops at the entry of the fiber") {
  bare_fiber<> fiber;
  three_walks taken;
  taken.fiber = &fiber;
  fiber.enter(&descend_from_entry, &taken);

  for (const walk* each : {&taken.by_unwinder, &taken.by_backtrace}) {
    CHECK(each->frames_of(start_of(&descend)) == depth);
    CHECK(each->frames_of(start_of(&descend_from_entry)) == 1);
    // The walk itself (and what a sanitizer puts around it), the levels, the entry function, and
    // where every fiber starts: nothing after that.
    CHECK(each->count >= depth + 3);
    CHECK(each->is_last_but_one(start_of(&descend_from_entry)));
    CHECK(is_fiber_entry(each->last()));
  }
  CHECK(taken.by_unwinder.end == _URC_END_OF_STACK);
}

// Elsewhere frames are not chained by a pointer to {frame, return address}.
#if defined(__x86_64__) || defined(__aarch64__)

TEST_CASE("context: A6 a frame-pointer walk ends with 0 at the entry of the fiber") {
  bare_fiber<> fiber;
  three_walks taken;
  taken.fiber = &fiber;
  fiber.enter(&descend_from_entry, &taken);
  CHECK(taken.by_frame_pointers.count == depth + 1);
  CHECK(taken.by_frame_pointers.frames_of(start_of(&descend)) == depth - 1);
  CHECK(is_fiber_entry(taken.by_frame_pointers.last()));
}

#endif

// ---- exceptions --------------------------------------------------------------------------------

namespace {

struct thrown_at {
  unsigned level;
};

void throw_below(unsigned levels);
void (*volatile throw_again)(unsigned) = &throw_below;

[[gnu::noinline]] void throw_below(unsigned levels) {
  if (levels == 0) throw thrown_at{64};
  throw_again(levels - 1);
  asm volatile("" : : : "memory");
}

}  // namespace

TEST_CASE("context: A6 an exception thrown 64 frames deep in a fiber finds its handler there") {
  constexpr unsigned rounds = ::test::at_full_speed(10'000u, 500u);
  unsigned caught = 0;
  loose_fiber<> fiber([&](auto& self) {
    for (unsigned round = 0; round < rounds; ++round) {
      try {
        throw_again(64);
      } catch (const thrown_at& it) {
        caught += it.level == 64;
      }
      if (round % 100 == 0) self.park();
    }
  });
  while (!fiber.done()) fiber.resume();
  CHECK(caught == rounds);
}

// ---- every instruction of a switch -------------------------------------------------------------

// The processor's trap flag is not switched, so a signal handler sees the thread at every
// instruction from one stack to the other and back. Sanitizers have frames of their own between,
// and other processors have no such flag for programs: there it takes a debugger (switch_steps.sh).
#if defined(__x86_64__) && !COIR_BOOST_CONTEXT && !COIR_ASAN && !COIR_TSAN

namespace {

constexpr std::uint64_t trap_flag = 0x100;

struct steps {
  std::array<walk, 1024> walks;
  unsigned count = 0;
};
steps* stepping = nullptr;

void note_step(int, siginfo_t*, void*) {
  if (stepping->count == stepping->walks.size()) return;
  walk& taken = stepping->walks[stepping->count++];
  taken.end = _Unwind_Backtrace(&add_frame, &taken);
}

[[gnu::always_inline]] inline void step_on() { __writeeflags(__readeflags() | trap_flag); }
[[gnu::always_inline]] inline void step_off() { __writeeflags(__readeflags() & ~trap_flag); }

/// Where the handler runs: on a stack of its own, or on the very one that is being left or reached.
enum class handled_on { alternate_stack, interrupted_stack };

/// Handles SIGTRAP for as long as it lives.
class step_handler {
 public:
  step_handler(steps& into, handled_on where) : alternate_(new std::byte[256 << 10]) {
    stepping = &into;
    unwound();  // the first walk of a process may allocate
    const stack_t alternate{.ss_sp = alternate_.get(), .ss_flags = 0, .ss_size = 256 << 10};
    sigaltstack(&alternate, &alternate_before_);
    struct sigaction action {};
    action.sa_sigaction = &note_step;
    action.sa_flags = SA_SIGINFO | (where == handled_on::alternate_stack ? SA_ONSTACK : 0);
    sigaction(SIGTRAP, &action, &before_);
  }
  ~step_handler() {
    sigaction(SIGTRAP, &before_, nullptr);
    if (alternate_before_.ss_sp == nullptr) alternate_before_.ss_flags = SS_DISABLE;
    sigaltstack(&alternate_before_, nullptr);
    stepping = nullptr;
  }
  step_handler(const step_handler&) = delete;
  step_handler& operator=(const step_handler&) = delete;

 private:
  std::unique_ptr<std::byte[]> alternate_;
  stack_t alternate_before_{};
  struct sigaction before_ {};
};

template <class Switch>
struct stepped {
  bare_fiber<Switch> fiber;

  /// The thread's side: into a fresh fiber, which parks, and again into the parked one.
  [[gnu::noinline]] static void run_thread(stepped& self) {
    auto& fiber = self.fiber;
    Switch::prepare(fiber.own.place, fiber.top, &run_fiber, &self);
    step_on();
    hop(fiber.thread, fiber.own);
    hop(fiber.thread, fiber.own);
    step_off();
    asm volatile("" : : : "memory");
  }
  [[noreturn]] static void run_fiber(void* self) noexcept {
    auto& fiber = static_cast<stepped*>(self)->fiber;
    fiber.park();
    fiber.leave_for_good();
  }
};

}  // namespace

namespace {

/// Into a fiber, out of it, and in again, a signal and a backtrace at every instruction.
template <class Switch>
void step_through(handled_on where) {
  const auto taken = std::make_unique<steps>();
  stepped<Switch> both;
  {
    const step_handler handler(*taken, where);
    stepped<Switch>::run_thread(both);
  }
  const address thread_side = start_of(&stepped<Switch>::run_thread);
  CHECK(taken->count > 60);
  CHECK(taken->count < taken->walks.size());
  unsigned on_thread = 0, on_fiber = 0, lost = 0;
  for (unsigned i = 0; i < taken->count; ++i) {
    const walk& at = taken->walks[i];
    const unsigned thread_frames = at.frames_of(thread_side);
    const unsigned fiber_frames = is_fiber_entry(at.last());
    on_thread += thread_frames;
    on_fiber += fiber_frames;
    lost += at.end != _URC_END_OF_STACK || thread_frames + fiber_frames != 1;
  }
  CHECK(lost == 0);
  CHECK(on_fiber > 20);
  CHECK(on_thread > 20);
}

/// Valgrind does not trap single steps.
bool steps_are_trapped() {
#if COIR_NOTES_VALGRIND
  return RUNNING_ON_VALGRIND == 0;
#else
  return true;
#endif
}

}  // namespace

TEST_CASE_TEMPLATE("context: A6 a backtrace is whole at every instruction of a switch", Switch,
                   inlined_switch, called_switch, mixed_switch) {
  if (steps_are_trapped()) step_through<Switch>(handled_on::alternate_stack);
}

TEST_CASE_TEMPLATE("context: A12 a signal at any instruction of a switch finds a stack to run on",
                   Switch, inlined_switch, called_switch, mixed_switch) {
  if (steps_are_trapped()) step_through<Switch>(handled_on::interrupted_stack);
}

#endif
