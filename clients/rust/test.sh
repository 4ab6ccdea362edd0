#!/usr/bin/env bash
# All checks of the Rust client; called by ../test.sh, which documents the interface.
#
#   ./test.sh [PART ...]   only the tests with one of these parts in their names
set -euo pipefail
cd "$(dirname "$0")"

export CARGO_TARGET_DIR=$TOOLS_DIR/rust
if [ $# = 0 ]; then
    cargo fmt --check --package ordersystem-client --package generate
    cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --quiet --locked --no-deps --package ordersystem-client
fi
# All targets: the test of the example needs its binary.
cargo test --quiet --locked --package ordersystem-client --no-fail-fast -- "$@"
