// place_test.cpp: waiting for a place in a full mailbox under the checker: the worker that takes
// mail orders nothing, and nobody stands in the room for ever beside a place.
//
// The steps are those of launch_by() (spawn.cpp) and take_what_came() (worker.cpp), over the real
// mailbox, bell and queue of waiters.
//
// Comes from: runtime/mailbox.hpp, runtime/bell.hpp.   Goes to: ctest.
#include "runtime/bell.hpp"
#include "runtime/mailbox.hpp"
#include "tests/model/protocol.hpp"
#include "tests/model/small_worker.hpp"

using namespace coir::check;
using namespace coir::detail;

namespace {

/// When a sender calls for a place; `never` is a broken twin.
enum class call : std::uint8_t { after_standing, before_standing, never };

/// Thread 0 is a worker whose mailbox of one place is full; each of the others sends one more.
struct place_world : world {
  place_world(unsigned senders, call when) : expected(senders + 1), calls(when) {
    (void)mail.send(letters[0]);
  }

  void run(unsigned thread) override { thread == 0 ? serve() : send(letters[thread]); }

  // -- the sender
  bool try_once(record& letter) {
    if (!mail.send(letter)) return false;
    ring();
    return true;
  }
  void ring() {
    if (sleep.must_ring()) ring_gate.open();
  }
  void call_for_a_place() {
    starved.fetch_add(1, std::memory_order_seq_cst);
    ring();
  }
  void send(record& letter) {
    while (!try_once(letter)) {
      starving.fetch_add(1, std::memory_order_seq_cst);
      if (calls == call::before_standing) call_for_a_place();
      waiter me;
      bool sent = false;
      {
        const word_lock held(room.lock);
        sent = try_once(letter);
        if (!sent) enqueue(room, me);
      }
      if (!sent) {
        if (calls == call::after_standing) call_for_a_place();
        (void)sleep_as_thread(me, INT64_MAX);
        (void)leave(room, me);
      }
      starving.fetch_sub(1, std::memory_order_relaxed);
      if (sent) return;
    }
  }

  // -- the worker
  void places_are_free(unsigned count) {
    const word_lock held(room.lock);
    while (count != 0) {
      waiter* const w = dequeue(room);
      if (w == nullptr) return;
      if (wake_thread(*w)) --count;
    }
  }
  void take_what_came() {
    unsigned taken = 0;
    for (; taken < 1 && mail.take() != nullptr; ++taken) ++here;
    if (taken != 0 && starving.load(std::memory_order_relaxed) != 0) places_are_free(taken);
    if (starved.load(std::memory_order_relaxed) == served) return;
    served = starved.load(std::memory_order_acquire);
    if (const unsigned places = mail.places(); places != 0) places_are_free(places);
  }
  bool nothing_to_do() const {
    return !mail.waits() && starved.load(std::memory_order_relaxed) == served;
  }
  void serve() {
    for (;;) {
      if (!nothing_to_do()) take_what_came();
      if (here == expected) return;
      sleep.announce();
      if (nothing_to_do()) ring_gate.pass();
      sleep.withdraw();
    }
  }

  unsigned expected;
  call calls;
  std::array<record, 3> letters;
  mailbox mail{1};
  wait_queue room;
  atomic<std::uint32_t> starving{0}, starved{0};
  bell sleep;
  gate ring_gate;
  std::uint32_t served = 0;
  unsigned here = 0;
};

maker of(unsigned senders, call when = call::after_standing) {
  return make_of<place_world>(senders, when);
}

}  // namespace

TEST_CASE(
    "place: whoever waits for a place in a mailbox gets one, though its worker orders nothing") {
  must_hold("one sender", 2, of(1));
  must_hold("two senders", 3, of(2), {.preemptions = 1, .stale = 0});
}

TEST_CASE("place: it may call before it stands there, but not leave that out") {
  // The lock of the room orders as well: a worker that found nobody there has let places be seen.
  must_hold("a sender that calls before it stands in the room", 2, of(1, call::before_standing));
  must_fail("a sender that does not call", 2, of(1, call::never), "nobody can go on");
}
