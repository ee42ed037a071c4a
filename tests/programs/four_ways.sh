#!/bin/bash
# four_ways.sh: the sample in which one body is answered in four ways, and in simulated worlds, says
# the same in each.
#
# Always true:
#   - With epoll in place of a ring it says the same again.
#
# Comes from: ctest.   Goes to: samples/four_ways.
set -u
program=$BUILD_DIR/samples/four_ways
[[ -x $program ]] || { echo "not built: $program"; exit 77; }
read -r -d '' wanted <<'TEXT'
BY A RUNTIME
runtime: 13 bytes
exec: 8 bytes
BY HAND
step: coir.read waits for poll
step: coir.read is answered
STEP
step: coir.write is answered
step: coir.read waits for poll
step: coir.read is answered
BY STEP
step: coir.write is answered
step: coir.read waits for poll
step: coir.read is answered
step: 13 bytes
BY A LOOP
AND BY ANOTHER BODY OF IT
loop: 10 bytes
loop: 26 bytes
sim: 100 worlds, one answer
TEXT
for backend in "" poll; do
  said=$(COIR_BACKEND=$backend timeout 60 "$program") ||
    { echo "it failed ($backend): $said"; exit 1; }
  [[ $said == "$wanted" ]] || { diff <(echo "$wanted") <(echo "$said"); exit 1; }
done
echo "four ways, one answer"
