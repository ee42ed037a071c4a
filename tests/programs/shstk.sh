#!/bin/bash
# shstk.sh: A13: nothing that we link promises to work with a shadow stack; the check would notice.
#
# Always true:
#   - A fiber's switch returns to an address that no shadow stack has seen, so a program that says
#     SHSTK in its notes would be killed by the first switch where the hardware looks.
#   - The check is shown a program that is marked on purpose, and must see the mark.
#
# Comes from: entry A13 of the failure catalogue.   Goes to: readelf(1).
set -u
command -v readelf >/dev/null || { echo "no readelf"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

promises() { readelf -nW "$1" 2>/dev/null | grep -q SHSTK; }

checked=0
for file in "$BUILD_DIR"/libcoir.so* "$BUILD_DIR"/libcoir.a "$BUILD_DIR"/tests/*_tests \
  "$BUILD_DIR"/samples/*; do
  [[ -f $file && ! -L $file ]] || continue
  readelf -h "$file" >/dev/null 2>&1 || continue
  if promises "$file"; then echo "$file: promises SHSTK"; exit 1; fi
  checked=$((checked + 1))
done
((checked > 1)) || { echo "found nothing to check in $BUILD_DIR"; exit 1; }

if [[ $(uname -m) == x86_64 ]] && command -v cc >/dev/null; then
  echo 'int main(void) { return 0; }' >"$work/marked.c"
  if cc -o "$work/marked" -Wl,-z,shstk "$work/marked.c" 2>/dev/null; then
    promises "$work/marked" || { echo "a mark goes unnoticed"; exit 1; }
  fi
fi
echo "$checked files: no promise of a shadow stack"
