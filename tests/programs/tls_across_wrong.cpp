// tls_across_wrong.cpp: functions that keep an address of their thread over a switch, in each way
// there is, and some that do not. The check has to tell them apart.
//
// Always true:
//   - Compiled, never run.
//
// Comes from: tls_across.sh.   Goes to: tls_across.cpp, as a disassembly.
#include <cerrno>

#include "arch/context.hpp"

namespace {
thread_local int mark;
}

using coir::arch::context;

extern "C" {

int wrong_in_place(context& from, context& to) {
  mark = 1;
  coir::arch::switch_inlined(from, to);
  return mark;
}

int wrong_called(context& from, context& to) {
  errno = 1;
  coir::arch::switch_called(from, to);
  return errno;
}

[[gnu::noinline]] void through(context& from, context& to) {
  coir::arch::switch_called(from, to);
  asm volatile("");
}

int wrong_far(context& from, context& to) {
  errno = 1;
  through(from, to);
  return errno;
}

/// So many of them that some have to be kept on the stack.
int wrong_spilled(context& from, context& to, int* a, int* b, int* c, int* d, int* e, int* f) {
  errno = *a;
  for (int i = 0; i < *b; ++i) {
    coir::arch::switch_inlined(from, to);
    errno += *a + *b + *c + *d + *e + *f + i;
  }
  return errno;
}

/// As the entry of a fiber calls its body: it may come back on another worker.
int wrong_indirect(void (*body)()) {
  errno = 1;
  body();
  return errno;
}

[[gnu::noinline]] void calls(void (*body)()) {
  body();
  asm volatile("");
}

int wrong_far_indirect(void (*body)()) {
  errno = 1;
  calls(body);
  return errno;
}

/// Both arms of a condition reach the last line; only one of them has been elsewhere.
int wrong_at_a_meeting(context& from, context& to, int* a) {
  errno = *a;
  if (*a > 5) {
    coir::arch::switch_called(from, to);
    *a = 7;
  }
  return errno + *a;
}

int right_value(context& from, context& to) {
  const int before = mark + errno;
  coir::arch::switch_inlined(from, to);
  return before;
}

int right_indirect(void (*body)()) {
  mark = errno;
  body();
  return 2;
}

int right_before(context& from, context& to) {
  mark = errno;
  coir::arch::switch_called(from, to);
  return 2;
}
}

// The same function twice, but for what it calls after its switch: what never comes back does not
// reach the line behind it, which only the jump reaches, and that jump has not been elsewhere.
#if defined(__x86_64__)
#define AFTER_A_SWITCH(name, last)                                \
  asm(".text\n.globl " name "\n.type " name ", @function\n" name  \
      ":\n"                                                       \
      " push %rbx\n call __errno_location@plt\n mov %rax, %rbx\n" \
      " cmpl $0, (%rax)\n je 1f\n call coir_switch\n call " last  \
      "@plt\n"                                                    \
      "1: mov (%rbx), %eax\n pop %rbx\n ret\n.size " name ", .-" name "\n")
#elif defined(__aarch64__)
#define AFTER_A_SWITCH(name, last)                                       \
  asm(".text\n.globl " name "\n.type " name ", %function\n" name         \
      ":\n"                                                              \
      " stp x30, x19, [sp, #-16]!\n bl __errno_location\n mov x19, x0\n" \
      " ldr w1, [x0]\n cbz w1, 1f\n bl coir_switch\n bl " last           \
      "\n"                                                               \
      "1: ldr w0, [x19]\n ldp x30, x19, [sp], #16\n ret\n.size " name ", .-" name "\n")
#endif
AFTER_A_SWITCH("right_behind_an_end", "abort");
AFTER_A_SWITCH("wrong_behind_a_call", "getpid");
