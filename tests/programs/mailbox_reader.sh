#!/usr/bin/env bash
# mailbox_reader.sh: whoever reads a mailbox, or looks whether something is in it, executes no
# locked instruction: only senders meet there.
#
# Always true:
#   - What is read is the disassembly, as each compiler makes it: no lock prefix and no xchg with
#     memory, which locks without one; nor a call, behind which there could be one.
#   - The check is shown a sender, and a store that is sequentially consistent, and must name both.
#
# Comes from: ctest.   Goes to: mailbox_reader.cpp, objdump(1).
set -u
cpu=${TARGET_CPU:-$(uname -m)}
[[ $cpu == x86_64 ]] || { echo "reads the instructions of x86-64"; exit 77; }
command -v objdump >/dev/null || { echo "no objdump"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# locked FUNCTION: its instructions that lock or call. Fails when there is no such function.
locked() {
  objdump -d --no-show-raw-insn "$work/reader.o" | awk -v name="$1" '
    /^[0-9a-f]+ <.*>:$/ { on = $2 == "<" name ">:" || $2 == "<" name ".cold>:" }
    on { seen = 1 }
    on && ($2 == "lock" || ($2 ~ /^xchg/ && /\(/) || $2 ~ /^call/) { print }
    END { exit !seen }'
}

tried=0
for compiler in g++ clang++; do
  command -v "$compiler" >/dev/null || { echo "$compiler is not installed"; continue; }
  for level in -O2 -O3; do
    "$compiler" -std=c++20 "$level" -c -I"${SOURCE_DIR:?}/include" -I"$SOURCE_DIR" \
      "$SOURCE_DIR/tests/programs/mailbox_reader.cpp" -o "$work/reader.o" || exit 1
    for name in reader_takes reader_looks reader_unpacks; do
      said=$(locked "$name") || { echo "$compiler $level: no function $name"; exit 1; }
      [[ -z $said ]] || { echo "$compiler $level: $name locks or calls: $said"; exit 1; }
    done
    for name in sender_sends other_stores; do
      said=$(locked "$name")
      [[ $said == *lock* || $said == *xchg* ]] ||
        { echo "$compiler $level: the lock of $name was not seen"; exit 1; }
    done
    tried=1
  done
done
[[ $tried == 1 ]] || { echo "no compiler"; exit 77; }
echo "no locked instruction"
