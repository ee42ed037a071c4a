#!/bin/bash
# ctypes.sh: Python loads libcoir.so by ctypes and runs its functions on fibers.
#
# Always true: without python3 and its ctypes the test is skipped, and says so.
#
# Comes from: ctest.   Goes to: foreign.py.
set -u
library=$BUILD_DIR/libcoir.so
command -v python3 >/dev/null || { echo "no python3"; exit 77; }
python3 -c 'import ctypes' 2>/dev/null || { echo "this python3 has no ctypes"; exit 77; }
# From 3.14 on the interpreter compares the stack pointer with the stack of its thread.
python3 -c 'import sys; sys.exit(sys.version_info >= (3, 14))' || {
  echo "this python3 runs on the stacks of threads only"
  exit 77
}
if nm -a "$library" 2>/dev/null | grep -qE '__(asan|tsan|ubsan)_'; then
  echo "python3 does not begin with a sanitizer's runtime"
  exit 77
fi
exec timeout -k 5 120 python3 "$SOURCE_DIR/tests/programs/foreign.py" "$library"
