// refusal.cpp: asks the kernel whether shadow stacks are on.
//
// Always true:
//   - The numbers are ours, because the headers of Debian 12 are older than both questions.
//
// Comes from: refusal.hpp.   Goes to: the kernel.
#include "arch/refusal.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/base.hpp"

namespace coir::arch {
namespace {

#if defined(__x86_64__)
constexpr int arch_shstk_status = 0x5005;  // ARCH_SHSTK_STATUS, Linux 6.6
#elif defined(__aarch64__)
constexpr int pr_get_shadow_stack_status = 74;  // PR_GET_SHADOW_STACK_STATUS, Linux 6.13
#endif

/// ARCH_SHSTK_SHSTK and PR_SHADOW_STACK_ENABLE alike.
constexpr unsigned long shadow_stack_enabled = 1;

}  // namespace

const char* refusal_of(long asked, unsigned long features) noexcept {
  if (asked != 0 || (features & shadow_stack_enabled) == 0) return nullptr;
  if (COIR_MUTANT(shadow_stack_unnoticed)) return nullptr;
#if defined(__aarch64__)
  return "a guarded control stack (GCS) is switched on for this thread, and fibers have none: "
         "start "
         "the program with GLIBC_TUNABLES=glibc.cpu.aarch64_gcs=0";
#else
  return "a shadow stack (CET) is switched on for this thread, and fibers have none: start the "
         "program with GLIBC_TUNABLES=glibc.cpu.hwcaps=-SHSTK, or link it without -z shstk";
#endif
}

const char* refusal() noexcept {
  unsigned long features = 0;
#if defined(__x86_64__)
  const long asked = syscall(SYS_arch_prctl, arch_shstk_status, &features);
#elif defined(__aarch64__)
  const long asked = syscall(SYS_prctl, pr_get_shadow_stack_status, &features, 0, 0, 0);
#else
  const long asked = -1;
#endif
  return refusal_of(asked, features);
}

}  // namespace coir::arch
