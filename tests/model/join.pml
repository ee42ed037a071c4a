/* join.pml: waiting by id for the end of a fiber (join.cpp, ending.cpp): the waiter marks the join
 * word and then asks for the generation, the end sets done and then looks into the stripe, and the
 * slot may be recycled and begin its next life at any moment in between.
 * Must hold: whoever waits is woken. -DBROKEN=1 (the generation is asked for before the mark, which
 * may then fall on the next life) and -DBROKEN=2 (the end looks for waiters before it sets done)
 * must fail: somebody waits for ever.
 */
#ifndef BROKEN
#define BROKEN 0
#endif
bool waiters = false, done = false;   /* the join word of the slot */
byte generation = 1;
bool locked = false;                  /* the stripe, and who waits in it for generation 1 */
bool queued[2], woken[2];

inline lock_stripe() { atomic { !locked -> locked = true } }

active proctype Fiber() {
  bool before;
  if
  :: BROKEN == 2 -> before = waiters
  :: else -> skip
  fi;
  atomic {
    if :: BROKEN == 2 -> skip :: else -> before = waiters fi;
    done = true;
    waiters = false
  }
  if
  :: before ->
     lock_stripe();
     woken[0] = woken[0] || queued[0]; queued[0] = false;
     woken[1] = woken[1] || queued[1]; queued[1] = false;
     locked = false
  :: else -> skip
  fi;
  generation++;                       /* recycled, and used again */
  atomic { waiters = false; done = false }
}

proctype Waiter(byte me) {
  bool ended;
  byte seen;
  lock_stripe();
  if
  :: BROKEN == 1 -> seen = generation
  :: else -> skip
  fi;
  atomic { ended = done; waiters = true }
  if
  :: BROKEN == 1 -> skip
  :: else -> seen = generation
  fi;
  if
  :: seen != 1 || ended -> locked = false
  :: else ->
     queued[me] = true;
     locked = false;
     (woken[me])                          /* an invalid end state when nobody ever comes */
  fi
}

init { atomic { run Waiter(0); run Waiter(1) } }
