// overflow.cpp: the signal handler behind the overflow report.
//
// Always true:
//   - Between the first line of the handler and its return: no allocation, no lock, no stdio.
//   - The report is one write(2), so reports of several threads do not mix.
//   - After a report the default action is restored and the faulting instruction runs again: the
//     process ends by the original signal, where it happened.
//
// Comes from: overflow.hpp.   Goes to: the kernel.
#include "runtime/overflow.hpp"

#include <pthread.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <utility>

#include "coir/detail/atomic.hpp"
#include "runtime/stacks.hpp"

namespace coir::detail {

namespace {

struct sigaction earlier_segv = {};  // written before the handler is installed, read only then
struct sigaction earlier_bus = {};
atomic<overflow_describe> describers[2]{};  ///< by overflow_subject
atomic<bool> installed{false};
atomic<unsigned> speaking{0};  ///< threads between their fault and the end of their report

/// One line of text, cut off where it is full.
class report_line {
 public:
  report_line& text(const char* words) noexcept {
    while (*words != '\0') put(*words++);
    return *this;
  }
  /// Text of the user's: a control character in it must not forge a second line.
  report_line& name(const char* words) noexcept {
    for (; *words != '\0'; ++words) put(static_cast<unsigned char>(*words) < ' ' ? '?' : *words);
    return *this;
  }
  report_line& number(std::uint64_t value, unsigned base = 10) noexcept {
    char digits[20];
    unsigned count = 0;
    do {
      digits[count++] = "0123456789abcdef"[value % base];
      value /= base;
    } while (value != 0);
    while (count != 0) put(digits[--count]);
    return *this;
  }
  void print() noexcept {
    text_[used_++] = '\n';
    std::size_t done = 0;
    while (done < used_) {
      const ssize_t wrote = write(STDERR_FILENO, text_ + done, used_ - done);
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote <= 0) return;
      done += static_cast<std::size_t>(wrote);
    }
  }

 private:
  void put(char c) noexcept {
    if (used_ + 1 < sizeof(text_)) text_[used_++] = c;
  }

