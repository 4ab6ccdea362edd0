#!/usr/bin/env bash
# All checks of the Go client; called by ../test.sh, which documents the interface. Arguments go to `go test`.
set -euo pipefail
cd "$(dirname "$0")"

STATICCHECK=honnef.co/go/tools/cmd/staticcheck@v0.8.2

TOOLS_DIR=${TOOLS_DIR:-$(realpath ../../target)/tools}
BIN=$TOOLS_DIR/go-test
if [ "$(cat "$BIN/wanted" 2>/dev/null)" != "$STATICCHECK" ]; then
    rm -rf "$BIN"
    mkdir -p "$BIN"
    GOBIN="$BIN" go install "$STATICCHECK"
    echo "$STATICCHECK" > "$BIN/wanted"
fi

UNFORMATTED=$(gofmt -l .)
[ -z "$UNFORMATTED" ] || { echo "not as gofmt writes it: $UNFORMATTED" >&2; exit 1; }
go mod tidy -diff
go mod verify
go vet ./...
"$BIN/staticcheck" ./...
tests/plain_protoc.sh
go test -count=1 -timeout 5m -race "$@" ./ordersystem
go test -count=1 -timeout 20m "$@" ./tests
