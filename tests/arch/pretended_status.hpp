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

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <iterator>

namespace coir::test {

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
  const sock_filter steps[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_arch_prctl, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[0])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, shstk_status, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{std::size(steps), const_cast<sock_filter*>(steps)};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
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

}  // namespace coir::test

#endif
