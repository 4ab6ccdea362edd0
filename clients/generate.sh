#!/usr/bin/env bash
# Generates the code of the clients from proto/ with pinned tools, the same on every machine.
#
#   ./generate.sh [LANGUAGE ...]           writes the generated code into clients/LANGUAGE; all languages if none is named
#   ./generate.sh --check [LANGUAGE ...]   changes nothing; fails if the committed code is stale
#
# A language is a folder here with an executable generate.sh, which is called in two ways:
#
#   LANGUAGE/generate.sh owned      prints the generated files and folders, one per line, relative to its folder
#   LANGUAGE/generate.sh into DIR   writes exactly those below DIR, which is empty
#
# Its environment has:
#
#   PROTO_DIR     the protos of the service, with google/rpc/status.proto and google/type/money.proto
#   VENDOR_DIR    the other protos that clients need: google/rpc/error_details.proto and grpc/health/v1/health.proto
#   PROTOS        the protos of the service, relative to PROTO_DIR, one per line
#   CLIENTS_DIR   this folder, which contains service_config.json
#   TOOLS_DIR     where to install pinned tools; kept from run to run
set -euo pipefail
cd "$(dirname "$0")"
CLIENTS_DIR=$PWD
ROOT=$(dirname "$CLIENTS_DIR")
PROTO_DIR=$ROOT/proto
VENDOR_DIR=$CLIENTS_DIR/proto
TOOLS_DIR=${TOOLS_DIR:-$ROOT/target/tools}
PROTOS=$(cd "$PROTO_DIR" && find catga -name '*.proto' | LC_ALL=C sort)
export CLIENTS_DIR PROTO_DIR VENDOR_DIR TOOLS_DIR PROTOS
mkdir -p "$TOOLS_DIR"

CHECK=
if [ "${1:-}" = --check ]; then
    CHECK=yes
    shift
fi
LANGUAGES=("$@")
if [ $# = 0 ]; then
    for script in */generate.sh; do LANGUAGES+=("${script%/*}"); done
fi

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

# Prints the differences between the committed paths of a language and the new ones.
check() {
    local language=$1 path differs=
    while read -r path; do
        diff -r --exclude=__pycache__ "$language/$path" "$WORK/$language/$path" || differs=yes
    done
    [ -z "$differs" ]
}

put_in_place() {
    local language=$1 path
    while read -r path; do
        rm -rf "${language:?}/$path"
        mkdir -p "$(dirname "$language/$path")"
        cp -R "$WORK/$language/$path" "$language/$path"
    done
}

STALE=()
for language in "${LANGUAGES[@]}"; do
    [ -x "$language/generate.sh" ] || { echo "clients/$language has no generate.sh" >&2; exit 2; }
    mkdir "$WORK/$language"
    "$language/generate.sh" into "$WORK/$language"
    if [ -z "$CHECK" ]; then
        "$language/generate.sh" owned | put_in_place "$language"
        echo "$language: generated"
    elif "$language/generate.sh" owned | check "$language"; then
        echo "$language: current"
    else
        STALE+=("$language")
    fi
done
if [ ${#STALE[@]} != 0 ]; then
    echo "stale: ${STALE[*]}: run clients/generate.sh ${STALE[*]} and commit" >&2
    exit 1
fi
