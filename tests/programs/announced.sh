#!/bin/bash
# announced.sh: our assembly announces that every indirect jump lands where it may, and never that
# it can live with a shadow stack: one such mark on every file would switch the stacks on.
#
# Always true:
#   - What is read is the assembled file, and what was linked of it.
#   - The check is shown a file with the wrong mark, and must refuse it.
#
# Comes from: entry A13 of the failure catalogue.   Goes to: readelf(1).
set -u
cpu=${TARGET_CPU:-$(uname -m)}
switch=$SOURCE_DIR/arch/$cpu.S
[[ -f $switch ]] || { echo "$cpu has no switch of its own"; exit 77; }
command -v readelf >/dev/null || { echo "no readelf"; exit 77; }
compiler=g++ wanted=IBT refused=SHSTK shadow=3
[[ $cpu == x86_64 ]] || wanted=BTI refused=GCS shadow=5
[[ -z ${EMULATOR:-} ]] || compiler=$cpu-linux-gnu-g++
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

marks() { readelf -nW "$1" | sed -n 's/.*feature: //p'; }
# Passes when FILE has the mark of indirect jumps and not that of shadow stacks.
announces_well() {
  local found
  found=$(marks "$1")
  [[ $found == *"$wanted"* && $found != *"$refused"* && $found != *unknown* ]]
}

"$compiler" -c -I"$SOURCE_DIR" "$switch" -o "$work/switch.o" || exit 1
announces_well "$work/switch.o" || { echo "$switch announces: $(marks "$work/switch.o")"; exit 1; }
for library in "$BUILD_DIR"/libcoir.so; do
  [[ -f $library && $(marks "$library") == *"$refused"* ]] &&
    { echo "$library can live with a shadow stack, it says"; exit 1; }
done

sed "s/, 4, 1, 0\$/, 4, $shadow, 0/" "$switch" >"$work/wrong.S"
cmp -s "$switch" "$work/wrong.S" && { echo "the mark is not where it was"; exit 1; }
"$compiler" -c "$work/wrong.S" -o "$work/wrong.o" || exit 1
announces_well "$work/wrong.o" && { echo "a wrong mark goes unnoticed"; exit 1; }
echo "announced: $(marks "$work/switch.o")"
