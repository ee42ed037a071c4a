#!/usr/bin/env bash
# mesh_pages.sh: the pages that tell what mesh_sim prints tell what it prints today.
#   mesh_pages.sh MESH_SIM FOLDER
#
# Always true:
#   - Every figure of a row that names a scenario is compared, in both tables of mesh.md and in the
#     rows mesh_sim/N of results.md; and the bounds of the salts.
#   - A page without such rows has failed: nothing would have been compared.
#
# Comes from: ctest.   Goes to: mesh_sim, docs/benchmarks.
# shellcheck disable=SC2016  # what stands in single quotes is awk's
set -euo pipefail
mesh_sim=${1:?} folder=${2:?}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for workers in 2 8 64 256; do
  "$mesh_sim" --policy all --workers "$workers"
done >"$work/said"
"$mesh_sim" --check >"$work/salts"

wrong=0
# compare AWK FILE ...: what is printed there is wrong.
compare() {
  local said
  said=$(awk -F ' *[|] *' "$@") || { echo "${*: -1}: too few rows to compare"; wrong=1; }
  [[ -z $said ]] || { echo "$said"; wrong=1; }
}

# Columns: scenario, policy, workers, fibers, share, hops, mail, looks, refused, us, us, over ideal.
known='
  NR == FNR { row[$2, $3, $4] = $6 " " $7 " " $8 " " $9 " " $13; over[$2, $3, $4] = $13; next }
  function check(is, told) {
    ++compared
    if (is != told) print FILENAME ":" FNR ": says " told ", mesh_sim " is
  }
  END { exit compared < least }'
compare -v least=30 "$known"'
  $2 !~ /^`[a-z_]+`$/ || $3 !~ /^[0-9]+$/ { next }
  { name = substr($2, 2, length($2) - 2) }
  NF == 9 { check(row[name, "mesh", $3], $4 " " $5 " " $6 " " $7 " " $8) }
  NF == 7 { check(over[name, "mesh", $3] " " over[name, "pushes", $3] " " over[name, "single", $3],
                  $4 " " $5 " " $6) }' "$work/said" "$folder/mesh.md"
compare -v least=6 "$known"'
  function of(workers) { split(row["hot_root", "mesh", workers], is, " ") }
  $2 ~ /^`mesh_sim\/[0-9]+`$/ {
    of(substr($2, 11, length($2) - 11))
    check(is[1] ", " is[3], $3)
  }
  /^###/ { workers = /^### mesh_sim/ ? substr($0, 14) : "" }
  workers != "" && $2 == "coir (coir)" {
    of(workers)
    check(is[1] " " is[3] " " is[2] " " is[5] " " is[1],
          sprintf("%.2f %.2f %.2f %.2f %.2f", $3, $4, $5, $6, $7))
  }' "$work/said" "$folder/results.md"

bounds=$(awk -F ' *[|] *' '$4 == 256 { print $6 }' "$work/salts" | sort -n | sed -n '1p;$p')
sentence="\`hot_root\` at 256 workers is between ${bounds%$'\n'*} and ${bounds#*$'\n'}."
grep -qF "$sentence" "$folder/mesh.md" || { echo "mesh.md does not say: $sentence"; wrong=1; }
exit "$wrong"
