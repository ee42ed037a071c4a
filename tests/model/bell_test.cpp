// bell_test.cpp: the sleep handshake under the checker, with the real bell, the real mailbox and
// the real inbox of wake links: who sleeps on work for ever is a thread that nobody lets go on.
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

/// What a sender does about its bell: `rings_first` and `never_rings` are broken twins.
enum class order : std::uint8_t { rings_last, rings_first, never_rings };

/// Thread 0 is a worker until all that the others send has come; each of them sends once.
struct asleep_world : world {
  asleep_world(std::vector<way> sent_by, bool looks, order rings_it)
      : ways(std::move(sent_by)), looks_again(looks), rings_bell(rings_it) {}

  void run(unsigned thread) override {
    if (thread == 0) return serve();
    if (rings_bell == order::rings_first) look_and_ring();
    switch (ways[thread - 1]) {
      case way::mail:
        require(mail.send(letters[thread]), "there is room");
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
        ring.pass();
      } else {
        coir::detail::pause();  // a sender is between its two stores
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
    return mail.empty() && wakes.empty() && (stopped || !quit.load(std::memory_order_relaxed));
  }
  void judge() override { require(rings <= announcements, "one ring for one announcement"); }

  std::vector<way> ways;
  bool looks_again;
  order rings_bell;
  std::array<record, 4> letters;
  mailbox mail{4};
  wake_inbox wakes;
  atomic<bool> quit{false};
  bell sleep;
  gate ring;
  bool stopped = false;
  std::size_t here = 0;
  unsigned rings = 0, announcements = 0;
};

maker of(std::vector<way> ways, bool looks = true, order rings = order::rings_last) {
  return make_of<asleep_world>(ways, looks, rings);
}

}  // namespace

TEST_CASE("bell: nothing is left behind in front of a worker that sleeps") {
  must_hold("mail", 2, of({way::mail}));
  must_hold("a wake link", 2, of({way::wake}));
  must_hold("a stop", 2, of({way::quit}));
  must_hold("mail x wake", 3, of({way::mail, way::wake}));
  must_hold("wake x stop", 3, of({way::wake, way::quit}));
  must_hold("wake x wake", 3, of({way::wake, way::wake}));
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
