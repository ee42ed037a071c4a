#!/bin/bash
# wall_clock.sh: E5: a wall clock that jumps by a day moves no deadline; nobody looks at it.
#
# Always true: both controls must be noticed, or the answer says nothing.
#
# Comes from: ctest.   Goes to: wall_clock.cpp.
set -u
program=$BUILD_DIR/tests/wall_clock
"$program" control
case $? in
  0) ;;
  77) exit 77 ;;
  *) echo "a look at the wall clock is not noticed"; exit 1 ;;
esac
# 159: ended by SIGSYS, as the filter does.
("$program" control_wait) 2>/dev/null
code=$?
[ "$code" -eq 159 ] || { echo "a wait for the wall clock is not noticed ($code)"; exit 1; }
exec "$program"
