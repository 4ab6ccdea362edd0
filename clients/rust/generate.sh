#!/usr/bin/env bash
# The generated part of the Rust client; called by ../generate.sh, which documents the interface. Cargo.lock pins the generator.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)

case ${1:-} in
    owned)
        echo service_config.json
        echo currencies.txt
        echo src/generated
        ;;
    into)
        cp "$CLIENTS_DIR/service_config.json" "$CLIENTS_DIR/currencies.txt" "$2"
        # shellcheck disable=SC2086  # one argument a proto
        cargo run --quiet --locked --manifest-path "$HERE/Cargo.toml" --target-dir "$TOOLS_DIR/rust" --package generate -- \
            "$PROTO_DIR" "$2/src/generated" $PROTOS
        ;;
    *) echo "called by ../generate.sh" >&2; exit 2 ;;
esac
