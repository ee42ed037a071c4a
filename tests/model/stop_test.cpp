// stop_test.cpp: the end of a runtime against threads that still spawn, under the checker: what was
// accepted runs or is refused, and whoever waits for the end is told of it.
//
// Comes from: runtime/settling.hpp, runtime/bell.hpp.   Goes to: ctest.
#include "runtime/settling.hpp"

#include <array>

#include "runtime/bell.hpp"
#include "tests/model/protocol.hpp"

using namespace coir::check;
using namespace coir::detail;

namespace {

/// How the twins are broken.
struct course {
  unsigned spawners = 1;
  bool counts_first = true;
  bool tells_idle = true;
};

/// What of a worker the counts need.
struct counted_worker {
  atomic<std::uint64_t> spawned{0}, finished{0};
};

/// Thread 0 is the worker, 1 the one who shuts down, the others are plain threads that spawn.
struct stop_world : world {
  explicit stop_world(course c) : wanted(c) {}

  void run(unsigned thread) override {
    if (thread == 0) return serve();
    thread == 1 ? shut_down() : spawn();
  }

  void spawn() {
    bool admitted = false;
    if (wanted.counts_first) {
      admitted = counted_in(from_outside, stopping);
    } else {
      admitted = !stopping.load(std::memory_order_seq_cst);
      from_outside.fetch_add(1, std::memory_order_seq_cst);
    }
    if (!admitted) {
      if (wanted.tells_idle) {
        counted_out(from_outside, settling, idle_word);
      } else {
        from_outside.fetch_sub(1, std::memory_order_seq_cst);
      }
      return;
    }
    ++accepted;
    mail.fetch_add(1, std::memory_order_release);  // mailbox_test.cpp has the real one
    if (sleep.must_ring()) ring.open();
  }

  void serve() {
    while (!quit.load(std::memory_order_acquire)) {
      if (mail.load(std::memory_order_relaxed) != 0) {
        const std::uint64_t taken = mail.exchange(0, std::memory_order_acquire);
        ran += taken;
        own.finished.store(ran, std::memory_order_release);
      }
      // As worker::sleep_or_poll().
      rest.store(1, std::memory_order_relaxed);
      sleep.announce();
      if (mail.load(std::memory_order_relaxed) == 0 && !quit.load(std::memory_order_relaxed)) {
        if (settling.load(std::memory_order_seq_cst) && rest.load(std::memory_order_seq_cst) == 1)
          tell_idle(idle_word);
        ring.pass();
      }
      rest.store(0, std::memory_order_relaxed);
      sleep.withdraw();
    }
    served = true;
    done.open();
  }

  void shut_down() {
    stopping.store(true, std::memory_order_seq_cst);
    const std::array<counted_worker*, 1> workers = {&own};
    const auto ring_it = [this] {
      if (sleep.must_ring()) ring.open();
    };
    (void)wait_for_idle(settling, idle_word, INT64_MAX, ring_it,
                        [&] { return nobody_lives(workers, from_outside); });
    require(ran == accepted, "who was accepted has run");
    quit.store(true, std::memory_order_release);
    ring_it();
    done.pass();  // the thread has ended
    fence(std::memory_order_seq_cst);
    require(mail.load(std::memory_order_relaxed) == 0,
            "nothing was left: what was counted in has run");
  }

  void judge() override {
    require(served, "the worker has ended");
    require(ran == accepted, "what was accepted has run");
    require(from_outside.load() == own.finished.load(), "the counts agree");
  }

