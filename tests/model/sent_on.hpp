// sent_on.hpp: a fiber that goes to another worker, against who cancels it and who joins it: the
// world of deflected_test.cpp and moved_test.cpp.
//
// Always true:
//   - Unless nobody cancels, the fiber waits until it is cancelled: a cancel that got lost is a
//     fiber that never ends, and so is a joiner that nobody wakes.
//   - What its worker finds in the record is plain data, so who believes to be its worker and is
//     not is a race.
//
// Comes from: deflected_test.cpp, moved_test.cpp.   Goes to: runtime/waits.hpp, runtime/ending.hpp.
#pragma once

#include "runtime/ending.hpp"
#include "tests/model/protocol.hpp"
#include "tests/model/small_worker.hpp"

namespace coir::check {

// What stands here is written as the rooms are.
using namespace coir::detail;

/// Who takes part beside the two workers. The small casts leave one party or the last step out, so
/// that three preemptions and two old stores can be exhausted: each pair of what meets here is one.
enum class cast : std::uint8_t {
  all,        ///< 2 cancels; who joins, 3 or the sender, recycles the record
  unheld,     ///< the same, and nobody recycles
  canceller,  ///< 2 cancels, nobody joins
  joiner,     ///< 2 joins; nobody cancels, the fiber ends by itself
  asker,      ///< 2 cancels, and joins then
};

struct journey {
  bool moves = false;    ///< it has started, and whoever joins knows it from the beginning
  bool itself = false;   ///< who sent it joins it, a fiber of the worker that it comes from
  bool again = false;    ///< unstarted, and it waits at home before it is mailed on: it is known
  bool forgets = false;  ///< the broken twin of these two: its end does not look for far joiners
  cast who = cast::all;
};

/// Thread 0 is the worker that the fiber comes from, 1 the one that it goes to, 2 cancels, and 3,
/// if there is one, is a plain thread that joins.
struct sent_on_world : world {
  static constexpr unsigned stripe_of_all = 3;

  explicit sent_on_world(journey j) : wanted(j) {
    for (watched_record* r : {&fiber, &caller}) {
      r->generation.store(1, std::memory_order_relaxed);
      r->home.store(0, std::memory_order_relaxed);
      r->wake.store(wake_epoch, std::memory_order_relaxed);
    }
    first.in = second.in = this;
    first.forward = [this](watched_record& r) { send_home(r); };
  }

  struct owner_worker : small_worker {
    explicit owner_worker(std::uint32_t number) : small_worker(number) {
      told.run = [](errand&, void* self) noexcept { static_cast<owner_worker*>(self)->look(); };
    }
    void look() {
      news.look([this](unsigned stripe) {
        require(stripe == stripe_of_all, "the stripe that was told of");
        meet_joiners(in->stripe, index, [this](waiter& w) { in->wake(w); });
      });
    }
    joiner_news news;
    errand told;
    sent_on_world* in = nullptr;
  };

  void run(unsigned thread) override {
    if (thread == 0) return send_on();
    if (thread == 1) return serve();
    if (thread == 3 || wanted.who == cast::joiner) {
      if (!known()) handle.pass();
      return join();
    }
    if (latch_cancel(fiber)) send_home(fiber);
    if (wanted.who == cast::asker) join();
  }

  bool known() const { return wanted.moves || wanted.again; }

  /// As send_wake_home() in runtime.cpp.
  void send_home(watched_record& r) {
    owner_worker& owner = at(r.home.load(std::memory_order_acquire));
    judging ? owner.wakes.push(r) : owner.send_wake(r);
  }
  owner_worker& at(std::uint32_t home) {
    require(home <= 1, "a live record has a home");
    return home == 0 ? first : second;
  }
  /// As wake_waiter(), by who does not own the fiber that waits.
  void wake(waiter& w) {
    if (w.fiber == nullptr) return (void)wake_thread(w);
    if (claim_from_afar(*w.fiber, w.epoch) == claim::won_and_push) first.send_wake(caller);
  }

  // -- where it comes from
  void send_on() {
    fiber.body = 1;
    if (wanted.moves) {  // carry_to() and send_off() in moving.cpp
      fiber.parked_at = &passage;
      fiber.at = stage::parked;
      fiber.far_joiners = !wanted.forgets;
      const std::uint64_t epoch = current_epoch(fiber);
      fiber.home.store(1, std::memory_order_release);
      const claim passed = claim_from_afar(fiber, epoch);
      require(passed != claim::lost, "nobody else ends the passage");
      if (passed == claim::won_and_push) send_home(fiber);
    } else {  // mail_to() in spawn.cpp, post() in placing.cpp; mailbox_test.cpp has the real one
      fiber.at = stage::unstarted;
      fiber.far_joiners = wanted.again && !wanted.forgets;
      fiber.home.store(1, std::memory_order_release);
      letter.store(&fiber, std::memory_order_release);
      second.ring.open();
      if (!wanted.itself) handle.open();  // spawn() returns
    }
    if (wanted.itself) return join();
    while (!ended) first.sleep();
  }

  // -- where it goes to
  bool somebody_may_tell() const {
    if (wanted.who == cast::canceller) return false;
    return !joined && (!known() || wanted.who == cast::all);  // a known one expects them anyway
  }
  void serve() {
    while (!ended || somebody_may_tell()) {
      second.sleep();
      if (!ended && has_arrived()) run_fiber();
    }
  }
  bool has_arrived() {
    if (wanted.moves) return fiber.at == stage::runnable;
    return letter.load(std::memory_order_acquire) != nullptr;
  }
  struct site : park_site {
    sent_on_world* in = nullptr;
  };
  static void end_early(park_site& self, record& fiber, woken) noexcept {
    require(coir::check::self() == 1, "only its own worker ends a fiber's park");
    static_cast<site&>(self).in->second.make_ready(fiber);
  }
  void run_fiber() {
    fiber.at = stage::runnable;
    if (wanted.who != cast::joiner) {
      site waits;
      waits.in = this;
      waits.stop = &end_early;
      second.park(fiber, waits);
      while (fiber.at != stage::runnable) second.sleep();
    }
    fiber.body = 5;
    fiber.at = stage::finished;
    ended = true;
    if (publish_end(fiber, second.news))
      wake_joiners(stripe, fiber, 1, [this](waiter& w) { wake(w); });
    if (!wanted.itself) first.ring.open();
  }

  // -- by the handle: join(), and wait_in() for a fiber and for a plain thread
  void join() {
    do join_from_afar();
    while (!is_done(fiber));
    require(fiber.body == 5, "the answer is there");
    if (wanted.who == cast::all) {
      fiber.handle = 2;
      small_worker::reuse(fiber);
    }
    joined = true;
    second.ring.open();
  }
  void join_from_afar() {
    joiner me;
    park_site site;
    me.target = &fiber;
    me.generation = 1;
    if (wanted.itself) {
      me.fiber = &caller;
      me.epoch = current_epoch(caller);
    }
    {
      const word_lock held(stripe.queue.lock);
      if (has_ended(fiber, 1)) return;
      enqueue(stripe.queue, me);
    }
    const bool standing = stands(fiber, 1, [this](std::uint32_t home) {
      owner_worker& owner = at(home);
      if (owner.news.tell(stripe_of_all)) owner.send_errand(owner.told);
    });
    if (!standing && leave(stripe.queue, me)) return;
    if (wanted.itself) {
      caller.at = stage::parked;
      caller.parked_at = &site;
      while (caller.at != stage::runnable) first.sleep();
      caller.at = stage::runnable;
    } else {
      (void)sleep_as_thread(me, INT64_MAX);
    }
    (void)leave(stripe.queue, me);
  }

  void judge() override {
    judging = true;  // what came after the end
    first.take_wakes();
    second.take_wakes();
    require(first.wakes.empty() && second.wakes.empty(), "a link is forwarded to where it belongs");
    require(first.passed <= 1 && second.passed == 0, "a link is forwarded once");
    require(!fiber.link_under_way && !caller.link_under_way, "no link is lost");
    require(fiber.recycled == (wanted.who == cast::all), "the record is recycled");
    require(stripe.queue.head == nullptr, "nobody is left in the stripe");
  }

  journey wanted;
  watched_record fiber;
  watched_record caller;  // who joins, if it is a fiber
  park_site passage;
  join_stripe stripe;
  atomic<record*> letter{nullptr};
  owner_worker first{0}, second{1};
  gate handle;
  bool ended = false, joined = false, judging = false;
};

inline maker sent_on(journey j) { return make_of<sent_on_world>(j); }

// Of the whole casts a search of a few seconds exhausts this much: with three threads three
// preemptions where each load finds the newest store; with four, two; one less where each thread
// also finds an old store of a word once.
inline constexpr bounds three_newest{.preemptions = 3, .stale = 0};
inline constexpr bounds two_newest{.preemptions = 2, .stale = 0};
inline constexpr bounds two_older{.preemptions = 2, .stale = 2};
inline constexpr bounds two_old{.preemptions = 2, .stale = 1};
inline constexpr bounds one_old{.preemptions = 1, .stale = 1};

}  // namespace coir::check
