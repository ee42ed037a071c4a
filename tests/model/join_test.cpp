// join_test.cpp: the end of a fiber against those who wait for it from afar, under the checker: a
// fiber that was deflected, joined by a thread or by a fiber of another worker, cancelled, waited
// for by its id, and let go of.
//
// Always true:
//   - The answer is plain data, and so is what the next life of the record begins with.
//   - A joiner that nobody wakes is a thread that cannot go on.
//
// Comes from: runtime/ending.hpp.   Goes to: ctest.
#include "runtime/ending.hpp"

#include "tests/model/protocol.hpp"
#include "tests/model/small_worker.hpp"

using namespace coir::check;
using namespace coir::detail;

namespace {

struct course {
  bool from_fiber = false;  ///< the joiner is a fiber of another worker, not a plain thread
  bool lets_go = false;     ///< it does not join but lets go of the handle
  bool cancels = false;     ///< it asks the fiber to stop before
  bool by_id = false;       ///< thread 2 waits for the fiber by its id
  bool runs = false;        ///< from the beginning: nobody spawns it
  bool unheld = false;      ///< its handle is gone; thread 1 waits for it by its id
};

constexpr unsigned stripe_number = 3;

/// Thread 0 is the worker that the fiber is mailed to, thread 1 spawns it there and joins.
struct join_world : world {
  explicit join_world(course c) : wanted(c) {
    fiber.generation.store(1, std::memory_order_relaxed);
    look.run = [](errand&, void* self) noexcept { static_cast<owner_worker*>(self)->look(); };
    own.in = afar.in = this;
    threads = c.by_id && !c.unheld ? 2 : 1;
    fiber.let_go = c.unheld;
    if (c.runs) {
      fiber.home.store(0, std::memory_order_relaxed);
      fiber.at = stage::runnable;
    }
    caller.home.store(1, std::memory_order_relaxed);
    caller.wake.store(wake_epoch, std::memory_order_relaxed);
  }

  struct owner_worker : small_worker {
    using small_worker::small_worker;
    void look() {
      news.look([this](unsigned stripe) {
        require(stripe == stripe_number, "the stripe that was told of");
        meet_joiners(in->stripe, index, [this](waiter& w) { in->wake(w, *this); });
      });
    }
    joiner_news news;
    join_world* in = nullptr;
  };

  void run(unsigned thread) override {
    if (thread == 0) return serve();
    if (thread == 1 && !wanted.unheld) {
      if (!wanted.runs) spawn();
      if (wanted.cancels && latch_cancel(fiber)) own.send_wake(fiber);
      wanted.lets_go ? release() : join();
    } else {
      wait_by_id(1);
    }
    ++over;
    own.ring.open();
  }

  // -- the joiner
  void spawn() {
    fiber.at = stage::unstarted;
    fiber.join.store(0, std::memory_order_release);
    fiber.home.store(0, std::memory_order_release);
    letter.store(&fiber, std::memory_order_release);  // mailbox_test.cpp has the real one
    own.ring.open();
  }
  void join() {
    while (!is_done(fiber)) join_from_afar(fiber.generation.load(std::memory_order_relaxed));
    require(fiber.body == 5, "the answer is there");
    fiber.handle = 2;
    small_worker::reuse(fiber);
  }
  void release() {
    fiber.handle = 2;
    if (is_done(fiber)) {
      require(fiber.body == 5, "the answer is there");
      return small_worker::reuse(fiber);
    }
    if (latch_detach(fiber)) own.send_wake(fiber);
  }
  /// As wait(fiber_id): no handle, and the record may have another life at any moment.
  void wait_by_id(std::uint64_t generation) {
    if (fiber.generation.load(std::memory_order_acquire) != generation) return;
    if (fiber.home.load(std::memory_order_acquire) == no_home) return;
    join_from_afar(generation);
    require(has_ended(fiber, generation), "who was woken waited for an end");
  }
  /// As wait_in() in join.cpp.
  void join_from_afar(std::uint64_t generation) {
    const bool on_fiber = wanted.from_fiber && self() == 1;
    joiner me;
    me.target = &fiber;
    me.generation = generation;
    park_site site;
    if (on_fiber) {
      me.fiber = &caller;
      me.epoch = current_epoch(caller);
    }
    {
      const word_lock held(stripe.queue.lock);
      if (has_ended(fiber, generation)) return;
      enqueue(stripe.queue, me);
    }
    const bool standing = stands(fiber, generation, [this](std::uint32_t home) {
      require(home == 0, "it lives where it was mailed to");
      if (own.news.tell(stripe_number)) own.send_errand(look);
    });
    if (!standing && leave(stripe.queue, me)) return;
    if (on_fiber) {
      caller.at = stage::parked;
      caller.parked_at = &site;
      while (caller.at != stage::runnable) afar.sleep();
      caller.at = stage::runnable;
    } else {
      (void)sleep_as_thread(me, INT64_MAX);
    }
    (void)leave(stripe.queue, me);
  }

