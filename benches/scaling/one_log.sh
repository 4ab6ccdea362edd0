#!/usr/bin/env bash
# Where one log on Redis saturates: the append script of the service on a redis-server that syncs before it answers, called by 1 to 256
# clients.
#
#   benches/scaling/one_log.sh [APPENDS]
#
# Needs redis-server, redis-cli and redis-benchmark. Each append is one event of 250 bytes to a random order among a million.
# Prints for each number of clients the appends per second and the CPU time of redis-server per append, in microseconds. One thread of Redis
# runs all scripts: one log does at most 1 000 000 / that time, however many clients and cores there are.
set -euo pipefail
cd "$(dirname "$0")/../.."
APPENDS=${1:-60000}
PORT=${PORT:-17379}
FOLDER=$(mktemp -d)
redis-server --port "$PORT" --bind 127.0.0.1 --dir "$FOLDER" --appendonly yes --appendfsync always --save "" >/dev/null &
SERVER=$!
trap 'kill $SERVER; wait $SERVER 2>/dev/null; rm -rf "$FOLDER"' EXIT
until redis-cli -p "$PORT" ping >/dev/null 2>&1; do sleep 0.05; done
SHA=$(redis-cli -p "$PORT" -x script load <src/backends/redis/event_store/append.lua)
EVENT=$(printf 'x%.0s' {1..250})
# User and system time of all its threads, in microseconds.
cpu() { redis-cli -p "$PORT" info cpu | awk -F: '/^used_cpu_(sys|user):/ { sum += $2 } END { printf "%d", sum * 1000000 }'; }
printf '%8s %12s %14s\n' callers appends/s 'CPU us/append'
for callers in 1 4 16 64 256; do
    before=$(cpu)
    rate=$(redis-benchmark -p "$PORT" -c "$callers" -n "$APPENDS" -r 1000000 -q --csv \
        evalsha "$SHA" 2 '{o}:log' '{o}:order:__rand_int__' -1 "$EVENT" | tail -n 1 | cut -d, -f2 | tr -d '"')
    printf '%8s %12s %14s\n' "$callers" "$rate" "$(awk -v used=$(($(cpu) - before)) -v n="$APPENDS" 'BEGIN { printf "%.1f", used / n }')"
done
