// overflow_test.cpp: a fiber that runs out of stack dies alone, by its own signal, and is named.
//
// Always true:
//   - The report is installed in children only; each child overflows, and its parent reads what it
//     wrote and how it died.
//   - A child that does not die within 30 s is killed by its own alarm, so nothing hangs.
//
// Comes from: ctest.   Goes to: runtime/overflow.hpp.
#include "runtime/overflow.hpp"

#include <alloca.h>
#include <doctest/doctest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "arch/context.hpp"
#include "arch/sanitizers.hpp"
#include "runtime/stacks.hpp"

using namespace coir::detail;
namespace arch = coir::arch;

namespace {

constexpr std::size_t kib = 1024;
constexpr std::byte pattern{0xc3};

/// What the children tell beside their text, in memory they share with us.
struct shared_facts {
  std::atomic<unsigned> described;
  std::atomic<bool> neighbours_same;
};

shared_facts& facts() {
  static void* const page =
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return *static_cast<shared_facts*>(page);
}

struct death {
  std::string text;
  int signal = 0;  ///< 0: it ended by itself
  int code = -1;

  std::size_t reports() const {
    std::size_t count = 0;
    for (std::size_t at = 0; (at = text.find("coir: fiber ", at)) != std::string::npos; ++at) {
      ++count;
    }
    return count;
  }
  bool says(const std::string& words) const { return text.find(words) != std::string::npos; }
};

/// Runs `body` in a child without core file, and tells how it ended.
template <class F>
death watch(F body) {
  facts().described = 0;
  facts().neighbours_same = false;
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    alarm(30);
    // The handlers of the test runner and of sanitizers are not what a program has before us.
    std::signal(SIGSEGV, SIG_DFL);
    std::signal(SIGBUS, SIG_DFL);
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    body();
    _exit(77);
  }
  close(ends[1]);
  death end;
  char some[512];
  for (ssize_t got; (got = read(ends[0], some, sizeof(some))) > 0;) {
    end.text.append(some, static_cast<std::size_t>(got));
  }
  close(ends[0]);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  if (WIFSIGNALED(status)) end.signal = WTERMSIG(status);
  if (WIFEXITED(status)) end.code = WEXITSTATUS(status);
  return end;
}

/// A fiber of one thread, and what its worker would know about it.
struct runner {
  arch::context thread = {};
  arch::context fiber = {};
  arch::switch_notes thread_notes = {};
  arch::switch_notes fiber_notes = {};
  stack stands_on = {};
  stack neighbours[2] = {};
  void (*body)() = nullptr;
  std::uint64_t number = 0;
  const char* name = nullptr;
  const char* file = nullptr;
  bool running = false;
};

thread_local runner* current [[gnu::tls_model("initial-exec")]] = nullptr;
unsigned wait_for_described = 1;  ///< reports begin when so many threads are in their handlers

bool same(const stack& s) {
  return !s || std::all_of(s.bottom, s.top, [](std::byte b) { return b == pattern; });
}

bool describe(overflow_view& out) noexcept {
  runner* const self = current;
  if (self == nullptr || !self->running) return false;
  out.guard_low = self->stands_on.slot;
  out.guard_high = self->stands_on.bottom;
  out.stack_bytes = stack_slot_bytes(self->stands_on.klass);
  out.fiber = self->number;
  out.generation = 3;
  out.name = self->name;
  out.file = self->file;
  out.line = 12;
  facts().neighbours_same = same(self->neighbours[0]) && same(self->neighbours[1]);
  facts().described.fetch_add(1);
  while (facts().described.load() < wait_for_described) coir::detail::pause();
  return true;
}

void enter(void* argument) noexcept {
  runner& self = *static_cast<runner*>(argument);
  arch::note_arrive(self.fiber_notes);
  self.running = true;
  self.body();
  self.running = false;
  arch::note_leave(self.fiber_notes, self.thread_notes, true);
  arch::switch_to(self.fiber, self.thread);
}

#if COIR_TSAN
__attribute__((no_sanitize("thread")))
#endif
void
run(runner& self) {
  current = &self;
  arch::prepare(self.fiber, self.stands_on.top, enter, &self);
  arch::note_thread(self.thread_notes);
  arch::note_stack(self.fiber_notes, self.stands_on.bottom, self.stands_on.bytes());
  arch::note_leave(self.thread_notes, self.fiber_notes, false);
  arch::switch_to(self.thread, self.fiber);
  arch::note_arrive(self.thread_notes);
}

__attribute__((noinline)) unsigned recurse(unsigned depth) {
  volatile char frame[512];
  frame[0] = static_cast<char>(depth);
  if (depth == 0) return 0;
  return recurse(depth - 1) + static_cast<unsigned>(frame[0]);
}

void recursion() { std::fprintf(stderr, "%u", recurse(1u << 30)); }

