#!/bin/bash
# million.sh: what a parked fiber costs, and that a great many of them end in seconds.
#
# Always true: 100,000 fibers unless MILLION says how many; skipped when the memory is not there.
#
# Comes from: the acceptance of memory.   Goes to: million.cpp.
set -u
count=${MILLION:-100000}
# 5,000 bytes by the process, about 600 by the kernel, and room for everybody else.
needed_kb=$((count * 6 + 500000))
free_kb=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo)
if [ "$free_kb" -lt "$needed_kb" ]; then
  echo "needs $((needed_kb / 1024)) MiB, $((free_kb / 1024)) MiB are free"
  exit 77
fi
if nm -a "$BUILD_DIR/tests/million" 2>/dev/null | grep -qE '__(asan|tsan)_init'; then
  echo "a sanitizer's own memory would be counted"
  exit 77
fi
"$BUILD_DIR/tests/million" "$count" wake && "$BUILD_DIR/tests/million" "$count" cancel
