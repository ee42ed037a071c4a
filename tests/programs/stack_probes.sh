#!/usr/bin/env bash
# stack_probes.sh: every room is compiled so that a frame larger than a guard touches each page of
# it in order, and so meets the guard instead of jumping over it.
#
# Always true:
#   - The commands are those of this build. The command of one room, given another source, has to
#     put probes into a large frame; without the flag it must not, or the check would see nothing.
#
# Comes from: docs/design.md, 3.11.   Goes to: compile_commands.json, objdump(1).
set -u
commands=${BUILD_DIR:?}/compile_commands.json
[[ -f $commands ]] || { echo "no $commands"; exit 1; }
command -v objdump >/dev/null || { echo "no objdump"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The commands of our rooms, a line each; some builds compile several rooms in one piece.
rooms() {
  sed -n 's/^ *"command": "\(.*\)",$/\1/p' "$commands" | sed 's/\\"/"/g; s/\\\\/\\/g' |
    grep -E " -c (${SOURCE_DIR:?}/(runtime|arch)/[a-z0-9_]+\.cpp|[^ ]*/Unity/unity_[0-9]+_cxx\.cxx)"
}
total=$(rooms | wc -l)
((total > 0)) || { echo "no room is compiled here"; exit 1; }
if rooms | grep -q -- ' -fsanitize='; then
  echo "a sanitizer lays out frames of its own"
  exit 77
fi
without=$(rooms | grep -vc -- ' -fstack-clash-protection ')
((without == 0)) || { echo "$without of $total rooms are compiled without"; exit 1; }

cat >"$work/large.cpp" <<'TEXT'
void use(char* at);
void large() {
  char frame[1 << 16];
  use(frame);
}
TEXT

# probes COMMAND: how many stores of nothing to the stack that command makes of the large frame.
probes() {
  local command=${1%% -o *}
  (cd "$BUILD_DIR" && eval "$command -fno-lto -o '$work/large.o' -c '$work/large.cpp'") || exit 1
  objdump -d --no-show-raw-insn "$work/large.o" |
    grep -cE '(or|mov)q? +\$0x0,[^ ]*\(%rsp\)|str\s+xzr, \[sp'
}
command=$(rooms | head -n 1)
with=$(probes "$command")
((with > 0)) || { echo "a large frame is not probed: $command"; exit 1; }
bare=$(probes "${command// -fstack-clash-protection / }")
((bare == 0)) || { echo "a frame without the flag looks probed"; exit 1; }
echo "$total rooms, each with -fstack-clash-protection, which probes a large frame"
