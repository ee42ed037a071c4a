// waits_test.cpp: who ends a park: every order of the parties over the real functions, then
// threads.
//
// Always true:
//   - Each function of the protocol is one atomic change, so orders of whole calls are all there
//     are.
//
// Comes from: runtime/waits.hpp.   Goes to: ctest.
#include "runtime/waits.hpp"

#include <doctest/doctest.h>

#include <array>
#include <thread>
#include <vector>

using namespace coir::detail;

namespace {

/// One park and all who may want to end it. Copied at each fork of the search, so the record's word
/// is kept apart and put in before each step.
struct world {
  std::uint64_t word = 0;
  unsigned afar = 0, home = 0, cancels = 0;  // steps that are left
  bool link_queued = false;                  // pushed and not taken
  unsigned won = 0;
  unsigned ended = 0;
  bool finished = false;
  unsigned recycled = 0;
};

class search {
 public:
  std::uint64_t states = 0;
  unsigned double_wins = 0, double_pushes = 0, double_ends = 0, wrong_recycles = 0, lost = 0;

  void explore(const world& w) {
    ++states;
    bool moved = false;
    if (w.afar != 0) moved = step(w, &search::claim_afar);
    if (w.home != 0) moved = step(w, &search::claim_home);
    if (w.cancels != 0) moved = step(w, &search::cancel);
    if (w.link_queued) moved = step(w, &search::take);
    if (w.ended != 0 && !w.finished && w.afar + w.home + w.cancels == 0)
      moved = step(w, &search::finish);
    if (!moved) judge(w);
  }

 private:
  bool step(world w, void (search::*act)(world&)) {
    fiber_.wake.store(w.word);
    (this->*act)(w);
    w.word = fiber_.wake.load();
    explore(w);
    return true;
  }
  void push(world& w) {
    if (w.link_queued) ++double_pushes;
    w.link_queued = true;
  }
  void end_park(world& w) {
    if (++w.ended > 1) ++double_ends;
  }
  void claim_afar(world& w) {
    --w.afar;
    const claim c = claim_from_afar(fiber_, epoch);
    if (c == claim::lost) return;
    if (++w.won > 1) ++double_wins;
    if (c == claim::won_and_push) push(w);
  }
  void claim_home(world& w) {
    --w.home;
    if (!claim_at_home(fiber_, epoch)) return;
    if (++w.won > 1) ++double_wins;
    end_park(w);
  }
  void cancel(world& w) {
    --w.cancels;
    if (latch_cancel(fiber_)) push(w);
  }
  void take(world& w) {
    w.link_queued = false;
    const taken_link news = take_link(fiber_);
    if (news.orphan) {
      if (!w.finished) ++wrong_recycles;
      ++w.recycled;
      return;
    }
    if (news.claimed) return end_park(w);
    // What the owner does with a cancel: it claims the park itself, if it is still there.
    if (news.cancelled && claim_at_home(fiber_, epoch)) {
      if (++w.won > 1) ++double_wins;
      end_park(w);
    }
  }
  void finish(world& w) {
    w.finished = true;
    if (!may_recycle(fiber_)) return;
    ++w.recycled;
    if (w.link_queued) ++wrong_recycles;
  }
  void judge(const world& w) {
    if (w.won != 1 || w.ended != 1 || w.recycled != 1) ++lost;
  }

  static constexpr std::uint64_t epoch = 5;
  record fiber_;
};

constexpr std::uint64_t word_of(std::uint64_t epoch) { return epoch * wake_epoch; }

}  // namespace

