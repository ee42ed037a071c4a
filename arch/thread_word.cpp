// thread_word.cpp: where the word lives.
//
// Always true:
//   - It is written by its own thread only.
//   - It keeps its name, because only assembly reads it: clang's link-time optimisation would see
//     no reader and make it a nameless local of the one who writes.
//
// Comes from: thread_word.hpp.   Goes to: nothing.
#include "arch/thread_word.hpp"

extern "C" {
[[gnu::used]] __thread void* coir_thread_word = nullptr;
}

namespace coir::arch {

void set_thread_word(void* to) noexcept { coir_thread_word = to; }

#if !defined(__x86_64__) && !defined(__aarch64__)
void* thread_word() noexcept { return coir_thread_word; }
#endif

}  // namespace coir::arch
