#!/bin/bash
# refused.sh: whoever refuses io_uring is named, with the remedy, and nothing is left behind.
#
# Always true: each cause has a process of its own; one that cannot be made here is told.
#
# Comes from: catalogue C14, C15.   Goes to: refused.cpp.
set -u
failed=0
for cause in seccomp kernel old_kernel memlock descriptors; do
  "$BUILD_DIR/tests/refused" "$cause"
  code=$?
  if [ "$code" -eq 77 ]; then
    echo "$cause: cannot be made here"
  elif [ "$code" -ne 0 ]; then
    echo "$cause: failed ($code)"
    failed=1
  fi
done
exit "$failed"
