#!/usr/bin/env bash
# The generated part of the Go client; called by ../generate.sh, which documents the interface.
set -euo pipefail

MODULE=github.com/catga/ordersystem/clients/go
# The generated code needs a runtime that is at least as new as the plugins (go.mod).
BUF=@bufbuild/buf@1.75.0
PLUGINS=(
    google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
    google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
)

owned() {
    echo catga
    echo ordersystem/service_config.json
    echo ordersystem/currencies.txt
}

tools() {
    local folder=$TOOLS_DIR/go-generate plugin
    if [ "$(cat "$folder/wanted" 2>/dev/null)" != "$BUF ${PLUGINS[*]}" ]; then
        rm -rf "$folder"
        mkdir -p "$folder"
        npm install --silent --no-audit --no-fund --prefix "$folder" "$BUF"
        for plugin in "${PLUGINS[@]}"; do GOBIN="$folder/bin" go install "$plugin"; done
        echo "$BUF ${PLUGINS[*]}" > "$folder/wanted"
    fi
    export PATH="$folder/bin:$folder/node_modules/.bin:$PATH"
}

# How buf calls the plugins: catga/orders/v1/*.proto becomes package ordersv1 in catga/orders/v1 of the module.
template() {
    cat <<YAML
version: v2
plugins:
  - {local: protoc-gen-go, out: $1, opt: [module=$MODULE]}
  - {local: protoc-gen-go-grpc, out: $1, opt: [module=$MODULE]}
YAML
}

into() {
    local proto paths=()
    mkdir -p "$1/ordersystem"
    cp "$CLIENTS_DIR/service_config.json" "$CLIENTS_DIR/currencies.txt" "$1/ordersystem"
    tools
    for proto in $PROTOS; do paths+=(--path "$PROTO_DIR/$proto"); done
    # The file extension gives the format: buf only accepts a one-line template from a file with this extension.
    template "$1" > "$1/template.gen.yaml"
    buf generate "$PROTO_DIR" --template "$1/template.gen.yaml" "${paths[@]}"
    rm "$1/template.gen.yaml"
}

case ${1:-} in
    owned) owned ;;
    into) into "$2" ;;
    # For tests: the following arguments are run with buf and the plugins in the PATH.
    with_tools) tools && "${@:2}" ;;
    *) echo "called by ../generate.sh" >&2; exit 2 ;;
esac
