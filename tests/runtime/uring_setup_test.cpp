// uring_setup_test.cpp: a ring that the kernel refuses: what the person reads, and what is left.
//
// Comes from: runtime/uring.hpp.   Goes to: runtime/uring_setup.cpp.
#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <set>
#include <string>

#include "runtime/uring.hpp"
#include "tests/catalogue/child.hpp"
#include "tests/played_kernel.hpp"

using namespace coir::detail;

TEST_CASE("uring_setup: a refusal names one cause and a remedy for each errno") {
  struct row {
    int error;
    const char* cause;
    const char* remedy;
  };
  const row rows[] = {
      {EPERM, "EPERM (s", "allow"},
      {ENOSYS, "ENOSYS (kernel", "Linux 6.1"},
      {EINVAL, "EINVAL (kernel", "Linux 6.1"},
      {ENOMEM, "ENOMEM (memlock limit", "ulimit -l"},
      {EMFILE, "EMFILE (file", "ulimit -n"},
      {ENFILE, "ENFILE (file", "ulimit -n"},
  };
  for (const row& r : rows) {
    const std::string text = refusal_text(r.error, 1024);
    CAPTURE(text);
    CHECK(text.starts_with("io_uring_setup: "));
    CHECK(text.find(r.cause) != std::string::npos);
    const bool sysctl = text.find("io_uring_disabled") != std::string::npos;
    CHECK((text.find(r.remedy) != std::string::npos || (r.error == EPERM && sysctl)));
    CHECK(text.find('\n') == std::string::npos);
  }
  // C15: the administrator's switch and a container's filter give the same errno.
  CHECK(refusal_text(EPERM, 8, 0).find("seccomp") != std::string::npos);
  CHECK(refusal_text(EPERM, 8, 1).find("io_uring_group") != std::string::npos);
  CHECK(refusal_text(EPERM, 8, 2).find("sysctl kernel.io_uring_disabled=2") != std::string::npos);
  CHECK(refusal_text(EIO, 8).find("kernel ") != std::string::npos);
  CHECK(refusal_text(ENOMEM, 1024) != refusal_text(ENOMEM, 32768));
}

TEST_CASE(
    "uring_setup: a kernel that refuses leaves no descriptor behind, and its line is logged") {
  const int before = ::dup(0);
  ::close(before);
  std::string said;
  // No kernel makes a ring without entries.
  const auto made = make_uring(0, [&](const coir::log_record& l) { said = l.text; });
  REQUIRE_FALSE(made.has_value());
  CHECK(made.error() == std::errc::invalid_argument);
  CHECK(said.starts_with("io_uring_setup: EINVAL"));
  const int after = ::dup(0);
  ::close(after);
  CHECK(before == after);
}

TEST_CASE("uring_setup: every errno gets one line that names it, and each cause its own line") {
  std::set<std::string> lines;
  for (int error = 1; error < 134; ++error) {
    CAPTURE(error);
    const std::string text = refusal_text(error, 64, 0);
    CHECK(text.starts_with("io_uring_setup: "));
    CHECK(text.find('\n') == std::string::npos);
    const char* const name = ::strerrorname_np(error);
    if (name == nullptr) continue;
    CHECK((text.find(name) != std::string::npos ||
           text.find(std::strerror(error)) != std::string::npos));
    CHECK(lines.insert(text).second);
  }
  CHECK(lines.size() > 100);
}

TEST_CASE("uring_setup: limits are told as they are, also when there is none") {
  rlimit locked{}, files{};
  REQUIRE(::getrlimit(RLIMIT_MEMLOCK, &locked) == 0);
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &files) == 0);
  const rlimit some{64 << 10, locked.rlim_max};
  if (locked.rlim_max >= some.rlim_cur) {
    REQUIRE(::setrlimit(RLIMIT_MEMLOCK, &some) == 0);
    CHECK(refusal_text(ENOMEM, 8).find("memlock limit 64 KiB") != std::string::npos);
    REQUIRE(::setrlimit(RLIMIT_MEMLOCK, &locked) == 0);
  }
  const bool unlimited = locked.rlim_cur == RLIM_INFINITY;
  CHECK((refusal_text(ENOMEM, 8).find("limit unlimited") != std::string::npos) == unlimited);
  CHECK(refusal_text(EMFILE, 8).find("limit " + std::to_string(files.rlim_cur) + ")") !=
        std::string::npos);
}

TEST_CASE("uring_setup: a profile that lets a ring be made and never used is named at once") {
  struct row {
    unsigned call;
    int error;
    const char* name;
  };
  for (const row& r : {row{SYS_io_uring_register, EPERM, "io_uring_register: "},
                       row{SYS_io_uring_enter, ENOSYS, "io_uring_enter: "},
                       row{SYS_io_uring_enter, EACCES, "io_uring_enter: "}}) {
    CAPTURE(r.name);
    const test::ending end = test::in_child([&r] {
      const int before = ::dup(0);
      ::close(before);
      if (!test::play_kernel({{r.call, {}, test::answers(r.error)}})) ::_exit(1);
      std::string said;
      const auto made = make_uring(8, [&](const coir::log_record& l) { said = l.text; });
      if (made || made.error().value() != r.error) ::_exit(2);
      if (!said.starts_with(r.name) || said.find("in the profile") == said.npos) ::_exit(3);
      ::_exit(::dup(0) == before ? 0 : 4);
    });
    CAPTURE(end.text);
    CHECK(end.code == 0);
  }
}

#if defined(__x86_64__) && !COIR_ASAN && !COIR_TSAN  // a sanitizer has handlers of its own
namespace {

constexpr unsigned let_through = 0x60a1;  // as a third argument, which io_uring_setup does not have
constexpr int short_of_memory = 2;
int asked = 0;

/// The first rings that are asked for are refused for want of memory, the others made.
void answer_setup(int, siginfo_t*, void* interrupted) {
  auto& r = static_cast<ucontext_t*>(interrupted)->uc_mcontext.gregs;
  if (++asked <= short_of_memory) {
    r[REG_RAX] = -ENOMEM;
    return;
  }
  const int saved = errno;
  const long fd = ::syscall(SYS_io_uring_setup, r[REG_RDI], r[REG_RSI], let_through);
  r[REG_RAX] = fd < 0 ? -errno : fd;
  errno = saved;
}

/// From now on each io_uring_setup raises SIGSYS. A filter stays: only where the process ends soon.
bool play_setup() {
  struct sigaction action {};
  action.sa_sigaction = &answer_setup;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  ::sigaction(SIGSYS, &action, nullptr);
  return test::play_kernel(
      {{SYS_io_uring_setup, {test::argument(2).is_not(let_through)}, test::raises_sigsys}});
}

}  // namespace

TEST_CASE("uring_setup: what a ring that was just closed still has locked is waited for") {
  const test::ending end = test::in_child([] {
    if (!play_setup()) ::_exit(1);
    std::string said;
    const auto made = make_uring(8, [&](const coir::log_record& l) { said = l.text; });
    if (!made.has_value()) ::_exit(2);
    ::_exit(said.empty() && asked == short_of_memory + 1 ? 0 : 3);
  });
  CHECK_MESSAGE(end.code == 0, end.text);
}
#endif
