#!/bin/bash
# switch_steps.sh: a debugger that steps through a switch finds, at every instruction of it, the way
# to main or to the entry of the fiber, and the program survives a signal there.
#
# Always true:
#   - Both forms are walked: into a fresh fiber, out of it, into it again, and out for good.
#   - On an emulated CPU the emulator's own debugging server is asked, through a socket in a folder
#     of this run.
#
# Comes from: entries A6 and A12 of the failure catalogue.   Goes to: switch_steps.py.
set -u
cpu=${TARGET_CPU:-$(uname -m)}
switch=$SOURCE_DIR/arch/$cpu.S
[[ -f $switch ]] || { echo "$cpu has no switch of its own"; exit 77; }
compiler=g++ debugger=gdb
if [[ -n ${EMULATOR:-} ]]; then
  compiler=$cpu-linux-gnu-g++ debugger=gdb-multiarch
fi
command -v "$debugger" >/dev/null || { echo "no $debugger"; exit 77; }
"$debugger" -nx -batch -ex 'python print(1)' >/dev/null 2>&1 ||
  { echo "$debugger cannot be scripted"; exit 77; }
work=$(mktemp -d)
server=0
cleanup() {
  [[ $server -eq 0 ]] || kill "$server" 2>/dev/null
  rm -rf "$work"
}
trap cleanup EXIT
"$compiler" -std=c++20 -g -O2 -static -I"$SOURCE_DIR" \
  "$SOURCE_DIR/tests/programs/switch_frames.cpp" "$switch" -o "$work/frames" || exit 1

# One form under the debugger; its log is shown when anything is wrong.
walk() {
  local form=$1 status=0
  export GDB_SERVER=""
  if [[ -n ${EMULATOR:-} ]]; then
    GDB_SERVER=$work/$form.socket
    $EMULATOR -g "$GDB_SERVER" "$work/frames" steps "$form" &
    server=$!
    for _ in {1..100}; do
      [[ -S $GDB_SERVER ]] && break
      sleep 0.05
    done
  fi
  DEBUGINFOD_URLS= timeout 90 "$debugger" -nx -batch \
    -x "$SOURCE_DIR/tests/programs/switch_steps.py" \
    --args "$work/frames" steps "$form" >"$work/log" 2>&1 || status=$?
  if [[ $server -ne 0 ]]; then
    wait "$server" 2>/dev/null
    server=0
  fi
  if grep -qE 'ptrace: Operation not permitted|Could not trace' "$work/log"; then
    echo "ptrace is not allowed here"
    exit 77
  fi
  if [[ $status -ne 0 ]]; then
    echo "$form: failed ($status)"
    tail -60 "$work/log"
    exit 1
  fi
  echo "$form: $(grep 'steps with a signal' "$work/log")"
}

walk called
walk inlined
