#!/usr/bin/env bash
# Builds the programs of others that `cargo bench --bench load peer` compares with, into target/peers.
#
#   benches/peers/build.sh [umadb|cqrs-es|emmett|axon ...]     all of them if none is named
#
# Needs cargo, npm with a C++ compiler, and Maven with a JDK of version 17 or later; installs protoc with apt-get if it is missing. It is not part of
# the build or of the tests.
set -euo pipefail
cd "$(dirname "$0")"
ROOT=$(realpath ../../target/peers -m)
UMADB_VERSION=0.7.8
mkdir -p "$ROOT"

# Its server as published, with its own lock file. Its build script needs protoc.
build_umadb() {
    if ! command -v protoc >/dev/null; then
        local sudo=""
        [ "$(id -u)" = 0 ] || sudo=sudo
        $sudo apt-get update -qq && $sudo apt-get install -y -qq protobuf-compiler
    fi
    cargo install --locked --root "$ROOT" --target-dir "$ROOT/build" "umadb@$UMADB_VERSION"
}

build_cqrs_es() { cargo install --locked --root "$ROOT" --target-dir "$ROOT/build" --path cqrs-es; }

# SQLite's module for Node is compiled here: its install script would fetch a binary.
build_emmett() {
    mkdir -p "$ROOT/emmett"
    cp emmett/package.json emmett/package-lock.json emmett/server.mjs "$ROOT/emmett"
    cd "$ROOT/emmett"
    npm ci --ignore-scripts --no-audit --no-fund
    local node
    node=$(dirname "$(dirname "$(realpath "$(command -v node)")")")
    (cd node_modules/sqlite3 && ../.bin/node-gyp rebuild --nodedir "$node")
    touch node_modules/.built
}

build_axon() {
    mkdir -p "$ROOT/axon"
    cp -r axon/pom.xml axon/src "$ROOT/axon"
    cd "$ROOT/axon"
    mvn -q -B clean package
    # Only complete ones are found.
    rm -rf lib classes
    mv target/classes classes
    mv target/lib lib
}

[ $# -gt 0 ] || set -- umadb cqrs-es emmett axon
for peer in "$@"; do
    echo "=== $peer"
    ("build_${peer//-/_}")
done
