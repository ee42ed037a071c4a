#!/bin/bash
# execstack.sh: A14: nothing that we link asks for an executable stack; the check would notice one.
#
# Always true:
#   - One assembly file without its .note.GNU-stack is enough to make every stack executable, so the
#     flags are read from what was linked, not from the sources.
#   - The check is shown a library that is wrong on purpose, and must refuse it.
#
# Comes from: entry A14 of the failure catalogue.   Goes to: readelf(1).
set -u
command -v readelf >/dev/null || { echo "no readelf"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Passes when `file` says what its stacks may do, and that is not "be executed".
stack_is_safe() {
  local flags
  flags=$(readelf -lW "$1" | awk '$1 == "GNU_STACK" { print $(NF - 1) }')
  [[ $flags == RW ]]
}

checked=0
for file in "$BUILD_DIR"/libcoir.so* "$BUILD_DIR"/tests/*_tests "$BUILD_DIR"/samples/*; do
  [[ -f $file && ! -L $file ]] || continue
  readelf -h "$file" >/dev/null 2>&1 || continue
  readelf -lW "$file" | grep -q LOAD || continue
  stack_is_safe "$file" || { echo "$file: wants an executable stack"; exit 1; }
  checked=$((checked + 1))
done
((checked > 0)) || { echo "found nothing to check in $BUILD_DIR"; exit 1; }

if command -v cc >/dev/null; then
  printf '.text\n.globl wrong\nwrong:\n  ret\n' > "$work/wrong.S"
  if cc -shared -o "$work/libwrong.so" "$work/wrong.S" 2>/dev/null; then
    stack_is_safe "$work/libwrong.so" && { echo "a missing note goes unnoticed"; exit 1; }
  fi
fi
echo "$checked files: no executable stack"