  char text_[640];
  std::size_t used_ = 0;
};

void print_fiber(const overflow_view& fiber, report_line& line) noexcept {
  line.text("coir: fiber ").number(fiber.fiber);
  if (fiber.name != nullptr) line.text(" '").name(fiber.name).text("'");
  line.text(" (generation ").number(fiber.generation);
  if (fiber.file != nullptr) {
    line.text(", spawned at ").name(fiber.file).text(":");
    line.number(static_cast<std::uint64_t>(std::max(fiber.line, 0)));
  }
  line.text(")");
}

void print_report(const overflow_view& who, overflow_subject what) noexcept {
  const bool stepped = what == overflow_subject::computation;
  report_line line;
  if (!stepped) {
    print_fiber(who, line);
  } else {
    line.text("coir: computation");
    if (who.name != nullptr) line.text(" '").name(who.name).text("'");
  }
  line.text(" overflowed its stack of ");
  line.number(who.stack_bytes / 1024).text(" KiB (guard at 0x");
  line.number(reinterpret_cast<std::uintptr_t>(who.guard_low), 16);
  line.text("): give it more with ").text(stepped ? "step_options" : "spawn_options");
  line.text("::stack_bytes, or use less").print();
}

std::uintptr_t stack_pointer(const void* user_context) noexcept {
  [[maybe_unused]] const auto& machine = static_cast<const ucontext_t*>(user_context)->uc_mcontext;
#if defined(__x86_64__)
  return static_cast<std::uintptr_t>(machine.gregs[REG_RSP]);
#elif defined(__aarch64__)
  return machine.sp;
#else
  return 0;
#endif
}

/// The address tells. A push or a call may reach below a stack pointer that is in the guard itself.
bool is_overflow(const overflow_view& fiber, const siginfo_t& fault, const void* user_context) {
  if (COIR_MUTANT(overflow_by_code) && fault.si_code != SEGV_ACCERR) return false;
  const auto low = reinterpret_cast<std::uintptr_t>(fiber.guard_low);
  const auto high = reinterpret_cast<std::uintptr_t>(fiber.guard_high);
  const auto inside = [&](std::uintptr_t address) { return low <= address && address < high; };
  const auto address = reinterpret_cast<std::uintptr_t>(fault.si_addr);
  const std::uintptr_t sp = stack_pointer(user_context);
  return inside(address) || (inside(sp) && address < sp && sp - address <= real_page_bytes());
}

void restore_default(int signal) noexcept {
  struct sigaction plain = {};
  plain.sa_handler = SIG_DFL;
  sigaction(signal, &plain, nullptr);
}

/// Another thread may be about to report its own overflow: the process does not die before it has.
/// A second at most, in case that thread cannot write.
void wait_for_others() noexcept {
  const timespec step = {0, 1'000'000};
  // relaxed: only a number to wait for; the reports themselves go through the kernel.
  for (int i = 0; i < 1000 && speaking.load(std::memory_order_relaxed) != 0; ++i) {
    nanosleep(&step, nullptr);
  }
}

/// What would have happened without us.
void pass_on(int signal, siginfo_t* info, void* user_context) noexcept {
  const struct sigaction& earlier = signal == SIGSEGV ? earlier_segv : earlier_bus;
  // A signal that was sent, or news of a broken page elsewhere, does not come again by itself.
  const bool comes_again =
      info->si_code > 0 && !(signal == SIGBUS && info->si_code == BUS_MCEERR_AO);
  const bool has_siginfo = (earlier.sa_flags & SA_SIGINFO) != 0;
  if (!has_siginfo && earlier.sa_handler == SIG_IGN && !comes_again) return;
  if (!has_siginfo && (earlier.sa_handler == SIG_DFL || earlier.sa_handler == SIG_IGN)) {
    restore_default(signal);
    if (!comes_again) raise(signal);  // is blocked until we return
    return;
  }
  sigset_t before;
  pthread_sigmask(SIG_BLOCK, &earlier.sa_mask, &before);
  if (has_siginfo) {
    earlier.sa_sigaction(signal, info, user_context);
  } else {
    earlier.sa_handler(signal);
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void on_fault(int signal, siginfo_t* info, void* user_context) {
  const int error = errno;
  // relaxed: see wait_for_others().
  speaking.fetch_add(1, std::memory_order_relaxed);
  bool ours = false;
  for (const auto what : {overflow_subject::computation, overflow_subject::fiber}) {
    // acquire: pairs with the release in install_overflow_report, for what `describe` reads.
    const overflow_describe describe =
        describers[static_cast<unsigned>(what)].load(std::memory_order_acquire);
    overflow_view who;
    // A signal that was sent carries its sender where a fault carries its address.
    ours = info->si_code > 0 && describe != nullptr && describe(who) &&
           is_overflow(who, *info, user_context);
    if (!ours) continue;
    print_report(who, what);
    break;
  }
  // relaxed: see wait_for_others().
  speaking.fetch_sub(1, std::memory_order_relaxed);
  errno = error;
  if (!ours) return pass_on(signal, info, user_context);
  wait_for_others();
  restore_default(signal);
  errno = error;
}

}  // namespace

void install_overflow_report(overflow_describe describe, overflow_subject of) noexcept {
  COIR_ASSERT(describe != nullptr);
  overflow_describe none = nullptr;
  // release: pairs with the acquire in on_fault. The first installer wins.
  if (!describers[static_cast<unsigned>(of)].compare_exchange_strong(
          none, describe, std::memory_order_release, std::memory_order_relaxed)) {
    return;
  }
  // relaxed: it only says who installs the handler; the kernel orders the rest.
  if (installed.exchange(true, std::memory_order_relaxed)) return;
  (void)real_page_bytes();  // computed here rather than in the handler
  struct sigaction ours = {};
  ours.sa_sigaction = on_fault;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&ours.sa_mask);
  COIR_ASSERT(sigaction(SIGSEGV, nullptr, &earlier_segv) == 0);
  COIR_ASSERT(sigaction(SIGBUS, nullptr, &earlier_bus) == 0);
  COIR_ASSERT(sigaction(SIGSEGV, &ours, nullptr) == 0);
  COIR_ASSERT(sigaction(SIGBUS, &ours, nullptr) == 0);
}

result<signal_stack> signal_stack::make() {
  const std::size_t page = real_page_bytes();
  const std::size_t room =
      round_up(std::max<std::size_t>(64 << 10, 4 * signal_frame_bytes()), page);
  signal_stack made;
  void* base = mmap(nullptr, page + room, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (base == MAP_FAILED) return fail(system_error(-errno));
  made.mapping_ = base;
  made.mapped_bytes_ = page + room;
  stack_t ours = {};
  ours.ss_sp = static_cast<std::byte*>(base) + page;
  ours.ss_size = room;
  stack_t earlier = {};
  if (mprotect(ours.ss_sp, room, PROT_READ | PROT_WRITE) != 0 ||
      sigaltstack(&ours, &earlier) != 0) {
    const int error = errno;
    munmap(std::exchange(made.mapping_, nullptr), made.mapped_bytes_);
    return fail(system_error(-error));
  }
  made.earlier_low_ = earlier.ss_sp;
  made.earlier_bytes_ = earlier.ss_size;
  made.earlier_flags_ = earlier.ss_flags;
  return made;
}

signal_stack::signal_stack(signal_stack&& other) noexcept
    : mapping_(std::exchange(other.mapping_, nullptr)),
      mapped_bytes_(other.mapped_bytes_),
      earlier_low_(other.earlier_low_),
      earlier_bytes_(other.earlier_bytes_),
      earlier_flags_(other.earlier_flags_) {}

signal_stack::~signal_stack() {
  if (mapping_ == nullptr) return;
  stack_t earlier = {};
  earlier.ss_sp = earlier_low_;
  earlier.ss_size = earlier_bytes_;
  earlier.ss_flags = earlier_flags_;
  COIR_ASSERT(sigaltstack(&earlier, nullptr) == 0);
  munmap(mapping_, mapped_bytes_);
}

}  // namespace coir::detail
