#!/usr/bin/env bash
# spin.sh: A1, B1: the protocol models of tests/model, each with broken twins that have to fail.
#
# Always true:
#   - A model counts as sound only when the whole state space was searched without an error; a twin
#     counts as noticed only when the verifier found the error that is named here.
#   - A model has at most 200 lines, and a search at most 10 s of processor time. The largest takes
#     a third of a second, so a machine that is slow or busy changes no verdict.
#   - Without spin(1) the test is skipped, and says so.
#
# Comes from: ctest.   Goes to: spin, cc.
set -euo pipefail
models=${SOURCE_DIR:?}/tests/model
command -v spin >/dev/null || { echo "spin is not installed (package spin)"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
wrong=0

# told TEXT: something is not as it has to be.
told() {
  echo "$1"
  wrong=1
}

# search MODEL FLAGS: pan.log has what the verifier says. False when there is no verdict: the model
# is no model, or the search ended early.
search() {
  local model=$1 flags=$2 cc_flag=-DSAFETY run_flag=
  # The one with a sentence about time: acceptance cycles are looked for, too.
  if grep -q '^ltl ' "$models/$model"; then cc_flag='' run_flag=-a; fi
  rm -f pan pan.log
  # shellcheck disable=SC2086  # several flags are several words
  spin $flags -a "$models/$model" >spin.log 2>&1 || { cat spin.log; return 1; }
  cc -w -O1 ${cc_flag:+"$cc_flag"} pan.c -o pan
  # The limits hold for this subshell alone. An error that was found is no failure of the verifier.
  (ulimit -t 10; exec ./pan ${run_flag:+"$run_flag"} -m100000) >pan.log 2>&1 || {
    echo "the verifier ended with status $?"
    return 1
  }
  if grep -q 'max search depth too small\|out of memory' pan.log; then cat pan.log; return 1; fi
}

# holds MODEL FLAGS
holds() {
  if search "$1" "$2" && grep -q 'errors: 0$' pan.log && ! grep -q 'Search not completed' pan.log
  then
    echo "$1 $2: holds, as it must"
  else
    told "$1 $2: has to hold: $(grep '^pan:1' pan.log || echo 'no verdict')"
  fi
}

# fails MODEL FLAGS ERROR: what the verifier has to say.
fails() {
  if search "$1" "$2" && grep -qF "pan:1: $3" pan.log; then
    echo "$1 $2: $3, as it must"
  else
    told "$1 $2: has to fail by '$3': $(grep '^pan:1\|errors: ' pan.log || echo 'no verdict')"
  fi
}

for model in "$models"/*.pml; do
  lines=$(wc -l <"$model")
  [[ $lines -le 200 ]] || told "${model##*/} has $lines lines"
done

stuck='invalid end state'
holds park_good.pml ""
fails park_bad.pml "" 'assertion violated (on_stack==1)'
holds sleep.pml -DFENCE=1
fails sleep.pml -DFENCE=0 "$stuck"
fails sleep.pml -DLOOK=0 "$stuck"
fails sleep.pml -DEARLY=1 "$stuck"
fails sleep.pml -DBESIDE=1 'assertion violated ( !(1)|| !(begun))'
holds wake.pml ""
fails wake.pml -DBROKEN=1 'assertion violated (links==0)'
fails wake.pml -DBROKEN=2 'assertion violated (ended==1)'
fails wake.pml -DBROKEN=3 'assertion violated queued'
holds join.pml ""
fails join.pml -DBROKEN=1 "$stuck"
fails join.pml -DBROKEN=2 "$stuck"
fails join.pml -DBROKEN=3 'assertion violated ((links[0]+links[1])==0)'
fails join.pml -DBROKEN=4 'assertion violated (recycled==1)'
fails join.pml -DBROKEN=5 'assertion violated (home==0)'
holds move.pml ""
fails move.pml -DBROKEN=1 'assertion violated  !(stands)'
fails move.pml -DBROKEN=2 'assertion violated (((done&&cancelled)&&(finished==3))'
fails move.pml -DBROKEN=3 'assertion violated (((done&&cancelled)&&(finished==3))'
fails move.pml -DBROKEN=4 'assertion violated ((links[0]+links[1])<=1)'
holds park.pml ""
fails park.pml -DBROKEN=1 'assertion violated (park==1)'
fails park.pml -DBROKEN=2 'assertion violated (park==1)'
fails park.pml -DBROKEN=3 'assertion violated (got==given)'
holds arena.pml -DSPLIT=0
holds arena.pml -DSPLIT=1
fails arena.pml "-DSPLIT=0 -DBROKEN=1" 'assertion violated (owned[mine]==1)'
fails arena.pml "-DSPLIT=1 -DBROKEN=2" 'assertion violated (covered||(gone==3))'
fails arena.pml "-DSPLIT=1 -DBROKEN=3" 'assertion violated (covered||(gone==3))'
for slots in 1 2; do
  holds mailbox.pml "-DSLOTS=$slots"
  fails mailbox.pml "-DSLOTS=$slots -DBROKEN=1" 'assertion violated ((record>=1)&&(record<=4))'
  fails mailbox.pml "-DSLOTS=$slots -DBROKEN=2" \
    'assertion violated (last_of[((record-1)/2)]<record)'
  fails mailbox.pml "-DSLOTS=$slots -DBROKEN=3" "$stuck"
done
holds stop.pml ""
fails stop.pml -DBROKEN=1 'assertion violated (((finished==accepted)&&(mail==0))'
fails stop.pml -DBROKEN=2 "$stuck"
fails stop.pml -DBROKEN=3 "$stuck"
fails stop.pml -DBROKEN=4 "$stuck"
exit "$wrong"
