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
#   TOOLS_DIR                 where to install tools and dependencies; kept from run to run
set -uo pipefail
cd "$(dirname "$0")"
CLIENTS_DIR=$PWD
ROOT=$(dirname "$CLIENTS_DIR")
export CLIENTS_DIR
export TOOLS_DIR=${TOOLS_DIR:-$ROOT/target/tools}
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

FAILED=()
for language in "${LANGUAGES[@]}"; do
    [ -x "$language/test.sh" ] || { echo "clients/$language has no test.sh" >&2; exit 2; }
    echo "--- $language on $CONFORMANCE_PERSISTENCE, server $ORDERSYSTEM_BINARY"
    (cd "$language" && ./test.sh) || FAILED+=("$language")
done
[ ${#FAILED[@]} = 0 ] || { echo "failed: ${FAILED[*]}" >&2; exit 1; }
