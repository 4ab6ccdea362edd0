#!/usr/bin/env bash
# Everything that the Rust client has to pass; called by ../test.sh, which says how.
#
#   ./test.sh [PART ...]   only the tests whose name has one of the parts in it
set -euo pipefail
cd "$(dirname "$0")"

export CARGO_TARGET_DIR=$TOOLS_DIR/rust
if [ $# = 0 ]; then
    cargo fmt --check --package ordersystem-client --package generate
    cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --quiet --locked --no-deps --package ordersystem-client
fi
# All targets: that the example is there for its test.
cargo test --quiet --locked --package ordersystem-client --no-fail-fast -- "$@"
