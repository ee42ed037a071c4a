#!/usr/bin/env bash
# demo.sh: what kv can do, in a minute: its protocol by curl, its speed by wrk, and what is left of
# it after a SIGKILL under load. Ends with a table; ends badly when a write was lost.
#
#   tools/demo.sh [BUILD_DIR]      (build/release when not given)
#
# Always true:
#   - Everything happens on loopback, in a folder that is gone afterwards.
#   - Only servers that were started here are stopped, by their number.
#   - It says which backend took the load, and fails when COIR_BACKEND named another.
set -euo pipefail
export LC_ALL=C

build=${1:-$(dirname "$0")/../build/release}
kv=$build/samples/kv
kill_test=$build/tools/kill_test
load_seconds=${DEMO_SECONDS:-5}
workers=2
connections=64

for need in "$kv" "$kill_test" curl wrk; do
  if ! command -v "$need" > /dev/null; then
    echo "demo: $need is missing; ./dev demo builds or installs it" >&2
    exit 1
  fi
done

work=$(mktemp -d)
data=$work/data
server=
cleanup() {
  if [[ -n $server ]]; then kill -KILL "$server" 2> /dev/null || true; fi
  rm -rf "$work"
}
trap cleanup EXIT

if [[ -t 1 ]]; then bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
else bold='' dim='' green='' red='' plain=''; fi
title() { printf '\n%s%s%s\n' "$bold" "$1" "$plain"; }

