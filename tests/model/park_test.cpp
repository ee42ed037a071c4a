// park_test.cpp: who ends a park, under the checker: an item from another core, a timer, a cancel
// and a completion want it, in every order, and the next park is nobody's prey.
//
// Always true:
//   - The item is plain data: whoever gets it without an order is a race.
//
// Comes from: runtime/waits.hpp.   Goes to: ctest.
#include "tests/model/protocol.hpp"
#include "tests/model/small_worker.hpp"

using namespace coir::check;
using namespace coir::detail;

namespace {

/// Who wants the parks of the one fiber.
struct wishes {
  unsigned items = 1;  // threads that offer one each
  bool cancel = true;  // one more thread
  bool timer = true;   // at any moment
};

/// Thread 0 is the fiber's worker: the fiber waits in a queue, where items come from afar, and then
/// for an operation, which only a completion ends.
struct park_world : world {
  explicit park_world(wishes w) : wanted(w) {
    fiber.home.store(0, std::memory_order_relaxed);
    fiber.wake.store(5 * wake_epoch, std::memory_order_relaxed);
  }
  void run(unsigned thread) override {
    if (thread == 0) return own();
    if (thread <= wanted.items) return offer();
    if (latch_cancel(fiber)) here.send_wake(fiber);
  }

  // -- other cores
  void offer() {
    const word_lock held(queue.lock);
    waiter* const first = dequeue(queue);
    if (first == nullptr) return;
    item = 7;
    switch (claim_from_afar(*first->fiber, first->epoch)) {
      case claim::lost:
        item = 0;
        return;
      case claim::won_and_push:
        ++given;
        return here.send_wake(fiber);
      case claim::won:
        ++given;
        return;
    }
  }

  // -- the owner
  struct site : park_site {
    park_world* in = nullptr;
    std::uint64_t epoch = 0;
  };
  static void end_early(park_site& self, record& fiber, woken why) noexcept {
    auto& s = static_cast<site&>(self);
    if (!claim_at_home(fiber, s.epoch)) return;
    self.why = why;
    s.in->here.make_ready(fiber);
  }
  static void ask_kernel(park_site& self, record&, woken) noexcept {
    static_cast<site&>(self).in->asked = true;
  }

  void own() {
    wait_for_item();
    wait_for_completion();
    fiber.at = stage::finished;  // somebody holds its handle, so it stays
  }
  void wait_for_item() {
    site first;
    first.in = this;
    first.stop = &end_early;
    waiter me;
    me.fiber = &fiber;
    first.epoch = current_epoch(fiber);
    me.epoch = first.epoch;
    {
      const word_lock held(queue.lock);
      enqueue(queue, me);
    }
    here.park(fiber, first);
    bool armed = wanted.timer;
    while (fiber.at != stage::runnable) {
      // Without a cancel the timer must come in the end.
      if (armed && (!wanted.cancel || choose(2) == 1)) {
        armed = false;
        here.take_wakes();
        if (fiber.at != stage::runnable) here.stop(fiber, woken::by_deadline);
        continue;
      }
      here.sleep();
    }
    fiber.at = stage::runnable;
    fiber.parked_at = nullptr;
    if (first.why != woken::by_item) return void(leave(queue, me));
    see_waker_off(queue, me);
    // Nobody else has come, so it is whoever gave the item that would still hold the lock.
    require(wanted.items != 1 || queue.lock.load(std::memory_order_relaxed) == 0,
            "whoever gave the item has let go of the queue");
    require(item == 7, "who is woken by an item has it");
    ++got;
  }
  void wait_for_completion() {
    site second;
    second.in = this;
    second.stop = &ask_kernel;
    here.park(fiber, second);
    if (wanted.cancel && choose(2) == 1) {
      while (!asked) here.sleep();  // its last completion says that it was cancelled
    } else {
      here.take_wakes();
    }
    here.make_ready(fiber);  // parked still, whatever came meanwhile
    fiber.at = stage::runnable;
    fiber.parked_at = nullptr;
  }
  void judge() override {
    require(got == given, "an item that was given has arrived");
    here.take_wakes();  // a cancel that came after the end
    require(!fiber.link_under_way, "a link that was queued is in the inbox");
    require(fiber.at == stage::finished, "what ended stays so");
  }

