/* wake.pml: one record's wake word and its one link (waits.hpp): two claimers from other cores, one
 * who cancels, the owner with its own deadline, and the end of the record.
 * Must hold: the park ends once, the link is in the inbox at most once, and the record is recycled
 * once and never while its link is under way.
 * -DBROKEN=1 (the last user recycles without looking at the link), -DBROKEN=2 (a claim does not
 * look whether somebody else has it) and -DBROKEN=3 (a claim pushes the link although it is queued)
 * must fail.
 */
#ifndef BROKEN
#define BROKEN 0
#endif
bool queued = false, claimed = false, cancelled = false, orphan = false;   /* the wake word */
byte epoch = 1;
byte links = 0;        /* in the inbox */
byte ended = 0;
byte recycled = 0;
byte parties = 3;      /* who still knows the record */

inline claim_from_afar() {
  bool push = false;
  atomic {
    if
    :: epoch == 1 && (!claimed || BROKEN == 2) ->
       if :: claimed -> ended++ :: else -> skip fi;
       push = !queued || BROKEN == 3; claimed = true; queued = true
    :: else -> skip
    fi
  }
  if :: push -> links++; assert(links <= 1) :: else -> skip fi;
  parties--
}

active [2] proctype Claimer() { claim_from_afar() }

active proctype Canceller() {
  bool push;
  atomic { push = !queued; cancelled = true; queued = true }
  if :: push -> links++; assert(links <= 1) :: else -> skip fi;
  parties--
}

inline end_at_home() {
  atomic { if :: epoch == 1 && !claimed -> epoch++; ended++ :: else -> skip fi }
}

active proctype Owner() {
  bool finished = false;
  do
  :: links > 0 ->
     atomic {
       links--;
       assert(queued);
       queued = false;
       if
       :: orphan -> recycled++; goto gone
       :: !orphan && claimed -> claimed = false; epoch++; ended++
       :: else -> skip
       fi
     }
     assert(recycled == 0);
     if :: cancelled -> end_at_home() :: else -> skip fi
  :: ended == 0 -> end_at_home()             /* its own deadline */
  :: ended > 0 && parties == 0 && !finished ->
     finished = true;
     if
     :: !queued || BROKEN == 1 -> assert(links == 0); recycled++; goto gone
     :: else -> atomic { if :: queued -> orphan = true
                            :: else -> recycled++; goto gone fi }
     fi
  od;
gone:
  assert(ended == 1);
  assert(recycled == 1)
}
