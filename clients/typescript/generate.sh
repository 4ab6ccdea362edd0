#!/usr/bin/env bash
# The generated part of the TypeScript client; called by ../generate.sh, which documents the interface. The versions are those of
# package-lock.json.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)

owned() {
    echo src/gen
}

into() {
    local gen=$1/src/gen source
    local plugin='{"local": "protoc-gen-es", "out": ".", "opt": ["target=ts", "import_extension=js"]}'
    "$HERE/install.sh"
    export PATH="$TOOLS_DIR/typescript/programs/node_modules/.bin:$HERE/node_modules/.bin:$PATH"
    mkdir -p "$gen"
    for source in "$PROTO_DIR" "$VENDOR_DIR"; do
        buf generate "$source" --template "{\"version\": \"v2\", \"plugins\": [$plugin]}" --output "$gen"
    done
    {
        echo "// Made from clients/service_config.json. A module, so that browsers need no bundler that knows JSON."
        echo "export const SERVICE_CONFIG = $(cat "$CLIENTS_DIR/service_config.json") as const;"
    } > "$gen/service_config.ts"
    {
        echo "// Made from clients/currencies.txt: the decimal digits of the minor unit, by currency."
        echo "export const CURRENCIES: Readonly<Record<string, number>> = {"
        sed 's/\(.*\) \(.*\)/  \1: \2,/' "$CLIENTS_DIR/currencies.txt"
        echo "};"
    } > "$gen/currencies.ts"
}

case ${1:-} in
    owned) owned ;;
    into) into "$2" ;;
    *) echo "called by ../generate.sh" >&2; exit 2 ;;
esac
