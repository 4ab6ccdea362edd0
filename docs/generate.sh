#!/usr/bin/env bash
# Generates docs/api.md from proto/. Requires buf and python3.
#
#   ./generate.sh           writes docs/api.md
#   ./generate.sh --check   changes nothing; fails if the committed file is stale
set -euo pipefail
cd "$(dirname "$0")/.."

new=$(mktemp)
trap 'rm -f "$new"' EXIT
buf build -o -#format=json | python3 docs/generate.py > "$new"
if [ "${1:-}" = --check ]; then
    diff docs/api.md "$new" || { echo "docs/api.md is stale: run docs/generate.sh and commit" >&2; exit 1; }
else
    cp "$new" docs/api.md
fi