  course wanted;
  atomic<bool> stopping{false}, settling{false}, quit{false};
  atomic<std::uint64_t> from_outside{0};
  atomic<std::uint32_t> idle_word{0}, rest{0};
  counted_worker own;
  atomic<std::uint64_t> mail{0};
  bell sleep;
  gate ring, done;
  std::uint64_t accepted = 0, ran = 0;
  bool served = false;
};

/// What settling.hpp promises by itself: no bell, whose fences would stand in for its orders.
/// Thread 0 waits for the end of a runtime that stops; thread 1 is refused, or is the worker of the
/// last fiber and tells.
struct bare_world : world {
  explicit bare_world(bool refuses) : refused(refuses), stopping(refuses) {
    if (!refused) from_outside.store(1, std::memory_order_relaxed);
  }
  void run(unsigned thread) override {
    if (thread == 0) {
      const std::array<counted_worker*, 1> workers = {&own};
      (void)wait_for_idle(
          settling, idle_word, INT64_MAX, [] {},
          [&] { return nobody_lives(workers, from_outside); });
      if (!refused) require(work == 5, "what the last one did is there");
    } else if (refused) {
      require(!counted_in(from_outside, stopping), "a runtime that stops refuses");
      counted_out(from_outside, settling, idle_word);
    } else {
      work = 5;
      own.finished.store(1, std::memory_order_release);
      tell_idle(idle_word);
    }
  }
  const bool refused;
  atomic<bool> stopping, settling{false};
  atomic<std::uint64_t> from_outside{0};
  atomic<std::uint32_t> idle_word{0};
  counted_worker own;
  plain<int> work = 0;
};

/// Worker 0 runs the first fiber, which spawns one for worker 1 and ends later; thread 2 counts.
struct counting_world : world {
  counting_world() { from_outside.store(1, std::memory_order_relaxed); }
  void run(unsigned thread) override {
    if (thread == 0) {
      workers[0].spawned.store(1, std::memory_order_release);
      mail.open();  // mailbox_test.cpp has the real one
      ended[0] = true;
      workers[0].finished.store(1, std::memory_order_release);
    } else if (thread == 1) {
      mail.pass();
      ended[1] = true;
      workers[1].finished.store(1, std::memory_order_release);
    } else {
      const std::array<counted_worker*, 2> all = {&workers[0], &workers[1]};
      for (unsigned looks = 0; looks < 2; ++looks)
        if (nobody_lives(all, from_outside))
          require(ended[0] && ended[1], "equal sums mean that nobody lives");
    }
  }
  atomic<std::uint64_t> from_outside{0};
  std::array<counted_worker, 2> workers;
  std::array<bool, 2> ended = {};
  gate mail;
};

/// Worker 0 runs the last fiber of its own, which has sent one to worker 1; thread 2 waits for the
/// end. As runtime_core::on_worker_idle(): who goes to sleep tells when all rest and no inbox has
/// anything, for whoever has been rung rests once more and is the one to ask.
struct rung_world : world {
  enum class twin { none, asks_before_announcing, asks_himself };
  explicit rung_world(twin t) : as(t) { from_outside.store(1, std::memory_order_relaxed); }
  void run(unsigned thread) override { thread == 2 ? wait_for_end() : serve(thread); }

  void serve(unsigned me) {
    worker& own = workers[me];
    if (me == 0) {
      own.counts.spawned.store(1, std::memory_order_release);
      workers[1].mail.fetch_add(1, std::memory_order_release);
      if (workers[1].sleep.must_ring()) workers[1].ring.open();
      own.counts.finished.store(1, std::memory_order_release);
    }
    while (!quit.load(std::memory_order_acquire)) {
      if (own.mail.load(std::memory_order_relaxed) != 0) {
        (void)own.mail.exchange(0, std::memory_order_acquire);
        own.counts.finished.store(1, std::memory_order_release);
      }
      own.rest.store(1, std::memory_order_relaxed);
      const bool early = as == twin::asks_before_announcing && nobody_is_rung(me);
      own.sleep.announce();
      if (own.mail.load(std::memory_order_relaxed) == 0 && !quit.load(std::memory_order_relaxed)) {
        const bool idle = as == twin::asks_before_announcing ? early : nobody_is_rung(me);
        if (settling.load(std::memory_order_seq_cst) && idle) tell_idle(idle_word);
        own.ring.pass();
      }
      own.rest.store(0, std::memory_order_relaxed);
      own.sleep.withdraw();
    }
    own.done.open();
  }

