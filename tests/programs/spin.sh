#!/usr/bin/env bash
# spin.sh: A1, B1: the protocol models of tests/model, each with a broken twin that has to fail.
#
# Always true:
#   - A model counts as sound only when the whole state space was searched without an error.
#   - Without spin(1) the test is skipped, and says so.
#
# Comes from: ctest.   Goes to: spin, cc.
set -euo pipefail
models=${SOURCE_DIR:?}/tests/model
command -v spin >/dev/null || { echo "spin is not installed (package spin)"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# errors_of MODEL FLAGS CC_FLAG RUN_FLAG: prints how many errors the verifier found.
errors_of() {
  # shellcheck disable=SC2086  # several flags are several words
  spin $2 -a "$models/$1" >spin.log 2>&1 || { cat spin.log >&2; return 1; }
  cc -w -O1 ${3:+"$3"} pan.c -o pan
  ./pan ${4:+"$4"} -m100000 >pan.log 2>&1 || true
  if grep -q 'max search depth too small\|out of memory' pan.log; then cat pan.log >&2; return 1; fi
  sed -n 's/.*errors: \([0-9]*\).*/\1/p' pan.log | tail -1
}

wrong=0
# holds / fails: what a model has to do.
expect() {
  local verdict=$1 errors
  shift
  errors=$(errors_of "$@")
  if [[ $verdict == holds && $errors == 0 ]] || [[ $verdict == fails && $errors -gt 0 ]]; then
    echo "$1 ${2:-}: $verdict, as it must"
  else
    echo "$1 ${2:-}: has to say '$verdict', found ${errors:-no answer} errors"
    wrong=1
  fi
}

expect holds park_good.pml "" "" -a
expect fails park_bad.pml "" -DSAFETY ""
expect holds sleep.pml -DFENCE=1 -DSAFETY ""
expect fails sleep.pml -DFENCE=0 -DSAFETY ""
expect fails sleep.pml -DLOOK=0 -DSAFETY ""
expect holds wake.pml -DBROKEN=0 -DSAFETY ""
expect fails wake.pml -DBROKEN=1 -DSAFETY ""
expect fails wake.pml -DBROKEN=2 -DSAFETY ""
expect fails wake.pml -DBROKEN=3 -DSAFETY ""
expect holds join.pml -DBROKEN=0 -DSAFETY ""
expect fails join.pml -DBROKEN=1 -DSAFETY ""
expect fails join.pml -DBROKEN=2 -DSAFETY ""
expect fails join.pml -DBROKEN=3 -DSAFETY ""
expect holds move.pml -DBROKEN=0 -DSAFETY ""
expect fails move.pml -DBROKEN=1 -DSAFETY ""
expect fails move.pml -DBROKEN=2 -DSAFETY ""
expect fails move.pml -DBROKEN=3 -DSAFETY ""
expect fails move.pml -DBROKEN=4 -DSAFETY ""
expect holds park.pml -DBROKEN=0 -DSAFETY ""
expect fails park.pml -DBROKEN=1 -DSAFETY ""
expect fails park.pml -DBROKEN=2 -DSAFETY ""
expect fails park.pml -DBROKEN=3 -DSAFETY ""
expect holds arena.pml "-DSPLIT=0 -DBROKEN=0" -DSAFETY ""
expect holds arena.pml "-DSPLIT=1 -DBROKEN=0" -DSAFETY ""
expect fails arena.pml "-DSPLIT=0 -DBROKEN=1" -DSAFETY ""
expect fails arena.pml "-DSPLIT=1 -DBROKEN=2" -DSAFETY ""
expect fails arena.pml "-DSPLIT=1 -DBROKEN=3" -DSAFETY ""
for slots in 1 2; do
  expect holds mailbox.pml "-DSLOTS=$slots -DBROKEN=0" -DSAFETY ""
  expect fails mailbox.pml "-DSLOTS=$slots -DBROKEN=1" -DSAFETY ""
  expect fails mailbox.pml "-DSLOTS=$slots -DBROKEN=2" -DSAFETY ""
  expect fails mailbox.pml "-DSLOTS=$slots -DBROKEN=3" -DSAFETY ""
done
expect holds stop.pml -DBROKEN=0 -DSAFETY ""
expect fails stop.pml -DBROKEN=1 -DSAFETY ""
expect fails stop.pml -DBROKEN=2 -DSAFETY ""
expect fails stop.pml -DBROKEN=3 -DSAFETY ""
expect fails stop.pml -DBROKEN=4 -DSAFETY ""
exit "$wrong"
