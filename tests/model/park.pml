/* park.pml: who ends a park (waits.hpp): an item from another core, a timer and a cancel at the
 * owner, and then the fiber's next park, which only a completion may end.
 * Must hold: each park ends once, an item that was given has arrived, and whatever comes late
 * finds the next park alone.
 * -DBROKEN=1 (a claim from afar ignores the epoch), -DBROKEN=2 (a claim at home does not look
 * whether another core has claimed) and -DBROKEN=3 (an item that lost its claim is given all the
 * same) must fail.
 */
#ifndef BROKEN
#define BROKEN 0
#endif
byte epoch = 1;                  /* the wake word: epoch, claimed, queued, cancelled */
bool claimed = false, queued = false, cancelled = false;
bool link = false;               /* in the inbox */
bool waiting = false;            /* the waiter stands in the queue of items */
byte park = 0;                   /* 0 before, 1 for an item, 2 for an operation, 3 over */
bool ready = false;
byte given = 0, got = 0;
bool by_item = false;
bool asked = false;              /* the kernel was asked to cancel */
byte senders = 2;

inline push_link() { atomic { assert(!link); link = true } }

inline end_park(item) {
  atomic { assert(!ready); ready = true; by_item = item }
}

inline claim_at_home() {
  atomic {
    if
    :: epoch == 1 && (!claimed || BROKEN == 2) -> epoch = 2; won = true
    :: else -> won = false
    fi
  }
}

/* What ends this park early: a timer, or the news of a cancel. */
inline stop_parked() {
  if
  :: park == 1 && !ready -> claim_at_home(); if :: won -> end_park(false) :: else -> skip fi
  :: park == 2 -> asked = true
  :: else -> skip
  fi
}

inline take_link() {
  atomic { link -> link = false }
  atomic {
    mine = claimed; stop = cancelled;
    claimed = false; queued = false;
    if :: mine -> epoch++ :: else -> skip fi
  }
  if
  :: mine -> assert(park == 1); end_park(true)
  :: !mine && stop -> stop_parked()
  :: else -> skip
  fi
}

proctype Item() {
  bool found, won, pushes;
  atomic { found = waiting; waiting = false }     /* popped under the queue's lock */
  if
  :: found ->
     atomic {
       won = (epoch == 1 || BROKEN == 1) && !claimed;
       pushes = won && !queued;
       if :: won -> claimed = true; queued = true :: else -> skip fi
     }
     if :: won || BROKEN == 3 -> given++ :: else -> skip fi;
     if :: pushes -> push_link() :: else -> skip fi
  :: else -> skip
  fi;
  senders--
}

proctype Cancel() {
  bool pushes;
  atomic { pushes = !queued; cancelled = true; queued = true }
  if :: pushes -> push_link() :: else -> skip fi;
  senders--
}

proctype Owner() {
  bool mine, stop, won;
  bool timer = true;
  waiting = true;
  park = 1;
  if :: cancelled -> stop_parked() :: else -> skip fi;
  do
  :: !ready && link -> take_link()
  :: !ready && timer -> timer = false; stop_parked()
  :: ready -> break
  od;
  waiting = false;                                 /* leave(): under the queue's lock */
  if :: by_item -> got++ :: else -> skip fi;
  ready = false;
  park = 2;
  do                                               /* the last completion may come at any moment */
  :: link -> take_link(); assert(!ready)
  :: break
  od;
  assert(!ready);
  park = 3;
  do
  :: link -> take_link()
  :: senders == 0 && !link -> break
  od;
  assert(got == given);
  assert(!queued && !claimed)
}

init { atomic { run Owner(); run Item(); run Cancel() } }
