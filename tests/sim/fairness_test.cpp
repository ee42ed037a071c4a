// fairness_test.cpp: one worker that has too much of everything serves everybody all the same.
//
// Always true:
//   - Time is virtual: a turn of a fiber costs 1 us, and nothing else costs anything.
//   - A wait is counted in turns of fibers (picks) and in visits of the worker to the outside.
//   - What other cores send is sent by a plain thread during a visit, and has been sent when the
//     visit goes on: the run is the same each time.
//
// Comes from: docs/design.md, section 3, number 17; entries B11 and B13 of the failure catalogue.
#include <algorithm>
#include <climits>
#include <thread>

#include "in_sim.hpp"

using namespace sim_test;
using namespace std::chrono_literals;

namespace {

constexpr std::int64_t pick_ns = 1'000;

/// The longest wait of one class, and how often it was served.
struct served {
  std::uint64_t longest = 0;
  std::uint64_t times = 0;
  void after(std::uint64_t waited) {
    longest = std::max(longest, waited);
    ++times;
  }
};

/// Everybody at once: who yields, who asks the kernel, who sleeps, who is woken by another core,
/// and those whom other cores send.
class crowd {
 public:
  explicit crowd(const coir::options& wish) : options(test::tested(wish)) {
    const auto most = options.fibers_max;
    askers = std::min(200u, most / 8);
    yielders = std::min(1'000u, most - askers - options.mailbox_slots - most / 4);
    world.rule({.opcode = IORING_OP_NOP, .times = UINT_MAX, .delay_ns = 0});
    world.on_visit = [this] { be_other_cores(); };
  }

  /// Until the sleeper was woken `nap_count` times.
  void run(unsigned nap_count) {
    const auto ended = run_in_sim(
        world,
        [&] {
          core_ = coir::detail::current_core();
          coir::scope all;
          all.spawn([this] { be_woken_on(); });
          for (unsigned i = 0; i < yielders; ++i) all.spawn([this] { yield_on(); });
          for (unsigned i = 0; i < askers; ++i) all.spawn([this] { ask_on(); });
          // The last has begun: what comes from now on finds nobody unstarted before it.
          while (begun_ < yielders + askers) coir::this_fiber::yield();
          gathered_ = true;
          sleep_on(nap_count);
          over_ = true;
          call_.set();
          REQUIRE(all.join().has_value());
        },
        options);
    REQUIRE(ended.has_value());
  }

  /// One turn of each fiber that can be ready, and of the unstarted ones that come between them.
  std::uint64_t round() const {
    const std::uint64_t ready = yielders + askers + 2;
    return ready + ready / 7 + 2;
  }
  /// The rest of a turn of the loop, until the worker hears of something.
  std::uint64_t turn() const { return options.run_budget + 1; }

  coir::options options;
  unsigned yielders, askers;
  sim_world world{{.entries = 4'096}};
  served yields, answers, naps, calls, mail;
  std::uint64_t refused = 0, visits = 0;

 private:
  void turn_of_mine() {
    ++picks_;
    world.compute(pick_ns);
  }

  void yield_on() {
    ++begun_;
    for (std::uint64_t last = picks_; !over_; last = picks_) {
      turn_of_mine();
      coir::this_fiber::yield();
      if (last != 0) yields.after(picks_ - last);
    }
  }

  void ask_on() {
    ++begun_;
    while (!over_) {
      turn_of_mine();
      const std::uint64_t asked = picks_;
      REQUIRE(coir::perform(coir::nop{}).has_value());
      answers.after(picks_ - asked);
    }
  }

  void sleep_on(unsigned wanted) {
    for (unsigned i = 0; i < wanted; ++i) {
      turn_of_mine();
      const auto due = coir::in(10ms);
      REQUIRE(coir::this_fiber::sleep_until(due).has_value());
      naps.after(static_cast<std::uint64_t>((coir::clock::now() - due).count() / pick_ns));
    }
  }

  void be_woken_on() {
    while (!over_) {
      turn_of_mine();
      waits_ = true;
      REQUIRE(call_.wait().has_value());
      call_.reset();
      calls.after(picks_ - called_);
    }
  }

  /// Fills the mailbox to the brim, and wakes the one who waits.
  void be_other_cores() {
    if (!gathered_ || over_) return;
    ++visits;
    std::thread([this] {
      const auto send = [this] {
        return coir::detail::spawn_at_once(
            core_, [this, sent = visits] { begin(sent); }, {.worker = 0}, coir::site::here());
      };
      while (const auto fiber = send()) {
      }
      ++refused;
      if (!std::exchange(waits_, false)) return;
      called_ = picks_;
      call_.set();
    }).join();
  }

  void begin(std::uint64_t sent) {
    turn_of_mine();
    mail.after(visits - sent);
  }

  coir::detail::runtime_core* core_ = nullptr;
  coir::event call_;
  std::uint64_t picks_ = 0, called_ = 0;
  unsigned begun_ = 0;
  bool gathered_ = false, waits_ = false, over_ = false;
};

}  // namespace

TEST_CASE(
    "fairness: B11 among 1,000 that yield, a full mailbox, a flood of completions and a timer "
    "nobody "
    "waits for more than one turn of the others") {
  crowd all({.fibers_max = 4'096, .stack_bytes = 64 << 10, .mailbox_slots = 24});
  all.run(test::at_full_speed(40u, 5u));
  CAPTURE(all.round());
  CAPTURE(all.turn());
  // All of them were there all the time.
  CHECK(all.refused == all.visits);
  for (const served* each : {&all.yields, &all.answers, &all.naps, &all.calls, &all.mail})
    CHECK(each->times >= 5);
  CHECK(all.mail.times >= all.visits / 2);
  // Who is ready waits for one turn of each other fiber.
  CHECK(all.yields.longest <= all.round());
  // Whom the outside makes ready waits, before that, until the worker looks outside.
  CHECK(all.answers.longest <= all.turn() + all.round());
  CHECK(all.naps.longest <= all.turn() + all.round());
  CHECK(all.calls.longest <= all.turn() + all.round());
  // What other cores sent has started before the worker looks outside twice.
  CHECK(all.mail.longest <= 1);
}

TEST_CASE(
    "fairness: B13 a mutex that is let go belongs to whoever waited first, however many others "
    "run, "
    "and waiting for it costs no turn") {
  const coir::options o = test::tested({.fibers_max = 2'048, .stack_bytes = 64 << 10});
  const unsigned flood = std::min(1'000u, o.fibers_max / 2), waiters = 8;
  constexpr std::int64_t held_ns = 3'000'000;
  sim_world world;
  coir::mutex lock;
  std::vector<std::int64_t> waited(waiters);
  std::int64_t let_go = 0;
  std::string order;
  std::uint64_t parks = 0;
  const auto ended = run_in_sim(
      world,
      [&] {
        bool over = false;
        unsigned begun = 0;
        coir::scope all;
        const auto parks_so_far = [] {
          return coir::detail::worker::current()->counts().parks.get();
        };
        for (unsigned i = 0; i < flood; ++i)
          all.spawn([&] {
            ++begun;
            while (!over) {
              world.compute(pick_ns);
              // A fiber that only tries never overtakes those who wait.
              if (lock.try_lock()) order += "!", lock.unlock();
              coir::this_fiber::yield();
            }
          });
        while (begun < flood) coir::this_fiber::yield();
        lock.lock();
        std::vector<coir::handle<void>> waiting;
        for (unsigned i = 0; i < waiters; ++i)
          waiting.push_back(start([&, i] {
            lock.lock();
            waited[i] = now_ns() - let_go;
            order += static_cast<char>('a' + i);
            // Each holds it across a park: a convoy behind one lock.
            (void)coir::this_fiber::sleep_for(std::chrono::nanoseconds(held_ns));
            lock.unlock();
          }));
        const std::uint64_t before = parks_so_far();
        (void)coir::this_fiber::sleep_for(std::chrono::nanoseconds(held_ns));
        order.clear();
        let_go = now_ns();
        lock.unlock();
        for (auto& w : waiting) REQUIRE(w.join().has_value());
        parks = parks_so_far() - before;
        over = true;
        REQUIRE(all.join().has_value());
      },
      o);
  REQUIRE(ended.has_value());
  CHECK(order.substr(0, waiters) == "abcdefgh");
  const std::int64_t turn_ns = (o.run_budget + 1) * pick_ns;
  const std::int64_t round_ns = (flood + waiters + 2) * pick_ns;
  for (unsigned i = 0; i < waiters; ++i) {
    CAPTURE(i);
    // Of each before us the nap, until the worker hears of its end, and a turn; then our own turn.
    CHECK(waited[i] <= i * (held_ns + turn_ns + 2 * round_ns) + round_ns);
  }
  // Nobody looked again and again: the naps (nine), and the joins of waiters that have not ended.
  CHECK(parks <= 1 + waiters + waiters);
}

TEST_CASE(
    "fairness: B13 beside a flood above it a low holder has one pick in 33, and whoever waits for "
    "it waits no longer, however urgent") {
  const coir::options o = test::tested({.fibers_max = 2'048, .stack_bytes = 64 << 10});
  const unsigned flood = std::min(200u, o.fibers_max / 2);
  constexpr unsigned yields = 10;  // of the holder, while it holds
  constexpr std::int64_t ages_after =
      coir::detail::levels<coir::detail::record, coir::detail::queue_node>::ages_after;
  sim_world world;
  coir::mutex lock;
  std::int64_t waited = 0;
  const auto ended = run_in_sim(
      world,
      [&] {
        bool over = false, held = false;
        coir::scope all;
        for (unsigned i = 0; i < flood; ++i)
          all.spawn([&] {
            while (!over) {
              world.compute(pick_ns);
              coir::this_fiber::yield();
            }
          });
        auto holder = coir::spawn(
            [&] {
              lock.lock();
              held = true;
              for (unsigned i = 0; i < yields; ++i) {
                world.compute(pick_ns);
                coir::this_fiber::yield();
              }
              lock.unlock();
            },
            {.prio = coir::priority::low});
        while (!held) coir::this_fiber::yield();
        auto waiter = coir::spawn(
            [&] {
              const std::int64_t asked = now_ns();
              lock.lock();
              waited = now_ns() - asked;
              lock.unlock();
            },
            {.prio = coir::priority::critical});
        REQUIRE(waiter.join().has_value());
        over = true;
        REQUIRE(holder.join().has_value());
        REQUIRE(all.join().has_value());
      },
      o);
  REQUIRE(ended.has_value());
  CHECK(waited >= (yields - 1) * pick_ns);
  // Each part of what it holds the lock for, and its end, comes with one pick of its level.
  CHECK(waited <= (yields + 1) * (ages_after + 1) * pick_ns + (o.run_budget + 1) * pick_ns);
}

TEST_CASE(
    "fairness: two that do nothing but yield hear of the end of a turn, and a timer is heard") {
  sim_world world;
  std::int64_t late = 0;
  const coir::options o = test::tested({});
  const auto ended = run_in_sim(
      world,
      [&] {
        bool over = false;
        coir::scope all;
        for (int i = 0; i < 2; ++i)
          all.spawn([&] {
            while (!over) {
              world.compute(pick_ns);
              coir::this_fiber::yield();
            }
          });
        const std::int64_t due = now_ns() + 10 * pick_ns;
        REQUIRE(coir::this_fiber::sleep_for(std::chrono::nanoseconds(10 * pick_ns)).has_value());
        late = now_ns() - due;
        over = true;
        REQUIRE(all.join().has_value());
      },
      o);
  REQUIRE(ended.has_value());
  CHECK(late <= (o.run_budget + 2) * pick_ns);
}
