#!/usr/bin/env bash
# Runs every test in every configuration that there is, and prints a table of it at the end.
#
#   ./test-all.sh            everything
#   ./test-all.sh STEP ...   only these steps, in this order; ./test-all.sh --list names them
#
# Everything takes two lanes, side by side: the debug build with the Rust tests, and the release build with what runs against its binary. A step is shown
# when it ends. At the end a table names what failed and how to run just that; what each step printed is in target/test-all/STEP.log.
#
# What the tests need and the machine lacks is installed first: buf and axe-core (npm), grpcurl and a current nats-server (go), Python's clients of the
# brokers (pip), curl, python3, redis-server (which is Sentinel too), Debian's nats-server, go, node, Java with Maven, valgrind, and Chromium
# with its driver (apt-get). The clients' tests install what is theirs, and tests/deploy/tools.sh what checks the deployment.
# A tool that cannot be had is a failure: nothing is skipped.
set -uo pipefail
cd "$(dirname "$0")"

# The lanes run side by side. NEEDS are steps of the other lane; all other needs are met by the order in the lane.
LANES=(
    "format lint docs test instructions fuzz"
    "tools protos release readme rest probes matrix listeners cluster deploy clients identities deny"
)
declare -A NEEDS=([test]=tools [instructions]=tools [fuzz]=release)
# Then these, with nothing else on the machine.
ALONE="seeded browser"
# The binary that the steps after `release` run.
ORDERSYSTEM="${ORDERSYSTEM:-target/release/ordersystem}"
TOOLS_DIR="${TOOLS_DIR:-$PWD/target/tools}"
LOGS=target/test-all
BUF_VERSION=1.75.0
AXE_VERSION=4.14.1
GRPCURL_VERSION=v1.9.3
CARGO_DENY_VERSION=0.20.2
export PATH="$TOOLS_DIR/bin:$TOOLS_DIR/node_modules/.bin:$PATH"

apt_get() {
    local sudo=""
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get update -qq && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@"
}

step_tools() {
    local missing=()
    for tool in curl python3 chromium valgrind; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    command -v redis-server >/dev/null || missing+=(redis-server)
    command -v nats-server >/dev/null || missing+=(nats-server)
    command -v go >/dev/null || missing+=(golang)
    command -v npm >/dev/null || missing+=(npm)
    command -v mvn >/dev/null || missing+=(maven)
    command -v javac >/dev/null || missing+=(default-jdk-headless)
    command -v openssl >/dev/null || missing+=(openssl)
    python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
    command -v chromedriver >/dev/null || missing+=(chromium-driver)
    [ ${#missing[@]} = 0 ] || apt_get "${missing[@]}" || return 1
    mkdir -p "$TOOLS_DIR/bin"
    [ -e "$TOOLS_DIR/node_modules/axe-core/axe.min.js" ] ||
        npm install --silent --no-audit --no-fund --prefix "$TOOLS_DIR" "axe-core@$AXE_VERSION" || return 1
    command -v buf >/dev/null || npm install --silent --no-audit --no-fund --prefix "$TOOLS_DIR" "@bufbuild/buf@$BUF_VERSION" || return 1
    command -v grpcurl >/dev/null ||
        GOBIN="$TOOLS_DIR/bin" go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@$GRPCURL_VERSION" || return 1
    # A current nats-server in addition to Debian's old one, from a module whose hashes are in this repository.
    if [ -z "${NATS_SERVER_CURRENT:-}" ] && ! command -v nats-server-2.15 >/dev/null; then
        (cd tests/faults/nats_server &&
            go build -mod=readonly -buildvcs=false -o "$TOOLS_DIR/bin/nats-server-2.15" github.com/nats-io/nats-server/v2) || return 1
    fi
    cargo --version && buf --version && grpcurl --version && "${NATS_SERVER_CURRENT:-nats-server-2.15}" --version && curl --version | head -n 1 && python3 --version
}

# The free space of the disk of a folder, in MiB.
free_mib() { df -Pm "$1" | awk 'NR == 2 { print $4 }'; }

# Builds that no later step needs are removed when the disk is nearly full: brokers and compilers fail on a full one in many ways.
make_room() {
    [ "$(free_mib .)" -lt 10240 ] || return 0
    case $1 in
    instructions) rm -rf target/instructions/build ;;
    fuzz) rm -rf target/fuzz/*/release ;;
    esac
}

step_format() { cargo fmt --check; }

# The lock files of the fuzz targets and of the instruction counts follow the service's.
step_lint() {
    local folder
    cargo clippy --locked --all-targets -- -D warnings || return 1
    for folder in tests/fuzz benches/instructions; do
        cargo metadata --locked --format-version 1 --manifest-path "$folder/Cargo.toml" >/dev/null || return 1
    done
}

# The rules for dependencies: deny.toml. The advisories need their database, which is a repository: if it cannot be fetched, the step says
# so and checks the rest.
step_deny() {
    command -v cargo-deny >/dev/null ||
        cargo install --quiet --debug --locked --root "$TOOLS_DIR" --target-dir "$TOOLS_DIR/cargo-deny" "cargo-deny@$CARGO_DENY_VERSION" || return 1
    rm -rf "$TOOLS_DIR/cargo-deny"
    local checks=(bans licenses sources)
    if cargo deny fetch db >/dev/null 2>&1; then
        checks+=(advisories)
    else
        echo "NOT CHECKED: advisories, since their database cannot be fetched here"
    fi
    # One line for each crate that is present in two versions, without its tree.
    cargo deny check --hide-inclusion-graph "${checks[@]}"
}

step_docs() { RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps; }

# The protos pass the linter and are compatible with the previous commit's, and the reference is current.
step_protos() {
    buf lint || return 1
    docs/generate.sh --check || return 1
    if git cat-file -e HEAD^:proto/catga 2>/dev/null; then
        buf breaking --against ".git#ref=$(git rev-parse HEAD^)"
    else
        echo "no earlier protos in this clone to compare with"
    fi
}

# Tests that mostly wait for servers and clocks run concurrently.
step_test() {
    cargo test --locked --no-run || return 1
    local others=() name
    # Either may match nothing.
    for name in $(compgen -G 'tests/*.rs') $(compgen -G 'tests/*/main.rs'); do
        name=${name%/main.rs}
        name=$(basename "$name" .rs)
        [ "$name" = contract ] || [ "$name" = faults ] || others+=(--test "$name")
    done
    side_by_side \
        "cargo test --locked --no-fail-fast --test contract -- --test-threads 4" \
        "cargo test --locked --no-fail-fast --test faults -- --skip seeded:: --test-threads 4" \
        "cargo test --locked --no-fail-fast --lib --bins ${others[*]}" &&
        cargo test --locked --doc
}

