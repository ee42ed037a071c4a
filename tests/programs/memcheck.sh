#!/bin/bash
# memcheck.sh: A17: Memcheck has nothing to say of an echo, and reports a byte that never came.
#
# Always true:
#   - Only a build with COIR_VALGRIND tells Memcheck about stacks and about what the kernel wrote;
#     others cannot be watched, and say so.
#   - The silence counts because the control is not silent.
#
# Comes from: entry A17 of the failure catalogue.   Goes to: memcheck.cpp, valgrind(1).
set -u
program=$BUILD_DIR/tests/memcheck
command -v valgrind >/dev/null || { echo "no valgrind"; exit 77; }
"$program" able || { echo "built without COIR_VALGRIND"; exit 77; }

watched() {
  valgrind --quiet --error-exitcode=9 --fair-sched=yes --show-error-list=yes "$program" "$1"
}

watched echo || { echo "a clean echo is reported"; exit 1; }
watched past 2>"$BUILD_DIR/memcheck_past.log"
code=$?
[[ $code -eq 9 ]] || { echo "a byte that never came is not reported ($code)"; exit 1; }
grep -q 'uninitialised value' "$BUILD_DIR/memcheck_past.log" || {
  cat "$BUILD_DIR/memcheck_past.log"
  exit 1
}