  wishes wanted;
  watched_record fiber;
  small_worker here{0};
  wait_queue queue;
  plain<int> item = 0;
  bool asked = false;
  unsigned given = 0, got = 0;
};

/// A claim that no queue's lock stands beside: what the claimer wrote is there when the owner takes
/// the link, even where a cancel had brought the link on its way.
struct gift_world : world {
  gift_world() {
    fiber.home.store(0, std::memory_order_relaxed);
    fiber.wake.store(wake_epoch, std::memory_order_relaxed);
  }
  void run(unsigned thread) override {
    if (thread == 0) {
      fiber.at = stage::parked;
      fiber.parked_at = &site;  // a cancel does not end it
      while (fiber.at != stage::runnable) here.sleep();
      require(gift == 7, "the gift is there");
    } else if (thread == 1) {
      gift = 7;
      const claim c = claim_from_afar(fiber, 1);
      require(c != claim::lost, "nobody else wants this park");
      if (c == claim::won_and_push) here.send_wake(fiber);
    } else if (latch_cancel(fiber)) {
      here.send_wake(fiber);
    }
  }
  park_site site;
  watched_record fiber;
  small_worker here{0};
  plain<int> gift = 0;
};

maker of(wishes w) { return make_of<park_world>(w); }

}  // namespace

TEST_CASE(
    "park: DT7 an item, a timer, a cancel and a completion: each park ends once, by one of them") {
  must_hold("item x timer", 2, of({1, false, true}));
  must_hold("cancel x timer x completion", 2, of({0, true, true}));
  must_hold("item x cancel x completion", 3, of({1, true, false}));
  must_hold("item x timer x cancel x completion", 3, of({1, true, true}));
  must_hold("two items x timer x completion", 3, of({2, false, true}));
}

TEST_CASE("park: what a claimer wrote before comes with its claim") {
  must_hold("claim x cancel", 3, make_of<gift_world>());
}

TEST_CASE("park: its broken twins are noticed") {
  {
    const mutant broken("claim_ignores_epoch");
    must_fail("a claim that ignores the epoch", 3, of({1, true, true}),
              "only a parked fiber is made ready");
  }
  {
    const mutant broken("home_claims_claimed");
    must_fail("a timer that ends a park which is another's", 3, of({1, true, true}),
              "only a parked fiber is made ready");
  }
  {
    const mutant broken("waker_not_seen_off");
    must_fail("a waiter that does not wait for its waker", 3, of({1, true, false}),
              "whoever gave the item has let go of the queue");
  }
  {
    const mutant broken("link_pushed_twice");
    must_fail("a link pushed although it is on its way", 3, of({1, true, false}), "a write races");
  }
  must_need("futex.hpp word_lock: change acquire", std::memory_order_relaxed, 3,
            of({1, true, false}));
  must_need("futex.hpp ~word_lock: store release", std::memory_order_relaxed, 3,
            of({1, true, false}));
  // Of a claim and of who takes its link, the one half: the gift. Waiters of a queue have its lock
  // as well.
  must_need("waits.hpp claim_from_afar: compare acq_rel", std::memory_order_acquire, 3,
            make_of<gift_world>());
  must_need("waits.hpp take_link: compare acq_rel", std::memory_order_release, 3,
            make_of<gift_world>());
  // The other half: the link, which the next one pushes as soon as this one is taken.
  must_need("waits.hpp take_link: compare acq_rel", std::memory_order_acquire, 3,
            of({1, true, false}));
  must_need("waits.hpp claim_from_afar: compare acq_rel", std::memory_order_release, 3,
            of({1, true, false}));
}
