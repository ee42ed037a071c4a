#!/usr/bin/env bash
# e1_kill.sh: E1: the key-value server is killed under load and loses no acknowledged write.
#
# Always true:
#   - The control runs too: a server whose folder is wiped must be told to have lost everything.
#
# Comes from: ctest.   Goes to: tools/kill_test, samples/kv.
set -euo pipefail
kill_test=${BUILD_DIR:?}/tools/kill_test
kv=$BUILD_DIR/samples/kv
[[ -x $kill_test && -x $kv ]] || { echo "kill_test or kv is not built here"; exit 77; }
# Under ThreadSanitizer the server needs longer to start than it is allowed to live here.
! grep -q __tsan_init "$kv" || { echo "too slow under ThreadSanitizer"; exit 77; }
"$kill_test" --runs 5 --seed 5 --kv "$kv"
if "$kill_test" --runs 1 --forget --kv "$kv"; then
  echo "a forgotten folder was not noticed" >&2
  exit 1
fi
