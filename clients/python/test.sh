#!/usr/bin/env bash
# All checks of the Python client; called by ../test.sh, which documents the interface.
set -euo pipefail
cd "$(dirname "$0")"

VENV=$TOOLS_DIR/python-test
WANTED=$(cat pyproject.toml tests/requirements.txt | cksum)
if [ "$(cat "$VENV/wanted" 2>/dev/null)" != "$WANTED" ]; then
    rm -rf "$VENV"
    python3 -m venv "$VENV"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check --requirement tests/requirements.txt --editable '.[health]'
    echo "$WANTED" > "$VENV/wanted"
fi
"$VENV/bin/mypy" --cache-dir "$VENV/mypy"
"$VENV/bin/python" -B -m pytest "$@"
