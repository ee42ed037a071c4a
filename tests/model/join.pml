/* join.pml: the end of a fiber and what others tell its owner (join.cpp, ending.cpp): two joiners
 * from afar, and a holder on another thread who cancels and then lets go, before or after the end.
 * The owner stores `done` and never exchanges: what others have to say comes as messages.
 * Must hold: every joiner is woken, and the record is recycled once, with no link of it under way.
 * -DBROKEN=1 (a joiner does not tell the owner), -DBROKEN=2 (it does so before it
 * stands in the stripe) and -DBROKEN=3 (the end does not look at a link under way) must
 * fail.
 */
#ifndef BROKEN
#define BROKEN 0
#endif
bool done = false;
bool standing[2];               /* in the stripe */
bool woken[2];
bool mark = false;               /* the stripe's bit in joiners_in_ */
bool told = false;              /* joiners_told_ */
byte errands = 0;
bool far_joiners = false, let_go = false;        /* the owner's own notes */
bool queued = false, detached = false, orphan = false;   /* the wake word */
byte links = 0;
byte recycled = 0;
byte finished = 0;              /* who has said all it has to say */

inline wake_all() {
  atomic {
    if :: standing[0] -> standing[0] = false; woken[0] = true :: else -> skip fi;
    if :: standing[1] -> standing[1] = false; woken[1] = true :: else -> skip fi
  }
}

inline recycle() {
  if
  :: !queued || BROKEN == 3 -> assert(links == 0); recycled++
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
  if :: BROKEN == 2 -> tell() :: else -> skip fi;
  atomic {
    if
    :: done -> goto out
    :: else -> standing[me] = true
    fi
  }
  if :: BROKEN == 0 || BROKEN == 3 -> tell() :: else -> skip fi;
  woken[me];
out:
  finished++
}

inline push_link(what) {
  atomic { pushed = !queued; queued = true; what = true }
  if :: pushed -> atomic { links++; assert(links == 1) } :: else -> skip fi
}

proctype Holder() {
  bool pushed, cancelled;
  if
  :: push_link(cancelled)
  :: skip
  fi;
  if
  :: done -> recycle()
  :: else -> push_link(detached)
  fi;
  finished++
}

proctype Owner() {
  bool gone, look, mine;
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
  :: links > 0 ->
     links--;
     atomic { queued = false; gone = detached; detached = false; mine = orphan }
     if
     :: mine -> recycled++
     :: !mine && gone && done -> recycle()
     :: !mine && gone && !done -> let_go = true
     :: else -> skip
     fi
  :: !done ->
     look = far_joiners;
     gone = let_go;
     done = true;
     if :: look -> wake_all() :: else -> skip fi;
     if :: gone -> recycle() :: else -> skip fi
  :: finished == 3 && errands == 0 && links == 0 && done -> break
  od;
  assert(recycled == 1)
}

init {
  atomic { run Joiner(0); run Joiner(1); run Holder(); run Owner() }
}