TEST_CASE("waits: in every order of claims, cancels, links and the end a park ends exactly once") {
  search all;
  for (unsigned afar = 0; afar <= 3; ++afar)
    for (unsigned home = 0; home <= 2; ++home)
      for (unsigned cancels = 0; cancels <= 2; ++cancels) {
        if (afar + home + cancels == 0) continue;
        world w;
        w.word = word_of(5);
        w.afar = afar;
        w.home = home;
        w.cancels = cancels;
        all.explore(w);
      }
  CHECK(all.states > 1'000);
  CHECK(all.double_wins == 0);
  CHECK(all.double_pushes == 0);
  CHECK(all.double_ends == 0);
  CHECK(all.wrong_recycles == 0);
  CHECK(all.lost == 0);
}

TEST_CASE("waits: a claim of an earlier or a later park misses, from afar and at home") {
  record fiber;
  fiber.wake.store(word_of(7));
  for (const std::uint64_t epoch : {std::uint64_t{6}, std::uint64_t{8}, std::uint64_t{0}}) {
    CHECK(claim_from_afar(fiber, epoch) == claim::lost);
    CHECK_FALSE(claim_at_home(fiber, epoch));
  }
  CHECK(fiber.wake.load() == word_of(7));
  CHECK(claim_at_home(fiber, 7));
  CHECK(current_epoch(fiber) == 8);
  CHECK(claim_from_afar(fiber, 7) == claim::lost);
}

TEST_CASE("waits: a claimed park stays its own until the link arrives, then the next one begins") {
  record fiber;
  fiber.wake.store(word_of(3));
  REQUIRE(claim_from_afar(fiber, 3) == claim::won_and_push);
  CHECK(current_epoch(fiber) == 3);
  CHECK_FALSE(claim_at_home(fiber, 3));
  CHECK(claim_from_afar(fiber, 3) == claim::lost);
  const taken_link news = take_link(fiber);
  CHECK(news.claimed);
  CHECK_FALSE(news.cancelled);
  CHECK(current_epoch(fiber) == 4);
  CHECK(fiber.wake.load() == word_of(4));
}

namespace {

/// What a worker did with a link that it was given.
struct listener {
  unsigned passed = 0, recycled = 0, dropped = 0, readied = 0, stopped = 0;
  void pass_on(record&) noexcept { ++passed; }
  void recycle(record&) noexcept { ++recycled; }
  void drop_unheld(record&) noexcept { ++dropped; }
  void make_ready(record&) noexcept { ++readied; }
  void stop_parked(record&) noexcept { ++stopped; }
  unsigned heeded() const { return recycled + dropped + readied + stopped; }
};

}  // namespace

TEST_CASE("waits: a link whose fiber lives elsewhere is passed on as it came, and heard there") {
  record fiber;
  fiber.home.store(1);
  fiber.wake.store(word_of(3));
  fiber.at = stage::parked;
  REQUIRE(claim_from_afar(fiber, 3) == claim::won_and_push);
  const std::uint64_t under_way = fiber.wake.load();
  listener elsewhere, home;
  hear(fiber, 0, elsewhere);
  CHECK(elsewhere.passed == 1);
  CHECK(elsewhere.heeded() == 0);
  CHECK(fiber.wake.load() == under_way);
  hear(fiber, 1, home);
  CHECK(home.passed == 0);
  CHECK(home.readied == 1);
  CHECK(home.heeded() == 1);
  CHECK(fiber.wake.load() == word_of(4));
}

TEST_CASE("waits: a claim that meets a cancel's link on its way does not push it a second time") {
  record fiber;
  fiber.wake.store(word_of(3));
  REQUIRE(latch_cancel(fiber));
  CHECK(claim_from_afar(fiber, 3) == claim::won);
  const taken_link news = take_link(fiber);
  CHECK(news.claimed);
  CHECK(news.cancelled);
}

TEST_CASE("waits: a cancel stays latched through links, claims and parks") {
  record fiber;
  fiber.wake.store(word_of(1));
  CHECK_FALSE(is_cancelled(fiber));
  REQUIRE(latch_cancel(fiber));
  (void)take_link(fiber);
  CHECK(is_cancelled(fiber));
  REQUIRE(claim_at_home(fiber, 1));
  CHECK(is_cancelled(fiber));
  REQUIRE(claim_from_afar(fiber, 2) == claim::won_and_push);
  CHECK(take_link(fiber).cancelled);
  CHECK(is_cancelled(fiber));
}

TEST_CASE("waits: two threads want each of many parks, one gets it, and its gift is seen") {
  constexpr std::uint64_t parks = 20'000;
  record fiber;
  fiber.wake.store(word_of(1));
  std::atomic<std::uint64_t> open{0};      // the park that may be claimed
  std::atomic<std::uint64_t> pushed{0};    // links that are in the inbox
  std::atomic<std::uint64_t> answered{0};  // the claimer is through with this park
  std::uint64_t gift = 0;                  // plain: written before the claim, read after the link
  std::uint64_t won_afar = 0;
  std::thread claimer([&] {
    for (std::uint64_t epoch = 1; epoch <= parks; ++epoch) {
      for (unsigned spin = 0; open.load(std::memory_order_acquire) < epoch; ++spin)
        if (spin % 1024 == 1023) std::this_thread::yield();
      gift = epoch;
      const claim c = claim_from_afar(fiber, epoch);
      if (c == claim::won_and_push) pushed.fetch_add(1, std::memory_order_release);
      if (c != claim::lost) ++won_afar;
      answered.store(epoch, std::memory_order_release);
    }
  });
  std::uint64_t won_home = 0;
  std::uint64_t links = 0;
  unsigned wrong_gifts = 0;
  for (std::uint64_t epoch = 1; epoch <= parks; ++epoch) {
    open.store(epoch, std::memory_order_release);
    if (claim_at_home(fiber, epoch)) {
      ++won_home;
    } else {
      // relaxed: the acquire under test is take_link's own.
      while (pushed.load(std::memory_order_relaxed) == links) std::this_thread::yield();
      ++links;
      if (!take_link(fiber).claimed || gift != epoch) ++wrong_gifts;
    }
    while (answered.load(std::memory_order_acquire) < epoch) std::this_thread::yield();
    REQUIRE(current_epoch(fiber) == epoch + 1);
  }
  claimer.join();
  CHECK(won_home + won_afar == parks);
  CHECK(links == won_afar);
  CHECK(wrong_gifts == 0);
}

TEST_CASE("waits: the inbox gives records and errands back in the order in which they were sent") {
  wake_inbox inbox;
  std::array<record, 3> fibers;
  errand what;
  CHECK(inbox.empty());
  inbox.push(fibers[1]);
  inbox.push(fibers[0]);
  inbox.push(what);
  inbox.push(fibers[2]);
  CHECK_FALSE(inbox.empty());
  std::vector<const void*> order;
  const unsigned taken =
      inbox.take([&](record& r) { order.push_back(&r); }, [&](errand& e) { order.push_back(&e); });
  CHECK(taken == 4);
  CHECK(order == std::vector<const void*>{&fibers[1], &fibers[0], &what, &fibers[2]});
  CHECK(inbox.empty());
  CHECK(inbox.take([](record&) {}, [](errand&) {}) == 0);
}

TEST_CASE("waits: what is pushed while the inbox is taken arrives with the next taking") {
  wake_inbox inbox;
  std::array<record, 2> fibers;
  inbox.push(fibers[0]);
  unsigned seen = 0;
  inbox.take(
      [&](record& r) {
        ++seen;
        if (&r == &fibers[0] && seen == 1) inbox.push(r);
        inbox.push(fibers[1]);
      },
      [](errand&) {});
  CHECK(seen == 1);
  CHECK(inbox.take([](record&) {}, [](errand&) {}) == 2);
}

TEST_CASE("waits: many threads push links while the owner takes them: none is lost or doubled") {
  constexpr unsigned pushers = 3;
  constexpr unsigned rounds = COIR_TSAN ? 3'000 : 10'000;
  wake_inbox inbox;
  std::array<record, pushers> fibers;
  std::array<std::atomic<unsigned>, pushers> taken{};
  std::array<unsigned, pushers> pushed{};  // plain: carried by the link
  std::vector<std::thread> threads;
  for (unsigned p = 0; p < pushers; ++p) {
    fibers[p].slot = p;
    threads.emplace_back([&, p] {
      for (unsigned n = 1; n <= rounds; ++n) {
        pushed[p] = n;
        inbox.push(fibers[p]);
        // A link is in an inbox at most once.
        while (taken[p].load(std::memory_order_acquire) < n) std::this_thread::yield();
      }
    });
  }
  unsigned total = 0;
  unsigned wrong = 0;
  while (total < pushers * rounds) {
    const unsigned got = inbox.take(
        [&](record& r) {
          if (pushed[r.slot] != taken[r.slot].load(std::memory_order_relaxed) + 1) ++wrong;
          taken[r.slot].fetch_add(1, std::memory_order_release);
        },
        [](errand&) {});
    if (got == 0) std::this_thread::yield();
    total += got;
  }
  for (auto& t : threads) t.join();
  CHECK(wrong == 0);
  CHECK(inbox.empty());
}

TEST_CASE("waits: a queue serves the first comer first, and lets anyone out of the middle") {
  wait_queue q;
  std::array<waiter, 4> w;
  for (waiter& one : w) enqueue(q, one);
  unlink(q, w[1]);
  CHECK_FALSE(w[1].linked);
  CHECK(dequeue(q) == &w[0]);
  unlink(q, w[3]);
  CHECK(dequeue(q) == &w[2]);
  CHECK(dequeue(q) == nullptr);
  CHECK(q.head == nullptr);
  CHECK(q.tail == nullptr);
  enqueue(q, w[1]);
  CHECK(dequeue(q) == &w[1]);
}