/// One frame of 1 MiB, touched from its high end down as stack clash protection does.
__attribute__((noinline, no_sanitize("address", "thread"))) void large_frame() {
  constexpr std::size_t bytes = 1024 * kib;
  auto* const low = static_cast<volatile char*>(alloca(bytes));
  for (std::size_t at = bytes; at >= 4 * kib; at -= 4 * kib) low[at - 1] = 1;
}

/// A frame that leaves the stack pointer inside the guard before anything there is touched.
__attribute__((noinline, no_sanitize("address", "thread"))) void step_into_guard() {
#if defined(__x86_64__)
  void* const inside = current->stands_on.slot;
  asm volatile("movq %%rsp, %%rax\n\tmovq %0, %%rsp\n\tpushq %%rax\n\tmovq %%rax, %%rsp"
               :
               : "r"(inside)
               : "rax", "memory");
#endif
}

__attribute__((noinline, no_sanitize("undefined"))) void read_null() {
  volatile const int* nowhere = nullptr;
  asm volatile("" : "+r"(nowhere));
  (void)*nowhere;
}

/// In a child: a fiber with a patterned stack on each side of its own runs `body` until it dies.
void die_in_fiber(guard_way way, std::size_t bytes, void (*body)()) {
  stack_settings settings;
  settings.way = way;
  auto pool = stacks::make(settings);
  if (!pool) _exit(78);
  stack_cache cache(**pool);
  install_overflow_report(describe);
  const auto on = signal_stack::make();
  if (!on) _exit(79);
  stack three[3];
  for (stack& s : three) {
    s = cache.take(*stack_class(bytes));
    if (!s) _exit(80);
    std::memset(s.bottom, std::to_integer<int>(pattern), s.bytes());
  }
  runner self;
  self.stands_on = three[1];
  self.neighbours[0] = three[0];
  self.neighbours[1] = three[2];
  self.body = body;
  self.number = 17;
  self.name = "reader";
  self.file = "main.cpp";
  run(self);
}

bool way_works(guard_way way) {
  stack_settings settings;
  settings.way = way;
  settings.log = [](const coir::log_record&) {};
  return stacks::make(settings).has_value();
}

}  // namespace

TEST_CASE(
    "overflow: A9 recursion and a frame of 1 MiB name the fiber and leave its neighbours alone") {
  for (const guard_way way : {guard_way::madvise, guard_way::mprotect}) {
    if (!way_works(way)) continue;
    for (void (*body)() : {&recursion, &large_frame}) {
      CAPTURE(static_cast<int>(way));
      CAPTURE(body == &recursion);
      const death end = watch([&] { die_in_fiber(way, 256 * kib, body); });
      CAPTURE(end.text);
      CAPTURE(end.code);
      CHECK(end.signal == SIGSEGV);
      CHECK(end.reports() == 1);
      CHECK(
          end.says("coir: fiber 17 'reader' (generation 3, spawned at main.cpp:12) overflowed its "
                   "stack of 256 KiB (guard at 0x"));
      CHECK(end.says("): give it more with spawn_options::stack_bytes, or use less\n"));
      CHECK(facts().neighbours_same);
    }
  }
}

TEST_CASE("overflow: the smallest stack with its guard of one page is named as well") {
  const death end = watch([] { die_in_fiber(guard_way::mprotect, 16 * kib, &recursion); });
  CAPTURE(end.text);
  CHECK(end.signal == SIGSEGV);
  CHECK(end.reports() == 1);
  CHECK(facts().neighbours_same);
}

TEST_CASE("overflow: a push below a stack pointer that stands at the foot of the guard is ours") {
  const death end = watch([] {
    // The lowest slot of a region of one: below it nothing of ours is mapped.
    stack_settings settings;
    settings.stacks_max = 1;
    auto pool = std::move(*stacks::make(settings));
    stack_cache cache(*pool);
    install_overflow_report(describe);
    const auto on = signal_stack::make();
    runner self;
    self.stands_on = cache.take(*stack_class(256 * kib));
    self.body = &step_into_guard;
    void* const below = self.stands_on.slot - 4 * kib;
    mmap(below, 4 * kib, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    run(self);
  });
  CAPTURE(end.text);
  CHECK(end.signal == SIGSEGV);
  CHECK(end.reports() == 1);
  CHECK(end.says("coir: fiber 0 (generation 3) overflowed"));
}

TEST_CASE("overflow: A11 three threads that overflow at once give three reports and one death") {
  const death end = watch([] {
    wait_for_described = 3;
    auto pool = std::move(*stacks::make({}));
    install_overflow_report(describe);
    std::array<runner, 3> runners;
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < 3; ++i) {
      runners[i].number = 100 + i;
      runners[i].body = &recursion;
      threads.emplace_back([&, i] {
        const auto on = signal_stack::make();
        stack_cache cache(*pool);
        runners[i].stands_on = cache.take(*stack_class(64 * kib));
        run(runners[i]);
      });
    }
    for (std::thread& t : threads) t.join();
  });
  CAPTURE(end.text);
  CHECK(end.signal == SIGSEGV);
  CHECK(end.reports() == 3);
  for (const char* who : {"fiber 100 ", "fiber 101 ", "fiber 102 "}) CHECK(end.says(who));
}

