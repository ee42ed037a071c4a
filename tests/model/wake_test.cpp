// wake_test.cpp: the wake link against the end of its record, under the checker: a holder that
// cancels and lets go, a claimer from afar, and a record that goes to another worker meanwhile.
//
// Always true:
//   - The record is recycled once, by the last of: its end, its handle, its link. What its next
//     life writes first is plain data that this life used, so whoever comes late is a race.
//
// Comes from: runtime/waits.hpp.   Goes to: ctest.
#include "runtime/mailbox.hpp"
#include "tests/model/protocol.hpp"
#include "tests/model/small_worker.hpp"

using namespace coir::check;
using namespace coir::detail;

namespace {

/// What the holder does before it lets go, and whether somebody claims the fiber's park.
struct course {
  bool cancels = true;
  bool claimed = true;
};

/// Thread 0 owns the fiber, thread 1 holds its handle, thread 2 may claim its only park.
struct recycling_world : world {
  explicit recycling_world(course c) : wanted(c) {
    fiber.home.store(0, std::memory_order_relaxed);
    fiber.wake.store(wake_epoch, std::memory_order_relaxed);
  }
  void run(unsigned thread) override {
    if (thread == 0) return own();
    if (thread == 1) return hold();
    const claim c = claim_from_afar(fiber, 1);
    require(c != claim::lost, "nobody else wants this park");
    if (c == claim::won_and_push) here.send_wake(fiber);
  }
  void hold() {
    if (wanted.cancels && latch_cancel(fiber)) here.send_wake(fiber);
    fiber.handle = 1;
    // As release() does. Done: the record is the holder's.
    if ((fiber.join.load(std::memory_order_acquire) & join_done) != 0) {
      fiber.body = 2;
      small_worker::reuse(fiber);
    } else if (latch_detach(fiber)) {
      here.send_wake(fiber);
    }
    here.ring.open();  // only so that the owner, whose loop here is short, looks again
  }
  void own() {
    if (wanted.claimed) {
      fiber.at = stage::parked;
      site.stop = nullptr;  // a cancel does not end it
      fiber.parked_at = &site;
      while (fiber.at != stage::runnable) here.sleep();
    }
    fiber.at = stage::runnable;
    fiber.body = 1;
    if ((fiber.wake.load(std::memory_order_acquire) & wake_detached) != 0) fiber.let_go = true;
    fiber.at = stage::finished;
    const bool let_go = fiber.let_go;
    fiber.join.store(join_done, std::memory_order_release);
    if (let_go) small_worker::reuse(fiber);
    // Others may still recycle it, on their own thread, so this looks at what it may.
    while (fiber_is_here()) here.sleep();
  }
  bool fiber_is_here() const { return fiber.recycled == 0; }
  void judge() override {
    require(fiber.recycled == 1, "the record is recycled");
    require(here.wakes.empty(), "no link comes late");
  }

  course wanted;
  park_site site;
  watched_record fiber;
  small_worker here{0};
};

/// A record that is mailed to another worker while a cancel is on its way to the first one.
/// deflected_test.cpp has who joins it meanwhile.
struct following_world : world {
  following_world() {
    fiber.home.store(0, std::memory_order_relaxed);
    first.forward = [this](watched_record& r) { second.send_wake(r); };
  }
  void run(unsigned thread) override {
    if (thread == 0) {  // the spawner: deflects what it has just made
      fiber.at = stage::unstarted;
      fiber.body = 1;
      fiber.home.store(1, std::memory_order_release);
      require(box.send(fiber), "there is room");
      second.ring.open();
      first.sleep();
    } else if (thread == 1) {
      const auto target = fiber.home.load(std::memory_order_acquire);
      if (latch_cancel(fiber)) (target == 0 ? first : second).send_wake(fiber);
      if (target != 0) first.ring.open();
    } else {
      while (!is_cancelled(fiber)) {
        second.ring.pass();
        if (record* const r = box.take()) {
          require(static_cast<watched_record*>(r)->body == 1, "its content came with it");
          mailed = true;
        }
        second.take_wakes();
      }
      while (!mailed) {
        second.ring.pass();
        mailed = box.take() != nullptr;
      }
    }
  }
  void judge() override {
    require(first.passed <= 1, "a link follows once");
    second.take_wakes();
    require(!fiber.link_under_way && first.wakes.empty(), "the link arrives where the record is");
    require(first.heard == 0 && second.heard == 1, "who has the record hears the cancel");
    require(is_cancelled(fiber), "the cancel is known");
  }
  watched_record fiber;
  mailbox box{1};
  small_worker first{0}, second{1};
  bool mailed = false;
};

/// Two that know the same park.
struct rivals : world {
  rivals() {
    fiber.home.store(0, std::memory_order_relaxed);
    fiber.wake.store(wake_epoch, std::memory_order_relaxed);
  }
  void run(unsigned thread) override {
    if (thread == 0) {
      fiber.at = stage::parked;
      while (fiber.at != stage::runnable) here.sleep();
    } else if (const claim c = claim_from_afar(fiber, 1); c != claim::lost) {
      require(wins++ == 0, "exactly one claim wins");
      if (c == claim::won_and_push) here.send_wake(fiber);
    }
  }
  watched_record fiber;
  small_worker here{0};
  unsigned wins = 0;
};

maker of(course c) { return make_of<recycling_world>(c); }

}  // namespace

TEST_CASE("wake: a record is recycled once, and never while its link is under way") {
  must_hold("detach x end", 2, of({false, false}));
  must_hold("cancel x detach x end", 2, of({true, false}));
  must_hold("claim x detach x end", 3, of({false, true}));
  must_hold("claim x cancel x detach x end", 3, of({true, true}));
}

TEST_CASE("wake: DT7 of two claims of one park exactly one wins") {
  must_hold("claim x claim", 3, make_of<rivals>());
}

TEST_CASE("wake: the link of a deflected record follows it") {
  must_hold("mail x cancel", 3, make_of<following_world>());
}

TEST_CASE("wake: its broken twins are noticed") {
  {
    const mutant broken("recycle_with_link_queued");
    must_fail("a record recycled under its link", 2, of({true, false}),
              "a record is recycled only when its link is not under way");
  }
  {
    const mutant broken("link_kept");
    must_fail("a link that does not follow its record", 3, make_of<following_world>(),
              "who has the record hears the cancel");
  }
  {
    const mutant broken("link_pushed_twice");
    must_fail("a link pushed although it is on its way", 3, of({true, true}), "a write races");
  }
  {
    const mutant broken("claim_twice");
    must_fail("a claim that does not see another one", 3, make_of<rivals>(),
              "exactly one claim wins");
  }
  must_need("waits.hpp latch_detach: change acq_rel", std::memory_order_acquire, 3,
            of({true, true}));
  must_need("waits.hpp push: compare release", std::memory_order_relaxed, 3, of({true, true}));
  must_need("waits.hpp take: change acquire", std::memory_order_relaxed, 3, of({true, true}));
}
