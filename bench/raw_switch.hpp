// raw_switch.hpp: the barest switch of stacks that keeps calls and returns paired: what the rows of
// coir are measured against. Written by hand for these rows and used by nothing else.
//
// Always true:
//   - It knows nothing of coir, of unwinders, of sanitizers: four words are kept, all else is
//     clobbered.
//   - A new context is entered by a jump, with itself in rsi.
//
// Comes from: raw_*.cpp, rows_switch.cpp.   Goes to: whatever `to` resumes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace bench::raw {

#if defined(__x86_64__)

inline constexpr bool has_switch = true;

struct context {
  void* pc = nullptr;
  void* sp = nullptr;
  void* fp = nullptr;
  void* bp = nullptr;
};

/// Never returns: it leaves by switch_inlined().
using entry_point = void (*)(context* left, context* self);

inline void prepare(context& self, std::byte* top, entry_point entry) {
  const auto at = reinterpret_cast<std::uintptr_t>(top) & ~std::uintptr_t{15};
  self = {reinterpret_cast<void*>(entry), reinterpret_cast<void*>(at - 8), nullptr, nullptr};
}

[[gnu::always_inline]] inline void switch_inlined(context& from, context& to) {
  context* source = &from;
  context* target = &to;
  asm volatile(
      "leaq 1f(%%rip), %%rax\n\t"
      "movq %%rax, 0(%%rdi)\n\t"
      "movq %%rsp, 8(%%rdi)\n\t"
      "movq %%rbp, 16(%%rdi)\n\t"
      "movq %%rbx, 24(%%rdi)\n\t"
      "movq 8(%%rsi), %%rsp\n\t"
      "movq 16(%%rsi), %%rbp\n\t"
      "movq 24(%%rsi), %%rbx\n\t"
      "jmpq *0(%%rsi)\n"
      "1:"
      : "+D"(source), "+S"(target)
      :
      : "memory", "cc", "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
        "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "mm0", "mm1", "mm2", "mm3", "mm4", "mm5",
        "mm6", "mm7", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)");
}

/// The same as a call: what a callee must keep is pushed, and the resumed side returns to its own
/// caller, so that the processor's guess is right. In raw_switch.cpp.
extern "C" void bench_raw_switch(context* from, context* to);

struct float_words {
  std::uint32_t mxcsr = 0x1F80;
  std::uint16_t x87 = 0x037F;
};

/// Keeps the control words of who leaves, and loads those of who comes: MXCSR always, which is
/// cheaper than to compare it, and the x87 word where it differs.
[[gnu::always_inline]] inline void exchange_float(float_words& leaves, const float_words& comes) {
  asm volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(leaves.mxcsr), "=m"(leaves.x87));
  asm volatile("ldmxcsr %0" : : "m"(comes.mxcsr));
  if (leaves.x87 != comes.x87) asm volatile("fldcw %0" : : "m"(comes.x87));
}

#else

inline constexpr bool has_switch = false;

#endif

/// Stacks side by side, their tops coloured so that they do not compete for the same cache sets.
class stacks {
 public:
  stacks(std::size_t count, std::size_t bytes);
  stacks(const stacks&) = delete;
  stacks& operator=(const stacks&) = delete;
  ~stacks();
  std::byte* top(std::size_t i) const { return memory_ + (i + 1) * bytes_ - i % 32 * 64; }

 private:
  std::size_t all_;
  std::size_t bytes_;
  std::byte* memory_;
};

}  // namespace bench::raw
