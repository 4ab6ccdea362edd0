#!/usr/bin/env bash
# Installs the packages of package-lock.json into TOOLS_DIR, and links them here as node_modules, along with the programs buf and biome.
# Does nothing if all of it is installed already.
set -euo pipefail
cd "$(dirname "$0")"
export TOOLS_DIR=${TOOLS_DIR:-$(cd ../.. && pwd)/target/tools}

# Not among the dependencies: not every registry has their packages for all systems, so they cannot be locked everywhere.
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
# An existing node_modules of npm may have other versions.
[ -L node_modules ] || rm -rf node_modules
ln -sfn "$INSTALLED/node_modules" node_modules
