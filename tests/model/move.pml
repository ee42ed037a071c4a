/* move.pml: a fiber that moves from worker to worker and back (moving.cpp): two workers, a thread
 * that may cancel it meanwhile, a stop, and a thread that waits for its end. It ends when it was
 * cancelled. Must hold: nobody goes on with the fiber while somebody stands on its stack, its link
 * is under way at most once, and in the end it was cancelled, has ended, and who waited for it is
 * told.
 * -DBROKEN=1 (published before the fiber has left its stack), -DBROKEN=2 (its end does not look for
 * who told an earlier worker), -DBROKEN=3 (no look at the stop when it arrives) and -DBROKEN=4 (the
 * link is pushed although it is under way) must fail.
 */
#ifndef BROKEN
#define BROKEN 0
#endif
#define NOBODY 9
byte home = 0;                  /* record::home */
byte at = 0;                    /* the worker that runs it */
bool stands = true;             /* somebody stands on its stack */
byte moves = 0;
bool queued = false, claimed = false, cancelled = false;   /* the wake word */
byte links[2];                  /* in the inbox of each worker */
bool mark[2];                   /* joiners_in_ of each worker */
bool news[2];                   /* the errand of the stop */
bool stopping = false, standing = false, far_joiners = false, done = false, woken = false;
byte finished = 0;

inline send_off(me) {
  home = 1 - me;
  atomic { push = !queued || BROKEN == 4; claimed = true; queued = true }
  if :: push -> atomic { links[home]++; assert(links[0] + links[1] <= 1) } :: else -> skip fi
}

proctype Worker(byte me) {
  bool push;
end:
  do
  :: at == me && moves < 2 ->
     moves++;
     if :: BROKEN != 2 -> far_joiners = true :: else -> skip fi;
     at = NOBODY;
     if :: BROKEN == 1 -> send_off(me); stands = false
        :: else -> stands = false; send_off(me)
     fi
  :: at == me && moves == 2 && cancelled ->
     at = NOBODY; stands = false;
     done = true;
     if
     :: far_joiners ->
        atomic { if :: standing -> standing = false; woken = true :: else -> skip fi }
     :: else -> skip
     fi
  :: links[me] > 0 ->
     links[me]--;
     if
     :: home != me -> links[home]++
     :: else ->
        atomic {
          push = claimed; claimed = false; queued = false;
          if
          :: push -> assert(!stands); stands = true
          :: else -> skip
          fi
        }
        if
        :: push ->
           if :: stopping && BROKEN != 3 -> cancelled = true :: else -> skip fi;
           at = me
        :: else -> skip
        fi
     fi
  :: mark[me] ->
     mark[me] = false;
     atomic {
       if
       :: standing && done -> standing = false; woken = true
       :: standing && !done && home == me -> far_joiners = true
       :: else -> skip
       fi
     }
  :: news[me] ->
     news[me] = false;
     if :: home == me -> cancelled = true :: else -> skip fi
  od
}

proctype Canceller() {
  bool push;
  byte to;
  if
  :: skip
  :: atomic { push = !queued; cancelled = true; queued = true }
     if :: push -> to = home; atomic { links[to]++; assert(links[0] + links[1] <= 1) }
        :: else -> skip
     fi
  fi;
  finished++
}

proctype Stop() { stopping = true; news[0] = true; news[1] = true; finished++ }

proctype Joiner() {
  byte to;
  atomic { if :: done -> goto out :: else -> standing = true fi }
  to = home;
  mark[to] = true;
  woken;
out:
  finished++
}

init {
  atomic { run Worker(0); run Worker(1); run Canceller(); run Stop(); run Joiner() }
  timeout;
  assert(done && cancelled && finished == 3 && links[0] + links[1] == 0)
}
