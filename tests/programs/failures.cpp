// failures.cpp: a whole life of a runtime, again and again, and each time something else cannot be
// had: the i-th allocation by operator new, the i-th by malloc or calloc, the i-th mapping, the
// i-th step of making a ring, the i-th thread.
//
//   failures KIND once    that one alone
//   failures KIND ever    that one and every later one, until the runtime is gone
//   failures KIND plan    how often the life without failures asks for one
//
// Always true:
//   - Each life ends: with success (what failed could be done without), with an error, or with
//     std::bad_alloc where a closure or an answer is too large for a record. Never by abort. From C
//     nothing is thrown: its life is in a noexcept function, outside of every try.
//   - The library allocates by operator new alone. By malloc and calloc it is libc that allocates
//     for it (for a thread), and libstdc++ (for an exception): this program's own stand before
//     theirs, also for the code of other shared objects, where the linker's --wrap would not reach.
//   - After each life as much is allocated and mapped, and as many descriptors and threads are
//     there, as before it.
//   - A life in which nothing failed succeeds; a sweep in which no life failed has failed.
//
// Comes from: failures.sh.   Goes to: the public interface.
#include <dirent.h>
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <new>
#include <string_view>
#include <thread>

#include "coir.h"
#include "coir/coir.hpp"
#include "failures_life.hpp"
#include "tests/played_kernel.hpp"

using namespace std::chrono_literals;

namespace {

// -- what fails, and when

enum class kind : int { none, allocation, libc, mapping, ring, thread };

std::atomic<kind> failing{kind::none};
std::atomic<long> asked{0};     // how many of that kind, in this life
std::atomic<long> fails_at{0};  // the number of the one that fails; from 1
std::atomic<bool> ever{false};
std::atomic<long> failed{0};

bool fails(kind what) noexcept {
  if (failing.load() != what) return false;
  const long number = asked.fetch_add(1) + 1;
  if (number != fails_at && !(ever && number > fails_at)) return false;
  failed.fetch_add(1);
  return true;
}

std::atomic<long> allocated{0};
std::atomic<long> mapped_bytes{0};

// What malloc and calloc are in glibc under names that nobody takes the place of.
extern "C" {
void* __libc_malloc(std::size_t bytes);
void* __libc_calloc(std::size_t count, std::size_t bytes);
}

void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
  if (fails(kind::allocation)) return nullptr;
  void* const place =
      alignment <= alignof(std::max_align_t)
          ? __libc_malloc(bytes != 0 ? bytes : 1)
          : std::aligned_alloc(alignment, (bytes + alignment - 1) & ~(alignment - 1));
  if (place != nullptr) allocated.fetch_add(1);
  return place;
}

void* allocate_or_throw(std::size_t bytes, std::size_t alignment) {
  void* const place = allocate(bytes, alignment);
  if (place == nullptr) throw std::bad_alloc();
  return place;
}

void free_one(void* place) noexcept {
  if (place == nullptr) return;
  allocated.fetch_sub(1);
  std::free(place);
}

}  // namespace

