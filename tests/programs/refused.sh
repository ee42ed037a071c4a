#!/bin/bash
# refused.sh: C14, C15: who refuses io_uring or a thread is named, with a remedy; no trace stays.
# Nobody insisted on a ring: there is a runtime without one.
#
# Always true: each cause has a process of its own; one that cannot be made here is told.
#
# Comes from: catalogue C14, C15.   Goes to: refused.cpp.
set -u
failed=0
made=0
# try BACKEND CAUSE...: with COIR_BACKEND set to that.
try() {
  local backend=$1 cause code
  shift
  for cause in "$@"; do
    COIR_BACKEND=$backend "$BUILD_DIR/tests/refused" "$cause"
    code=$?
    if [ "$code" -eq 77 ]; then
      echo "$cause: cannot be made here"
    elif [ "$code" -ne 0 ]; then
      echo "$cause: failed ($code)"
      failed=1
    else
      made=$((made + 1))
    fi
  done
}
limits="descriptors_0 descriptors_1 descriptors_2 descriptors_3 threads address_space"
# shellcheck disable=SC2086  # several words
try "" seccomp access kernel old_kernel no_memory register enter memlock $limits
# shellcheck disable=SC2086
try poll $limits
[ "$failed" -ne 0 ] || [ "$made" -ne 0 ] || exit 77
exit "$failed"
