#!/usr/bin/env bash
# redis_clients.sh: redis-cli and redis-benchmark talk with kv, and what they were told is there
# after a kill -9.
#
# Always true:
#   - kv listens on ports that the system picks, on loopback, in a folder of its own.
#   - Where the clients are missing nothing is claimed (exit 77); `./dev test` installs redis-tools.
#
# Comes from: ctest.   Goes to: samples/kv.
set -euo pipefail
command -v redis-cli redis-benchmark >/dev/null || { echo "redis-tools is not installed"; exit 77; }
kv=$BUILD_DIR/samples/kv
[[ -x $kv ]] || { echo "kv is not built here"; exit 77; }

data=$(mktemp -d)
pid=
finish() {
  [[ -z $pid ]] || kill -9 "$pid" 2>/dev/null || true
  rm -rf "$data"
}
trap finish EXIT

start() {
  "$kv" --port 0 --resp 0 --data "$data/kv" --workers 2 >"$data/out" 2>"$data/err" &
  pid=$!
  until grep -q '^listening' "$data/out" && grep -q '^redis protocol' "$data/out"; do
    kill -0 "$pid" || { cat "$data/err"; exit 1; }
  done
  port=$(sed -n 's/^redis protocol on 127.0.0.1://p' "$data/out")
}
cli() { redis-cli -p "$port" "$@"; }
want() {
  local wanted=$1 got
  shift
  got=$(cli "$@")
  [[ $got == "$wanted" ]] || { echo "$*: wanted '$wanted', got '$got'"; exit 1; }
}

start
want PONG ping
want OK set greeting "hello, world"
want "hello, world" get greeting
want "" get nobody
want 1 del greeting nobody
want "ERR unknown command 'flushall'" flushall
cli info | grep -q '^db0:keys=0'
cli config get appendonly | grep -q yes

redis-benchmark -p "$port" -t set,get -n 2000 -c 20 -P 8 -r 100 -d 100 --csv >"$data/bench" 2>&1
[[ $(grep -c '^"[SG]ET"' "$data/bench") -eq 2 ]] || { cat "$data/bench"; exit 1; }
cli info | grep -q '^total_commands_processed:4[0-9][0-9][0-9]'

want OK set kept "over the end"
kill -9 "$pid"
wait "$pid" 2>/dev/null || true
start
want "over the end" get kept
[[ $(cli info | sed -n 's/^db0:keys=\([0-9]*\),.*/\1/p') -gt 50 ]]
kill "$pid"
wait "$pid"
pid=
echo "ok"
