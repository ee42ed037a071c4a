// migrations.cpp: fibers that keep changing their worker, and look at what belongs to the thread
// they are on. Sees only the public headers, so that any compiler and any level can be tried on
// both sides.
//
// Always true:
//   - In a build with COIR_FORCE_MIGRATION every call that parked moves its fiber, and no move_to
//     is called; elsewhere each of them is followed by one.
//   - There is a way to park for each place where such a build moves a fiber: without that place no
//     fiber would move by that way, and each way is counted for itself.
//   - Ends with 0 only when as many migrations as asked for happened, counted by the number that
//     the kernel gives to the thread, some of them by each way to park, and every look saw the
//     right value.
//
// Comes from: migrations.sh.   Goes to: this_fiber::move_to.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cfenv>
#include <chrono>
#include <coir/coir.hpp>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <stdexcept>
#include <string_view>
#include <utility>

#if defined(__clang__)
#define ASKED_AGAIN [[gnu::noinline]]
#else
#define ASKED_AGAIN [[gnu::noipa]]
#endif

namespace {

constexpr unsigned workers = 2;
constexpr unsigned fibers = 8;

/// What a fiber waits for; `other`: whatever comes in between.
enum class way : unsigned {
  write,
  read,
  close,
  started,
  sleep,
  yield,
  yield_to,
  lock,
  condition,
  event,
  local_join,
  far_join,
  by_name,
  await_all,
  blocking,
  handler,
  other,
};
constexpr std::array names = {
    "write",    "read",      "close",     "started", "sleep",      "yield",
    "yield_to", "lock",      "condition", "event",   "local_join", "far_join",
    "by_name",  "await_all", "blocking",  "handler", "other",
};
constexpr unsigned all_ways = static_cast<unsigned>(way::other) + 1;
static_assert(names.size() == all_ways);

thread_local int mark = -1;
std::array<int, workers> ids;
std::array<std::atomic<unsigned long>, all_ways> migrations{};
std::atomic<unsigned long> wrong{0}, rounds_done{0};

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

void must(bool right) { wrong += !right; }

/// Runs beside whoever calls, on the same worker, when that one parks.
template <class F>
auto beside(F body) {
  return coir::spawn(std::move(body), {.worker = coir::this_fiber::worker()});
}

/// A pipe of one fiber.
struct bytes {
  bytes() { must(::pipe2(ends, O_CLOEXEC) == 0); }
  ~bytes() {
    ::close(ends[0]);
    ::close(ends[1]);
  }
  bytes(const bytes&) = delete;
  bytes& operator=(const bytes&) = delete;
  /// Somebody beside us writes one.
  coir::handle<void> coming() {
    return beside([to = ends[1]] { must(::write(to, "x", 1) == 1); });
  }
  int ends[2] = {-1, -1};
};

/// One fiber: where it was last, and what it expects to find.
struct traveller {
  int id;
  bool is_float;
  int rounding;
  coir::mutex& shared;
  int null;
  double third = 0;
  int seen_on = ::gettid();
  bytes pipe = {};
  std::byte byte = {};

  /// After a park: is all that belongs to the thread that of this worker, and the rest ours?
  void look(way by) {
    const int thread = ::gettid();
    const unsigned at = coir::this_fiber::worker();
    migrations[static_cast<unsigned>(by)] += thread != seen_on;
    seen_on = thread;
    must(at < workers && ids[at] == thread);
    must(mark_here() == thread);
    must(errno_here() == id);
    must(round_here() == rounding && third_here(1.0) == third);
  }

  /// In builds that do not force it, moves to the other worker.
  void move() {
#if !defined(COIR_FORCE_MIGRATION)
    must(coir::this_fiber::move_to(1 - coir::this_fiber::worker()).has_value());
#endif
  }

  /// `call` is the one that parks, and nothing else in it does.
  template <class Call>
  void park(way by, Call call) {
    set_errno_here(id);
    must(call());
    move();
    look(by);
  }
  /// The end of whoever ran beside us.
  void see_off(coir::handle<void> gone) {
    park(way::other, [&] { return gone.join().has_value(); });
  }

  void wait_for_the_world(way by) {
    switch (by) {
      case way::write:
        return park(by, [&] { return coir::io::write(null, {&byte, 1}) == 1u; });
      case way::read: {
        auto writer = pipe.coming();
        park(by, [&] { return coir::io::read(pipe.ends[0], {&byte, 1}) == 1u; });
        return see_off(std::move(writer));
      }
      case way::close: {
        // One that no worker has ever used: a close that waits for users' reports has a move there.
        const int number = ::fcntl(null, F_DUPFD_CLOEXEC, 900);
        return park(by, [&] { return coir::io::close(number).has_value(); });
      }
      case way::started: {
        auto writer = pipe.coming();
        park(by, [&] {
          auto under_way = coir::start(coir::read_operation(pipe.ends[0], {&byte, 1}));
          return under_way.get() == 1u;
        });
        return see_off(std::move(writer));
      }
      case way::blocking:
        return park(by, [] { return coir::blocking([] { return 6; }) == 6; });
      default:
        return park(way::sleep, [] {
          return coir::this_fiber::sleep_for(std::chrono::nanoseconds(1)).has_value();
        });
    }
  }

