// a_signals_test.cpp: signals that arrive while the smallest fibers run.
//
// Always true:
//   - The storm is a number of signals, not a time; the next one is sent when the last one was
//     seen, so all of them arrive.
//   - Handlers only count.
//
// Comes from: entry A12 of the failure catalogue.   Goes to: runtime/runtime.cpp,
// runtime/stacks.cpp.
#include <doctest/doctest.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <thread>

#include "coir/coir.hpp"
#include "tests/test_options.hpp"

using test::at_full_speed;
using test::tested;

namespace {

std::atomic<unsigned> seen{0};
std::atomic<pid_t> seen_on{0};

void count_it(int) {
  const int error = errno;
  seen_on.store(::gettid());
  seen.fetch_add(1);
  errno = error;
}

/// Has `count_it` for a signal, and gives it back to who had it before.
class handled {
 public:
  handled(int signal, int flags) : signal_(signal) {
    struct sigaction ours {};
    ours.sa_handler = &count_it;
    ours.sa_flags = flags;
    REQUIRE(::sigaction(signal_, &ours, &before_) == 0);
  }
  ~handled() { ::sigaction(signal_, &before_, nullptr); }

 private:
  int signal_;
  struct sigaction before_ {};
};

void change_mask(int how, int signal) {
  sigset_t one;
  ::sigemptyset(&one);
  ::sigaddset(&one, signal);
  REQUIRE(::pthread_sigmask(how, &one, nullptr) == 0);
}

/// Fills most of the smallest stack, parks, and says whether all of it is as it was.
bool keeps_its_stack(unsigned seed) {
  std::array<unsigned char, 1024> canary;
  std::memset(canary.data(), static_cast<int>(seed), canary.size());
  asm volatile("" : : "r"(canary.data()) : "memory");
  coir::this_fiber::yield();
  asm volatile("" : : "r"(canary.data()) : "memory");
  for (const unsigned char c : canary)
    if (c != static_cast<unsigned char>(seed)) return false;
  return true;
}

constexpr unsigned storm = at_full_speed(4'000u, 400u);

/// A timer of the kernel that sends `signal` to the calling thread every 100 us.
class drizzle {
 public:
  explicit drizzle(int signal) {
    sigevent to{};
    to.sigev_notify = SIGEV_THREAD_ID;
    to.sigev_signo = signal;
    to._sigev_un._tid = ::gettid();
    REQUIRE(::timer_create(CLOCK_MONOTONIC, &to, &timer_) == 0);
    const itimerspec every{{0, 100'000}, {0, 100'000}};
    REQUIRE(::timer_settime(timer_, 0, &every, nullptr) == 0);
  }
  ~drizzle() { ::timer_delete(timer_); }
  drizzle(const drizzle&) = delete;
  drizzle& operator=(const drizzle&) = delete;

 private:
  timer_t timer_{};
};

/// Fibers of the smallest size on one worker that talk through a pipe while `signal` comes.
void weather(int signal) {
  seen = 0;
  int broken = 0;
  unsigned sent_bytes = 0, got_bytes = 0;
  const auto over = [] { return seen.load() >= storm; };
  const auto done = coir::run(
      [&] {
        change_mask(SIG_UNBLOCK, signal);
        int ends[2];
        REQUIRE(::pipe(ends) == 0);
        coir::scope all;
        for (unsigned i = 0; i < 8; ++i)
          all.spawn(
              [&over, &broken, i] {
                while (!over())
                  if (!keeps_its_stack(i)) ++broken;
              },
              {.stack_bytes = 16 << 10});
        all.spawn(
            [&] {
              std::byte one{1};
              while (!over()) {
                const auto n = coir::io::write(ends[1], {&one, 1});
                CHECK(n.has_value());
                if (n) ++sent_bytes;
              }
              CHECK(coir::io::close(ends[1]).has_value());
            },
            {.stack_bytes = 16 << 10});
        all.spawn(
            [&] {
              std::byte one{};
              for (;;) {
                const auto n = coir::io::read(ends[0], {&one, 1});
                CHECK(n.has_value());
                if (!n || *n == 0) break;
                ++got_bytes;
              }
              CHECK(coir::io::close(ends[0]).has_value());
            },
            {.stack_bytes = 16 << 10});
        {
          const drizzle rain(signal);
          CHECK(all.join().has_value());
        }
        change_mask(SIG_BLOCK, signal);
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
  CHECK(seen >= storm);
  CHECK(broken == 0);
  CHECK(sent_bytes > 0);
  CHECK(sent_bytes == got_bytes);
}

}  // namespace

TEST_CASE("A12: a storm of signals on their own stack harms no fiber of the smallest size") {
  const handled h(SIGPROF, SA_ONSTACK);
  weather(SIGPROF);
}

TEST_CASE("A12: the smallest stack has room for a signal that is taken on it") {
  const handled h(SIGUSR1, 0);
  weather(SIGUSR1);
}

TEST_CASE("A12: workers take no signal of the process unless a fiber asks for it") {
  const handled h(SIGUSR2, SA_ONSTACK);
  seen = 0;
  constexpr unsigned signals = 200;
  auto made = coir::runtime::create(tested({.workers = 2}));
  REQUIRE(made.has_value());
  REQUIRE((*made)->start().has_value());
  for (unsigned i = 0; i < signals; ++i) {
    REQUIRE(::kill(::getpid(), SIGUSR2) == 0);
    while (seen.load() <= i) std::this_thread::yield();
    CHECK(seen_on == ::gettid());
  }
  auto asked = (*made)->spawn([] {
    sigset_t now;
    ::pthread_sigmask(SIG_SETMASK, nullptr, &now);
    return ::sigismember(&now, SIGUSR2) == 1 && ::sigismember(&now, SIGTERM) == 1 &&
           ::sigismember(&now, SIGSEGV) == 0;
  });
  CHECK(asked.join().value());
  CHECK((*made)->shutdown().has_value());
}
