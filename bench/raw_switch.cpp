// raw_switch.cpp: the out-of-line half of raw_switch.hpp, and memory for stacks.
//
// Always true:
//   - The stacks are one mapping without guards and without huge pages: the least a stack can cost.
//
// Comes from: raw_switch.hpp.   Goes to: whatever `to` resumes.
#include "bench/raw_switch.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <system_error>

#if defined(__x86_64__)

asm(R"(
        .text
        .globl  bench_raw_switch
        .hidden bench_raw_switch
        .type   bench_raw_switch, @function
        .p2align 4
bench_raw_switch:
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        leaq    1f(%rip), %rax
        movq    %rax, 0(%rdi)
        movq    %rsp, 8(%rdi)
        movq    %rbp, 16(%rdi)
        movq    %rbx, 24(%rdi)
        movq    8(%rsi), %rsp
        movq    16(%rsi), %rbp
        movq    24(%rsi), %rbx
        jmpq    *0(%rsi)
1:      popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        retq
        .size   bench_raw_switch, . - bench_raw_switch
)");

#endif

namespace bench::raw {

stacks::stacks(std::size_t count, std::size_t bytes) : all_(count * bytes), bytes_(bytes) {
  void* const got = ::mmap(nullptr, all_, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (got == MAP_FAILED) throw std::system_error(errno, std::system_category(), "mmap");
  memory_ = static_cast<std::byte*>(got);
  ::madvise(memory_, all_, MADV_NOHUGEPAGE);
}

stacks::~stacks() { ::munmap(memory_, all_); }

}  // namespace bench::raw
