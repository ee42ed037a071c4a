// register_probe.hpp: fills every register that a callee must keep, calls, and says which came back
// with something else.
//
// Always true:
//   - The list of registers is the ABI's, not what a switch of ours happens to save.
//   - Included by one source of a program only: it holds the code.
//   - On ppc64le, and only there, it is compilers who choose the registers: so many values live
//     across the call that they need all of them.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "runtime/base.hpp"

namespace coir::test {

/// rbx, rbp, r12-r15 in this order; or x19-x29, d8-d15; or 18 doubles and 12 vectors.
#if defined(__x86_64__)
inline constexpr unsigned probed_registers = 6;
#elif defined(__aarch64__)
inline constexpr unsigned probed_registers = 19;
#else
inline constexpr unsigned probed_registers = 30;
#endif

using patterns = std::array<std::uint64_t, probed_registers>;

/// Different for each owner and each register.
inline patterns patterns_of(std::uint64_t owner) {
  patterns made{};
  for (std::uint64_t i = 0; i < made.size(); ++i) {
    made[i] = (owner * made.size() + i + 1) * 0x9E3779B97F4A7C15u;
  }
  return made;
}

// Fills the registers with `wanted`, calls act(argument), and answers with one bit for each
// register that came back with something else.
extern "C" COIR_HIDDEN std::uint64_t coir_test_registers_lost(void (*act)(void*), void* argument,
                                                              const std::uint64_t* wanted);

}  // namespace coir::test

#if defined(__x86_64__)
asm(R"(
        .text
        .type   coir_test_registers_lost, @function
        .globl  coir_test_registers_lost
        .hidden coir_test_registers_lost
coir_test_registers_lost:
        .cfi_startproc
        endbr64
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        pushq   %rdx
        .cfi_adjust_cfa_offset 56
        movq    %rdi, %rax
        movq    %rsi, %rdi
        movq    0(%rdx), %rbx
        movq    8(%rdx), %rbp
        movq    16(%rdx), %r12
        movq    24(%rdx), %r13
        movq    32(%rdx), %r14
        movq    40(%rdx), %r15
        callq   *%rax
        popq    %rdx
        xorl    %eax, %eax
        xorl    %ecx, %ecx
        .set    coir_test_place, 48
        .irp    register, r15, r14, r13, r12, rbp, rbx
        .set    coir_test_place, coir_test_place - 8
        cmpq    coir_test_place(%rdx), %\register
        setne   %cl
        leaq    (%rcx, %rax, 2), %rax
        .endr
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        .cfi_adjust_cfa_offset -56
        retq
        .cfi_endproc
        .size   coir_test_registers_lost, . - coir_test_registers_lost
)");
#elif defined(__aarch64__)
asm(R"(
        .text
        .type   coir_test_registers_lost, %function
        .globl  coir_test_registers_lost
        .hidden coir_test_registers_lost
coir_test_registers_lost:
        .cfi_startproc
        hint    #34
        sub     sp, sp, #176
        .cfi_adjust_cfa_offset 176
        stp     x19, x20, [sp, #0]
        stp     x21, x22, [sp, #16]
        stp     x23, x24, [sp, #32]
        stp     x25, x26, [sp, #48]
        stp     x27, x28, [sp, #64]
        stp     x29, x30, [sp, #80]
        .cfi_rel_offset 29, 80
        .cfi_rel_offset 30, 88
        stp     d8, d9, [sp, #96]
        stp     d10, d11, [sp, #112]
        stp     d12, d13, [sp, #128]
        stp     d14, d15, [sp, #144]
        str     x2, [sp, #160]
        mov     x9, x0
        mov     x0, x1
        ldp     x19, x20, [x2, #0]
        ldp     x21, x22, [x2, #16]
        ldp     x23, x24, [x2, #32]
        ldp     x25, x26, [x2, #48]
        ldp     x27, x28, [x2, #64]
        ldr     x29, [x2, #80]
        ldp     d8, d9, [x2, #88]
        ldp     d10, d11, [x2, #104]
        ldp     d12, d13, [x2, #120]
        ldp     d14, d15, [x2, #136]
        blr     x9
        ldr     x2, [sp, #160]
        mov     x0, xzr
        .irp    number, 15, 14, 13, 12, 11, 10, 9, 8
        fmov    x9, d\number
        ldr     x10, [x2, #(\number * 8 + 24)]
        cmp     x9, x10
        cset    x11, ne
        orr     x0, x11, x0, lsl #1
        .endr
        .irp    number, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19
        ldr     x10, [x2, #(\number * 8 - 152)]
        cmp     x\number, x10
        cset    x11, ne
        orr     x0, x11, x0, lsl #1
        .endr
        ldp     x19, x20, [sp, #0]
        ldp     x21, x22, [sp, #16]
        ldp     x23, x24, [sp, #32]
        ldp     x25, x26, [sp, #48]
        ldp     x27, x28, [sp, #64]
        ldp     x29, x30, [sp, #80]
        ldp     d8, d9, [sp, #96]
        ldp     d10, d11, [sp, #112]
        ldp     d12, d13, [sp, #128]
        ldp     d14, d15, [sp, #144]
        add     sp, sp, #176
        .cfi_adjust_cfa_offset -176
        .cfi_restore 29
        .cfi_restore 30
        ret
        .cfi_endproc
        .size   coir_test_registers_lost, . - coir_test_registers_lost
)");
#else
#define COIR_EACH_DOUBLE(X) \
  X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15) X(16) X(17)
#define COIR_EACH_VECTOR(X) X(18) X(19) X(20) X(21) X(22) X(23) X(24) X(25) X(26) X(27) X(28) X(29)
#define COIR_FILL_DOUBLE(n)                           \
  double value##n = std::bit_cast<double>(wanted[n]); \
  asm volatile("" : "+d"(value##n));
#define COIR_FILL_VECTOR(n)                                       \
  __vector unsigned long long value##n = {wanted[n], ~wanted[n]}; \
  asm volatile("" : "+v"(value##n));
#define COIR_LOST_DOUBLE(n) \
  lost |= std::uint64_t{std::bit_cast<std::uint64_t>(value##n) != wanted[n]} << n;
#define COIR_LOST_VECTOR(n) \
  lost |= std::uint64_t{value##n[0] != wanted[n] || value##n[1] != ~wanted[n]} << n;
std::uint64_t coir::test::coir_test_registers_lost(void (*act)(void*), void* argument,
                                                   const std::uint64_t* wanted) {
  std::uint64_t lost = 0;
  COIR_EACH_DOUBLE(COIR_FILL_DOUBLE)
  COIR_EACH_VECTOR(COIR_FILL_VECTOR)
  act(argument);
  COIR_EACH_DOUBLE(COIR_LOST_DOUBLE)
  COIR_EACH_VECTOR(COIR_LOST_VECTOR)
  return lost;
}
#endif
