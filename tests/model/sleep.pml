/* sleep.pml: the handshake of bell.hpp on a machine where each thread's last store may still be in
 * its own buffer: the worker announces and looks again, the sender publishes and looks.
 * -DFENCE=1 must hold: whoever sleeps is rung. -DFENCE=0 and -DLOOK=0 (no second look) must fail:
 * it sleeps on work for ever.
 */
#ifndef FENCE
#define FENCE 1
#endif
#ifndef LOOK
#define LOOK 1
#endif
bool work = false, asleep = false;              /* what everybody sees */
bool work_buffered = false, sleep_buffered = false;
bool bell = false;

inline drain_work() { atomic { if :: work_buffered -> work = true; work_buffered = false
                               :: else -> skip fi } }
inline drain_sleep() { atomic { if :: sleep_buffered -> asleep = true; sleep_buffered = false
                                :: else -> skip fi } }

active proctype Sender() {
  bool announced;
  work_buffered = true;
  if :: FENCE -> drain_work() :: !FENCE -> skip fi;
  announced = asleep;
  if :: announced -> bell = true :: else -> skip fi;
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
  :: else -> (bell)       /* an invalid end state when nobody ever rings */
  fi;
awake: skip
}
