#!/bin/bash
# unwind_gdb.sh: A6: a debugger that stops inside a fiber shows the body's frames, then the entry.
#
# Always true:
#   - The fiber stops ten calls of `dive` deep; every one of them must be in the backtrace.
#   - A walk that ran off the stack says "corrupt" or shows frames without a name: both fail.
#
# Comes from: entry A6 of the failure catalogue.   Goes to: gdb(1), arch/x86_64.S.
set -u
command -v gdb >/dev/null || { echo "no gdb"; exit 77; }
program=$BUILD_DIR/tests/catalogue_tests
[[ -x $program ]] || { echo "no $program"; exit 77; }

shown=$(DEBUGINFOD_URLS= timeout 90 gdb -nx -batch \
  -ex 'set confirm off' -ex 'set pagination off' -ex 'set breakpoint pending on' \
  -ex 'break by_backtrace' \
  -ex 'run' -ex 'continue' -ex 'bt' \
  --args "$program" '--test-case=A6: in a fiber backtrace(3)*' 2>&1)
case $shown in
  *"ptrace: Operation not permitted"* | *"Could not trace"*)
    echo "ptrace is not allowed here"
    exit 77
    ;;
esac
frames=$(grep -c '^#' <<< "$shown")
dives=$(grep -c '^#.*dive' <<< "$shown")
fail() { echo "$1"; echo "$shown"; exit 1; }
# The innermost call may have been turned into a jump.
((dives == 10 || dives == 11)) || fail "the backtrace has $dives frames of dive instead of 10"
((frames < 60)) || fail "the backtrace has $frames frames: it ran off the stack"
grep -q 'corrupt\|previous frame inner' <<< "$shown" && fail "gdb thinks the stack is corrupt"
grep '^#' <<< "$shown" | grep -q ' in ?? ()' && fail "a frame has no name"
grep '^#' <<< "$shown" | tail -1 | grep -q 'coir' || fail "the last frame is not ours"
echo "$frames frames, the last: $(grep '^#' <<< "$shown" | tail -1)"
