#!/usr/bin/env bash
# The generated part of the Java client; called by ../generate.sh, which documents the interface.
set -euo pipefail
cd "$(dirname "$0")"

GENERATED=src/generated/java
RESOURCES=src/main/resources/com/catga/ordersystem/client

owned() {
    echo "$GENERATED"
    echo "$RESOURCES/service_config.json"
    echo "$RESOURCES/currencies.txt"
}

# protoc has the version of the runtime that the client is built with. The gRPC plugin is the latest one with an executable for Linux on
# Maven Central; it must not be newer than grpc.version in pom.xml.
PROTOC=$(sed -n 's:.*<protobuf.version>\(.*\)</protobuf.version>.*:\1:p' pom.xml)
GRPC_PLUGIN=1.81.0

# The platform, as named by the Maven artifacts.
classifier() {
    local os machine
    case $(uname -s) in
        Linux) os=linux ;;
        Darwin) os=osx ;;
        *) echo "no protoc is known for $(uname -s)" >&2; exit 2 ;;
    esac
    case $(uname -m) in
        x86_64 | amd64) machine=x86_64 ;;
        aarch64 | arm64) machine=aarch_64 ;;
        *) echo "no protoc is known for $(uname -m)" >&2; exit 2 ;;
    esac
    echo "$os-$machine"
}

# Runs a goal of the dependency plugin, outside pom.xml: none needs the project.
dependency() {
    local goal=$1
    shift
    (cd "$TOOLS_DIR" && mvn --batch-mode --quiet -Dmaven.repo.local="$TOOLS_DIR/java-m2" \
        "org.apache.maven.plugins:maven-dependency-plugin:3.11.0:$goal" "$@")
}

# Installs an executable that is published as a Maven artifact at a path.
fetch() {
    local artifact=$1 path=$2 folder
    [ ! -x "$path" ] || return 0
    folder=$(mktemp -d)
    dependency copy -Dartifact="$artifact:exe:$(classifier)" -DoutputDirectory="$folder"
    chmod +x "$folder"/*.exe
    mv "$folder"/*.exe "$path"
    rmdir "$folder"
}

# Unpacks the protos of google.protobuf, which are part of the runtime, into a folder.
fetch_well_known() {
    local folder=$1
    [ ! -d "$folder" ] || return 0
    dependency unpack -Dartifact="com.google.protobuf:protobuf-java:$PROTOC:jar" \
        -Dmdep.unpack.includes='google/protobuf/*.proto' -DoutputDirectory="$folder.new"
    mv "$folder.new" "$folder"
}

# Copies the protos and adds the options for Java: a Java package, one file per message, and an outer class name that hides nothing
# (`System` would). A proto that already has these options is not changed.
copy_protos() {
    local into=$1 proto
    rm -rf "$into"
    for proto in $PROTOS; do
        mkdir -p "$into/$(dirname "$proto")"
        if grep -q '^option java_package' "$PROTO_DIR/$proto"; then
            cp "$PROTO_DIR/$proto" "$into/$proto"
            continue
        fi
        # On the line of the package, so that the line numbers in the generated code stay correct.
        awk -v file="$(basename "$proto" .proto)" '
            /^package .*;$/ {
                package = substr($2, 1, length($2) - 1)
                class = toupper(substr(file, 1, 1)) substr(file, 2) "Proto"
                $0 = $0 " option java_package = \"com." package "\"; option java_multiple_files = true;"
                $0 = $0 " option java_outer_classname = \"" class "\";"
            }
            { print }' "$PROTO_DIR/$proto" > "$into/$proto"
    done
}

into() {
    local out=$1 tools=$TOOLS_DIR/java-generate
    mkdir -p "$out/$GENERATED" "$out/$RESOURCES" "$tools"
    cp "$CLIENTS_DIR/service_config.json" "$CLIENTS_DIR/currencies.txt" "$out/$RESOURCES"

    fetch "com.google.protobuf:protoc:$PROTOC" "$tools/protoc-$PROTOC"
    fetch "io.grpc:protoc-gen-grpc-java:$GRPC_PLUGIN" "$tools/protoc-gen-grpc-java-$GRPC_PLUGIN"

    fetch_well_known "$tools/include-$PROTOC"

    copy_protos "$tools/protos"
    # shellcheck disable=SC2086  # one argument a proto
    "$tools/protoc-$PROTOC" --plugin=protoc-gen-grpc-java="$tools/protoc-gen-grpc-java-$GRPC_PLUGIN" \
        --proto_path="$tools/protos" --proto_path="$PROTO_DIR" --proto_path="$tools/include-$PROTOC" --java_out="$out/$GENERATED" \
        --grpc-java_out="$out/$GENERATED" --grpc-java_opt=@generated=omit $PROTOS
}

case ${1:-} in
    owned) owned ;;
    into) into "$2" ;;
    *) echo "called by ../generate.sh" >&2; exit 2 ;;
esac