# Sets $server and $port.
start_server() {
  exec {said}< <(exec "$kv" --port 0 --data "$data" --workers $workers 2> "$work/kv.log")
  server=$!
  local line
  if ! IFS= read -r -t 30 line <&"$said"; then
    echo "demo: kv did not start:" >&2
    cat "$work/kv.log" >&2
    exit 1
  fi
  port=${line##*:}
}

# The number behind "name": in the object called $1 of the JSON on stdin.
number() { grep -o "\"$1\":{[^}]*}" | sed -n "s/.*[{,]\"$2\":\([0-9]*\).*/\1/p"; }
plain_number() { sed -n "s/.*[{,]\"$1\":\([0-9]*\).*/\1/p"; }
stats() { curl -sS "http://127.0.0.1:$port/stats"; }

ask() {
  local method=$1 body=${2-} answer
  answer=$(curl -sS -X "$method" ${body:+--data-binary "$body"} -w ' %{http_code}' \
    "http://127.0.0.1:$port/")
  printf '  %-7s%-22s%s->%s  %s  %s%s%s\n' "$method" "$body" "$dim" "$plain" "${answer##* }" \
    "$green" "${answer% *}" "$plain"
}

cat > "$work/load.lua" <<'LUA'
-- Each thread writes keys of its own, or reads them in some order.
local threads = 0
function setup(thread)
  thread:set("id", threads)
  threads = threads + 1
end
function init(args)
  reads = args[1] == "read"
  count = 0
end
function request()
  count = count + 1
  local body
  if reads then
    body = string.format('Read "demo-%d-%d"', id, 1 + count * 7919 % 1000)
  else
    body = string.format('Write "demo-%d-%d" %d', id, count, count)
  end
  return wrk.format("POST", "/", nil, body)
end
LUA

# Runs wrk; sets rate, p50, p99 and bad (answers other than 2xx, and socket errors).
load() {
  wrk -t2 -c$connections -d"${load_seconds}s" --latency -s "$work/load.lua" \
    "http://127.0.0.1:$port" -- "$1" > "$work/wrk.txt"
  rate=$(awk '/^Requests\/sec:/ { printf "%.0f", $2 }' "$work/wrk.txt")
  p50=$(awk '$1 == "50%" { print $2 }' "$work/wrk.txt")
  p99=$(awk '$1 == "99%" { print $2 }' "$work/wrk.txt")
  bad=$(awk '/Non-2xx/ { n += $NF } /Socket errors/ { gsub(",", ""); n += $4 + $6 + $8 + $10 }
             END { print n + 0 }' "$work/wrk.txt")
}

title "A durable key-value server on fibers"
start_server
backend=$(stats | sed -n 's/.*"backend":"\([a-z]*\)".*/\1/p')
printf '  kv on 127.0.0.1:%s, %s workers, %s, data in %s\n' "$port" $workers "$backend" "$data"

title "The protocol, by curl"
ask POST 'Read "x"'
ask POST 'Write "x" 1'
ask POST 'Read "x"'
ask POST 'Write "x" (-42)'
ask POST 'Read "x"'
ask DELETE
ask POST 'Read "x"'
ask POST 'Wriet "x" 1'
ask PUT

title "Load, by wrk: $connections connections, $load_seconds s each"
before=$(stats)
load write
write_rate=$rate write_p50=$p50 write_p99=$p99 write_bad=$bad
after=$(stats)
printf '  writes  %9s/s\n' "$write_rate"
load read
read_rate=$rate read_p50=$p50 read_p99=$p99 read_bad=$bad
printf '  reads   %9s/s\n' "$read_rate"
last=$(stats)

records=$(($(number journal records <<< "$after") - $(number journal records <<< "$before")))
syncs=$(($(number journal syncs <<< "$after") - $(number journal syncs <<< "$before")))
group=$(awk -v r="$records" -v s="$syncs" 'BEGIN { printf "%.1f", s ? r / s : 0 }')
keys=$(plain_number keys <<< "$last")

title "SIGTERM: it drains and ends"
kill -TERM "$server"
code=0
wait "$server" || code=$?
server=
printf '  exit code %s\n' "$code"

title "SIGKILL under write load, restart, and every acknowledged write asked for"
kept=yes
crash=$("$kill_test" --kv "$kv" --once --dir "$data" --workers $workers --json \
  --connections $connections --seconds-min 2 --seconds-max 3 --seed "$RANDOM") || kept=no
acked=$(plain_number acked <<< "$crash")
recovered=$(plain_number recovered <<< "$crash")
lost=$(plain_number lost <<< "$crash")
wrong=$(plain_number wrong <<< "$crash")
replayed=$(plain_number replayed <<< "$crash")
recovery_us=$(plain_number recovery_us <<< "$crash")
recovery=$(awk -v t="${recovery_us:-0}" 'BEGIN { printf "%.1f ms", t / 1000 }')

row() { printf '  %-26s %14s   %-12s %-12s\n' "$@"; }
rule() { printf '  %s\n' '------------------------------------------------------------------'; }
title "Result"
row '' 'per second' 'p50' 'p99'
rule
row 'durable writes' "$write_rate" "$write_p50" "$write_p99"
row 'reads' "$read_rate" "$read_p50" "$read_p99"
rule
row 'writes per fsync' "$group" "($records in $syncs)" ''
row 'keys in memory' "$keys" '' ''
rule
row '' 'fibers' 'SQEs' 'CQEs'
index=0
while read -r object; do
  row "worker $index" "$(plain_number spawned <<< "$object")" "$(plain_number sqes <<< "$object")" \
    "$(plain_number cqes <<< "$object")"
  index=$((index + 1))
done < <(grep -o '"workers":.*' <<< "$last" | grep -o '{[^}]*}')
rule
row 'recovery after SIGKILL' "$recovery" "($replayed records)" ''
row 'writes acknowledged' "${acked:-?}" '' ''
row 'writes recovered' "${recovered:-?}" '' ''
if [[ $kept == yes && ${lost:-1} == 0 ]]; then row 'writes lost' "0" '' ''
else row "${red}writes lost${plain}" "${lost:-?}" "wrong: ${wrong:-?}" ''; fi
echo

bad=$((write_bad + read_bad))
if ((bad > 0)); then echo "demo: $bad requests of the load failed" >&2; fi
wanted=${COIR_BACKEND:-$backend}
if [[ $backend != "$wanted" ]]; then echo "demo: on $backend, not on $wanted" >&2; fi
if ((code != 0)); then echo "demo: kv ended with $code after SIGTERM" >&2; fi
[[ $kept == yes && ${lost:-1} == 0 && $bad == 0 && $code == 0 && $backend == "$wanted" ]]
