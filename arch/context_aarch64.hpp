// context_aarch64.hpp: the inlined switch of aarch64.
//
// Always true:
//   - x0 = from, x1 = to, and all else is clobbered, d8-d15 too, but sp, x29 and x19, which it
//     saves itself: g++ refuses x29 as a clobber, and x19 is the base pointer of clang.
//   - x18 is clobbered but never read or written: whoever gives it a meaning of its own
//     (-ffixed-x18) keeps it.
//   - The jump goes through x16, which is what lets `bti c` stand at its target.
//   - aarch64.S resumes what this parked, and the other way round.
//
// Comes from: context.hpp, which alone includes it.   Goes to: whatever `to` resumes.
#pragma once

// What a function that signs its return address (-mbranch-protection=pac-ret) told the unwinder is
// taken back while the thread is halfway: the address in a context is not signed.
#if defined(__ARM_FEATURE_PAC_DEFAULT)
#define COIR_CFI_UNSIGNED ".cfi_negate_ra_state\n\t"
#else
#define COIR_CFI_UNSIGNED
#endif

// As in context_x86_64.hpp: the caller is whatever `to` (in x1) will resume. The escapes are
// DW_CFA_def_cfa sp, 0 and DW_CFA_expression {x30, x29, x19}, DW_OP_breg1 (x1) {0, 16, 24}; the
// return address has the number of x30. 72 to 79 are d8 to d15.
#if defined(__GCC_HAVE_DWARF2_CFI_ASM)
#define COIR_CFI_HALFWAY                                            \
  ".cfi_remember_state\n\t" COIR_CFI_UNSIGNED                       \
  ".cfi_escape 0x0c, 0x1f, 0x00\n\t"                                \
  ".cfi_escape 0x10, 0x1e, 0x02, 0x71, 0x00\n\t"                    \
  ".cfi_escape 0x10, 0x1d, 0x02, 0x71, 0x10\n\t"                    \
  ".cfi_escape 0x10, 0x13, 0x02, 0x71, 0x18\n\t"                    \
  ".cfi_undefined 20\n\t.cfi_undefined 21\n\t.cfi_undefined 22\n\t" \
  ".cfi_undefined 23\n\t.cfi_undefined 24\n\t.cfi_undefined 25\n\t" \
  ".cfi_undefined 26\n\t.cfi_undefined 27\n\t.cfi_undefined 28\n\t" \
  ".cfi_undefined 72\n\t.cfi_undefined 73\n\t.cfi_undefined 74\n\t" \
  ".cfi_undefined 75\n\t.cfi_undefined 76\n\t.cfi_undefined 77\n\t" \
  ".cfi_undefined 78\n\t.cfi_undefined 79\n\t"
#define COIR_CFI_ARRIVED ".cfi_restore_state\n\t"
#else
#define COIR_CFI_HALFWAY
#define COIR_CFI_ARRIVED
#endif

// clang has no name for the first-fault register, and takes what uses it for an access to memory.
#if defined(__ARM_FEATURE_SVE) && !defined(__clang__)
#define COIR_CLOBBERS_FFR , "ffr"
#else
#define COIR_CLOBBERS_FFR
#endif
#if defined(__ARM_FEATURE_SVE)
#define COIR_CLOBBERS_SVE                                                                          \
  , "z0", "z1", "z2", "z3", "z4", "z5", "z6", "z7", "z8", "z9", "z10", "z11", "z12", "z13", "z14", \
      "z15", "z16", "z17", "z18", "z19", "z20", "z21", "z22", "z23", "z24", "z25", "z26", "z27",   \
      "z28", "z29", "z30", "z31", "p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9",      \
      "p10", "p11", "p12", "p13", "p14", "p15" COIR_CLOBBERS_FFR
#else
#define COIR_CLOBBERS_SVE
#endif

namespace coir::arch {

/// What coir_fiber_entry has before the instruction it is entered at.
inline constexpr std::size_t bytes_before_entry = 4;

/// The switch in place; see context_x86_64.hpp. `hint 34` is `bti c` to assemblers of any age.
[[gnu::always_inline]] COIR_UNINSTRUMENTED inline void switch_inlined(context& from,
                                                                      context& to) noexcept {
  register context* source asm("x0") = &from;
  register context* target asm("x1") = &to;
  asm volatile(
      "adr x9, 1f\n\t"
      "mov x10, sp\n\t"
      "stp x9, x10, [x0]\n\t"
      "stp x29, x19, [x0, #16]\n\t"
      "ldp x16, x10, [x1]\n\t"
      "mov sp, x10\n\t" COIR_CFI_HALFWAY
      "ldp x29, x19, [x1, #16]\n\t"
      "br x16\n\t" COIR_CFI_ARRIVED
      "brk #0\n"
      "1:\n\t"
      "hint #34"
      : "+r"(source), "+r"(target)
      :
      : "memory", "cc", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13",
        "x14", "x15", "x16", "x17", "x18", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27",
        "x28", "x30", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11",
        "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24",
        "v25", "v26", "v27", "v28", "v29", "v30", "v31" COIR_CLOBBERS_SVE);
}

}  // namespace coir::arch

#undef COIR_CFI_UNSIGNED
#undef COIR_CFI_HALFWAY
#undef COIR_CFI_ARRIVED
#undef COIR_CLOBBERS_FFR
#undef COIR_CLOBBERS_SVE
