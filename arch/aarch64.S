// aarch64.S: the out-of-line switch, and the first instructions of every fiber.
//
//   extern "C" void coir_switch(context* from, context* to) noexcept;    x0 = from, x1 = to
//   coir_fiber_entry + 4:   by br only;   x19 = argument, x29 = entry, sp = 16-byte aligned
//
// A context, as context.hpp asserts it:            The frame of a context parked by coir_switch:
//    0  pc    where it goes on                        sp +  0  x20, x21
//    8  sp                                               + 16  x22, x23
//   16  x29                                              + 32  x24, x25
//   24  x19                                              + 48  x26, x27
//                                                        + 64  x28, x30
//                                                        + 80  d8 to d15
// Always true:
//   - The CFI is exact at every instruction, also between the load of sp and the jump.
//   - Every address that is jumped to indirectly starts with `bti c` (as hint 34, which assemblers
//     of any age know), and is jumped to through x16. BTI is announced; signed return addresses are
//     not, because ours are never signed.
//   - x18 belongs to the platform and is not named here.
//
// Comes from: context.hpp.   Goes to: the entry_point given to prepare().

#define CONTEXT_PC 0
#define CONTEXT_X29 16
#define FRAME_BYTES 144

// A pair into, or out of, the frame; the unwinder is told after the instruction. Numbers are those
// of DWARF: 0 to 30 for x, 72 to 79 for d8 to d15.
        .macro  keep first, second, number, number2, offset
        stp     \first, \second, [sp, #\offset]
        .cfi_rel_offset \number, \offset
        .cfi_rel_offset \number2, \offset + 8
        .endm
        .macro  give first, second, number, number2, offset
        ldp     \first, \second, [sp, #\offset]
        .cfi_restore \number
        .cfi_restore \number2
        .endm

        .text

        .globl  coir_switch
        .hidden coir_switch
        .type   coir_switch, %function
        .p2align 4
coir_switch:
        .cfi_startproc
        hint    #34
        sub     sp, sp, #FRAME_BYTES
        .cfi_adjust_cfa_offset FRAME_BYTES
        keep    x20, x21, 20, 21, 0
        keep    x22, x23, 22, 23, 16
        keep    x24, x25, 24, 25, 32
        keep    x26, x27, 26, 27, 48
        keep    x28, x30, 28, 30, 64
        keep    d8, d9, 72, 73, 80
        keep    d10, d11, 74, 75, 96
        keep    d12, d13, 76, 77, 112
        keep    d14, d15, 78, 79, 128
        adr     x9, .Lresumed
        mov     x10, sp
        stp     x9, x10, [x0, #CONTEXT_PC]
        stp     x29, x19, [x0, #CONTEXT_X29]
        ldp     x16, x10, [x1, #CONTEXT_PC]
        mov     sp, x10
        .cfi_remember_state             // from here on our caller is what `to` will resume:
        .cfi_escape 0x0c, 0x1f, 0x00    // the frame ends at sp (see context_aarch64.hpp),
        .cfi_escape 0x10, 0x1e, 0x02, 0x71, 0x00    // the return address is at x1 + 0,
        .cfi_escape 0x10, 0x1d, 0x02, 0x71, 0x10    // x29 at x1 + 16,
        .cfi_escape 0x10, 0x13, 0x02, 0x71, 0x18    // x19 at x1 + 24
        .irp    number, 20, 21, 22, 23, 24, 25, 26, 27, 28, 72, 73, 74, 75, 76, 77, 78, 79
        .cfi_undefined \number          // and these are its own business
        .endr
        ldp     x29, x19, [x1, #CONTEXT_X29]
        br      x16
        .cfi_restore_state
        brk     #0                      // unwinders look up the address before a resume address
.Lresumed:
        hint    #34
        give    d14, d15, 78, 79, 128
        give    d12, d13, 76, 77, 112
        give    d10, d11, 74, 75, 96
        give    d8, d9, 72, 73, 80
        give    x28, x30, 28, 30, 64
        give    x26, x27, 26, 27, 48
        give    x24, x25, 24, 25, 32
        give    x22, x23, 22, 23, 16
        give    x20, x21, 20, 21, 0
        add     sp, sp, #FRAME_BYTES
        .cfi_adjust_cfa_offset -FRAME_BYTES
        ret                             // pairs with the call of the fiber that left earlier
        .cfi_endproc
        .size   coir_switch, . - coir_switch

        .globl  coir_fiber_entry
        .hidden coir_fiber_entry
        .type   coir_fiber_entry, %function
        .p2align 4
coir_fiber_entry:
        .cfi_startproc
        .cfi_undefined 30               // nobody called this: backtraces end here
        .cfi_def_cfa sp, 0
        brk     #0                      // the address before the first resume address, as above
        hint    #34                     // prepare() lets a context begin here
        mov     x16, x29
        mov     x0, x19
        mov     x29, xzr                // a frame-pointer walk ends here too
        adr     x30, .Lnever            // as a call would,
        br      x16                     // but no return address that nobody ever returns to
.Lnever:
        brk     #0
        .cfi_endproc
        .size   coir_fiber_entry, . - coir_fiber_entry

        .section .note.GNU-stack, "", %progbits

// GNU_PROPERTY_AARCH64_FEATURE_1_AND = BTI
        .section .note.gnu.property, "a", %note
        .p2align 3
        .long   4, 16, 5
        .asciz  "GNU"
        .long   0xc0000000, 4, 1, 0