TEST_CASE("overflow: a name with a line break does not forge a line, and a long one is cut") {
  const death end = watch([] {
    static const std::string long_name = "evil\nname" + std::string(2000, 'x');
    auto pool = std::move(*stacks::make({}));
    stack_cache cache(*pool);
    install_overflow_report(describe);
    const auto on = signal_stack::make();
    runner self;
    self.stands_on = cache.take(*stack_class(64 * kib));
    self.name = long_name.c_str();
    self.body = &recursion;
    run(self);
  });
  CHECK(end.signal == SIGSEGV);
  CHECK(end.reports() == 1);
  CHECK(end.says("'evil?name"));
  CHECK(end.says("x\n"));
  CHECK(end.text.size() < 1000);
}

TEST_CASE("overflow: any other fault ends as it would have ended without us") {
  SUBCASE("in a fiber, by default") {
    const death end = watch([] { die_in_fiber(guard_way::mprotect, 256 * kib, &read_null); });
    CHECK(end.signal == SIGSEGV);
    CHECK(end.reports() == 0);
    CHECK(facts().described == 1);
  }
  SUBCASE("outside a fiber, by default") {
    const death end = watch([] {
      install_overflow_report(describe);
      read_null();
    });
    CHECK(end.signal == SIGSEGV);
    CHECK(end.text.empty());
  }
  SUBCASE("sent by a process") {
    const death end = watch([] {
      install_overflow_report(describe);
      raise(SIGBUS);
    });
    CHECK(end.signal == SIGBUS);
    CHECK(end.text.empty());
  }
  SUBCASE("sent, and ignored before us") {
    const death end = watch([] {
      std::signal(SIGSEGV, SIG_IGN);
      install_overflow_report(describe);
      raise(SIGSEGV);
    });
    CHECK(end.code == 77);
  }
}

TEST_CASE("overflow: the handler that was there before us gets what is not ours, in its own form") {
  SUBCASE("with siginfo, and with its mask") {
    const death end = watch([] {
      struct sigaction before = {};
      before.sa_flags = SA_SIGINFO;
      sigaddset(&before.sa_mask, SIGUSR1);
      before.sa_sigaction = [](int, siginfo_t* info, void*) {
        sigset_t mask;
        pthread_sigmask(SIG_SETMASK, nullptr, &mask);
        _exit(info->si_addr == nullptr && sigismember(&mask, SIGUSR1) == 1 ? 3 : 4);
      };
      sigaction(SIGSEGV, &before, nullptr);
      install_overflow_report(describe);
      read_null();
    });
    CHECK(end.code == 3);
  }
  SUBCASE("without") {
    const death end = watch([] {
      std::signal(SIGSEGV, [](int signal) { _exit(signal == SIGSEGV ? 5 : 6); });
      install_overflow_report(describe);
      read_null();
    });
    CHECK(end.code == 5);
  }
}

TEST_CASE("overflow: the first installer decides, and installing again does not chain us to us") {
  const death end = watch([] {
    install_overflow_report(describe);
    install_overflow_report([](overflow_view&) noexcept -> bool { _exit(9); });
    read_null();
  });
  CHECK(end.signal == SIGSEGV);
  CHECK(end.text.empty());
}

TEST_CASE("overflow: a signal stack has 64 KiB and a guard, and gives back the one before it") {
  stack_t before = {}, during = {}, after = {};
  REQUIRE(sigaltstack(nullptr, &before) == 0);
  {
    auto made = signal_stack::make();
    REQUIRE(made);
    const signal_stack kept = std::move(*made);
    REQUIRE(sigaltstack(nullptr, &during) == 0);
    CHECK(during.ss_size >= 64 * kib);
    CHECK(during.ss_flags == 0);
    CHECK(during.ss_sp != before.ss_sp);
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    CHECK(write(ends[1], static_cast<std::byte*>(during.ss_sp), 1) == 1);
    CHECK(write(ends[1], static_cast<std::byte*>(during.ss_sp) - 1, 1) == -1);
    close(ends[0]);
    close(ends[1]);
  }
  REQUIRE(sigaltstack(nullptr, &after) == 0);
  CHECK(after.ss_flags == before.ss_flags);
  CHECK((before.ss_flags == SS_DISABLE || after.ss_sp == before.ss_sp));
}
