/* sleep.pml: the handshake of bell.hpp on a machine where each thread's last store may still be in
 * its own buffer: the worker announces and looks again, the sender publishes and looks. Mail is
 * published by two stores, of which the worker asks for the second one: beside mail that was only
 * begun it sleeps.
 * -DFENCE=1 must hold: whoever sleeps is rung. -DFENCE=0, -DLOOK=0 (no second look) and -DEARLY=1
 * (the sender rings between its two stores) must fail: it sleeps on work for ever.
 * -DBESIDE=1 must fail, to show that it does sleep beside mail that was begun.
 */
#ifndef FENCE
#define FENCE 1
#endif
#ifndef LOOK
#define LOOK 1
#endif
#ifndef EARLY
#define EARLY 0
#endif
#ifndef BESIDE
#define BESIDE 0
#endif
bool begun = false;                             /* by a locked instruction: it has no buffer */
bool work = false, asleep = false;              /* what everybody sees */
bool work_buffered = false, sleep_buffered = false;
bool bell = false;

inline drain_work() { atomic { if :: work_buffered -> work = true; work_buffered = false
                               :: else -> skip fi } }
inline drain_sleep() { atomic { if :: sleep_buffered -> asleep = true; sleep_buffered = false
                                :: else -> skip fi } }

inline look_and_ring() {
  announced = asleep;
  if :: announced -> bell = true :: else -> skip fi
}

active proctype Sender() {
  bool announced;
  begun = true;
  if :: EARLY -> look_and_ring() :: !EARLY -> skip fi;
  work_buffered = true;
  if :: FENCE -> drain_work() :: !FENCE -> skip fi;
  if :: !EARLY -> look_and_ring() :: EARLY -> skip fi;
  drain_work()
}

active proctype Worker() {
  bool seen = work;
  if :: seen -> goto awake :: else -> skip fi;
  sleep_buffered = true;
  if :: FENCE -> drain_sleep() :: !FENCE -> skip fi;
  if :: LOOK -> seen = work :: !LOOK -> skip fi;
  drain_sleep();
  if
  :: seen -> skip
  :: else ->
     assert(!BESIDE || !begun);
     (bell)               /* an invalid end state when nobody ever rings */
  fi;
awake: skip
}
