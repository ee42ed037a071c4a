// context.hpp: leaving one stack and going on with another, on the same thread.
//
// Always true:
//   - A context that is not running holds four words: where it goes on, and its rsp, rbp and rbx.
//     Every other register was saved by the code around the switch, or never lived across it.
//   - Both forms of the switch read and write the same four words and resume by `jmp *rip`, so what
//     one parked the other may resume.
//   - The inlined form never touches the stack: no push, hence the red zone of the function around
//     it stays whole and its CFI stays true. Calls and returns stay paired, which is what makes it
//     fast: everything above it returns by an ordinary `ret`.
//   - At every instruction of a switch an unwinder finds its way: on the old stack until rsp
//     changes, on the new one from there on (COIR_CFI_HALFWAY).
//   - MXCSR and the x87 control word are not switched; reset_float_control() is for those who care.
//
// Comes from: fiber.hpp, worker.hpp.   Goes to: x86_64.S, boost.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "arch/sanitizers.hpp"
#include "runtime/base.hpp"

#if !defined(COIR_BOOST_CONTEXT)
#define COIR_BOOST_CONTEXT 0
#endif

#if !COIR_BOOST_CONTEXT && !defined(__x86_64__)
#error "arch/ has no switch of its own for this CPU: build with COIR_BOOST_CONTEXT=1"
#endif

namespace coir::arch {

/// A stack that is not running. x86_64.S repeats these offsets. With Boost.Context `rsp` holds the
/// fcontext_t, `rbp` and `rbx` what prepare() was given, and `rip` stays null.
struct context {
  void* rip = nullptr;
  void* rsp = nullptr;
  void* rbp = nullptr;
  void* rbx = nullptr;
};
static_assert(offsetof(context, rip) == 0);
static_assert(offsetof(context, rsp) == 8);
static_assert(offsetof(context, rbp) == 16);
static_assert(offsetof(context, rbx) == 24);
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

}  // namespace coir::arch

#if COIR_BOOST_CONTEXT

namespace coir::arch {

/// False: the switch is a call into Boost.Context.
inline constexpr bool switch_is_inlined = false;

}  // namespace coir::arch

#else

extern "C" {

/// The switch as an ordinary function: pushes r12-r15 and ends in `ret`. In x86_64.S.
COIR_HIDDEN void coir_switch(coir::arch::context* from, coir::arch::context* to) noexcept;

/// Where a prepared context starts: calls rbp(rbx) with rbp = 0. Backtraces end here. In x86_64.S.
COIR_HIDDEN void coir_fiber_entry() noexcept;
}

// Between the load of rsp and the jump the thread is on the new stack but not yet in its code. For
// these instructions the frame of the function around the switch does not exist: its caller is
// whatever `to` (in rsi) will resume, with rbp and rbx as stored there.
// The escapes are DW_CFA_def_cfa rsp, 0 (spelt so because the assembler of clang 14 forgets to
// restore what it counts for .cfi_def_cfa) and DW_CFA_expression {rip, rbp, rbx}, DW_OP_breg4 (rsi)
// {0, 16, 24}.
#if defined(__GCC_HAVE_DWARF2_CFI_ASM)
#define COIR_CFI_HALFWAY                             \
  ".cfi_remember_state\n\t"                          \
  ".cfi_escape 0x0c, 0x07, 0x00\n\t"                 \
  ".cfi_escape 0x10, 0x10, 0x02, 0x74, 0x00\n\t"     \
  ".cfi_escape 0x10, 0x06, 0x02, 0x74, 0x10\n\t"     \
  ".cfi_escape 0x10, 0x03, 0x02, 0x74, 0x18\n\t"     \
  ".cfi_undefined %%r12\n\t.cfi_undefined %%r13\n\t" \
  ".cfi_undefined %%r14\n\t.cfi_undefined %%r15\n\t"
#define COIR_CFI_ARRIVED ".cfi_restore_state\n\t"
#else
#define COIR_CFI_HALFWAY
#define COIR_CFI_ARRIVED
#endif

#if defined(__AVX512F__)
#define COIR_CLOBBERS_AVX512                                                                    \
  , "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25",   \
      "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "k0", "k1", "k2", "k3", "k4", "k5", \
      "k6", "k7"
#else
#define COIR_CLOBBERS_AVX512
#endif

