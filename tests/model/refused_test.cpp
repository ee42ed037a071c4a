// refused_test.cpp: a mail that is refused, against who cancels the fiber from another thread,
// under the checker.
//
// Always true:
//   - The fiber is launched where it was spawned, because the mailbox of the other worker is full.
//
// Comes from: runtime/mailbox.hpp, runtime/waits.hpp.   Goes to: ctest.
#include "runtime/ending.hpp"
#include "runtime/mailbox.hpp"
#include "tests/model/protocol.hpp"
#include "tests/model/small_worker.hpp"

using namespace coir::check;
using namespace coir::detail;

namespace {

/// Thread 0 is the worker that spawns in a scope, 1 the one whose mailbox is full, 2 cancels the
/// scope. `early`: the broken twin, in which a record has a home before it has its place there.
struct refused_world : world {
  explicit refused_world(bool early) : home_first(early) {
    fiber.home.store(no_home, std::memory_order_relaxed);
    fiber.wake.store(wake_epoch, std::memory_order_relaxed);
    fiber.at = stage::unstarted;
    second.forward = [this](watched_record& r) { first.send_wake(r); };
  }

  struct site : park_site {
    refused_world* in = nullptr;
  };
  static void end_early(park_site& self, record& f, woken) noexcept {
    require(coir::check::self() == 0, "only its own worker ends a fiber's park");
    static_cast<site&>(self).in->first.make_ready(f);
  }

  void run(unsigned thread) override {
    if (thread == 0) return spawn();
    if (thread == 1) {
      while (!over) second.sleep();
    } else {
      // As scope::cancel() does.
      const word_lock held(scope.lock);
      scope_cancelled = true;
      cancel();
    }
  }

  /// As cancel() in join.cpp does from a plain thread.
  void cancel() {
    const std::uint32_t home = fiber.home.load(std::memory_order_acquire);
    if (home == no_home) {
      fiber.wake.fetch_or(wake_cancelled, std::memory_order_relaxed);
    } else if (latch_cancel(fiber)) {
      (home == 0 ? first : second).send_wake(fiber);
    }
  }

  void spawn() {
    const auto at_home = [this] { fiber.home.store(1, std::memory_order_release); };
    if (home_first) at_home();
    require(box.send(letter), "the first has a place");
    require(!box.send(fiber, at_home), "the second has none");
    fiber.home.store(0, std::memory_order_release);
    {  // As confirm() in scope.cpp does.
      const word_lock held(scope.lock);
      if (scope_cancelled) fiber.wake.fetch_or(wake_cancelled, std::memory_order_relaxed);
    }
    fiber.at = stage::runnable;
    site s;
    s.in = this;
    s.stop = &end_early;
    first.park(fiber, s);
    while (fiber.at != stage::runnable) first.sleep();
    over = true;
    second.ring.open();
  }

  const bool home_first;
  watched_record fiber, letter;
  mailbox box{1};
  small_worker first{0}, second{1};
  wait_queue scope;
  plain<bool> scope_cancelled = false;
  bool over = false;
};

maker refused(bool early) {
  return [early] { return std::make_unique<refused_world>(early); };
}

}  // namespace

TEST_CASE("refused: a cancel that meets a refused mail ends the fiber's park on its own worker") {
  must_hold("a refused mail, a scope that is cancelled", 3, refused(false));
}

TEST_CASE("refused: a home that is named before the mail has its place is noticed") {
  must_fail("a home without a place", 3, refused(true), "only its own worker ends a fiber's park");
}