  // -- the owner
  void serve() {
    for (;;) {
      if (fiber_runs && fiber.at != stage::runnable &&
          letter.load(std::memory_order_acquire) != nullptr)
        fiber.at = stage::runnable;
      own.take_wakes();
      if (fiber_runs && fiber.at == stage::runnable) run_fiber();
      if (over == threads && !fiber_runs) break;
      own.ring.pass();
    }
    own.take_wakes();
  }
  void run_fiber() {
    fiber_runs = false;
    fiber.body = 5;
    if ((fiber.wake.load(std::memory_order_acquire) & wake_detached) != 0) fiber.let_go = true;
    const std::uint64_t generation = fiber.generation.load(std::memory_order_relaxed);
    fiber.at = stage::finished;
    const bool let_go = fiber.let_go;
    if (publish_end(fiber, own.news))
      wake_joiners(stripe, fiber, generation, [this](waiter& w) { wake(w, own); });
    if (let_go) small_worker::reuse(fiber);
  }
  /// As wake_waiter(): the owner of the fiber that ended is not that of the one who waits.
  void wake(waiter& w, small_worker&) {
    if (w.fiber == nullptr) {
      (void)wake_thread(w);
    } else if (claim_from_afar(*w.fiber, w.epoch) == claim::won_and_push) {
      afar.send_wake(caller);
    }
  }

  void judge() override {
    own.take_wakes();  // a cancel that came after all
    require(fiber.recycled == 1, "the record is recycled");
    require(stripe.queue.head == nullptr, "nobody is left in the stripe");
    require(!fiber.link_under_way, "no link is lost");
  }

  course wanted;
  watched_record fiber;
  watched_record caller;  // who joins, if it is a fiber
  join_stripe stripe;
  atomic<record*> letter{nullptr};
  owner_worker own{0}, afar{1};
  errand look;
  bool fiber_runs = true;
  unsigned threads = 1, over = 0;
};

/// Three threads with long ways: what a search of a few seconds exhausts. With three preemptions
/// and two old stores `ends_held` has 7.6 million executions, 514 million steps, and nothing was
/// found in them; `ends_unheld`, the same without a holder who lets go meanwhile, has 25,000.
constexpr bounds narrow{.preemptions = 2, .stale = 1};
constexpr bounds two_older{.preemptions = 2, .stale = 2};
constexpr bounds three_newest{.preemptions = 3, .stale = 0};

maker of(course c) { return make_of<join_world>(c); }

constexpr course ends_unheld{.by_id = true, .runs = true, .unheld = true};
constexpr course ends_held{.lets_go = true, .by_id = true, .runs = true};

}  // namespace

TEST_CASE("join: whoever waits for a fiber that was deflected is woken, and finds its answer") {
  must_hold("a thread joins", 2, of({}));
  must_hold("a fiber of another worker joins", 2, of({.from_fiber = true}));
  must_hold("the handle is let go", 2, of({.lets_go = true}));
}

TEST_CASE("join: a cancel that is under way changes nothing for who waits") {
  must_hold("cancelled, then joined", 2, of({.cancels = true}));
  must_hold("cancelled, then let go", 2, of({.lets_go = true, .cancels = true}));
}

TEST_CASE("join: who waits by id waits for that life of the record and for no other") {
  must_hold("ends without a handle, and somebody waits by id", 2, of(ends_unheld));
  const maker runs = of(ends_held);
  must_hold("runs, let go, and somebody waits by id", 3, runs, three_newest);
  must_hold("runs, let go, and somebody waits by id, old stores", 3, runs, two_older);
  must_hold("let go, and somebody waits by id", 3, of({.lets_go = true, .by_id = true}), narrow);
}

TEST_CASE("join: its broken twins are noticed") {
  for (const char* name : {"joiner_untold", "joiners_forgotten"}) {
    const mutant broken(name);
    must_fail(name, 2, of({}), "nobody can go on");
    must_fail(name, 2, of(ends_unheld), "nobody can go on");
    must_fail(name, 3, of(ends_held), "nobody can go on", three_newest);
  }
  must_need("ending.hpp stands: load acquire", std::memory_order_relaxed, 2, of(ends_unheld));
  must_need("ending.hpp publish_end: store release", std::memory_order_relaxed, 2, of({}));
  must_need("ending.hpp is_done: load acquire", std::memory_order_relaxed, 2, of({}));
}
