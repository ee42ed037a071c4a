/* park_good.pml: parking where anybody may wake a fiber: "parked" becomes visible only from another
 * stack, after the registers were saved, and a waker that comes too early leaves a note.
 * Must hold: never two threads on one stack, no resume before the save, and in the end it runs.
 */
mtype = { running, parking, parked, noted };
mtype state = running;
byte on_stack = 0;    /* threads that stand on the fiber's stack */
byte resumed = 0;
byte ready = 0;       /* how often it stands in a ready queue */
bool saved = false;

active proctype Owner() {
  on_stack++;
  assert(on_stack == 1);
  atomic {
    if
    :: state == running -> state = parking
    :: state == noted -> state = running; resumed++; on_stack--; goto done
    fi
  }
  saved = true;
  on_stack--;         /* from here on another stack */
  atomic {
    if
    :: state == parking -> state = parked
    :: state == noted -> state = running; ready++
    fi
  }
done: skip
}

active proctype Waker() {
  mtype before;
  atomic {
    before = state;
    if
    :: before == parked -> state = running
    :: else -> state = noted
    fi
  }
  if
  :: before == parked -> ready++
  :: else -> skip
  fi
}

active proctype Other() {
  do
  :: ready > 0 ->
     ready--;
     on_stack++;
     assert(on_stack == 1);
     assert(saved);
     on_stack--;
     resumed++;
     break
  :: resumed > 0 -> break
  od
}

ltl runs_in_the_end { <> (resumed == 1) }
