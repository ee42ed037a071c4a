// context.hpp: leaving one stack and going on with another, on the same thread.
//
// Always true:
//   - A context that is not running holds four words: where it goes on, and its stack, frame and
//     base pointers. Every other register was saved by the code around the switch, or never lived
//     across it.
//   - All forms of the switch read and write the same four words and resume by a jump to `pc`, so
//     what one parked the other may resume.
//   - The inlined form never touches the stack: no push, hence the red zone of the function around
//     it stays whole and its CFI stays true. Calls and returns stay paired, which is what makes it
//     fast: everything above it returns by an ordinary return.
//   - At every instruction of a switch an unwinder finds its way: on the old stack until the stack
//     pointer changes, on the new one from there on.
//   - No switch touches the floating-point controls; float_control.hpp is beside it for those who
//     care. Nothing else differs between the four switchers down here: who lets a fiber change its
//     thread must not keep the address of a thread-local across a switch, and that is not a matter
//     of registers.
//
// Comes from: fiber.hpp, worker.hpp.   Goes to: x86_64.S, aarch64.S, boost.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "arch/sanitizers.hpp"
#include "runtime/base.hpp"

#if !defined(COIR_BOOST_CONTEXT)
#define COIR_BOOST_CONTEXT 0
#endif

#if !COIR_BOOST_CONTEXT && !defined(__x86_64__) && !defined(__aarch64__)
#error "arch/ has no switch of its own for this CPU: build with COIR_BOOST_CONTEXT=1"
#endif

namespace coir::arch {

/// A stack that is not running. The .S files repeat these offsets. `fp` is rbp or x29; `bp` is rbx
/// or x19, which compilers take as base pointer of an over-aligned frame with an alloca. With
/// Boost.Context `sp` holds the fcontext_t, the last two what prepare() was given, and `pc` stays
/// null.
struct context {
  void* pc = nullptr;
  void* sp = nullptr;
  void* fp = nullptr;
  void* bp = nullptr;
};
static_assert(offsetof(context, pc) == 0);
static_assert(offsetof(context, sp) == 8);
static_assert(offsetof(context, fp) == 16);
static_assert(offsetof(context, bp) == 24);
static_assert(sizeof(context) == 32);

/// The first function of a fiber. It leaves by a switch and never returns.
using entry_point = void (*)(void* argument) noexcept;

/// Makes `self` a context whose first resumption calls entry(argument) on the stack that ends at
/// `stack_top` (any alignment). The stack itself is not touched by our own switch, so this costs no
/// page fault.
void prepare(context& self, void* stack_top, entry_point entry, void* argument) noexcept;

/// Stores where the caller is in `from` and goes on with `to`. Returns when someone switches to
/// `from`. Of the caller's floating-point state only values survive, not the control words.
void switch_to(context& from, context& to) noexcept;

/// The same, but a call in every build: for whoever must not be inlined, and for what the compiler
/// has to see as a function that may do anything.
void switch_called(context& from, context& to) noexcept;

}  // namespace coir::arch

#if COIR_BOOST_CONTEXT

namespace coir::arch {

/// False: the switch is a call into Boost.Context.
inline constexpr bool switch_is_inlined = false;

inline void switch_called(context& from, context& to) noexcept { switch_to(from, to); }

}  // namespace coir::arch

#else

extern "C" {

/// The switch as an ordinary function: saves what a callee must keep and ends in a return. In the
/// .S file of the CPU.
COIR_HIDDEN void coir_switch(coir::arch::context* from, coir::arch::context* to) noexcept;

/// Where a prepared context starts, one instruction in (unwinders look up the address before the
/// one a parked context resumes at): calls fp(bp) with fp = 0. Backtraces end here. In the .S file.
COIR_HIDDEN void coir_fiber_entry() noexcept;
}

// These two bring switch_inlined(): what the assembly of one CPU has to say inside a function.
#if defined(__x86_64__)
#include "arch/context_x86_64.hpp"
#else
#include "arch/context_aarch64.hpp"
#endif

namespace coir::arch {

inline void prepare(context& self, void* stack_top, entry_point entry, void* argument) noexcept {
  auto top = reinterpret_cast<std::uintptr_t>(stack_top) & ~std::uintptr_t{15};
  if (COIR_MUTANT(misaligned_entry)) top -= 8;
  self.pc = reinterpret_cast<char*>(&coir_fiber_entry) + bytes_before_entry;
  self.sp = reinterpret_cast<void*>(top);
  self.fp = reinterpret_cast<void*>(entry);
  self.bp = argument;
}

/// Whether switch_to is the inlined form. Without optimisation every value goes through memory
/// anyway, and sanitizers want a call they can see.
#if defined(__OPTIMIZE__) && !COIR_ASAN && !COIR_TSAN
inline constexpr bool switch_is_inlined = true;
#else
inline constexpr bool switch_is_inlined = false;
#endif

[[gnu::always_inline]] COIR_UNINSTRUMENTED inline void switch_called(context& from,
                                                                     context& to) noexcept {
  coir_switch(&from, &to);
}

[[gnu::always_inline]] COIR_UNINSTRUMENTED inline void switch_to(context& from,
                                                                 context& to) noexcept {
  if constexpr (switch_is_inlined) {
    switch_inlined(from, to);
  } else {
    switch_called(from, to);
  }
}

}  // namespace coir::arch

#endif  // COIR_BOOST_CONTEXT
