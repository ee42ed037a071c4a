/* join.pml: the end of a fiber and what others tell its owner (join.cpp, ending.cpp, waits.hpp): it
 * is mailed to its owner while somebody cancels its scope, and then two joiners from afar have its
 * handle, and a holder on another thread who lets go, before or after the end. `home` named another
 * worker first, so the link of the cancel may be in the inbox of that one, which forwards it.
 * The owner stores `done` and never exchanges: what others have to say comes as messages.
 * Must hold: every joiner is woken, the link is heard where the record lives and is under way once,
 * and the record is recycled once, with no link of it under way.
 * -DBROKEN=1 (a joiner does not tell the owner), -DBROKEN=2 (it does so before it stands in the
 * stripe), -DBROKEN=3 (the end does not look at a link under way), -DBROKEN=4 (a link that arrives
 * elsewhere is not forwarded) and -DBROKEN=5 (it is heard there) must fail.
 */
#ifndef BROKEN
#define BROKEN 0
#endif
byte home = 0;                  /* record::home: 1 is the owner, 0 the other worker */
bool mailed = false;            /* spawn has returned: the handle is somebody's */
bool ended = false, done = false;
bool locked = false;             /* the scope, where it is until it has ended */
bool standing[2];               /* in the stripe */
bool woken[2];
bool mark = false;               /* the stripe's bit in joiners_in_ */
bool told = false;              /* joiners_told_ */
byte errands = 0;
bool far_joiners = false, let_go = false;        /* the owner's own notes */
bool queued = false, detached = false, orphan = false;   /* the wake word */
byte links[2];                  /* in the inbox of each worker */
byte recycled = 0;
byte finished = 0;              /* who has said all it has to say */

#define LINKS (links[0] + links[1])

inline wake_all() {
  atomic {
    if :: standing[0] -> standing[0] = false; woken[0] = true :: else -> skip fi;
    if :: standing[1] -> standing[1] = false; woken[1] = true :: else -> skip fi
  }
}

inline recycle() {
  if
  :: !queued || BROKEN == 3 -> assert(LINKS == 0); recycled++
  :: else ->
     atomic {
       if
       :: queued -> orphan = true
       :: else -> recycled++
       fi
     }
  fi
}

inline tell() {
  mark = true;
  atomic { again = told; told = true }
  if :: again -> skip :: else -> errands++ fi
}

proctype Joiner(byte me) {
  bool again;
  mailed;
  if :: BROKEN == 2 -> tell() :: else -> skip fi;
  atomic {
    if
    :: done -> goto out
    :: else -> standing[me] = true
    fi
  }
  if :: BROKEN == 1 || BROKEN == 2 -> skip :: else -> tell() fi;
  woken[me];
out:
  finished++
}

inline push_link(what) {
  atomic { pushed = !queued; queued = true; what = true }
  if
  :: pushed -> to = home; atomic { links[to]++; assert(LINKS == 1) }
  :: else -> skip
  fi
}

/* Cancels the scope, under its lock, so it needs no handle; or nobody does. */
proctype Canceller() {
  bool pushed, cancelled;
  byte to;
  if
  :: atomic { !ended -> locked = true }
     push_link(cancelled);
     locked = false
  :: skip
  fi;
  finished++
}

proctype Holder() {
  bool pushed;
  byte to;
  mailed;
  if
  :: done -> recycle()
  :: else -> push_link(detached)
  fi;
  finished++
}

inline hear(me) {
  assert(home == me);
  atomic { queued = false; gone = detached; detached = false; mine = orphan }
  if
  :: mine -> recycled++
  :: !mine && gone && done -> recycle()
  :: !mine && gone && !done -> let_go = true
  :: else -> skip
  fi
}

/* The worker that spawns it, and mails it to the owner. */
proctype First() {
  bool gone, mine;
  home = 1;
  mailed = true;
end:
  do
  :: BROKEN == 4 && links[0] > 0 -> links[0]--
  :: BROKEN == 5 && links[0] > 0 -> links[0]--; hear(0)
  :: atomic { BROKEN < 4 && links[0] > 0 && home != 0 -> links[0]--; links[1]++ }
  od
}

proctype Owner() {
  bool gone, look, mine;
  mailed;
  do
  :: errands > 0 ->
     errands--;
     told = false;
     atomic { look = mark; mark = false }
     if
     :: look && done -> wake_all()
     :: look && !done ->
        atomic { if :: standing[0] || standing[1] -> far_joiners = true :: else -> skip fi }
     :: else -> skip
     fi
  :: links[1] > 0 -> links[1]--; hear(1)
  :: atomic { !ended && !locked -> ended = true }   /* the scope has been told */
     look = far_joiners;
     gone = let_go;
     done = true;
     if :: look -> wake_all() :: else -> skip fi;
     if :: gone -> recycle() :: else -> skip fi
  :: finished == 4 && errands == 0 && LINKS == 0 && done -> break
  od;
  assert(recycled == 1)
}

init {
  atomic { run Joiner(0); run Joiner(1); run Canceller(); run Holder(); run First(); run Owner() }
}
