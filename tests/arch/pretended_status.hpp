// pretended_status.hpp: a kernel that says what the test wants about shadow stacks, played by a
// filter on system calls: no processor that has them is needed.
//
// Always true:
//   - A filter cannot be taken back, so whoever pretends is a child process that ends.
//
// Comes from: refusal_test.cpp, runtime_setup_test.cpp.   Goes to: seccomp(2).
#pragma once

#include "runtime/base.hpp"

// A sanitizer has handlers and threads of its own.
#if defined(__x86_64__) && !COIR_ASAN && !COIR_TSAN
#define COIR_CAN_PRETEND 1

#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <csignal>

#include "tests/played_kernel.hpp"

namespace test {

inline constexpr unsigned shstk_status = 0x5005;  // ARCH_SHSTK_STATUS
inline constexpr int cannot_pretend = 77;

/// Answers the question for the kernel: 0, and this in the place it was asked to write to.
inline unsigned long pretended = 0;
inline void answer_status(int, siginfo_t*, void* interrupted) {
  auto& registers = static_cast<ucontext_t*>(interrupted)->uc_mcontext.gregs;
  *reinterpret_cast<unsigned long*>(registers[REG_RSI]) = pretended;
  registers[REG_RAX] = 0;
}

/// From now on arch_prctl(ARCH_SHSTK_STATUS) raises SIGSYS, which answers it.
inline bool pretend(unsigned long features) {
  pretended = features;
  struct sigaction action {};
  action.sa_sigaction = &answer_status;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSYS, &action, nullptr);
  return play_kernel({{SYS_arch_prctl, {argument(0).is(shstk_status)}, raises_sigsys}});
}

/// What `ask` answers, 0 to 76, in a process whose kernel says these features are on;
/// `cannot_pretend` where no filter is allowed, and -1 when the process did not end by itself.
template <class Ask>
int asked_with(unsigned long features, Ask ask) {
  const pid_t child = fork();
  if (child < 0) return cannot_pretend;
  if (child == 0) _exit(pretend(features) ? ask() : cannot_pretend);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace test

#endif
