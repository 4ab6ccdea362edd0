#!/usr/bin/env bash
# Runs the tests of the clients against the real server.
#
#   ./test.sh [LANGUAGE ...]   all languages if none is named
#
# A language is a folder here with an executable test.sh, which installs its dependencies and runs all tests of the language.
# Its environment has:
#
#   ORDERSYSTEM_BINARY        the server; set here to the newer of target/release and target/debug if it is not set
#   CONFORMANCE_PERSISTENCE   embedded (default) or redis: the server's store
#   CONFORMANCE_IDENTITIES    1: the server identifies its callers in all scenarios
#   CLIENTS_JOBS              how many languages run at a time (3): they mostly wait
#   TOOLS_DIR                 where to install tools and dependencies; kept from run to run
set -uo pipefail
cd "$(dirname "$0")"
CLIENTS_DIR=$PWD
ROOT=$(dirname "$CLIENTS_DIR")
export CLIENTS_DIR
export TOOLS_DIR=${TOOLS_DIR:-$ROOT/target/tools}
CLIENTS_JOBS=${CLIENTS_JOBS:-3}
export CONFORMANCE_PERSISTENCE=${CONFORMANCE_PERSISTENCE:-embedded}
mkdir -p "$TOOLS_DIR"

if [ -z "${ORDERSYSTEM_BINARY:-}" ]; then
    # shellcheck disable=SC2012  # the names are ours
    ORDERSYSTEM_BINARY=$(ls -t "$ROOT"/target/{release,debug}/ordersystem 2>/dev/null | head -n 1)
    [ -n "$ORDERSYSTEM_BINARY" ] || { echo "no server: run cargo build, or set ORDERSYSTEM_BINARY" >&2; exit 2; }
fi
ORDERSYSTEM_BINARY=$(realpath "$ORDERSYSTEM_BINARY")
export ORDERSYSTEM_BINARY

LANGUAGES=("$@")
if [ $# = 0 ]; then
    for script in */test.sh; do LANGUAGES+=("${script%/*}"); done
fi

# Runs one language; its output appears in one piece at its end.
run_language() {
    local output status=0
    output=$(mktemp)
    (cd "$1" && ./test.sh) >"$output" 2>&1 || status=1
    (
        flock 9
        echo "--- $1 on $CONFORMANCE_PERSISTENCE, server $ORDERSYSTEM_BINARY: $([ $status = 0 ] && echo passed || echo FAILED)"
        cat "$output"
    ) 9>"$TOOLS_DIR/clients.lock"
    rm "$output"
    return $status
}

for language in "${LANGUAGES[@]}"; do
    [ -x "$language/test.sh" ] || { echo "clients/$language has no test.sh" >&2; exit 2; }
done
FAILED=()
RUNNING=()
reap() {
    wait "${RUNNING[0]%% *}" || FAILED+=("${RUNNING[0]#* }")
    RUNNING=("${RUNNING[@]:1}")
}
for language in "${LANGUAGES[@]}"; do
    [ ${#RUNNING[@]} -lt "$CLIENTS_JOBS" ] || reap
    run_language "$language" &
    RUNNING+=("$! $language")
done
while [ ${#RUNNING[@]} -gt 0 ]; do reap; done
[ ${#FAILED[@]} = 0 ] || { echo "failed: ${FAILED[*]}" >&2; exit 1; }
