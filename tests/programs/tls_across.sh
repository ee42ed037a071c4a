#!/usr/bin/env bash
# tls_across.sh: A2: no function of ours keeps an address of its thread (errno's, a thread-local's,
# the thread pointer) in a register or on its stack over a switch, its own or one that it calls: a
# fiber may go on elsewhere.
#
# Always true:
#   - What lies in memory is not followed. There a worker has the places of errno and exceptions of
#     the thread that runs it, and every function reads them anew after a switch
#     (errno_of_who_left is the mutant that does not); a computation has them too, asked for before
#     each switch (thread_errno and thread_exceptions in stepping.cpp; docs/design.md, section 7).
#   - What is read is the disassembly of the linked library, so it is what runs.
#   - The check is shown functions that do it, in every way there is, and must name each of them;
#     and some that do not, which it must not name.
#
# Comes from: ctest.   Goes to: tls_across.cpp, objdump(1).
set -u
cpu=${TARGET_CPU:-$(uname -m)}
switch=${SOURCE_DIR:?}/arch/$cpu.S
[[ -f $switch ]] || { echo "$cpu has no switch of its own"; exit 77; }
library=${BUILD_DIR:?}/libcoir.so
dump=objdump compilers=(g++ clang++)
if [[ -n ${EMULATOR:-} ]]; then
  dump=$cpu-linux-gnu-objdump compilers=("$cpu-linux-gnu-g++")
fi
command -v "$dump" >/dev/null || { echo "no $dump"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
programs=$SOURCE_DIR/tests/programs
g++ -std=c++20 -O1 -Wall -Wextra -Werror -I"$SOURCE_DIR" "$programs/tls_across.cpp" \
  -o "$work/tls_across" || exit 1
check() { "$dump" -d --no-show-raw-insn "$1" | "$work/tls_across"; }

for compiler in "${compilers[@]}"; do
  command -v "$compiler" >/dev/null || { missing+=" $compiler"; continue; }
  for level in -O1 -O2 -O3; do
    "$compiler" -std=c++20 "$level" -fPIC -shared -I"$SOURCE_DIR" "$programs/tls_across_wrong.cpp" \
      "$switch" -o "$work/wrong.so" || exit 1
    said=$(check "$work/wrong.so") && { echo "$compiler $level: nothing wrong was seen"; exit 1; }
    for name in wrong_in_place wrong_called wrong_far wrong_spilled wrong_indirect \
      wrong_far_indirect wrong_at_a_meeting wrong_behind_a_call; do
      [[ $said == *"$name:"* ]] || { echo "$compiler $level: $name was not seen"; exit 1; }
    done
    [[ $said != *right_* ]] || { echo "$compiler $level: what is right was named: $said"; exit 1; }
  done
done
check "$library" && echo "nothing wrong${missing:+; the controls not tried, not installed:$missing}"