  void wait_in_a_queue(way by) {
    switch (by) {
      case way::lock: {  // whoever finds it free does not park; many do not
        park(by, [&] { return shared.lock_until(coir::never).has_value(); });
        for (int yields = 0; yields < 4; ++yields) pass_the_time();
        return shared.unlock();
      }
      case way::condition: {
        coir::mutex mine;
        coir::condition_variable changed;
        bool said = false;
        std::unique_lock held(mine);
        auto says = beside([&] {
          {
            const std::lock_guard they_hold(mine);
            said = true;
          }
          changed.notify_one();
        });
        park(by, [&] { return changed.wait(held, [&] { return said; }).has_value(); });
        held.unlock();
        return see_off(std::move(says));
      }
      default: {
        coir::event open;
        auto opens = beside([&] { open.set(); });
        park(way::event, [&] { return open.wait().has_value(); });
        return see_off(std::move(opens));
      }
    }
  }

  void wait_for_a_fiber(way by) {
    switch (by) {
      case way::yield_to: {
        auto next = beside([] {});
        park(by, [&] { return coir::this_fiber::yield_to(next.id()).has_value(); });
        return see_off(std::move(next));
      }
      case way::local_join: {
        auto child = beside([] {});
        return park(by, [&] { return child.join().has_value(); });
      }
      case way::far_join: {
        auto child = coir::spawn([] {}, {.worker = 1 - coir::this_fiber::worker()});
        return park(by, [&] { return child.join().has_value(); });
      }
      case way::by_name: {
        auto child = beside([] { coir::this_fiber::yield(); });
        park(by, [&] { return coir::wait(child.id()).has_value(); });
        return see_off(std::move(child));
      }
      default: {
        auto child = beside([] {});
        return park(way::await_all, [&] {
          const auto [answer] = coir::await_all(child);
          return answer.has_value();
        });
      }
    }
  }

  void pass_the_time() {
    park(way::yield, [] {
      coir::this_fiber::yield();
      return true;
    });
  }

  void park_in_a_handler() {
    try {
      throw std::runtime_error("caught");
    } catch (const std::runtime_error& caught) {
      park(way::handler, [] {
        coir::this_fiber::yield();
        return true;
      });
      must(std::string_view(caught.what()) == "caught" && std::current_exception());
      try {
        throw;
      } catch (const std::runtime_error&) {
        return;
      }
    }
  }

  void wait(way by) {
    switch (by) {
      case way::write:
      case way::read:
      case way::close:
      case way::started:
      case way::sleep:
      case way::blocking:
        return wait_for_the_world(by);
      case way::lock:
      case way::condition:
      case way::event:
        return wait_in_a_queue(by);
      case way::yield_to:
      case way::local_join:
      case way::far_join:
      case way::by_name:
      case way::await_all:
        return wait_for_a_fiber(by);
      case way::handler:
        return park_in_a_handler();
      default:
        return pass_the_time();
    }
  }

  /// Most rounds only yield, which costs least.
  void travel(unsigned long rounds) {
    if (is_float) std::fesetround(rounding);
    third = third_here(1.0);
    for (unsigned long i = 0; i < rounds; ++i) {
      const auto by = static_cast<way>(i % 64);
      wait(by < way::other ? by : way::yield);
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
          traveller{static_cast<int>(i + 1), is_float, rounding, shared, null}.travel(rounds);
        },
        {.sw =
             is_float ? coir::switcher::cross_thread_float : coir::switcher::cross_thread_no_float,
         .worker = i % workers});
  }
  wrong += !crowd.join().has_value();
  ::close(null);
}

/// Of all ways; 0 when there was none by one of them.
unsigned long migrated() {
  unsigned long sum = 0;
  bool by_each = true;
  for (unsigned i = 0; i < all_ways; ++i) {
    const unsigned long here = migrations[i];
    // Whoever ran beside us has nearly always ended before we ask.
    const bool none = here == 0 && static_cast<way>(i) != way::other;
    if (none) std::printf("nobody migrated by %s\n", names[i]);
    by_each &= !none;
    sum += here;
  }
  return by_each ? sum : 0;
}

}  // namespace

int main(int count, char** arguments) {
  const unsigned long wanted = count > 1 ? std::strtoul(arguments[1], nullptr, 10) : 10'000;
  const unsigned long rounds = wanted / fibers + wanted / fibers / 20 + 64;
  const auto ended = coir::run([&] { journey(rounds); }, {.workers = workers});
  const unsigned long happened = migrated();
  const bool enough = happened >= wanted && rounds_done == fibers * rounds;
  std::printf("%lu migrations, %lu wrong\n", happened, wrong.load());
  return ended && wrong == 0 && enough ? 0 : 1;
}
