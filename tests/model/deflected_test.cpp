// deflected_test.cpp: a fiber that waits in the mailbox of another worker for its first run,
// against who cancels it and who joins it, under the checker.
//
// Comes from: tests/model/sent_on.hpp.   Goes to: ctest.
#include "tests/model/sent_on.hpp"

using namespace coir::check;

TEST_CASE("deflected: a cancel and a join find a fiber that is in a mailbox meanwhile") {
  must_hold("deflect x cancel", 3, sent_on({.who = cast::canceller}));
  must_hold("join x deflect", 3, sent_on({.who = cast::joiner}));
  must_hold("who deflects joins x cancel", 3, sent_on({.itself = true, .who = cast::unheld}));
  must_hold("who deflects joins and recycles x cancel", 3, sent_on({.itself = true}), two_old);
  must_hold("join x deflect x cancel", 4, sent_on({}), two_newest);
}

TEST_CASE("deflected: a cancel and a join find a fiber that waits at home and is mailed on") {
  must_hold("mail on x cancel", 3, sent_on({.again = true, .who = cast::canceller}));
  must_hold("join x mail on", 3, sent_on({.again = true, .who = cast::joiner}));
  must_hold("join x mail on x cancel", 4, sent_on({.again = true}), two_newest);
}

TEST_CASE("deflected: its broken twins are noticed") {
  {
    const mutant broken("link_kept");
    const char* const not_its_own = "only its own worker ends a fiber's park";
    must_fail("a cancel's link that is not forwarded", 4, sent_on({}), not_its_own, one_old);
    must_fail("the same, and nobody joins", 3, sent_on({.who = cast::canceller}), not_its_own);
    must_fail("the same, and its sender joins", 3, sent_on({.itself = true, .who = cast::unheld}),
              not_its_own);
  }
  const char* const stuck = "nobody can go on";
  must_fail("a mail on that forgets far joiners", 3,
            sent_on({.again = true, .forgets = true, .who = cast::joiner}), stuck);
  const mutant broken("joiner_untold");
  must_fail("a joiner that tells nobody", 4, sent_on({}), stuck, one_old);
  must_fail("the same, and nobody cancels", 3, sent_on({.who = cast::joiner}), stuck);
}
