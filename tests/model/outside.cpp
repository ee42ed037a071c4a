// outside.cpp: what stands in place of base.cpp, futex.cpp and the scheduler of the system while
// worlds are explored.
//
// Always true:
//   - A thread that sleeps on a word is woken by futex_wake alone, or by the deadline it has, which
//     may come at any moment. Sleeping and waking order nothing: only the word does.
//   - An assertion that fails inside an exploration is a failure of that execution.
//
// Comes from: the real headers.   Goes to: engine.hpp.
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "runtime/base.hpp"
#include "runtime/futex.hpp"
#include "tests/model/engine.hpp"

namespace coir::detail {

std::uint64_t mutant_on = 0;

namespace {
[[gnu::constructor(101)]] void choose_mutant() noexcept {
  const char* const name = std::getenv("COIR_MUTANT");
  if (name != nullptr && *name != '\0') mutant_on = mutant_number(name);
}

/// One sleeper. On its thread's stack, which is kept until the execution is over.
struct sleeper {
  const void* word;
  bool woken = false;
  sleeper* next = nullptr;
};

/// Those who sleep in this execution, the first one first.
sleeper*& asleep() noexcept { return reinterpret_cast<sleeper*&>(check::running->sleepers); }
}  // namespace

void assertion_failed(const char* condition, const char* file, int line) noexcept {
  const std::string text =
      std::string("assertion: ") + condition + " (" + file + ":" + std::to_string(line) + ")";
  if (check::watching) check::running->fail(text);
  std::fprintf(stderr, "checker: %s\n", text.c_str());
  std::abort();
}

void pause() noexcept {
  if (check::watching) check::running->pause();
}

bool futex_wait(atomic<std::uint32_t>& word, std::uint32_t expected,
                std::int64_t until_ns) noexcept {
  // The kernel looks at the newest value, and puts the thread to sleep in the same moment. The
  // change that changes nothing is such a look; relaxed, because it orders nothing.
  if (word.fetch_add(0, std::memory_order_relaxed) != expected) return true;
  const bool gives_up = until_ns != INT64_MAX && check::choose(2) == 1;
  sleeper me{&word, false, nullptr};
  sleeper** last = &asleep();
  while (*last != nullptr) last = &(*last)->next;
  *last = &me;
  check::running->block("on a futex", [&me, gives_up] { return me.woken || gives_up; });
  for (sleeper** at = &asleep(); *at != nullptr; at = &(*at)->next)
    if (*at == &me) {
      *at = me.next;
      break;
    }
  return me.woken;
}

void futex_wake(atomic<std::uint32_t>& word, int threads) noexcept {
  if (!check::watching) return;
  check::running->turn(nullptr, check::spot::here());
  for (sleeper* s = asleep(); s != nullptr && threads > 0; s = s->next)
    if (s->word == &word && !s->woken) {
      s->woken = true;
      --threads;
    }
}

std::int64_t monotonic_ns() noexcept { return 0; }

void word_lock::lock_slow() noexcept {
  for (;;) {
    pause();
    // relaxed: only a hint that the exchange is worth its cache miss.
    if (word_.load(std::memory_order_relaxed) == 0 &&
        word_.exchange(1, std::memory_order_acquire) == 0)
      return;
  }
}

}  // namespace coir::detail

// An arena is mapped for each execution. The system's mapping, faults and unmapping would be most
// of the time of a search, so what was given back is taken again, zeroed. Not where a sanitizer
// watches these calls.
#if !COIR_ASAN && !COIR_TSAN
namespace {
struct kept_mapping {
  void* at = nullptr;
  std::size_t bytes = 0;
  bool free = false;
  struct {
    void* at;
    std::size_t bytes;
  } open[4] = {};
  unsigned opened = 0;
};
kept_mapping kept;
}  // namespace

extern "C" void* mmap(void* at, std::size_t bytes, int protection, int flags, int fd,
                      off_t offset) noexcept {
  const bool is_arena = at == nullptr && protection == PROT_NONE && fd == -1;
  if (is_arena && kept.free && kept.bytes == bytes) {
    for (unsigned i = 0; i < kept.opened; ++i) std::memset(kept.open[i].at, 0, kept.open[i].bytes);
    kept.free = false;
    return kept.at;
  }
  const long made = ::syscall(SYS_mmap, at, bytes, protection, flags, fd, offset);
  if (is_arena && made != -1 && (kept.at == nullptr || kept.free)) {
    if (kept.free) ::syscall(SYS_munmap, kept.at, kept.bytes);
    kept = {reinterpret_cast<void*>(made), bytes, false, {}, 0};
  }
  return reinterpret_cast<void*>(made);
}

extern "C" int mprotect(void* at, std::size_t bytes, int protection) noexcept {
  for (unsigned i = 0; i < kept.opened; ++i)
    if (kept.open[i].at == at && kept.open[i].bytes == bytes) return 0;
  const auto offset = static_cast<std::byte*>(at) - static_cast<std::byte*>(kept.at);
  if (kept.at != nullptr && offset >= 0 && static_cast<std::size_t>(offset) < kept.bytes)
    kept.open[kept.opened++] = {at, bytes};
  return static_cast<int>(::syscall(SYS_mprotect, at, bytes, protection));
}

extern "C" int munmap(void* at, std::size_t bytes) noexcept {
  if (at != kept.at || bytes != kept.bytes) {
    return static_cast<int>(::syscall(SYS_munmap, at, bytes));
  }
  kept.free = true;
  return 0;
}
#endif

/// In place of the C library's, for the rooms that give their time slice away.
extern "C" int sched_yield() noexcept {
  if (coir::check::watching) {
    coir::check::running->pause();
    return 0;
  }
  return static_cast<int>(::syscall(SYS_sched_yield));
}