# Runs commands concurrently and shows the output of each, one after the other.
side_by_side() {
    local status=0 at processes=() logs=()
    for at in $(seq $#); do
        logs+=("$(mktemp)")
        bash -c "${!at}" >"${logs[-1]}" 2>&1 &
        processes+=($!)
    done
    for at in "${!processes[@]}"; do
        wait "${processes[$at]}" || status=1
        cat "${logs[$at]}"
        rm "${logs[$at]}"
    done
    return $status
}

# A folder for temporary files: in memory if there is room for them.
folder_in_memory() {
    if [ -w /dev/shm ] && [ "$(free_mib /dev/shm)" -ge 4096 ]; then echo /dev/shm; else echo "${TMPDIR:-/tmp}"; fi
}

# Seeded faults under load, one run of each topology, checked call by call. They run without other load on the machine, and keep their files
# in memory where that is possible: a process that is killed loses nothing of them there either, and the time in which a broker has to recover
# does not depend on the disk. The long form is tests/faults/seeded.sh, on disk.
step_seeded() {
    TMPDIR=$(folder_in_memory) || return 1
    export TMPDIR
    cargo test --locked --no-fail-fast --test faults seeded:: -- --test-threads 2
}

step_release() { cargo build --locked --release; }

# Every page that shows commands, command by command, against the released binary; the README's tables; and every link.
step_readme() {
    local page failed=0
    python3 tests/e2e/links.py || failed=1
    python3 tests/e2e/readme.py --tables proto "$ORDERSYSTEM" README.md || failed=1
    python3 tests/e2e/readme.py --every-rpc proto "$ORDERSYSTEM" docs/grpcurl.md || failed=1
    for page in rest configuration operations security troubleshooting; do
        python3 tests/e2e/readme.py "$ORDERSYSTEM" "docs/$page.md" || failed=1
    done
    return $failed
}

# The Python packages of a folder under tests/e2e, in a separate environment.
python_for() {
    local venv="$TOOLS_DIR/$1"
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv" || return 1
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "tests/e2e/$1/requirements.txt"
}

# REST from the outside: whatever the document allows and forbids, against the released binary.
step_rest() { python_for rest && "$TOOLS_DIR/rest/bin/python" tests/e2e/rest.py "$ORDERSYSTEM"; }

# The probes against the released binary. grpc_health_probe is built from a module whose hashes are in this repository.
step_probes() {
    command -v grpc_health_probe >/dev/null ||
        (cd tests/e2e/probes/grpc_health_probe &&
            go build -mod=readonly -buildvcs=false -o "$TOOLS_DIR/bin/grpc_health_probe" github.com/grpc-ecosystem/grpc-health-probe) || return 1
    python3 tests/e2e/probes.py "$ORDERSYSTEM"
}

# Every persistence with every transport, with the released binary, a real redis-server and a real nats-server.
step_matrix() { python3 tests/e2e/matrix.py "$ORDERSYSTEM"; }

# The events that listeners receive from the bus, read by Python's own clients of Redis and NATS.
step_listeners() { python_for listeners && "$TOOLS_DIR/listeners/bin/python" tests/e2e/listeners.py "$ORDERSYSTEM"; }

# run-cluster.sh, from its start to Ctrl-C.
step_cluster() { python3 tests/e2e/cluster.py "$ORDERSYSTEM"; }

# The instructions of parts of the service, compared with the recorded counts.
step_instructions() { benches/instructions/run.sh; }

# Hostile bytes to both APIs, and each fuzz target for a short time; tests/fuzz/run.sh runs for as long as you like.
step_fuzz() { python3 tests/e2e/fuzz.py "$ORDERSYSTEM" && tests/fuzz/run.sh 20; }

# Dockerfile, docker-compose.yml and deploy/, as far as possible without Docker and a cluster.
step_deploy() {
    tests/deploy/tools.sh "$TOOLS_DIR/deploy" || return 1
    "$TOOLS_DIR/deploy/venv/bin/python" tests/deploy/check.py "$ORDERSYSTEM" --tools "$TOOLS_DIR/deploy"
}

# The console and Swagger UI in a real browser, and the requests that pages of other sites make it send.
step_browser() {
    AXE="$TOOLS_DIR/node_modules/axe-core/axe.min.js" python3 tests/e2e/dashboard.py "$ORDERSYSTEM" &&
        python3 tests/e2e/cross_site.py "$ORDERSYSTEM"
}

# The clients in other languages: their generated code is current, and each passes its tests and all scenarios against the real server, on
# embedded persistence; on Redis in the step `identities`.
step_clients() {
    local binary
    binary=$(realpath "$ORDERSYSTEM") || return 1
    clients/generate.sh --check || return 1
    ORDERSYSTEM_BINARY="$binary" clients/test.sh
}

# What runs over the network, once more against nodes that identify their callers: each call has the key of a caller that may do everything, and the
# scenarios of 15_identities.yaml have their own. The browser and the manifests have their parts with identities in their own steps.
step_identities() {
    local binary status=0
    binary=$(realpath "$ORDERSYSTEM") || return 1
    export WITH_IDENTITIES=1
    # On Redis, with its files in memory if possible: on embedded persistence they have run without identities. They mostly wait.
    TMPDIR=$(folder_in_memory) ORDERSYSTEM_BINARY="$binary" CONFORMANCE_IDENTITIES=1 CONFORMANCE_PERSISTENCE=redis clients/test.sh >"$LOGS/identities.clients.log" 2>&1 &
    local clients=$!
    step_matrix || status=1
    step_listeners || status=1
    step_rest || status=1
    python3 tests/e2e/cluster.py --short "$ORDERSYSTEM" || status=1
    python3 tests/e2e/probes.py --without-grpc-health-probe --short "$ORDERSYSTEM" || status=1
    tests/deploy/tools.sh "$TOOLS_DIR/deploy" && python3 tests/e2e/callers.py "$ORDERSYSTEM" --tools "$TOOLS_DIR/deploy" || status=1
    wait "$clients" || status=1
    cat "$LOGS/identities.clients.log"
    return $status
}

usage() {
    sed -n '2,/^set -/p' "$0" | sed '$d; s/^# \{0,1\}//'
}

# The failed Rust tests in a log, each as the command that runs only that test.
failed_rust_tests() {
    awk '
        /^ +Running unittests/ { split($3, path, "/"); target = path[2] == "lib.rs" ? "--lib" : "--bins" }
        /^ +Running tests\// { name = $2; sub("^tests/", "", name); sub("/main[.]rs$", "", name); sub("[.]rs$", "", name); target = "--test " name }
        /^ +Doc-tests/ { target = "--doc" }
        /^test .* [.][.][.] FAILED$/ { print "cargo test --locked " target " -- --exact " $2 }
    ' "$1"
}

# The lines of a log that tell why a step failed, each with the lines after it.
reasons() {
    # shellcheck disable=SC2016  # the variables are awk's
    grep -v '^[[:space:]]*$' "$1" | awk '
        /panicked at|FAILED|^not ok|AssertionError|Traceback|^error|^E  |✖|failed:/ { left = 7 }
        left > 0 && !/^ +[0-9]+: |^ +at [^ ]+:[0-9]+:[0-9]+$|stack backtrace:/ { print; left-- }
    ' | tail -n 60 | cut -c 1-400
}

# The summary of a failed step: its failed tests, the lines that tell why, and its last lines.
describe_failure() {
    local log="$LOGS/$1.log"
    echo
    echo "$1 failed; run it again with ./test-all.sh $1"
    failed_rust_tests "$log" | sed 's/^/    /'
    reasons "$log" | sed 's/^/    > /'
    grep -v '^[[:space:]]*$' "$log" | tail -n 8 | cut -c 1-300 | sed 's/^/    | /'
}

# The time limit of a step, in seconds: a step that does not end fails.
STEP_LIMIT=${STEP_LIMIT:-2400}

# The output of a step: at once if there is one lane, otherwise only in its log.
show() {
    if [ "$LIVE" = 1 ]; then tee "$LOGS/$1.log"; else cat >"$LOGS/$1.log"; fi
}

# Runs a step in its own process group, all of which is killed when the time is up or the lane is told to end.
run_step() {
    local step=$1 started=$SECONDS running status outcome=passed
    timeout --kill-after=30 "$STEP_LIMIT" "$BASH" "./$(basename "$0")" --step "$step" > >(show "$step") 2>&1 &
    running=$!
    # shellcheck disable=SC2064  # this process, not a later one
    trap "kill $running; exit 130" INT TERM
    wait "$running"
    status=$?
    trap - INT TERM
    # Until all of its output is written.
    sleep 0.2
    make_room "$step"
    [ $status != 124 ] || echo "$step did not end within $STEP_LIMIT s" | tee -a "$LOGS/$step.log"
    [ $status = 0 ] || outcome=FAILED
    (
        # One step at a time.
        flock 9
        printf '=== %s: %s after %d s, %d MiB of the disk free\n' "$step" $outcome $((SECONDS - started)) "$(free_mib .)"
        [ "$LIVE" = 1 ] || cat "$LOGS/$step.log"
    ) 9>"$LOGS/output.lock"
    # In one piece: the other lane waits for this file.
    printf '%-12s %-8s %5d s\n' "$step" $outcome $((SECONDS - started)) >"$LOGS/$step.row.new"
    mv "$LOGS/$step.row.new" "$LOGS/$step.row"
}

run_lane() {
    local step needed
    for step in "$@"; do
        needed=${NEEDS[$step]:-}
        if [ -n "$needed" ] && [ "$LIVE" = 0 ]; then
            until [ -e "$LOGS/$needed.row" ]; do sleep 1; done
        fi
        echo "... $step"
        run_step "$step"
    done
}

# Runs lanes side by side, to the end of the last.
run_lanes() {
    local lane lanes=()
    for lane in "$@"; do
        # shellcheck disable=SC2086  # the steps of the lane
        run_lane $lane &
        lanes+=($!)
    done
    # shellcheck disable=SC2064  # these processes, not later ones
    trap "kill ${lanes[*]} 2>/dev/null; wait; exit 130" INT TERM
    wait "${lanes[@]}"
}

case "${1:-}" in
--step)
    "step_$2"
    exit
    ;;
