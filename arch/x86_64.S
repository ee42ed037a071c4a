// x86_64.S: the out-of-line switch, and the first instructions of every fiber.
//
//   extern "C" void coir_switch(context* from, context* to) noexcept;    rdi = from, rsi = to
//   coir_fiber_entry + 1:   by jmp only;   rbx = argument, rbp = entry, rsp = 16-byte aligned
//
// A context, as context.hpp asserts it:            The frame of a context parked by coir_switch:
//    0  rip   where it goes on                        rsp +  0  r15
//    8  rsp                                               +  8  r14
//   16  rbp                                               + 16  r13
//   24  rbx                                               + 24  r12
//                                                         + 32  the address coir_switch returns to
// Always true:
//   - The CFI is exact at every instruction, also between the load of rsp and the jump.
//   - Every address that is jumped to indirectly starts with endbr64. IBT is announced; shadow
//     stacks are not, because a switch leaves by jmp.
//
// Comes from: context.hpp.   Goes to: the entry_point given to prepare().

#define CONTEXT_RIP 0
#define CONTEXT_RSP 8
#define CONTEXT_RBP 16
#define CONTEXT_RBX 24

        .text

        .globl  coir_switch
        .hidden coir_switch
        .type   coir_switch, @function
        .p2align 4
coir_switch:
        .cfi_startproc
        endbr64
        pushq   %r12
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r12, 0
        pushq   %r13
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r13, 0
        pushq   %r14
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r14, 0
        pushq   %r15
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r15, 0
        leaq    .Lresumed(%rip), %rax
        movq    %rax, CONTEXT_RIP(%rdi)
        movq    %rsp, CONTEXT_RSP(%rdi)
        movq    %rbp, CONTEXT_RBP(%rdi)
        movq    %rbx, CONTEXT_RBX(%rdi)
        movq    CONTEXT_RSP(%rsi), %rsp
        .cfi_remember_state             // from here on our caller is what `to` will resume:
        .cfi_escape 0x0c, 0x07, 0x00    // the frame ends at rsp (see context_x86_64.hpp),
        .cfi_escape 0x10, 0x10, 0x02, 0x74, CONTEXT_RIP     // rip is at rsi + 0,
        .cfi_escape 0x10, 0x06, 0x02, 0x74, CONTEXT_RBP     // rbp at rsi + 16,
        .cfi_escape 0x10, 0x03, 0x02, 0x74, CONTEXT_RBX     // rbx at rsi + 24
        .cfi_undefined %r12             // and these four are its own business
        .cfi_undefined %r13
        .cfi_undefined %r14
        .cfi_undefined %r15
        movq    CONTEXT_RBP(%rsi), %rbp
        movq    CONTEXT_RBX(%rsi), %rbx
        jmpq    *CONTEXT_RIP(%rsi)
        .cfi_restore_state
        int3                            // unwinders look up the byte before a resume address
.Lresumed:
        endbr64
        popq    %r15
        .cfi_adjust_cfa_offset -8
        .cfi_restore %r15
        popq    %r14
        .cfi_adjust_cfa_offset -8
        .cfi_restore %r14
        popq    %r13
        .cfi_adjust_cfa_offset -8
        .cfi_restore %r13
        popq    %r12
        .cfi_adjust_cfa_offset -8
        .cfi_restore %r12
        retq                            // pairs with the call of the fiber that left earlier
        .cfi_endproc
        .size   coir_switch, . - coir_switch

        .globl  coir_fiber_entry
        .hidden coir_fiber_entry
        .type   coir_fiber_entry, @function
        .p2align 4
coir_fiber_entry:
        .cfi_startproc
        .cfi_undefined %rip             // nobody called this: backtraces end here
        .cfi_def_cfa %rsp, 0
        int3                            // the byte before the first resume address, as above
        endbr64                         // prepare() lets a context begin here
        movq    %rbp, %rax
        xorl    %ebp, %ebp              // a frame-pointer walk ends here too
        movq    %rbx, %rdi
        leaq    .Lnever(%rip), %rdx
        pushq   %rdx                    // as a call would, so the entry sees (rsp & 15) == 8;
        .cfi_adjust_cfa_offset 8
        jmpq    *%rax                   // but no return address that nobody ever returns to
.Lnever:
        ud2
        .cfi_endproc
        .size   coir_fiber_entry, . - coir_fiber_entry

        .section .note.GNU-stack, "", @progbits

// GNU_PROPERTY_X86_FEATURE_1_AND = IBT
        .section .note.gnu.property, "a", @note
        .p2align 3
        .long   4, 16, 5
        .asciz  "GNU"
        .long   0xc0000002, 4, 1, 0
