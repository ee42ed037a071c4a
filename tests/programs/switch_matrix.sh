#!/bin/bash
# switch_matrix.sh: the inlined switch survives what compilers make of the code around it: every one
# of them, at every level, with and without frame pointers and link-time optimisation.
#
# Always true:
#   - Each combination is compiled, run, and must answer that no value of any frame has changed.
#   - A compiler that is not there is named and left out; with none at all the test does not count.
#
# Comes from: decision 1 of docs/design.md, section 4.   Goes to: switch_frames.cpp.
set -u
source=$SOURCE_DIR/tests/programs/switch_frames.cpp
cpu=${TARGET_CPU:-$(uname -m)}
switch=$SOURCE_DIR/arch/$cpu.S
[[ -f $switch ]] || { echo "$cpu has no switch of its own"; exit 77; }
compilers=()
if [[ -n ${EMULATOR:-} ]]; then
  compilers=("$cpu-linux-gnu-g++" "clang++ --target=$cpu-linux-gnu")
else
  compilers=(g++ clang++)
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The ways to build it, a line each; and some more that change what is around the switch.
combinations() {
  local level pointer link
  for level in -O0 -O2 -O3; do
    for pointer in -fomit-frame-pointer -fno-omit-frame-pointer; do
      for link in "" -flto; do
        echo "$level $pointer $link"
      done
    done
  done
  echo "-O2 -fPIC -fstack-protector-all"
  echo "-Os -fstack-clash-protection"
  case $cpu in
    x86_64) echo "-O3 -march=native"; echo "-O2 -fcf-protection=full"; echo "-O2 -mno-red-zone" ;;
    aarch64) echo "-O3 -march=armv8.2-a+sve"; echo "-O2 -mbranch-protection=standard" ;;
  esac
}

# One combination. The switch itself is assembled by the same compiler.
try() {
  local compiler=$1 options=$2 name=$3 said quiet=""
  [[ $compiler != clang* ]] || quiet=-Qunused-arguments
  # shellcheck disable=SC2086
  said=$($compiler -std=c++20 -Wall -Wextra -Wpedantic -Werror $quiet $options -I"$SOURCE_DIR" \
    "$source" "$switch" -o "$work/$name" 2>&1 && timeout 20 ${EMULATOR:-} "$work/$name" 2>&1) ||
    { echo "$compiler $options: ($?) $said"; return 1; }
}

passed=0 failed=0
for compiler in "${compilers[@]}"; do
  command -v "${compiler%% *}" >/dev/null || { missing+=" ${compiler%% *}"; continue; }
  lto_links=""
  if [[ $compiler == clang* ]]; then
    command -v ld.lld >/dev/null && lto_links=-fuse-ld=lld
  fi
  while read -r options; do
    if [[ $options == *-flto* && $compiler == clang* ]]; then
      [[ -n $lto_links ]] || { echo "no lld for $compiler $options"; continue; }
      options+=" $lto_links"
    fi
    if try "$compiler" "$options" program; then
      passed=$((passed + 1))
    else
      failed=$((failed + 1))
    fi
  done < <(combinations)
done
echo "$passed combinations passed, $failed failed${missing:+; not tried, not installed:$missing}"
((failed == 0)) || exit 1
((passed > 0)) || exit 77
