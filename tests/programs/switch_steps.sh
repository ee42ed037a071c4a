#!/bin/bash
# switch_steps.sh: a debugger that steps through a switch finds, at every instruction of it, the way
# to main or to the entry of the fiber, and the program survives a signal there.
#
# Always true:
#   - Both forms are walked: into a fresh fiber, out of it, into it again, and out for good.
#   - The walk is shown switches that lack one piece of their unwind information each, and must lose
#     its way in every one of them.
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

# build PROGRAM SWITCH [INCLUDES...]
build() {
  local program=$1 code=$2
  shift 2
  "$compiler" -std=c++20 -g -O2 -static "$@" -I"$SOURCE_DIR" \
    "$SOURCE_DIR/tests/programs/switch_frames.cpp" "$code" -o "$program" || exit 1
}

# steps_through PROGRAM FORM: under the debugger, its log in $work/log.
steps_through() {
  local program=$1 form=$2 status=0
  export GDB_SERVER=""
  if [[ -n ${EMULATOR:-} ]]; then
    GDB_SERVER=$work/$form.socket
    rm -f "$GDB_SERVER"
    $EMULATOR -g "$GDB_SERVER" "$program" steps "$form" &
    server=$!
    for _ in {1..100}; do
      [[ -S $GDB_SERVER ]] && break
      sleep 0.05
    done
  fi
  DEBUGINFOD_URLS= timeout 90 "$debugger" -nx -batch \
    -x "$SOURCE_DIR/tests/programs/switch_steps.py" \
    --args "$program" steps "$form" >"$work/log" 2>&1 || status=$?
  if [[ $server -ne 0 ]]; then
    wait "$server" 2>/dev/null
    server=0
  fi
  if grep -qE 'ptrace: Operation not permitted|Could not trace' "$work/log"; then
    echo "ptrace is not allowed here"
    exit 77
  fi
  return "$status"
}

walk() {
  steps_through "$work/frames" "$1" || { echo "$1: failed ($?)"; tail -60 "$work/log"; exit 1; }
  echo "$1: $(grep 'steps with a signal' "$work/log")"
}

# is_lost FORM FILE PATTERN: without the first line of FILE, a copy of what stands in arch/, that
# PATTERN matches, the way out is not found somewhere.
is_lost() {
  local form=$1 file=$2 pattern=$3 code=$switch
  mkdir -p "$work/wrong/arch"
  sed "0,/$pattern/{/$pattern/d}" "$SOURCE_DIR/arch/$file" >"$work/wrong/arch/$file"
  cmp -s "$SOURCE_DIR/arch/$file" "$work/wrong/arch/$file" &&
    { echo "$file: $pattern is not where it was"; exit 1; }
  [[ $file != *.S ]] || code=$work/wrong/arch/$file
  build "$work/wrong/frames" "$code" -I"$work/wrong"
  if steps_through "$work/wrong/frames" "$form" || ! grep -q '^no way out of' "$work/log"; then
    echo "$form: $file without $pattern goes unnoticed"
    tail -5 "$work/log"
    exit 1
  fi
  rm -r "$work/wrong"
}

build "$work/frames" "$switch"
walk called
walk inlined
back='cfi_escape 0x10, 0x10' entry='cfi_undefined %rip'  # where the return address is
[[ $cpu == x86_64 ]] || back='cfi_escape 0x10, 0x1e' entry='cfi_undefined 30 '
is_lost called "$cpu.S" 'cfi_adjust_cfa_offset [8F]'
is_lost called "$cpu.S" "$back"
is_lost called "$cpu.S" "$entry"
is_lost inlined "context_$cpu.hpp" "$back"
echo "four switches that lacked one piece of their unwind information were noticed"
