#!/usr/bin/env bash
# Installs what package-lock.json names into TOOLS_DIR, and links it here as node_modules; next to it the programs buf and biome.
# Nothing is done if all of it is there already.
set -euo pipefail
cd "$(dirname "$0")"
export TOOLS_DIR=${TOOLS_DIR:-$(cd ../.. && pwd)/target/tools}

# Not among the dependencies: not every registry has their packages for all systems, so that they cannot be locked everywhere.
PROGRAMS=(@bufbuild/buf@1.75.0 @biomejs/biome@2.6.8)
INSTALLED=$TOOLS_DIR/typescript
WANTED="${PROGRAMS[*]} $(cat package.json package-lock.json | cksum)"
# No package needs its install script.
OPTIONS=(--ignore-scripts --no-audit --no-fund --loglevel=error)

if [ "$(cat "$INSTALLED/wanted" 2>/dev/null)" != "$WANTED" ]; then
    rm -rf "$INSTALLED"
    mkdir -p "$INSTALLED/programs"
    cp package.json package-lock.json "$INSTALLED"
    npm ci --prefix "$INSTALLED" "${OPTIONS[@]}" >&2
    npm install --prefix "$INSTALLED/programs" --no-package-lock "${OPTIONS[@]}" "${PROGRAMS[@]}" >&2
    echo "$WANTED" > "$INSTALLED/wanted"
fi
# What npm has installed here itself may be of other versions.
[ -L node_modules ] || rm -rf node_modules
ln -sfn "$INSTALLED/node_modules" node_modules
