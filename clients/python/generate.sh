#!/usr/bin/env bash
# The generated part of the Python client; called by ../generate.sh, which documents the interface.
set -euo pipefail

# protoc is part of grpcio-tools; the runtime must be at least as new (pyproject.toml).
REQUIREMENTS=(grpcio-tools==1.85.1 mypy-protobuf==5.1.0 setuptools==81.0.0)

owned() {
    echo src/catga
    echo src/ordersystem_client/service_config.json
    echo src/ordersystem_client/currencies.txt
}

tools() {
    local venv=$TOOLS_DIR/python-generate
    if [ "$(cat "$venv/requirements" 2>/dev/null)" != "${REQUIREMENTS[*]}" ]; then
        rm -rf "$venv"
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check "${REQUIREMENTS[@]}"
        echo "${REQUIREMENTS[*]}" > "$venv/requirements"
    fi
    export PATH="$venv/bin:$PATH"
}

into() {
    local src=$1/src
    mkdir -p "$src/ordersystem_client"
    cp "$CLIENTS_DIR/service_config.json" "$CLIENTS_DIR/currencies.txt" "$src/ordersystem_client"
    tools
    # shellcheck disable=SC2086  # one argument a proto
    python -m grpc_tools.protoc --proto_path="$PROTO_DIR" \
        --python_out="$src" --grpc_python_out="$src" --mypy_out="$src" --mypy_grpc_out="$src" $PROTOS 2>&1 |
        { grep -v '^Writing mypy to ' || true; }
    find "$src/catga" -type d -exec touch {}/__init__.py \;
    touch "$src/catga/py.typed"
}

case ${1:-} in
    owned) owned ;;
    into) into "$2" ;;
    *) echo "called by ../generate.sh" >&2; exit 2 ;;
esac
