#!/usr/bin/env bash
# bench.sh: one run of the benchmarks, on a machine that is quiet enough: bench.sh [--write] [...]
#
# Always true:
#   - Nothing is built here; `./dev bench` builds first. All other arguments go to coir_bench.
#   - The table stays in build/bench.md, every round in build/bench.json (and where --json says).
#   - --write puts the page of results and the plots into docs/benchmarks/.
#   - A busy machine is waited for a while, then measured all the same: the header of the run says
#     how busy it was.
#
# Comes from: ./dev bench.   Goes to: build/bench/coir_bench and mesh_sim, bench/*.gp.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

bench=${BENCH_DIR:-build/bench}/coir_bench
if [[ ! -x $bench ]]; then
  echo "$bench is not built; run ./dev bench" >&2
  exit 2
fi

arguments=() write=no
for word in "$@"; do
  if [[ $word == --write ]]; then write=yes; else arguments+=("$word"); fi
done
pages=docs/benchmarks
mkdir -p build
[[ $write == no ]] || { mkdir -p $pages; arguments+=(--results $pages/results.md); }
[[ " ${arguments[*]-} " == *" --json"* ]] || arguments+=(--json build/bench.json)

# Tasks that run or want to, this shell's reader of the file included.
running() { cut -d ' ' -f 4 /proc/loadavg | cut -d / -f 1; }

# Five calm looks in a row: the compiler that just ended leaves its neighbours behind for a while.
calm=0
for ((look = 0; look < 60 && calm < 5; look++)); do
  if (($(running) <= 1)); then calm=$((calm + 1)); else calm=0; fi
  sleep 0.2
done
((calm >= 5)) || echo "the machine is busy: figures may be too high" >&2

status=0
"$bench" --tsv build/bench.tsv "${arguments[@]}" | tee build/bench.md || status=$?
# A plot shows every row of its kind, or is left as it is.
if [[ $write == yes && " ${arguments[*]} " != *" --rows"* ]]; then
  gnuplot -e "data='build/bench.tsv'; pages='$pages'" bench/plots.gp
  "${bench%/*}/mesh_sim" --policy all --tsv build/mesh.tsv >build/mesh.md
  gnuplot -e "data='build/mesh.tsv'; pages='$pages'" bench/mesh.gp
fi
exit "$status"
