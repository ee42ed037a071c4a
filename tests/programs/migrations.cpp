// migrations.cpp: fibers that keep changing their worker, and look at what belongs to the thread
// they are on. Sees only the public headers, so that any compiler and any level can be tried on
// both sides.
//
// Always true:
//   - In a build with COIR_FORCE_MIGRATION every park moves its fiber, and no move_to is called;
//     elsewhere each round calls it.
//   - Ends with 0 only when as many migrations as asked for happened, counted by the kernel's
//   number
//     of the thread, and every look saw the right value.
//
// Comes from: migrations.sh.   Goes to: this_fiber::move_to.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cfenv>
#include <coir/coir.hpp>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string_view>

#if defined(__clang__)
#define ASKED_AGAIN [[gnu::noinline]]
#else
#define ASKED_AGAIN [[gnu::noipa]]
#endif

namespace {

constexpr unsigned workers = 2;
constexpr unsigned fibers = 8;

thread_local int mark = -1;
std::array<int, workers> ids;
std::atomic<unsigned long> migrations{0}, wrong{0}, rounds_done{0};

// What the caller's function may not have kept from before: asked in one of its own.
ASKED_AGAIN int errno_here() {
  asm volatile("" ::: "memory");
  return errno;
}
ASKED_AGAIN void set_errno_here(int to) {
  asm volatile("" ::: "memory");
  errno = to;
}
ASKED_AGAIN int mark_here() {
  asm volatile("" ::: "memory");
  return mark;
}
ASKED_AGAIN int round_here() {
  asm volatile("" ::: "memory");
  return std::fegetround();
}
ASKED_AGAIN double third_here(double one) {
  asm volatile("" : "+x"(one)::"memory");
  return one / 3.0;
}

/// One fiber: where it was last, and what it expects to find.
struct traveller {
  int id;
  bool is_float;
  int rounding;
  double third;
  int seen_on = ::gettid();

  /// After a park: is all that belongs to the thread that of this worker, and the rest ours?
  void look() {
    const int thread = ::gettid();
    const unsigned at = coir::this_fiber::worker();
    migrations += thread != seen_on;
    seen_on = thread;
    wrong += at >= workers || ids[at] != thread;
    wrong += mark_here() != thread;
    wrong += errno_here() != id;
    wrong += round_here() != rounding || third_here(1.0) != third;
  }

  /// In builds that do not force it, moves to the other worker.
  void move() {
#if !defined(COIR_FORCE_MIGRATION)
    wrong += !coir::this_fiber::move_to(1 - coir::this_fiber::worker()).has_value();
#endif
  }

  void park(unsigned kind, coir::mutex& shared, int null) {
    set_errno_here(id);
    switch (kind % 8) {
      case 0: {
        const std::byte zero{};
        wrong += !coir::io::write(null, {&zero, 1}).has_value();
        break;
      }
      case 1:
        wrong += !coir::this_fiber::sleep_for(std::chrono::nanoseconds(1)).has_value();
        break;
      case 2:
        if (shared.lock_until(coir::never)) {
          coir::this_fiber::yield();
          shared.unlock();
        }
        break;
      case 3:
        wrong += !coir::spawn([] {}).join().has_value();
        break;
      default:
        coir::this_fiber::yield();
    }
    move();
    look();
  }

  void park_in_a_handler() {
    try {
      throw std::runtime_error("caught");
    } catch (const std::runtime_error& caught) {
      set_errno_here(id);
      coir::this_fiber::yield();
      move();
      look();
      wrong += std::string_view(caught.what()) != "caught" || !std::current_exception();
      try {
        throw;
      } catch (const std::runtime_error&) {
        return;
      }
    }
  }

  void travel(unsigned long rounds, coir::mutex& shared, int null) {
    if (is_float) std::fesetround(rounding);
    third = third_here(1.0);
    for (unsigned long i = 0; i < rounds; ++i) {
      if (i % 64 == static_cast<unsigned>(id)) {
        park_in_a_handler();
      } else {
        park(i % 32 < 8 ? static_cast<unsigned>(i) : 4, shared, null);
      }
    }
    rounds_done += rounds;
  }
};

void journey(unsigned long rounds) {
  for (unsigned i = 0; i < workers; ++i)
    wrong += !coir::spawn([i] { mark = ids[i] = ::gettid(); }, {.worker = i}).join().has_value();
  const int null = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  coir::mutex shared;
  coir::scope crowd;
  for (unsigned i = 0; i < fibers; ++i) {
    const bool is_float = i % 2 == 1;
    const int ways[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    const int rounding = is_float ? ways[i / 2 % 3] : FE_TONEAREST;
    crowd.spawn(
        [&, i, is_float, rounding] {
          traveller{static_cast<int>(i + 1), is_float, rounding, 0.0}.travel(rounds, shared, null);
        },
        {.sw =
             is_float ? coir::switcher::cross_thread_float : coir::switcher::cross_thread_no_float,
         .worker = i % workers});
  }
  wrong += !crowd.join().has_value();
  ::close(null);
}

}  // namespace

int main(int count, char** arguments) {
  const unsigned long wanted = count > 1 ? std::strtoul(arguments[1], nullptr, 10) : 10'000;
  const unsigned long rounds = wanted / fibers + wanted / fibers / 20 + 64;
  const auto ended = coir::run([&] { journey(rounds); }, {.workers = workers});
  const bool enough = migrations >= wanted && rounds_done == fibers * rounds;
  std::printf("%lu migrations, %lu wrong\n", migrations.load(), wrong.load());
  return ended && wrong == 0 && enough ? 0 : 1;
}
