#!/usr/bin/env bash
# The long form of the seeded runs: as many as requested, round-robin over all topologies, with a table of their figures.
#
#   tests/faults/seeded.sh RUNS [FIRST_SEED]
#
# SEEDED_JOBS is the number of concurrent runs (1), SEEDED_FAULTS the number of faults in each (4), SEEDED_TOPOLOGIES a choice of topologies
# (all), and SEEDED_OUT the folder for the output of each run and the figures (target/seeded/long). Exit code 0: no run has findings.
set -uo pipefail
cd "$(dirname "$0")/../.."

runs=${1:?how many runs?}
first=${2:-1000}
jobs=${SEEDED_JOBS:-1}
out=${SEEDED_OUT:-$PWD/target/seeded/long}
export SEEDED_FAULTS=${SEEDED_FAULTS:-4} RUST_BACKTRACE=0
# Longer than any run takes: one that hangs is a finding.
run_within_s=600

mkdir -p "$out" && rm -f "$out"/*.txt "$out"/figures.tsv || exit 1
export SEEDED_FIGURES="$out/figures.tsv"
# This builds the program as well.
binary=$(cargo test --locked --no-run --test faults --message-format=json 2>/dev/null |
    python3 -c 'import json, sys; print([e for e in map(json.loads, sys.stdin) if e.get("executable") and e["target"]["name"] == "faults"][-1]["executable"])') || exit 1
# Copies, so that concurrent builds do not disturb the runs.
cp "$binary" "$out/faults" && cp "${CARGO_TARGET_DIR:-target}/debug/ordersystem" "$out/ordersystem" || exit 1
binary="$out/faults"
export SEEDED_BINARY="${SEEDED_BINARY:-$out/ordersystem}"
read -ra topologies <<< "${SEEDED_TOPOLOGIES:-$("$binary" seeded:: --list | sed -n 's/^seeded::\([a-z_0-9]*\): test$/\1/p' | tr '\n' ' ')}"

for ((run = 0; run < runs; run++)); do
    echo "${topologies[run % ${#topologies[@]}]} $((first + run))"
done | xargs -P "$jobs" -L 1 bash -c '
    name="$1-$2"
    if SEEDED_SEED=$2 timeout --kill-after=10 '$run_within_s' "'"$binary"'" "seeded::$1" --exact --nocapture > "'"$out"'/$name.txt" 2>&1; then
        echo "passed  $name"
    else
        echo "FAILED  $name"
        touch "'"$out"'/$name.failed.txt"
    fi' _
python3 tests/faults/seeded/table.py "$out/figures.tsv"
failed=("$out"/*.failed.txt)
[ -e "${failed[0]}" ] || failed=()
echo "$((runs - ${#failed[@]})) of $runs runs passed"
for failure in "${failed[@]}"; do
    echo "--- ${failure%.failed.txt}.txt"
    grep -v -e '^$' -e '^run' -e '^fault' "${failure%.failed.txt}.txt" | cut -c 1-600 | head -n 30
done
[ ${#failed[@]} = 0 ]
