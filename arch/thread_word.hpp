// thread_word.hpp: one pointer per thread, read in two instructions and never remembered.
//
// Always true:
//   - Every read asks the thread pointer again. A compiler may keep the address of an ordinary
//     thread_local across a call, and so across a switch; a fiber that went on elsewhere would then
//     read another thread's.
//   - The word is zero on a thread that nobody gave one.
//
// Comes from: worker.hpp.   Goes to: the thread pointer of this CPU.
#pragma once

#include "arch/sanitizers.hpp"

extern "C" {
/// Defined in thread_word.cpp; initial-exec, so it also costs no call inside the shared library.
[[gnu::tls_model("initial-exec")]] COIR_HIDDEN extern __thread void* coir_thread_word;
}

namespace coir::arch {

void set_thread_word(void* to) noexcept;

#if defined(__x86_64__)
[[gnu::always_inline]] inline void* thread_word() noexcept {
  void* word;
  asm volatile(
      "movq coir_thread_word@gottpoff(%%rip), %0\n\t"
      "movq %%fs:(%0), %0"
      : "=r"(word));
  return word;
}
#elif defined(__aarch64__)
[[gnu::always_inline]] inline void* thread_word() noexcept {
  void* word;
  void* offset;
  asm volatile(
      "mrs %0, tpidr_el0\n\t"
      "adrp %1, :gottprel:coir_thread_word\n\t"
      "ldr %1, [%1, #:gottprel_lo12:coir_thread_word]\n\t"
      "ldr %0, [%0, %1]"
      : "=&r"(word), "=&r"(offset));
  return word;
}
#else
void* thread_word() noexcept;  // out of line: the next best way to make a compiler ask again
#endif

}  // namespace coir::arch
