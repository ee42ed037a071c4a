// context_x86_64.hpp: the inlined switch of x86-64.
//
// Always true:
//   - rdi = from, rsi = to, and all else is clobbered, but rsp, rbp and rbx, which it saves itself:
//     g++ refuses rbp as a clobber, and clang accepts rbx but then loses it where it is the base
//     pointer of an over-aligned frame with an alloca.
//   - x86_64.S resumes what this parked, and the other way round.
//
// Comes from: context.hpp, which alone includes it.   Goes to: whatever `to` resumes.
#pragma once

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

/// What coir_fiber_entry has before the instruction it is entered at.
inline constexpr std::size_t bytes_before_entry = 1;

/// The switch in place. Wants to stand in one function through which every wait goes, so that the
/// jump's target is easy to predict. The byte before the label belongs to the ordinary frame,
/// because an unwinder looks up the address before the one a parked context resumes at.
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

}  // namespace coir::arch

#undef COIR_CFI_HALFWAY
#undef COIR_CFI_ARRIVED
#undef COIR_CLOBBERS_AVX512
