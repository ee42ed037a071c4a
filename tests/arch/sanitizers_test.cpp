// sanitizers_test.cpp: the tools see through a switch: they find what is wrong in a fiber and are
// silent about what is right.
//
// Always true:
//   - A control commits a fault on purpose. It is skipped unless named, and run by this same
//     program in a process of its own, whose report is what is checked.
#include "arch/sanitizers.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <string>
#include <thread>
#include <type_traits>

#include "tests/arch/loose_fiber.hpp"

#if COIR_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace {

using namespace coir;
using namespace coir::test;

[[maybe_unused]] bool mentions(const std::string& report, const char* text) {
  return report.find(text) != std::string::npos;
}

struct run_of_self {
  int status = -1;
  std::string report;
  [[nodiscard]] bool clean() const { return WIFEXITED(status) && WEXITSTATUS(status) == 0; }
};

/// Runs the test cases that match `filter` in a new process of this program, with one more
/// environment variable.
[[maybe_unused]] run_of_self run_cases(const char* filter, const char* variable,
                                       const char* value) {
  int ends[2];
  COIR_ASSERT(::pipe2(ends, O_CLOEXEC) == 0);
  const std::string cases = std::string("--test-case=") + filter;
  const pid_t child = ::fork();
  COIR_ASSERT(child >= 0);
  if (child == 0) {
    ::dup2(ends[1], STDOUT_FILENO);
    ::dup2(ends[1], STDERR_FILENO);
    ::setenv(variable, value, 1);
    ::execl("/proc/self/exe", "self", cases.c_str(), "--no-skip", nullptr);
    ::_exit(127);
  }
  ::close(ends[1]);
  run_of_self done;
  std::array<char, 4096> part;
  for (ssize_t got; (got = ::read(ends[0], part.data(), part.size())) > 0;) {
    done.report.append(part.data(), static_cast<std::size_t>(got));
  }
  ::close(ends[0]);
  ::waitpid(child, &done.status, 0);
  return done;
}

}  // namespace

TEST_CASE("sanitizers: a plain build pays nothing for the notes") {
  CHECK(std::is_empty_v<arch::switch_notes> == !arch::notes_are_taken);
}

TEST_CASE("sanitizers: a thousand fibers come and go, and so do their notes") {
  unsigned ended = 0;
  for (unsigned i = 0; i < 1'000; ++i) {
    loose_fiber<> fiber([&](auto& self) {
      self.park();
      ++ended;
    });
    fiber.resume();
    fiber.resume();
  }
  CHECK(ended == 1'000);
}

TEST_CASE("sanitizers: fibers of one thread may write the same variable in turns") {
  unsigned long shared = 0;
  const auto add = [&](auto& self) {
    for (int i = 0; i < 100; ++i) {
      ++shared;
      self.park();
    }
  };
  loose_fiber<> one(add), two(add);
  while (!one.done()) {
    one.resume();
    ++shared;
    two.resume();
  }
  CHECK(shared == 301);
}

// ---- AddressSanitizer --------------------------------------------------------------------------

#if COIR_ASAN

TEST_CASE("sanitizers: A15 a thread knows the bounds of its stack") {
  arch::switch_notes here;
  arch::note_thread(here);
  const auto* bottom = static_cast<const char*>(here.stack_bottom);
  const auto* frame = static_cast<const char*>(__builtin_frame_address(0));
  CHECK(bottom < frame);
  CHECK(frame < bottom + here.stack_bytes);
}

TEST_CASE("sanitizers: A15 a stack is handed on without the poison of its previous tenant") {
  const auto stack = std::make_unique<std::byte[]>(4096);
  __asan_poison_memory_region(stack.get() + 512, 64);
  CHECK(__asan_region_is_poisoned(stack.get(), 4096) != nullptr);
  arch::switch_notes notes;
  arch::note_stack(notes, stack.get(), 4096);
  CHECK(__asan_region_is_poisoned(stack.get(), 4096) == nullptr);
  CHECK(notes.fake_stack == nullptr);
  arch::note_gone(notes);
}

namespace {

volatile int* volatile dangling = nullptr;

[[gnu::noinline]] void leave_a_local_behind() {
  volatile int local[4] = {1, 2, 3, 4};
  dangling = local;
}

[[gnu::noinline]] int read_what_is_dead() { return dangling[1]; }

}  // namespace

TEST_CASE("sanitizers: control of A15, a dead local of a fiber is read" * doctest::skip()) {
  int seen = 0;
  loose_fiber<> fiber([&seen](auto& self) {
    leave_a_local_behind();
    self.park();
    seen = read_what_is_dead();
  });
  fiber.resume();
  fiber.resume();
  CHECK(seen == 2);
}

TEST_CASE("sanitizers: A15 a use after return in a fiber is reported with its place") {
  const auto run = run_cases("*control of A15*", "ASAN_OPTIONS", "detect_stack_use_after_return=1");
  CHECK_FALSE(run.clean());
  CHECK(mentions(run.report, "AddressSanitizer: stack-use-after-return"));
  CHECK(mentions(run.report, "leave_a_local_behind"));
  CHECK(mentions(run.report, "read_what_is_dead"));
}

TEST_CASE(
    "sanitizers: A15 exceptions and parks are silent while uses after return are looked for") {
  const auto run =
      run_cases("*: A4*,*: A6*,*in turns*", "ASAN_OPTIONS", "detect_stack_use_after_return=1");
  CHECK(run.clean());
  CHECK(mentions(run.report, "SUCCESS"));
  CHECK_FALSE(mentions(run.report, "Sanitizer"));
  CHECK_FALSE(mentions(run.report, "ASan"));
}

#endif

// ---- ThreadSanitizer ---------------------------------------------------------------------------

#if COIR_TSAN && defined(__x86_64__)

namespace {

/// Waits until two threads are here, by means ThreadSanitizer does not see, so that it finds them
/// alive at the same time but never in an order.
void meet_unseen(unsigned& arrived) {
  asm volatile("lock incl %0" : "+m"(arrived) : : "cc");
  for (unsigned seen = 0; seen < 2;) {
    asm volatile("movl %1, %0" : "=r"(seen) : "m"(arrived) : "memory");
  }
}

}  // namespace

TEST_CASE("sanitizers: control of A16, fibers of two threads write in no order" * doctest::skip()) {
  static unsigned long shared = 0;
  static unsigned met_before = 0, met_after = 0;
  const auto write = [] {
    loose_fiber<> fiber([](auto& self) {
      for (int i = 0; i < 1'000; ++i) {
        ++shared;
        self.park();
      }
    });
    meet_unseen(met_before);
    while (!fiber.done()) fiber.resume();
    meet_unseen(met_after);
  };
  std::thread one(write), two(write);
  one.join();
  two.join();
  CHECK(shared > 0);
}

TEST_CASE("sanitizers: A16 a race between fibers of two threads is reported") {
  const auto run = run_cases("*control of A16*", "TSAN_OPTIONS", "halt_on_error=0:exitcode=66");
  CHECK_FALSE(run.clean());
  CHECK(mentions(run.report, "ThreadSanitizer: data race"));
}

#endif
