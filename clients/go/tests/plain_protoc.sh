#!/usr/bin/env bash
# The protos alone are enough for Go: plain protoc makes code of a copy of them that compiles, with no option but where to write.
# Called by ../test.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
TOOLS_DIR=${TOOLS_DIR:-$(realpath ../../target)/tools}
export TOOLS_DIR

MODULE=github.com/catga/ordersystem/clients/go
# The package that has protoc for every system.
PROTOC=grpcio-tools==1.85.1
VENV=$TOOLS_DIR/go-protoc
if [ "$(cat "$VENV/wanted" 2>/dev/null)" != "$PROTOC" ]; then
    rm -rf "$VENV"
    python3 -m venv "$VENV"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check "$PROTOC"
    echo "$PROTOC" > "$VENV/wanted"
fi

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cp -R ../../proto "$WORK/proto"
mkdir "$WORK/out"
PROTOS=$(cd "$WORK/proto" && find catga -name '*.proto' | LC_ALL=C sort)
# shellcheck disable=SC2086  # one argument a proto
./generate.sh with_tools "$VENV/bin/python" -m grpc_tools.protoc \
    -I "$WORK/proto" --go_out="$WORK/out" --go-grpc_out="$WORK/out" $PROTOS

MADE=$WORK/out/$MODULE
cp go.mod go.sum "$MADE"
(cd "$MADE" && go build -mod=mod ./...)
# A file that protoc had left out would be missed by no compiler.
diff <(cd "$MADE" && find catga -name '*.go' | LC_ALL=C sort) <(find catga -name '*.go' | LC_ALL=C sort)
echo "plain protoc: $(find "$MADE" -name '*.go' | wc -l) files of Go compile"
