#!/usr/bin/env bash
# Runs a cluster on this machine until Ctrl-C: a broker of its own, and N nodes on ports 5001, 5002 …
#
#   ./run-cluster.sh [N] [redis|nats]     3 nodes on redis unless told otherwise
#
# Needs redis-server or nats-server. What the broker holds is gone in the end. BASE_PORT=6000 begins at 6001; ORDERSYSTEM names another
# binary than the one that cargo builds.
set -euo pipefail
cd "$(dirname "$0")"

NODES=${1:-3}
BROKER=${2:-redis}
BASE_PORT=${BASE_PORT:-5000}
[[ "$NODES" =~ ^[0-9]+$ ]] && [ "$NODES" -ge 1 ] && [ "$NODES" -le 32 ] || { echo "the number of nodes is 1 to 32, not $NODES" >&2; exit 2; }

if [ -z "${ORDERSYSTEM:-}" ]; then
    cargo build --locked --release
    ORDERSYSTEM=target/release/ordersystem
fi

# Everything runs in a session of its own: a Ctrl-C is for this script alone, which then ends the nodes before their broker.
FOLDER=$(mktemp -d)
PIDS=()
stop() {
    trap - EXIT INT TERM
    # The nodes first, the latest first: they still need their broker to leave in order.
    for ((i = ${#PIDS[@]} - 1; i >= 0; i--)); do
        kill "${PIDS[i]}" 2>/dev/null && wait "${PIDS[i]}" 2>/dev/null || true
    done
    rm -rf "$FOLDER"
}
trap stop EXIT
trap 'exit 0' INT TERM

BROKER_PORT=$((BASE_PORT + 100))
case "$BROKER" in
redis)
    setsid redis-server --port "$BROKER_PORT" --bind 127.0.0.1 --dir "$FOLDER" --appendonly yes --appendfsync always --save "" \
        --maxmemory-policy noeviction >"$FOLDER/broker.log" &
    ADDRESS=(--redis "127.0.0.1:$BROKER_PORT")
    ;;
nats)
    setsid nats-server -a 127.0.0.1 -p "$BROKER_PORT" -js -sd "$FOLDER" 2>"$FOLDER/broker.log" &
    ADDRESS=(--nats "127.0.0.1:$BROKER_PORT")
    ;;
*)
    echo "the broker is redis or nats, not $BROKER" >&2
    exit 2
    ;;
esac
PIDS+=($!)

for ((n = 1; n <= NODES; n++)); do
    setsid "$ORDERSYSTEM" --cluster --node-id "node$n" --port $((BASE_PORT + n)) \
        --persistence "$BROKER" --transport "$BROKER" "${ADDRESS[@]}" &
    PIDS+=($!)
done
echo "$NODES nodes on ports $((BASE_PORT + 1)) to $((BASE_PORT + NODES)), $BROKER on $BROKER_PORT; Ctrl-C stops them" >&2
# Until a node ends by itself, which it should not, or someone stops the script.
wait -n "${PIDS[@]}"
echo "a process has ended: stopping the others" >&2
exit 1
