#!/usr/bin/env bash
# Runs a cluster on this machine until Ctrl-C or SIGTERM: a broker of its own, and N nodes on ports 5001, 5002 …
#
#   ./run-cluster.sh [N] [redis|nats]     3 nodes on redis unless told otherwise
#
# Needs redis-server or nats-server. What the broker holds is gone in the end. BASE_PORT=6000 begins at 6001; ORDERSYSTEM names another
# binary than the one that cargo builds. A node that ends, or is killed, leaves the others running; the script ends when all have, or the
# broker has.
set -euo pipefail
cd "$(dirname "$0")"

# A copy of stderr: the loop below closes the original, and traps still print to this one.
exec 3>&2
say() { echo "run-cluster: $*" >&3; }
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"; }
wrong() {
    say "$*"
    usage >&2
    exit 2
}

case "${1:-}" in -h | --help) usage; exit 0 ;; esac
[ $# -le 2 ] || wrong "at most two arguments: how many nodes, and which broker"
NODES=${1:-3}
BROKER=${2:-redis}
BASE_PORT=${BASE_PORT:-5000}
[[ "$NODES" =~ ^[0-9]{1,2}$ ]] && ((10#$NODES >= 1 && 10#$NODES <= 32)) || wrong "the number of nodes is 1 to 32, not $NODES"
NODES=$((10#$NODES))
[[ "$BASE_PORT" =~ ^[0-9]{1,5}$ ]] && ((10#$BASE_PORT <= 65435)) || wrong "BASE_PORT is a number up to 65435, not $BASE_PORT"
BASE_PORT=$((10#$BASE_PORT))
BROKER_PORT=$((BASE_PORT + 100))
case "$BROKER" in
redis | nats) ;;
*) wrong "the broker is redis or nats, not $BROKER" ;;
esac
command -v "$BROKER-server" >/dev/null || { say "$BROKER-server is not installed"; exit 1; }
if [ -n "${ORDERSYSTEM:-}" ]; then
    [ -x "$ORDERSYSTEM" ] || { say "ORDERSYSTEM=$ORDERSYSTEM is not a program"; exit 1; }
fi
for port in $(seq $((BASE_PORT + 1)) $((BASE_PORT + NODES))) "$BROKER_PORT"; do
    if (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
        say "port $port is in use; BASE_PORT=6000 ./run-cluster.sh takes other ones"
        exit 1
    fi
done

if [ -z "${ORDERSYSTEM:-}" ]; then
    cargo build --locked --release
    ORDERSYSTEM=target/release/ordersystem
fi

# Everything runs in its own session: a Ctrl-C only reaches this script, which then stops the nodes before their broker.
FOLDER=$(mktemp -d)
declare -A NAME_OF=()
NODE_PIDS=()
BROKER_PID=
stop() {
    trap '' EXIT INT TERM
    # The nodes first, the latest first: they need their broker for an orderly shutdown.
    for ((i = ${#NODE_PIDS[@]} - 1; i >= 0; i--)); do
        kill "${NODE_PIDS[i]}" 2>/dev/null && wait "${NODE_PIDS[i]}" 2>/dev/null || true
    done
    [ -z "$BROKER_PID" ] || { kill "$BROKER_PID" 2>/dev/null && wait "$BROKER_PID" 2>/dev/null || true; }
    rm -rf "$FOLDER"
}
trap stop EXIT
# A shell cannot trap signals that were ignored when it started, like SIGINT in a background command of another script.
HOW="Ctrl-C"
if [ "$(trap -p INT)" = "trap -- '' SIGINT" ]; then HOW="kill $$"; fi
trap 'say "SIGINT: stopping"; exit 0' INT
trap 'say "SIGTERM: stopping"; exit 0' TERM

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
esac
BROKER_PID=$!
NAME_OF[$BROKER_PID]="$BROKER-server"
# A node that finds no broker warns of it and waits; here it only has to be given the time to start.
until (: <"/dev/tcp/127.0.0.1/$BROKER_PORT") 2>/dev/null; do
    if ! kill -0 "$BROKER_PID" 2>/dev/null; then
        say "$BROKER-server does not start. It has said:"
        tail -n 5 "$FOLDER/broker.log" >&2
        exit 1
    fi
    sleep 0.05
done

command_of() {
    echo "$ORDERSYSTEM --cluster --node-id node$1 --port $((BASE_PORT + $1)) --persistence $BROKER --transport $BROKER ${ADDRESS[*]}"
}
for ((n = 1; n <= NODES; n++)); do
    setsid "$ORDERSYSTEM" --cluster --node-id "node$n" --port $((BASE_PORT + n)) \
        --persistence "$BROKER" --transport "$BROKER" "${ADDRESS[@]}" &
    NODE_PIDS+=($!)
    NAME_OF[$!]="node$n"
done

say "$NODES nodes on ports $((BASE_PORT + 1)) to $((BASE_PORT + NODES)), $BROKER on $BROKER_PORT; $HOW stops them"
say "who serves:      curl localhost:$((BASE_PORT + 1))/cluster"
say "place an order:  curl localhost:$((BASE_PORT + 1))/orders -H 'content-type: application/json' -d '{\"customerId\":\"ann\",\"items\":[{\"productId\":\"tea\",\"quantity\":1,\"price\":4.5}]}'"
say "lose a node:     kill -9 ${NODE_PIDS[0]}    (node1; the others take over its work)"

# The death of one node does not stop the others: that is the purpose of a cluster.
RUNNING=$NODES
while ((RUNNING > 0)); do
    code=0
    # The signals interrupt this; their traps end the script. Bash's own messages about killed jobs are replaced by those below.
    { wait -n -p ended "${!NAME_OF[@]}" || code=$?; } 2>/dev/null
    [ -n "${ended:-}" ] || continue
    name=${NAME_OF[$ended]}
    unset "NAME_OF[$ended]"
    if [ "$ended" = "$BROKER_PID" ]; then
        say "$name has ended with code $code, and the nodes have nothing to work on: stopping. It has said:"
        tail -n 5 "$FOLDER/broker.log" >&2
        exit 1
    fi
    RUNNING=$((RUNNING - 1))
    if ((code > 128)); then how="was killed by signal $((code - 128))"; else how="has ended with code $code"; fi
    say "$name $how; $RUNNING of $NODES nodes run. Start it again with:"
    say "    $(command_of "${name#node}")"
done
say "all nodes have ended"
exit 1
