#!/usr/bin/env bash
# All checks of the TypeScript client; called by ../test.sh, which documents the interface. Arguments are test files: follow, tls ...
set -euo pipefail
cd "$(dirname "$0")"
export TOOLS_DIR=${TOOLS_DIR:-$(cd ../.. && pwd)/target/tools}

./install.sh
PROGRAMS=$TOOLS_DIR/typescript/programs/node_modules/.bin
"$PROGRAMS/biome" ci --error-on-warnings .
# Earlier output may belong to removed source files.
rm -rf build dist
node_modules/.bin/tsc -p tsconfig.build.json
node_modules/.bin/tsc -p tsconfig.json

FILES=("${@/#/build/tests/}")
[ $# = 0 ] && FILES=(build/tests/*.test.js) || FILES=("${FILES[@]/%/.test.js}")
# One file at a time: some tests depend on timing.
node --test --test-concurrency=1 --test-reporter=spec "${FILES[@]}"