  bool nobody_is_rung(unsigned me) {
    for (unsigned i = 0; i < workers.size(); ++i) {
      if (as == twin::asks_himself && i == me && me == 1) return false;
      if (workers[i].rest.load(std::memory_order_seq_cst) == 0 ||
          workers[i].mail.load(std::memory_order_relaxed) != 0)
        return false;
    }
    return true;
  }

  void wait_for_end() {
    const std::array<counted_worker*, 2> counts = {&workers[0].counts, &workers[1].counts};
    const auto ring_all = [this] {
      for (worker& each : workers)
        if (each.sleep.must_ring()) each.ring.open();
    };
    (void)wait_for_idle(settling, idle_word, INT64_MAX, ring_all,
                        [&] { return nobody_lives(counts, from_outside); });
    quit.store(true, std::memory_order_release);
    ring_all();
    for (worker& each : workers) each.done.pass();
  }

  struct worker {
    counted_worker counts;
    atomic<std::uint64_t> mail{0};
    atomic<std::uint32_t> rest{0};
    bell sleep;
    gate ring, done;
  };
  const twin as;
  atomic<bool> settling{false}, quit{false};
  atomic<std::uint64_t> from_outside{0};
  atomic<std::uint32_t> idle_word{0};
  std::array<worker, 2> workers;
};

/// For the twins: each finds an old store of a word once.
constexpr bounds one_old{.stale = 1};

maker of(course c) { return make_of<stop_world>(c); }

}  // namespace

TEST_CASE("settling: a shutdown ends when everybody has, and leaves nobody that was accepted") {
  must_hold("nobody spawns", 2, of({0, true, true}));
  must_hold("one thread spawns", 3, of({1, true, true}));
}

TEST_CASE("settling: whoever waits for the end is told by the counts and the word alone") {
  must_hold("one is refused", 2, make_of<bare_world>(true));
  must_hold("the last one ends", 2, make_of<bare_world>(false));
}

TEST_CASE("settling: equal sums mean that nobody was alive in between") {
  must_hold("a fiber that spawns for another worker", 3, make_of<counting_world>());
}

TEST_CASE("settling: of two workers, of whom one rings the other, the last to rest tells") {
  using twin = rung_world::twin;
  constexpr bounds few{.preemptions = 2, .stale = 1};
  must_hold("the last one tells", 3, make_of<rung_world>(twin::none), few);
  must_fail("he looks before he announces", 3, make_of<rung_world>(twin::asks_before_announcing),
            "nobody can go on", few);
  must_fail("he who was rung never tells", 3, make_of<rung_world>(twin::asks_himself),
            "nobody can go on", few);
}

TEST_CASE("settling: its broken twins are noticed") {
  must_fail("asked first and counted afterwards", 3, of({1, false, true}), "has run");
  must_fail("a refused one that tells nobody", 3, of({1, true, false}), "nobody can go on");
  using enum std::memory_order;
  const maker spawns = of({1, true, true});
  must_need("settling.hpp counted_in: change seq_cst", acq_rel, 3, spawns, one_old);
  must_need("settling.hpp counted_in: load seq_cst", acquire, 3, spawns, one_old);
  const maker is_refused = make_of<bare_world>(true);
  must_need("settling.hpp counted_out: change seq_cst", acq_rel, 2, is_refused);
  must_need("settling.hpp counted_out: load seq_cst", acquire, 2, is_refused);
  must_need("settling.hpp nobody_lives: load seq_cst", acquire, 2, is_refused);
  must_need("settling.hpp wait_for_idle: store seq_cst", release, 2, is_refused);
  const maker last_ends = make_of<bare_world>(false);
  must_need("settling.hpp wait_for_idle: load acquire", relaxed, 2, last_ends);
  must_need("settling.hpp tell_idle: change release", relaxed, 2, last_ends);
  must_need("settling.hpp nobody_lives: load acquire", relaxed, 2, last_ends);
  must_need("settling.hpp nobody_lives: load acquire", relaxed, 3, make_of<counting_world>());
}
