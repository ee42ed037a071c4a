#!/usr/bin/env bash
# bench.sh: one run of the benchmarks, on a machine that is quiet enough: bench.sh [--quick] [...]
#
# Always true:
#   - Nothing is built here; `./dev bench` builds first. All arguments go to coir_bench.
#   - The figures stay in build/bench.md (or build/bench.json) as well as on the screen.
#   - A busy machine is waited for a while, then measured all the same: the header of the run says
#     how busy it was.
#
# Comes from: ./dev bench.   Goes to: build/release/bench/coir_bench.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

bench=${BUILD_DIR:-build/release}/bench/coir_bench
if [[ ! -x $bench ]]; then
  echo "$bench is not built; run ./dev bench" >&2
  exit 2
fi

# Tasks that run or want to, this shell's reader of the file included.
running() { cut -d ' ' -f 4 /proc/loadavg | cut -d / -f 1; }

# Five calm looks in a row: the compiler that just ended leaves its neighbours behind for a while.
calm=0
for ((look = 0; look < 60 && calm < 5; look++)); do
  if (($(running) <= 1)); then calm=$((calm + 1)); else calm=0; fi
  sleep 0.2
done
((calm >= 5)) || echo "the machine is busy: figures may be too high" >&2

out=build/bench.md
for word in "$@"; do [[ $word != --json ]] || out=build/bench.json; done
mkdir -p build
"$bench" "$@" | tee "$out"
