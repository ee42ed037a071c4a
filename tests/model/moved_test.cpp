// moved_test.cpp: a fiber that has started and moves to another worker, against who cancels it and
// who joins it, under the checker.
//
// Comes from: tests/model/sent_on.hpp.   Goes to: ctest.
#include "tests/model/sent_on.hpp"

using namespace coir::check;

TEST_CASE("moved: a cancel and a join find a fiber that moves meanwhile") {
  must_hold("move x cancel", 3, sent_on({.moves = true, .who = cast::canceller}));
  must_hold("join x move", 3, sent_on({.moves = true, .who = cast::joiner}));
  // With three preemptions and two old stores these are 4.8 million executions, 320 million steps:
  // a minute, and nothing was found. Here one bound at a time.
  const maker asks = sent_on({.moves = true, .who = cast::asker});
  must_hold("cancel, then join x move", 3, asks, three_newest);
  must_hold("cancel, then join x move, old stores", 3, asks, two_older);
  must_hold("join x move x cancel", 4, sent_on({.moves = true}), two_newest);
  must_hold("join x move x cancel, old stores", 4, sent_on({.moves = true}), one_old);
}

TEST_CASE("moved: its broken twins are noticed") {
  const char* const stuck = "nobody can go on";
  must_fail("a move that forgets far joiners", 4, sent_on({.moves = true, .forgets = true}), stuck,
            one_old);
  must_fail("the same, and nobody cancels", 3,
            sent_on({.moves = true, .forgets = true, .who = cast::joiner}), stuck);
  {
    const mutant broken("link_kept");
    const char* const races = "a write races";
    must_fail("a link that is not forwarded", 4, sent_on({.moves = true}), races, one_old);
    must_fail("the same, and nobody joins", 3, sent_on({.moves = true, .who = cast::canceller}),
              stuck);
    must_fail("the same, and who asks joins then", 3, sent_on({.moves = true, .who = cast::asker}),
              races, two_older);
  }
  must_need("waits.hpp latch_cancel: change acq_rel", std::memory_order_relaxed, 4,
            sent_on({.moves = true}), one_old);
}
