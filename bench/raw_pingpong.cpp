// raw_pingpong.cpp: two who wake each other, by hand: on one stack and another, on two threads that
// spin, on two rings, on two futexes.
//
// Always true:
//   - On one thread a ball takes what a wake takes that a thread or a deadline might have got ahead
//     of: the waiter stands in the gate (one locked instruction), the other takes it out (one) and
//     claims its park (one), and switches. There is no queue, no state and no budget around it.
//   - Two threads have a CPU each and nothing else to do.
//   - A ring is as coir's (raw_ring.hpp); a message costs its sender no completion.
//
// Comes from: rows_pingpong.cpp.   Goes to: raw_switch.hpp, raw_ring.hpp.
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <exception>
#include <stdexcept>
#include <thread>

#include "bench/peers.hpp"
#include "bench/raw_ring.hpp"
#include "bench/raw_switch.hpp"

namespace bench {

// -- one thread

#if defined(__x86_64__)

namespace {

struct player {
  raw::context context;
  std::atomic<std::uint64_t> epoch{0};
};

struct gate {
  std::atomic<player*> waiter{nullptr};

  /// Whoever waits here is woken.
  player& open() {
    player* const woken = waiter.exchange(nullptr, std::memory_order_acq_rel);
    std::uint64_t seen = woken->epoch.load(std::memory_order_relaxed);
    if (!woken->epoch.compare_exchange_strong(seen, seen + 1, std::memory_order_acq_rel))
      std::abort();
    return *woken;
  }
  void stand(player& me) { waiter.exchange(&me, std::memory_order_acq_rel); }
};

struct table {
  player first, second;
  raw::context home;
  gate ping, pong;
};
table* here = nullptr;

constexpr unsigned laps = 10'000;

/// Both sides run this one loop.
[[gnu::noinline]] void strike(player& me, gate& theirs, gate& mine, unsigned count) {
  for (unsigned lap = 0; lap < count; ++lap) {
    player& woken = theirs.open();
    mine.stand(me);
    raw::switch_inlined(me.context, woken.context);
  }
}

void serve(raw::context*, raw::context*) {
  table& t = *here;
  strike(t.first, t.ping, t.pong, laps);
  raw::switch_inlined(t.first.context, t.home);
  __builtin_unreachable();
}
void answer(raw::context*, raw::context*) {
  table& t = *here;
  t.ping.stand(t.second);
  raw::switch_inlined(t.second.context, t.home);
  strike(t.second, t.pong, t.ping, laps + 1);
  __builtin_unreachable();
}

}  // namespace

double raw_pingpong_same_ns() {
  const raw::stacks stacks(2, 64 << 10);
  return fastest_ns(laps, [&] {
    table t;
    here = &t;
    raw::prepare(t.first.context, stacks.top(0), &serve);
    raw::prepare(t.second.context, stacks.top(1), &answer);
    raw::switch_inlined(t.home, t.second.context);
    raw::switch_inlined(t.home, t.first.context);
  });
}

#else

double raw_pingpong_same_ns() { throw std::logic_error("no raw switch for this CPU"); }

#endif

// -- two threads

namespace {

/// `second` on the other CPU while this thread measures; it ends when `first` has.
template <class First, class Second>
double on_two_threads(const settings& chosen, First first, Second second) {
  std::thread other([&] {
    pin_to(chosen.client_cpu);
    second();
  });
  pin_to(chosen.cpu);
  const double ns = first();
  other.join();
  return ns;
}

using word = std::atomic<std::uint32_t>;
struct alignas(64) line {
  word ball{0};
};

constexpr std::uint32_t last_ball = UINT32_MAX;

/// Sleeps while `at` is `value`; how often it did.
unsigned futex_wait(word& at, std::uint32_t value) {
  unsigned sleeps = 0;
  // acquire: what was done before the ball was sent is visible.
  while (at.load(std::memory_order_acquire) == value)
    sleeps += ::syscall(SYS_futex, &at, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0) == 0;
  return sleeps;
}
void futex_set(word& at, std::uint32_t value) {
  at.store(value, std::memory_order_release);
  ::syscall(SYS_futex, &at, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

}  // namespace

double raw_pingpong_awake_ns(const settings& chosen) {
  constexpr unsigned count = 10'000;
  line shared;
  word& ball = shared.ball;
  // Odd: it is the other one's turn.
  return on_two_threads(
      chosen,
      [&] {
        std::uint32_t at = 0;
        const double ns = fastest_ns(count, [&] {
          for (unsigned lap = 0; lap < count; ++lap) {
            ball.store(at + 1, std::memory_order_release);
            at += 2;
            while (ball.load(std::memory_order_acquire) != at) continue;
          }
        });
        ball.store(last_ball, std::memory_order_release);
        return ns;
      },
      [&] {
        for (std::uint32_t wanted = 1;; wanted += 2) {
          std::uint32_t seen = 0;
          do seen = ball.load(std::memory_order_acquire);
          while (seen != wanted && seen != last_ball);
          if (seen == last_ball) return;
          ball.store(wanted + 1, std::memory_order_release);
        }
      });
}

sample raw_futex(const settings& chosen) {
  constexpr unsigned count = 200;
  line to, fro;
  std::uint32_t balls = 0;
  double sleeps = 0;
  const double ns = on_two_threads(
      chosen,
      [&] {
        const double usual = usual_ns(count, [&] {
          for (unsigned lap = 0; lap < count; ++lap, ++balls) {
            futex_set(to.ball, balls + 1);
            futex_wait(fro.ball, balls);
          }
        });
        futex_set(to.ball, last_ball);
        return usual;
      },
      [&] {
        for (std::uint32_t at = 0;; ++at) {
          sleeps += futex_wait(to.ball, at);
          if (to.ball.load(std::memory_order_relaxed) == last_ball) return;
          futex_set(fro.ball, at + 1);
        }
      });
  return {ns, sleeps / balls};
}

namespace {

/// One side of MSG_RING: sends, and in the same enter waits for what comes.
class ringer {
 public:
  /// For the thread that makes it. What is sent goes to the ring whose descriptor is `other`.
  explicit ringer(std::atomic<int>& mine, std::atomic<int>& other) : ring_(8), other_(other) {
    mine.store(ring_.fd(), std::memory_order_release);
    mine.notify_one();
    other.wait(0, std::memory_order_acquire);
  }
  void send(std::uint32_t ball) {
    io_uring_sqe* const sqe = ring_.next();
    io_uring_prep_msg_ring(sqe, other_.load(std::memory_order_relaxed), ball, message, 0);
    sqe->user_data = sent;
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
  }
  void flush() { ring_.submit(); }
  std::uint32_t take() {
    std::uint32_t ball = 0;
    for (bool came = false; !came;)
      ring_.turn(1, [&](const io_uring_cqe& cqe) {
        if (cqe.user_data == sent) raw::must("MSG_RING", cqe.res);
        came = cqe.user_data == message;
        ball = static_cast<std::uint32_t>(cqe.res);
      });
    return ball;
  }

 private:
  static constexpr std::uint64_t sent = 1, message = 2;
  raw::ring ring_;
  std::atomic<int>& other_;
};

constexpr std::uint32_t end_of_match = 1;

}  // namespace

double raw_pingpong_asleep_ns(const settings& chosen) {
  constexpr unsigned count = 200;
  std::atomic<int> first{0}, second{0};
  // The rings end after both threads have: a message to a ring that is gone is an error.
  std::atomic<bool> over{false};
  return on_two_threads(
      chosen,
      [&] {
        ringer me(first, second);
        const double ns = usual_ns(count, [&] {
          for (unsigned lap = 0; lap < count; ++lap) {
            me.send(0);
            me.take();
          }
        });
        me.send(end_of_match);
        me.flush();
        over.wait(false);
        return ns;
      },
      [&] {
        ringer me(second, first);
        while (me.take() != end_of_match) me.send(0);
        over.store(true);
        over.notify_one();
      });
}

}  // namespace bench
