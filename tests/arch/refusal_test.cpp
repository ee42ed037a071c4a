// refusal_test.cpp: shadow stacks are refused by name, and nothing else is.
//
// Always true:
//   - A kernel that says "switched on" is played by a filter in a child of its own: no processor
//     with shadow stacks is needed.
#include "arch/refusal.hpp"

#include <doctest/doctest.h>

#include <string_view>

#include "runtime/base.hpp"

#if defined(__x86_64__)
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
#endif

using namespace coir;

TEST_CASE("refusal: a thread with a shadow stack is refused, with the name and the remedy") {
  const char* const said = arch::refusal_of(0, 1);
  REQUIRE(said != nullptr);
  const std::string_view text = said;
  CHECK(text.find("switched on") != text.npos);
  CHECK(text.find("GLIBC_TUNABLES=") != text.npos);
  CHECK(arch::refusal_of(0, 3) == said);  // and programs may write to it
}

TEST_CASE("refusal: who has none, or a kernel that does not know them, is not refused") {
  CHECK(arch::refusal_of(0, 0) == nullptr);
  CHECK(arch::refusal_of(0, 2) == nullptr);
  CHECK(arch::refusal_of(-1, 0) == nullptr);
  CHECK(arch::refusal_of(-1, 1) == nullptr);
}

#if defined(__x86_64__) && !COIR_ASAN && !COIR_TSAN

namespace {

constexpr unsigned shstk_status = 0x5005;

/// Answers the question for the kernel: 0, and this in the place it was asked to write to.
unsigned long pretended = 0;
void answer(int, siginfo_t*, void* interrupted) {
  auto& registers = static_cast<ucontext_t*>(interrupted)->uc_mcontext.gregs;
  *reinterpret_cast<unsigned long*>(registers[REG_RSI]) = pretended;
  registers[REG_RAX] = 0;
}

/// From now on arch_prctl(ARCH_SHSTK_STATUS) raises SIGSYS, which answers it.
bool pretend(unsigned long features) {
  pretended = features;
  struct sigaction action {};
  action.sa_sigaction = &answer;
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

enum outcome { not_refused, refused, cannot_pretend };

int asked_of_a_kernel_that_says(unsigned long features) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    if (!pretend(features)) _exit(cannot_pretend);
    _exit(arch::refusal() == nullptr ? not_refused : refused);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

TEST_CASE("refusal: A13 it is the kernel that is asked, and what it says counts") {
  const int without = asked_of_a_kernel_that_says(0);
  if (without == cannot_pretend) return;
  CHECK(without == not_refused);
  CHECK(asked_of_a_kernel_that_says(1) == refused);
}

#endif