namespace coir::arch {

inline void prepare(context& self, void* stack_top, entry_point entry, void* argument) noexcept {
  auto top = reinterpret_cast<std::uintptr_t>(stack_top) & ~std::uintptr_t{15};
  if (COIR_MUTANT(misaligned_entry)) top -= 8;
  self.rip = reinterpret_cast<void*>(&coir_fiber_entry);
  self.rsp = reinterpret_cast<void*>(top);
  self.rbp = reinterpret_cast<void*>(entry);
  self.rbx = argument;
}

/// The switch in place. Wants to stand in one function through which every wait goes, so that the
/// jump's target is easy to predict.
///
/// rbx and rbp are saved here and not listed as clobbers: g++ refuses rbp, and clang accepts rbx
/// but then loses it where it is the base pointer of an over-aligned frame with an alloca. Hence
/// also the fixed registers for the two operands. The byte before the label belongs to the ordinary
/// frame, because an unwinder looks up the address before the one a parked context resumes at.
[[gnu::always_inline]] COIR_UNINSTRUMENTED inline void switch_inlined(context& from,
                                                                      context& to) noexcept {
  context* source = &from;
  context* target = &to;
  asm volatile(
      "leaq 1f(%%rip), %%rax\n\t"
      "movq %%rax, 0(%%rdi)\n\t"
      "movq %%rsp, 8(%%rdi)\n\t"
      "movq %%rbp, 16(%%rdi)\n\t"
      "movq %%rbx, 24(%%rdi)\n\t"
      "movq 8(%%rsi), %%rsp\n\t" COIR_CFI_HALFWAY
      "movq 16(%%rsi), %%rbp\n\t"
      "movq 24(%%rsi), %%rbx\n\t"
      "jmpq *0(%%rsi)\n\t" COIR_CFI_ARRIVED
      "int3\n"
      "1:\n\t"
      "endbr64"
      : "+D"(source), "+S"(target)
      :
      : "memory", "cc", "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
        "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "mm0", "mm1", "mm2", "mm3", "mm4", "mm5",
        "mm6", "mm7", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)",
        "st(7)" COIR_CLOBBERS_AVX512);
}

/// Whether switch_to is the inlined form. Without optimisation every value goes through memory
/// anyway, and sanitizers want a call they can see.
#if defined(__OPTIMIZE__) && !COIR_ASAN && !COIR_TSAN
inline constexpr bool switch_is_inlined = true;
#else
inline constexpr bool switch_is_inlined = false;
#endif

[[gnu::always_inline]] COIR_UNINSTRUMENTED inline void switch_to(context& from,
                                                                 context& to) noexcept {
  if constexpr (switch_is_inlined) {
    switch_inlined(from, to);
  } else {
    coir_switch(&from, &to);
  }
}

}  // namespace coir::arch

#undef COIR_CFI_HALFWAY
#undef COIR_CFI_ARRIVED
#undef COIR_CLOBBERS_AVX512

#endif  // COIR_BOOST_CONTEXT

namespace coir::arch {

/// What the System V ABI promises a program at its start, and we a fiber: round to nearest, all
/// exceptions masked, x87 in extended precision, no sticky flags in MXCSR.
inline constexpr std::uint32_t mxcsr_at_start = 0x1F80;
inline constexpr std::uint16_t x87_control_at_start = 0x037F;

/// Gives this thread the floating-point controls a fresh fiber may expect. Loading a control word
/// is several times dearer than reading it, so it is loaded only when it differs.
inline void reset_float_control() noexcept {
#if defined(__x86_64__)
  if (COIR_MUTANT(inherit_float_control)) return;
  std::uint32_t mxcsr;
  std::uint16_t x87_control;
  asm volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(mxcsr), "=m"(x87_control));
  if (mxcsr != mxcsr_at_start) [[unlikely]] {
    asm volatile("ldmxcsr %0" : : "m"(mxcsr_at_start));
  }
  if (x87_control != x87_control_at_start) [[unlikely]] {
    // Cleared first: with a flag of the past still raised, unmasking or loading would trap here.
    asm volatile("fnclex\n\tfldcw %0" : : "m"(x87_control_at_start));
  }
#elif defined(__aarch64__)
  std::uint64_t fpcr;
  asm volatile("mrs %0, fpcr" : "=r"(fpcr));
  if (fpcr != 0) [[unlikely]] {
    asm volatile("msr fpcr, xzr");
  }
#endif
}

}  // namespace coir::arch
