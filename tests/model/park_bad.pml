/* park_bad.pml: the broken twin of park_good.pml: the fiber says "parked" on its own stack, before
 * its registers are saved, and whoever sees it may resume it.
 * Must fail: two threads on one stack, or a resume of registers that were not saved.
 */
mtype = { running, parked, noted };
mtype state = running;
byte on_stack = 0;
bool ready = false;
bool saved = false;

active proctype Owner() {
  on_stack++;
  assert(on_stack == 1);
  atomic {
    if
    :: state == running -> state = parked
    :: else -> skip
    fi
  }
  saved = true;
  on_stack--
}

active proctype Waker() {
  mtype before;
  atomic { before = state; state = noted }
  if
  :: before == parked -> ready = true
  :: else -> skip
  fi
}

active proctype Other() {
end_waits:
  (ready);
  on_stack++;
  assert(on_stack == 1);
  assert(saved)
}
