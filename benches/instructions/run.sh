#!/usr/bin/env bash
# Counts the instructions of parts of the service with valgrind, and compares them with counts.toml.
#
#   benches/instructions/run.sh             compares
#   benches/instructions/run.sh --update    writes counts.toml
#
# Needs valgrind and python3. The runner of the benches is installed into target/tools. The profile of each bench is in
# target/instructions/profiles, for callgrind_annotate. Exit code 0: no count is above its bound.
set -uo pipefail
cd "$(dirname "$0")/../.."

[ $# = 0 ] || [ "$*" = --update ] || {
    sed -n '2,/^set -/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2
    exit 2
}
command -v valgrind >/dev/null || {
    echo "valgrind is missing; install it with: apt-get install valgrind" >&2
    exit 1
}
TOOLS_DIR=${TOOLS_DIR:-$PWD/target/tools}
folder=$PWD/target/instructions
build=${CARGO_TARGET_DIR:-$folder/build}

# The runner must have the version of the library.
version=$(sed -n '/^name = "gungraun-runner"$/{n;s/^version = "\(.*\)"$/\1/p}' benches/instructions/Cargo.lock)
runner=$TOOLS_DIR/bin/gungraun-runner
[ "$("$runner" --version 2>/dev/null)" = "gungraun-runner $version" ] ||
    cargo install --quiet --debug --locked --root "$TOOLS_DIR" --target-dir "$TOOLS_DIR/gungraun-runner" "gungraun-runner@$version" || exit 1
rm -rf "$TOOLS_DIR/gungraun-runner"

# Without the flags of the caller, which would be those of another profile, and without earlier results to compare with.
rm -rf "$folder/profiles"
mkdir -p "$folder"
env -u RUSTFLAGS GUNGRAUN_RUNNER="$runner" cargo bench --quiet --locked --manifest-path benches/instructions/Cargo.toml --target-dir "$build" -- \
    --home="$folder/profiles" --output-format=json --callgrind-args=--cache-sim=no >"$folder/run.json" || exit 1
python3 benches/instructions/counts.py "$@" "$(rustc -vV)" <"$folder/run.json"
