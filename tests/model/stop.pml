/* stop.pml: the end of a runtime against threads that spawn (settling.hpp, bell.hpp): who spawns
 * counts first and asks afterwards, who stops says so first and counts afterwards.
 * Must hold: everybody ends, and what was accepted has run.
 * -DBROKEN=1 (asks first), -DBROKEN=2 (a refused one tells nobody), -DBROKEN=3 (a worker that goes
 * to sleep does not tell who waits) and -DBROKEN=4 (the quit is no part of the second look) must
 * fail.
 */
#ifndef BROKEN
#define BROKEN 0
#endif
bool stopping = false, settling = false, quit = false;
byte counted = 0, finished = 0, mail = 0;
byte idle = 0;                        /* the idle word */
bool asleep = false, bell = false;
byte accepted = 0;

inline ring() {
  atomic { rings = asleep; asleep = false }
  if :: rings -> bell = true :: else -> skip fi
}

inline refuse() {
  counted--;
  if :: settling && BROKEN != 2 -> idle++ :: else -> skip fi
}

proctype Spawner() {
  bool rings, told;
  if
  :: BROKEN == 1 -> told = stopping; counted++
  :: else -> counted++; told = stopping
  fi;
  if
  :: told -> refuse()
  :: else -> accepted++; mail++; ring()
  fi
}

proctype Worker() {
  bool look;
  do
  :: quit -> break
  :: else ->
     do
     :: mail > 0 -> mail--; finished++
     :: else -> break
     od;
     asleep = true;                   /* and a fence */
     look = mail > 0 || (quit && BROKEN != 4);
     if
     :: look -> skip
     :: else ->
        if :: settling && BROKEN != 3 -> idle++ :: else -> skip fi;
        bell; bell = false            /* sleeps until it is rung */
     fi;
     asleep = false
  od
}

proctype Stopper() {
  bool rings;
  byte seen, done, all;
  stopping = true;
  settling = true;
  ring();
  do
  :: seen = idle;
     done = finished;
     all = counted;
     if
     :: done == all -> break
     :: else -> idle != seen          /* the futex */
     fi
  od;
  quit = true;
  ring()
}

init {
  atomic { run Worker(); run Stopper(); run Spawner(); run Spawner() }
  _nr_pr == 1;
  assert(finished == accepted && mail == 0 && counted == finished)
}
