/* arena.pml: the shared stack of free chains (arena.hpp): a pop is a look and a compare of the
 * whole head, and others may pop and push in between. Who needs one cell of a chain of two takes
 * all of it, announced, and puts the rest back. -DSPLIT=0: one pops twice while another takes both
 * chains and gives them back. -DSPLIT=1: three need one cell each, of which there are three.
 * Must hold: a chain has one owner, none is lost, and "full" is not said while there is a cell.
 * -DSPLIT=0 -DBROKEN=1 (the tag does not grow), -DSPLIT=1 -DBROKEN=2 (a split is not announced)
 * and -DSPLIT=1 -DBROKEN=3 (who finds it empty does not look at the head again) must fail.
 */
#ifndef BROKEN
#define BROKEN 0
#endif
#ifndef SPLIT
#define SPLIT 0
#endif
#define NONE 7
byte head = 0, tag = 0;              /* one word */
byte below[3];                       /* the link of a chain that is on the stack */
byte cells[3];                       /* how many cells the chain has that begins here */
byte splitting = 0;
byte owned[3];
byte gone = 0;                       /* cells that were taken for good */

inline own(cell) { atomic { owned[cell]++; assert(owned[cell] == 1) } }
inline disown(cell) { atomic { assert(owned[cell] == 1); owned[cell]-- } }

inline look() {
  atomic { seen = head; seen_tag = tag }
  if :: seen != NONE -> atomic { next = below[seen]; count = cells[seen] } :: else -> skip fi
}

inline take() {
  atomic {
    won = head == seen && tag == seen_tag;
    if :: won -> head = next :: else -> skip fi
  }
}

inline push(cell, size) {
  do
  :: atomic { seen = head; seen_tag = tag }
     atomic { below[cell] = seen; cells[cell] = size }
     atomic {
       if
       :: head == seen && tag == seen_tag ->
          head = cell;
          if :: BROKEN == 1 -> skip :: else -> tag++ fi;
          break
       :: else -> skip
       fi
     }
  od
}

inline pop(into) {
  do
  :: look();
     if
     :: seen == NONE -> into = NONE; break
     :: else -> take(); if :: won -> into = seen; break :: else -> skip fi
     fi
  od
}

proctype Popper() {
  byte seen, seen_tag, next, count, mine;
  bool won;
  pop(mine);
  if :: mine != NONE -> own(mine) :: else -> goto out fi;
  pop(mine);
  if :: mine != NONE -> own(mine) :: else -> skip fi;
out:
  skip
}

proctype Recycler() {
  byte seen, seen_tag, next, count, first, second;
  bool won;
  pop(first);
  if :: first == NONE -> goto out :: else -> own(first) fi;
  pop(second);
  if :: second != NONE -> own(second) :: else -> skip fi;
  disown(first);
  push(first, 1);
out:
  skip
}

/* Needs one cell: arena::take(). */
proctype Taker() {
  byte seen, seen_tag, next, count;
  bool won, covered;
  do
  :: look();
     if
     :: seen == NONE ->
        covered = splitting != 0;
        if
        :: !covered && BROKEN != 3 -> atomic { covered = !(head == seen && tag == seen_tag) }
        :: else -> skip
        fi;
        assert(covered || gone == 3)                   /* "full" */
     :: seen != NONE && count == 1 ->
        take();
        if :: won -> own(seen); gone++; break :: else -> skip fi
     :: else ->
        if :: BROKEN != 2 -> splitting++ :: else -> skip fi;
        take();
        if
        :: won ->
           own(seen);
           gone++;
           push(2, 1);                                /* the rest of the chain that began at 1 */
           if :: BROKEN != 2 -> splitting-- :: else -> skip fi;
           break
        :: else -> if :: BROKEN != 2 -> splitting-- :: else -> skip fi
        fi
     fi
  od
}

init {
  atomic {
    below[0] = 1; cells[0] = 1;
    below[1] = NONE; cells[1] = (SPLIT == 1 -> 2 : 1);
    if
    :: SPLIT == 1 -> run Taker(); run Taker(); run Taker()
    :: else -> run Popper(); run Recycler()
    fi
  }
  _nr_pr == 1;
  assert(SPLIT == 0 || gone == 3)
}