void* operator new(std::size_t n) { return allocate_or_throw(n, 1); }
void* operator new[](std::size_t n) { return allocate_or_throw(n, 1); }
void* operator new(std::size_t n, std::align_val_t a) {
  return allocate_or_throw(n, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t n, std::align_val_t a) {
  return allocate_or_throw(n, static_cast<std::size_t>(a));
}
void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return allocate(n, 1); }
void* operator new[](std::size_t n, const std::nothrow_t&) noexcept { return allocate(n, 1); }
void operator delete(void* p) noexcept { free_one(p); }
void operator delete[](void* p) noexcept { free_one(p); }
void operator delete(void* p, std::size_t) noexcept { free_one(p); }
void operator delete[](void* p, std::size_t) noexcept { free_one(p); }
void operator delete(void* p, std::align_val_t) noexcept { free_one(p); }
void operator delete[](void* p, std::align_val_t) noexcept { free_one(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { free_one(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { free_one(p); }

extern "C" {
void* malloc(std::size_t bytes) {
  if (!fails(kind::libc)) return __libc_malloc(bytes);
  errno = ENOMEM;
  return nullptr;
}
void* calloc(std::size_t count, std::size_t bytes) {
  if (!fails(kind::libc)) return __libc_calloc(count, bytes);
  errno = ENOMEM;
  return nullptr;
}
}

// The linker gives the library these instead of the real ones (--wrap).
extern "C" {
void* __real_mmap(void* at, std::size_t bytes, int access, int flags, int fd, off_t offset);
int __real_munmap(void* at, std::size_t bytes);

void* __wrap_mmap(void* at, std::size_t bytes, int access, int flags, int fd, off_t offset) {
  if (fails(kind::mapping)) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  void* const place = __real_mmap(at, bytes, access, flags, fd, offset);
  // One that replaces a part of another adds nothing.
  if (place != MAP_FAILED && (flags & MAP_FIXED) == 0)
    mapped_bytes.fetch_add(static_cast<long>(bytes));
  return place;
}

int __wrap_munmap(void* at, std::size_t bytes) {
  const int done = __real_munmap(at, bytes);
  if (done == 0) mapped_bytes.fetch_sub(static_cast<long>(bytes));
  return done;
}

// libstdc++ asks this program before it asks libc.
int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*run)(void*),
                   void* argument) {
  using function = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const auto real = reinterpret_cast<function>(::dlsym(RTLD_NEXT, "pthread_create"));
  return fails(kind::thread) ? EAGAIN : real(thread, attributes, run, argument);
}
}

namespace {

// -- the steps of making a ring are system calls inside liburing; a filter gives us each of them

/// The one place that the filter lets through.
[[gnu::naked, gnu::noinline]] long let_through(long, long, long, long, long, long, long) {
  asm("mov %rdi, %rax\n"
      "mov %rsi, %rdi\n"
      "mov %rdx, %rsi\n"
      "mov %rcx, %rdx\n"
      "mov %r8, %r10\n"
      "mov %r9, %r8\n"
      "mov 8(%rsp), %r9\n"
      "syscall\n"
      "failures_let_through_ends: ret\n");
}
extern "C" const char failures_let_through_ends;

void decide(int, siginfo_t*, void* interrupted) {
  auto& r = static_cast<ucontext_t*>(interrupted)->uc_mcontext.gregs;
  if (fails(kind::ring)) {
    r[REG_RAX] = -EMFILE;
    return;
  }
  r[REG_RAX] =
      let_through(r[REG_RAX], r[REG_RDI], r[REG_RSI], r[REG_RDX], r[REG_R10], r[REG_R8], r[REG_R9]);
}

bool trap_ring_making() {
  struct sigaction action {};
  action.sa_sigaction = &decide;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  if (::sigaction(SIGSYS, &action, nullptr) != 0) return false;
  const auto from_elsewhere =
      test::called_from.is_not(reinterpret_cast<std::uintptr_t>(&failures_let_through_ends));
  // A ring is the only thing that is mapped with all its pages.
  return test::play_kernel(
      {{SYS_io_uring_setup, {from_elsewhere}, test::raises_sigsys},
       {SYS_io_uring_register, {from_elsewhere}, test::raises_sigsys},
       {SYS_eventfd2, {from_elsewhere}, test::raises_sigsys},
       {SYS_mmap, {test::argument(3).has(MAP_POPULATE), from_elsewhere}, test::raises_sigsys}});
}

// -- the life

enum class end { good, error, threw };

coir::result<> live() {
  auto made = coir::runtime::create(life::small());
  if (!made) return coir::fail(made.error());
  coir::runtime& rt = **made;
  // Before the start, so that it is queued.
  auto early = rt.spawn([l = life::large{}] { (void)l.bytes; });
  if (auto started = rt.start(); !started) return started;
  auto all = rt.spawn([] { return life::use_all(); });
  const auto used = all.join();
  if (const auto first = early.join(); !first) return first;
  if (auto down = rt.shutdown(coir::in(30s)); !down) return down;
  return used;
}

/// The same for C: a negative errno, or 0.
intptr_t live_in_c() noexcept {
  coir_config config{};
  config.size = sizeof config;
  config.workers = 2;
  config.fibers_max = 64;
  config.ring_entries = 8;
  const coir_body root = [](void*) -> intptr_t {
    const coir_body child = [](void*) -> intptr_t { return coir_sleep(1'000); };
    coir_fiber fiber;
    if (const int refused = coir_spawn(child, nullptr, nullptr, &fiber); refused != 0)
      return refused;
    intptr_t answer = 0;
    const int joined = coir_join(fiber, &answer);
    return joined != 0 ? joined : answer;
  };
  intptr_t answer = 0;
  const int ran = coir_run(&config, root, nullptr, &answer);
  return ran != 0 ? ran : answer;
}

end one_life() {
  if (live_in_c() < 0) return end::error;
  try {
    return live() ? end::good : end::error;
  } catch (const std::bad_alloc&) {
    return end::threw;
  }
}

// -- what is there before and after

long entries_of(const char* folder) {
  long count = 0;
  DIR* const all = ::opendir(folder);
  if (all == nullptr) return -1;
  while (::readdir(all) != nullptr) ++count;
  ::closedir(all);
  return count;
}

struct holdings {
  long allocations, bytes, descriptors, threads;
  static holdings now() {
    return {allocated.load(), mapped_bytes.load(), entries_of("/proc/self/fd"),
            entries_of("/proc/self/task")};
  }
  bool operator==(const holdings&) const = default;
};

/// Threads and rings linger for a moment after their end.
bool comes_back_to(const holdings& before) {
  for (int looks = 0; looks < 20'000; ++looks) {
    if (holdings::now() == before) return true;
    std::this_thread::yield();
  }
  return false;
}

int sweep(kind what, bool from_then_on) {
  long ends[3] = {};
  const holdings before = holdings::now();
  for (long i = 1;; ++i) {
    asked = 0;
    failed = 0;
    fails_at = i;
    ever = from_then_on;
    failing = what;
    const end how = one_life();
    failing = kind::none;
    if (!comes_back_to(before)) {
      const holdings after = holdings::now();
      std::printf(
          "number %ld: not all came back: allocations %ld to %ld, mapped bytes %ld to %ld, "
          "descriptors %ld to %ld, threads %ld to %ld\n",
          i, before.allocations, after.allocations, before.bytes, after.bytes, before.descriptors,
          after.descriptors, before.threads, after.threads);
      return 1;
    }
    if (failed == 0) {
      std::printf("%ld lives: %ld did without, %ld ended with an error, %ld with bad_alloc\n",
                  i - 1, ends[0], ends[1], ends[2]);
      if (how != end::good) std::printf("a life without a failure failed\n");
      return how == end::good && ends[1] + ends[2] != 0 ? 0 : 1;
    }
    ++ends[static_cast<int>(how)];
  }
}

/// The first life of a process each time: later ones find what libc made for its threads, and ask
/// for nothing. What stays behind is then not to be told from what is made once and kept.
int sweep_fresh(kind what, bool from_then_on) {
  constexpr int nothing_failed = 8;
  long ends[3] = {};
  for (long i = 1;; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      fails_at = i;
      ever = from_then_on;
      failing = what;
      const end how = one_life();
      failing = kind::none;
      ::_exit(static_cast<int>(how) + (failed == 0 ? nothing_failed : 0));
    }
    int status = 0;
    if (child < 0 || ::waitpid(child, &status, 0) != child) return 3;
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (code == nothing_failed) {
      std::printf("%ld lives: %ld did without, %ld ended with an error, %ld with bad_alloc\n",
                  i - 1, ends[0], ends[1], ends[2]);
      return ends[1] + ends[2] != 0 ? 0 : 1;
    }
    if (code < 0 || code > 2) return std::printf("number %ld: status %#x\n", i, status), 1;
    ++ends[code];
  }
}

int plan(kind what) {
  asked = 0;
  fails_at = 0;
  failing = what;
  const bool good = one_life() == end::good;
  failing = kind::none;
  std::printf("%ld\n", asked.load());
  return good ? 0 : 1;
}

}  // namespace

int main(int count, char** words) {
  const std::string_view what = count > 1 ? words[1] : "", mode = count > 2 ? words[2] : "";
  const kind wanted = what == "allocation" ? kind::allocation
                      : what == "libc"     ? kind::libc
                      : what == "mapping"  ? kind::mapping
                      : what == "ring"     ? kind::ring
                      : what == "thread"   ? kind::thread
                                           : kind::none;
  if (wanted == kind::none) return 2;
  std::setvbuf(stdout, nullptr, _IOLBF, 4096);
  if (wanted == kind::ring && !trap_ring_making()) return 77;
  if (wanted == kind::libc && mode != "plan") return sweep_fresh(wanted, mode == "ever");
  // What is made once and kept (tables, the unwinder's, the book of runtimes) is made now.
  for (int i = 0; i < 3; ++i)
    if (one_life() != end::good) return 3;
  if (mode == "plan") return plan(wanted);
  return sweep(wanted, mode == "ever");
}
