#!/usr/bin/env bash
# Everything that the TypeScript client has to pass; called by ../test.sh, which says how. Arguments are test files: follow, tls ...
set -euo pipefail
cd "$(dirname "$0")"
export TOOLS_DIR=${TOOLS_DIR:-$(cd ../.. && pwd)/target/tools}

./install.sh
PROGRAMS=$TOOLS_DIR/typescript/programs/node_modules/.bin
"$PROGRAMS/biome" ci --error-on-warnings .
# What was built before may be of a file that is no longer there.
rm -rf build dist
node_modules/.bin/tsc -p tsconfig.build.json
node_modules/.bin/tsc -p tsconfig.json

FILES=("${@/#/build/tests/}")
[ $# = 0 ] && FILES=(build/tests/*.test.js) || FILES=("${FILES[@]/%/.test.js}")
# One file at a time: some tests look at times.
node --test --test-concurrency=1 --test-reporter=spec "${FILES[@]}"
