// bell_test.cpp: the sleep handshake under the checker, with the real bell, the real mailbox and
// the real inbox of wake links: who sleeps on work for ever is a thread that nobody lets go on.
// Senders of mail stand between their two stores for as long as the search likes: meanwhile the
// worker sleeps, also when mail behind them is complete.
//
// Comes from: runtime/bell.hpp.   Goes to: ctest.
#include "runtime/bell.hpp"

#include "runtime/mailbox.hpp"
#include "tests/model/protocol.hpp"
#include "tests/model/small_worker.hpp"

using namespace coir::check;
using namespace coir::detail;

namespace {

enum class way : std::uint8_t { mail, wake, quit };

/// What a sender does about its bell: all but the first are broken twins. `rings_between`: when its
/// mail has a place, and before it is complete.
enum class order : std::uint8_t { rings_last, rings_between, rings_first, never_rings };

/// What must happen in some execution, and is told by a failure: a search that never came there
/// would say nothing about it.
enum class sight : std::uint8_t { none, sleeps_beside_begun, sleeps_before_complete };

/// Thread 0 is a worker until all that the others send has come; each of them sends once.
struct asleep_world : world {
  asleep_world(std::vector<way> sent_by, bool looks, order rings_it, sight seen)
      : ways(std::move(sent_by)), looks_again(looks), rings_bell(rings_it), wanted(seen) {}

  void run(unsigned thread) override {
    if (thread == 0) return serve();
    if (rings_bell == order::rings_first) look_and_ring();
    std::size_t place = 0;
    switch (ways[thread - 1]) {
      case way::mail:
        require(mail.send(letters[thread],
                          [&] {
                            place = begun++;
                            if (rings_bell == order::rings_between) look_and_ring();
                          }),
                "there is room");
        whole[place] = true;
        break;
      case way::wake:
        wakes.push(letters[thread]);
        break;
      case way::quit:
        quit.store(true, std::memory_order_release);
        break;
    }
    if (rings_bell == order::rings_last) look_and_ring();
  }
  void look_and_ring() {
    if (!sleep.must_ring()) return;
    ++rings;
    ring.open();
  }
  void serve() {
    while (!all_here()) {
      sleep.announce();
      ++announcements;
      if (!looks_again || nothing_to_do()) {
        look_who_stands();
        ring.pass();
      }
      sleep.withdraw();
    }
  }
  bool all_here() {
    while (mail.take() != nullptr) ++here;
    wakes.take([this](record&) { ++here; }, [](errand&) {});
    if (!stopped && quit.load(std::memory_order_acquire)) {
      stopped = true;
      ++here;
    }
    return here == ways.size();
  }
  bool nothing_to_do() const {
    return !mail.waits() && wakes.empty() && (stopped || !quit.load(std::memory_order_relaxed));
  }
  /// What the search knows and the worker does not. Where only mail is sent `here` is the next
  /// place.
  void look_who_stands() const {
    if (wanted == sight::none) return;
    const bool stands = here < begun && !whole[here];
    const bool holds_back = stands && (whole[here + 1] || whole[here + 2]);
    require(wanted != sight::sleeps_beside_begun || !stands,
            "it sleeps beside mail that was begun");
    require(wanted != sight::sleeps_before_complete || !holds_back,
            "it sleeps before complete mail that is held back");
  }
  void judge() override { require(rings <= announcements, "one ring for one announcement"); }

  std::vector<way> ways;
  bool looks_again;
  order rings_bell;
  sight wanted;
  std::array<record, 4> letters;
  mailbox mail{4};
  wake_inbox wakes;
  atomic<bool> quit{false};
  bell sleep;
  gate ring;
  bool stopped = false;
  std::size_t here = 0;
  std::size_t begun = 0;           // mails that have a place
  std::array<bool, 8> whole = {};  // by place
  unsigned rings = 0, announcements = 0;
};

maker of(std::vector<way> ways, bool looks = true, order rings = order::rings_last,
         sight wanted = sight::none) {
  return make_of<asleep_world>(ways, looks, rings, wanted);
}

}  // namespace

TEST_CASE("bell: nothing is left behind in front of a worker that sleeps") {
  must_hold("mail", 2, of({way::mail}));
  must_hold("a wake link", 2, of({way::wake}));
  must_hold("a stop", 2, of({way::quit}));
  must_hold("mail x wake", 3, of({way::mail, way::wake}));
  must_hold("mail x mail", 3, of({way::mail, way::mail}));
  must_hold("wake x stop", 3, of({way::wake, way::quit}));
  must_hold("wake x wake", 3, of({way::wake, way::wake}));
}

TEST_CASE("bell: whoever stands between its two stores keeps nobody awake, and rings afterwards") {
  // The two above are exhausted over executions of this kind.
  must_fail("mail that was begun", 2,
            of({way::mail}, true, order::rings_last, sight::sleeps_beside_begun),
            "it sleeps beside mail that was begun");
  must_fail("complete mail behind it", 3,
            of({way::mail, way::mail}, true, order::rings_last, sight::sleeps_before_complete),
            "it sleeps before complete mail that is held back");
  must_fail("a sender that rings before its mail is complete", 2,
            of({way::mail}, true, order::rings_between), "nobody can go on");
  must_fail("two that do, one behind the other", 3,
            of({way::mail, way::mail}, true, order::rings_between), "nobody can go on");
}

TEST_CASE("bell: its broken twins sleep on work for ever") {
  {
    const mutant broken("drop_fence");
    must_fail("no fence after the announcement", 2, of({way::wake}), "nobody can go on");
  }
  must_fail("no second look", 2, of({way::mail}, false), "nobody can go on");
  for (const auto& what : {way::mail, way::wake, way::quit}) {
    must_fail("a sender that never rings", 2, of({what}, true, order::never_rings),
              "nobody can go on");
    must_fail("a sender that looks before it publishes", 2, of({what}, true, order::rings_first),
              "nobody can go on");
    must_need("bell.hpp must_ring: fence seq_cst", std::memory_order_acq_rel, 2, of({what}));
    must_need("bell.hpp announce: fence seq_cst", std::memory_order_acq_rel, 2, of({what}));
  }
}
