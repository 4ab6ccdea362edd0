#!/usr/bin/env bash
# Runs every test in every configuration that there is, and prints a table of it at the end.
#
#   ./test-all.sh            everything
#   ./test-all.sh STEP ...   only these steps; ./test-all.sh --list names them
#
# At the end it names what failed and how to run just that; what each step printed is in target/test-all/STEP.log.
#
# What the tests need and the machine lacks is installed first: buf (npm), grpcurl and a current nats-server (go), Python's clients of the
# brokers (pip), curl, python3, redis-server (which is Sentinel too), Debian's nats-server, go, node, Java with Maven, and Chromium with its
# driver (apt-get). The clients' tests install what is theirs, and tests/deploy/tools.sh what checks the deployment.
# A tool that cannot be had is a failure: nothing is skipped.
set -uo pipefail
cd "$(dirname "$0")"

STEPS=(tools format lint deny docs protos test seeded release readme rest probes matrix listeners cluster browser fuzz deploy clients)
# The binary that the steps after `release` run.
ORDERSYSTEM="${ORDERSYSTEM:-target/release/ordersystem}"
TOOLS_DIR="${TOOLS_DIR:-$PWD/target/tools}"
BUF_VERSION=1.75.0
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
    for tool in curl python3 chromium; do
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

step_format() { cargo fmt --check; }

# The lock file of the fuzz targets follows the service's.
step_lint() {
    cargo clippy --locked --all-targets -- -D warnings &&
        cargo metadata --locked --format-version 1 --manifest-path tests/fuzz/Cargo.toml >/dev/null
}

# The rules for dependencies: deny.toml. The advisories need their database, which is a repository: if it cannot be fetched, the step says
# so and checks the rest.
step_deny() {
    command -v cargo-deny >/dev/null ||
        cargo install --quiet --debug --locked --root "$TOOLS_DIR" --target-dir "$TOOLS_DIR/cargo-deny" "cargo-deny@$CARGO_DENY_VERSION" || return 1
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
        "cargo test --locked --no-fail-fast --test contract" \
        "cargo test --locked --no-fail-fast --test faults -- --skip seeded::" \
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

# Seeded faults under load, one run of each topology, checked call by call. They run without other load on the machine.
# The long form is tests/faults/seeded.sh.
step_seeded() { cargo test --locked --no-fail-fast --test faults seeded:: -- --test-threads 2; }

step_release() { cargo build --locked --release; }

# Every page that shows commands, command by command, against the released binary; the README's tables; and every link.
step_readme() {
    local page failed=0
    python3 tests/e2e/links.py || failed=1
    python3 tests/e2e/readme.py --tables proto "$ORDERSYSTEM" README.md || failed=1
    python3 tests/e2e/readme.py --every-rpc proto "$ORDERSYSTEM" docs/grpcurl.md || failed=1
    for page in rest configuration operations troubleshooting; do
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

# Hostile bytes to both APIs, and each fuzz target for a short time; tests/fuzz/run.sh runs for as long as you like.
step_fuzz() { python3 tests/e2e/fuzz.py "$ORDERSYSTEM" && tests/fuzz/run.sh 20; }

# Dockerfile, docker-compose.yml and deploy/, as far as possible without Docker and a cluster.
step_deploy() {
    tests/deploy/tools.sh "$TOOLS_DIR/deploy" || return 1
    "$TOOLS_DIR/deploy/venv/bin/python" tests/deploy/check.py "$ORDERSYSTEM" --tools "$TOOLS_DIR/deploy"
}

# The dashboard and Swagger UI in a real browser, and the requests that pages of other sites make it send.
step_browser() { python3 tests/e2e/dashboard.py "$ORDERSYSTEM" && python3 tests/e2e/cross_site.py "$ORDERSYSTEM"; }

# The clients in other languages: their generated code is current, and each passes its tests and all scenarios against the real server, on
# embedded persistence and on Redis.
step_clients() {
    local binary status=0
    binary=$(realpath "$ORDERSYSTEM") || return 1
    clients/generate.sh --check || return 1
    for persistence in embedded redis; do
        ORDERSYSTEM_BINARY="$binary" CONFORMANCE_PERSISTENCE=$persistence clients/test.sh || status=1
    done
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

# The summary of a failed step: its failed tests, otherwise its last lines.
describe_failure() {
    local log="$LOGS/$1.log" tests
    echo
    echo "$1 failed; run it again with ./test-all.sh $1"
    tests=$(failed_rust_tests "$log")
    if [ -n "$tests" ]; then
        echo "$tests" | sed 's/^/    /'
    else
        grep -v '^[[:space:]]*$' "$log" | tail -n 8 | cut -c 1-300 | sed 's/^/    | /'
    fi
}

LOGS=target/test-all
# The time limit of a step, in seconds: a step that does not end fails.
STEP_LIMIT=${STEP_LIMIT:-2400}
running=

# In its own process group, all of which is killed when the time is up or the script is interrupted.
run_step() {
    timeout --kill-after=30 "$STEP_LIMIT" "$BASH" "./$(basename "$0")" --step "$1" > >(tee "$LOGS/$1.log") 2>&1 &
    running=$!
    wait "$running"
    local status=$?
    running=
    # Until tee has written all of it.
    sleep 0.2
    [ $status != 124 ] || echo "$1 did not end within $STEP_LIMIT s" | tee -a "$LOGS/$1.log"
    return $status
}
trap '[ -z "$running" ] || kill "$running"; exit 130' INT TERM

case "${1:-}" in
--step)
    "step_$2"
    exit
    ;;
--list)
    printf '%s\n' "${STEPS[@]}"
    exit 0
    ;;
--help | -h)
    usage
    exit 0
    ;;
esac
for step in "$@"; do
    declare -F "step_$step" >/dev/null || {
        echo "there is no step $step; the steps are: ${STEPS[*]}" >&2
        exit 2
    }
done
[ $# = 0 ] || STEPS=("$@")

mkdir -p "$LOGS"
ROWS=()
FAILURES=()
PASSED=0
for step in "${STEPS[@]}"; do
    echo "=== $step"
    started=$SECONDS
    if run_step "$step"; then
        outcome=passed
        PASSED=$((PASSED + 1))
    else
        outcome=FAILED
        FAILURES+=("$step")
    fi
    ROWS+=("$(printf '%-10s %-8s %5d s' "$step" "$outcome" $((SECONDS - started)))")
done

echo
echo "step       outcome    time"
printf '%s\n' "${ROWS[@]}"
for step in "${FAILURES[@]}"; do
    describe_failure "$step"
done
echo
echo "$PASSED passed, ${#FAILURES[@]} failed"
[ ${#FAILURES[@]} = 0 ]
