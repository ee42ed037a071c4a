#!/bin/bash
# failures.sh: E3: whatever allocation, mapping, ring or thread is refused, a life ends with an
# answer.
#
# Always true: every one of them is refused once alone, and once with all that follow. A kind that
# cannot be made here is told; when that is so of all of them, nothing was proved.
#
# Comes from: entry E3 of the failure catalogue.   Goes to: failures.cpp.
set -u
program=$BUILD_DIR/tests/failures
[[ -x $program ]] || { echo "not built here"; exit 77; }
failed=0
made=0
for kind in allocation libc mapping ring thread; do
  for mode in once ever; do
    printf '%s, %s: ' "$kind" "$mode"
    "$program" "$kind" "$mode"
    code=$?
    if [[ $code -eq 77 ]]; then
      echo "cannot be made here"
    elif [[ $code -ne 0 ]]; then
      echo "failed ($code)"
      failed=1
    else
      made=$((made + 1))
    fi
  done
done
[[ $failed -ne 0 || $made -ne 0 ]] || exit 77
exit "$failed"
