# mutants.sh: runs the bank of tools/mutants.txt: each mutant alone, in one build that holds them
# all, against the test that must notice it.
#
# Always true:
#   - A mutant counts as killed only when its test passes without it.
#   - What survived is told again in build/mutant/runs/NAME.unkilled.
#
# Comes from: dev, which sources it (build, passed, failed, failures are its).
# Goes to: build/mutant.

# filtered SECONDS NAME PROGRAM FILTER: runs these test cases with this mutant on; "": none.
# 0: passed; 3: there are none; 124, 137: too slow; else they failed.
filtered() {
  local status=0 group log=build/mutant/runs/${2:-none}.$BASHPID.log
  # A comma would end the filter; `?` matches one as well as any other character.
  COIR_MUTANT=$2 timeout -k 5 "$1" "build/mutant/tests/$3" --test-case="${4//,/?}" >"$log" 2>&1 &
  group=$!
  wait "$group" 2>/dev/null || status=$?
  # timeout(1) leads a group of its own: children that a broken test left behind end with it.
  kill -KILL -- "-$group" 2>/dev/null || true
  ! grep -qE 'test cases: +0 [|]' "$log" || status=3
  return "$status"
}

# One mutant: prints its verdict, returns 0 when it was killed.
mutant() {
  ulimit -c 0
  local name=$1 program=$2 filter=$3 status=0 began=$SECONDS limit
  local test="$program -tc \"$filter\""
  if ! filtered 120 "" "$program" "$filter"; then
    printf '%-28s NOT TESTED  %s must pass without it\n' "$name" "$test" |
      tee "build/mutant/runs/$name.unkilled"
    return 1
  fi
  # A test that hangs has noticed, too: several times as long as without the mutant is enough. But a
  # search has to find it, and then to make it short, which takes long.
  limit=$((10 + 5 * (SECONDS - began)))
  [[ $filter != explorer:* ]] || limit=600
  filtered "$limit" "$name" "$program" "$filter" || status=$?
  [[ $filter != explorer:* || ($status -ne 124 && $status -ne 137) ]] || status=0
  if [[ $status -eq 0 || $status -eq 3 ]]; then
    printf '%-28s SURVIVED    %s\n' "$name" "$test" | tee "build/mutant/runs/$name.unkilled"
    return 1
  fi
  [[ $status -ne 124 && $status -ne 137 ]] || status=timeout
  printf '%-28s killed (%s) by %s\n' "$name" "$status" "$test"
}

# The list without its comments, fields trimmed, one tab between two.
mutant_lines() { sed -n '/^ *\(#\|$\)/!{s/ *| */\t/g;p}' tools/mutants.txt; }

# run_mutants NAME: that one, or all for ""; adds to `passed` and `failed`.
run_mutants() {
  local wanted=$1 name program filter running=0 status
  build mutant "$(mutant_lines | cut -f 3 | sort -u | tr '\n' ' ')" || return 1
  rm -rf build/mutant/runs && mkdir build/mutant/runs
  while IFS=$'\t' read -r name _ program filter _; do
    [[ -z $wanted || $wanted == "$name" ]] || continue
    if [[ $running -eq $(nproc) ]]; then
      status=0 && wait -n || status=1
      passed=$((passed + !status)) failed=$((failed + status)) running=$((running - 1))
    fi
    mutant "$name" "$program" "$filter" </dev/null &
    running=$((running + 1))
  done < <(mutant_lines)
  for (( ; running > 0; --running)); do
    if wait -n; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
  done
  mapfile -t -O "${#failures[@]}" failures < <(cat build/mutant/runs/*.unkilled 2>/dev/null)
}