--list)
    # shellcheck disable=SC2086
    printf '%s\n' ${LANES[*]} $ALONE
    exit 0
    ;;
--help | -h)
    usage
    exit 0
    ;;
esac
for step in "$@"; do
    declare -F "step_$step" >/dev/null || {
        echo "there is no step $step; the steps are: ${LANES[*]} $ALONE" >&2
        exit 2
    }
done
LIVE=0
if [ $# -gt 0 ]; then
    LIVE=1
    LANES=("$*")
    ALONE=
fi
# shellcheck disable=SC2206
STEPS=(${LANES[*]} $ALONE)

mkdir -p "$LOGS"
rm -f "$LOGS"/*.row
run_lanes "${LANES[@]}"
LIVE=1
run_lanes "$ALONE"

echo
echo "step         outcome    time"
FAILURES=()
for step in "${STEPS[@]}"; do
    cat "$LOGS/$step.row"
    grep -q ' passed ' "$LOGS/$step.row" || FAILURES+=("$step")
done
printf 'in all %20d s; %d MiB of the disk free\n' $SECONDS "$(free_mib .)"
for step in "${FAILURES[@]}"; do
    describe_failure "$step"
done
echo
echo "$((${#STEPS[@]} - ${#FAILURES[@]})) passed, ${#FAILURES[@]} failed"
[ ${#FAILURES[@]} = 0 ]
