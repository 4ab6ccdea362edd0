#!/usr/bin/env bash
# Runs fuzz targets for a limited time each, with the compiler that builds the service.
#
#   tests/fuzz/run.sh SECONDS [TARGET...]
#
# Findings are in tests/fuzz/artifacts/TARGET; the growing corpus is in target/fuzz/corpus, and only tests/fuzz/corpus is committed.
# FUZZ_SEED makes a run repeatable as far as the machine allows. Exit code 0: no findings.
set -uo pipefail
cd "$(dirname "$0")/../.."

seconds=${1:?for how many seconds each?}
shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(requests rest events configuration)
seed=${FUZZ_SEED:-$RANDOM}
triple=$(rustc -vV | sed -n 's/^host: //p')
folder=$PWD/target/fuzz
echo "seed $seed"

# The compiler flags of cargo-fuzz, without those that need a nightly compiler. With an explicit target, build scripts are not instrumented.
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
flags="$flags -Cllvm-args=-sanitizer-coverage-pc-table -Ccodegen-units=16 --cfg fuzzing"
RUSTFLAGS="$flags" cargo build --release --locked --manifest-path tests/fuzz/Cargo.toml --target "$triple" \
    --target-dir "$folder" --bins || exit 1

status=0
for target in "${targets[@]}"; do
    mkdir -p "$folder/corpus/$target" "tests/fuzz/artifacts/$target"
    echo "=== $target for $seconds s"
    "$folder/$triple/release/$target" "$folder/corpus/$target" "tests/fuzz/corpus/$target" -seed="$seed" -max_total_time="$seconds" \
        -timeout=30 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 -verbosity=0 \
        -artifact_prefix="tests/fuzz/artifacts/$target/" || { status=1; echo "=== $target found something"; }
done
exit $status
