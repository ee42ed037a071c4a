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
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstdlib>
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
  check::running->turn(check::spot::here());
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

/// In place of the C library's, for the rooms that give their time slice away.
extern "C" int sched_yield() noexcept {
  if (coir::check::watching) {
    coir::check::running->pause();
    return 0;
  }
  return static_cast<int>(::syscall(SYS_sched_yield));
}
