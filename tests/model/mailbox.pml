/* mailbox.pml: the bounded queue of mailbox.hpp: two senders of two records each and one reader, a
 * slot's turn saying whose it is.
 * Must hold: every record that was accepted is taken once, one sender's in their order, whole, and
 * never are more accepted than there are slots. -DSLOTS=1 and -DSLOTS=2.
 * -DBROKEN=1 (the turn is moved before the record is put in), -DBROKEN=2 (the reader frees the slot
 * before it has read it) and -DBROKEN=3 (a sender does not look at the turn) must fail.
 */
#ifndef SLOTS
#define SLOTS 1
#endif
#ifndef BROKEN
#define BROKEN 0
#endif
byte turn[SLOTS];
byte what[SLOTS];                     /* the record: 1, 2 of the first sender, 3, 4 of the second */
byte tail = 0, head = 0;
byte accepted = 0, taken = 0, refused = 0;
byte last_of[2];

inline publish(at, record) {
  if
  :: BROKEN == 1 -> turn[at % SLOTS] = at + 1; what[at % SLOTS] = record
  :: else -> what[at % SLOTS] = record; turn[at % SLOTS] = at + 1
  fi
}

proctype Sender(byte me) {
  byte i, at;
  for (i : 1 .. 2) {
    do
    :: at = tail;
       if
       :: at - head >= SLOTS && BROKEN != 3 ->
          if
          :: tail == at -> refused++; break          /* full: its record stays its own */
          :: else -> skip
          fi
       :: else ->
          if
          :: turn[at % SLOTS] == at || BROKEN == 3 ->
             atomic {
               if
               :: tail == at -> tail = at + 1; accepted++; goto mine
               :: else -> skip
               fi
             }
          :: turn[at % SLOTS] < at && BROKEN != 3 -> refused++; break
          :: else -> skip
          fi
       fi
    od;
    goto next;
mine:
    publish(at, me * 2 + i);
next:
    skip
  }
}

proctype Reader() {
  byte record;
  do
  :: turn[head % SLOTS] == head + 1 ->
     if
     :: BROKEN == 2 -> turn[head % SLOTS] = head + SLOTS; head++; record = what[(head - 1) % SLOTS]
     :: else -> record = what[head % SLOTS]; turn[head % SLOTS] = head + SLOTS; head++
     fi;
     assert(record >= 1 && record <= 4);
     assert(last_of[(record - 1) / 2] < record);     /* in order, and none twice */
     last_of[(record - 1) / 2] = record;
     taken++;
     assert(accepted - taken <= SLOTS)
  :: accepted + refused == 4 && taken == accepted -> break
  od
}

init {
  byte i;
  atomic {
    for (i : 0 .. SLOTS - 1) { turn[i] = i }
    run Sender(0); run Sender(1); run Reader()
  }
}
