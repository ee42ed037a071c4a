// two_processes.cpp: the two processes of two_processes.hpp and the shared words where they meet.
//
// Comes from: two_processes.hpp.   Goes to: nothing.
#include "bench/two_processes.hpp"

#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <stdexcept>
#include <system_error>

namespace bench {

namespace {

struct meeting {
  std::atomic<unsigned> arrived{0};
  std::atomic<bool> over{false};
  std::int64_t least_ns = std::numeric_limits<std::int64_t>::max();

  /// Both are there; `round` counts from 1. The one that came first waits for the other.
  void meet(unsigned round) {
    arrived.fetch_add(1, std::memory_order_acq_rel);
    while (arrived.load(std::memory_order_acquire) < 2 * round) ::sched_yield();
  }
};

/// What either does: an untimed run, then timed ones until the first process has seen enough.
void keep_time(meeting& at, bool first, const std::function<void()>& run) {
  const std::int64_t until = now_ns() + spend_ns;
  unsigned meetings = 0;
  for (unsigned runs = 0;; ++runs) {
    at.meet(++meetings);
    const std::int64_t began = now_ns();
    run();
    at.meet(++meetings);
    const std::int64_t spent = now_ns() - began;
    if (first && runs != 0) at.least_ns = std::min(at.least_ns, spent);
    if (first && runs >= calls_least && now_ns() >= until) at.over.store(true);
    at.meet(++meetings);
    if (at.over.load()) return;
  }
}

}  // namespace

double side_by_side_ns(const settings& chosen, const std::function<void(const stopwatch&)>& work) {
  void* const shared =
      ::mmap(nullptr, sizeof(meeting), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) throw std::system_error(errno, std::system_category(), "mmap");
  auto& at = *new (shared) meeting;
  pid_t children[2];
  for (unsigned i = 0; i < 2; ++i) {
    children[i] = ::fork();
    if (children[i] == -1) throw std::system_error(errno, std::system_category(), "fork");
    if (children[i] != 0) continue;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    int code = 1;
    try {
      pin_to(i == 0 ? chosen.cpu : chosen.client_cpu);
      work([&](const std::function<void()>& run) { keep_time(at, i == 0, run); });
      code = 0;
    } catch (const std::exception& e) {
      std::fprintf(stderr, "process %u of 2: %s\n", i, e.what());
    }
    ::_exit(code);
  }
  // Whichever ends first: when it failed, the other would wait for it for ever.
  bool failed = false;
  for (unsigned ended = 0; ended < 2; ++ended) {
    int status = 0;
    const pid_t who = ::wait(&status);
    if (who == -1) throw std::system_error(errno, std::system_category(), "wait");
    if (status != 0 && !failed) {
      failed = true;
      ::kill(who == children[0] ? children[1] : children[0], SIGKILL);
    }
  }
  const auto least = static_cast<double>(at.least_ns);
  ::munmap(shared, sizeof(meeting));
  if (failed) throw std::runtime_error("one of two processes failed");
  return least;
}

}  // namespace bench
