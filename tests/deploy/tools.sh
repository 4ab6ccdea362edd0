#!/usr/bin/env bash
# Installs the tools of tests/deploy/check.py, except redis-server and grpcurl, into a separate folder, once.
#
# usage: tools.sh FOLDER      then: FOLDER/venv/bin/python tests/deploy/check.py BINARY --tools FOLDER
set -euo pipefail
cd "$(dirname "$0")"

mkdir -p "$1"
TOOLS=$(realpath "$1")
# The server of the image that docker-compose.yml names: Debian's does not know `sync_interval`.
NATS_VERSION=v2.12.8
# The loader of `docker compose`, with the schema of the Compose Specification.
COMPOSE_VERSION=v2.9.0
KUSTOMIZE_VERSION=v5.7.1

# program module@version
go_install() {
    [ -x "$TOOLS/$1" ] && return
    local built
    built=$(mktemp -d)
    GOBIN="$built" go install "$2"
    # A program is named after its folder, which may be just `cmd`.
    mv "$built"/* "$TOOLS/$1"
    rmdir "$built"
}

go_install nats-server "github.com/nats-io/nats-server/v2@$NATS_VERSION"
go_install compose-go "github.com/compose-spec/compose-go/v2/cmd@$COMPOSE_VERSION"
go_install kustomize "sigs.k8s.io/kustomize/kustomize/v5@$KUSTOMIZE_VERSION"

# Unpacked but not installed, which would make it a service of this machine.
if [ ! -x "$TOOLS/promtool" ]; then
    download=$(mktemp -d)
    chmod 755 "$download"
    cd "$download"
    apt-get download -q prometheus || { apt-get update -qq && apt-get download -q prometheus; }
    dpkg -x prometheus_*.deb unpacked
    cd - >/dev/null
    mv "$download"/unpacked/usr/bin/{prometheus,promtool} "$TOOLS"
    rm -rf "$download"
fi

[ -x "$TOOLS/venv/bin/python" ] || python3 -m venv "$TOOLS/venv"
"$TOOLS/venv/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt
