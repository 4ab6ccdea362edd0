#!/usr/bin/env bash
# All checks of the Java client; called by ../test.sh, which documents the interface.
#
#   ./test.sh [MAVEN_ARGUMENT ...]   such as -Dtest=FollowTest
set -euo pipefail
cd "$(dirname "$0")"

REPOSITORY=$TOOLS_DIR/java-m2
MAVEN=(mvn --batch-mode --quiet -Dmaven.repo.local="$REPOSITORY")

# After one successful run with these versions nothing is downloaded any more.
WANTED=$(cksum pom.xml)
if [ "$(cat "$REPOSITORY/wanted" 2>/dev/null)" = "$WANTED" ]; then
    MAVEN+=(--offline)
fi

# Classes whose source has been removed must not stay.
rm -rf target
# Compiles with warnings as errors, runs the tests, and builds the jars, including sources and documentation.
"${MAVEN[@]}" verify "$@"
[ $# != 0 ] || echo "$WANTED" > "$REPOSITORY/wanted"

JAR=target/ordersystem-client-0.1.0
for entry in \
    "$JAR.jar com/catga/ordersystem/client/service_config.json" \
    "$JAR.jar com/catga/ordersystem/client/currencies.txt" \
    "$JAR.jar com/catga/ordersystem/client/OrderClient.class" \
    "$JAR.jar META-INF/LICENSE-MIT" \
    "$JAR.jar META-INF/LICENSE-APACHE" \
    "$JAR-sources.jar META-INF/LICENSE-MIT" \
    "$JAR.jar com/catga/orders/v1/OrderCommandServiceGrpc.class" \
    "$JAR-sources.jar com/catga/ordersystem/client/Follow.java" \
    "$JAR-sources.jar com/catga/orders/v1/PayOrderRequest.java" \
    "$JAR-javadoc.jar com/catga/ordersystem/client/OrderError.html"; do
    jar --list --file "${entry% *}" | grep -qx "${entry#* }" || { echo "${entry% *} lacks ${entry#* }" >&2; exit 1; }
done

# Maven prints nothing on success.
grep -ho '<testsuite [^>]*' target/surefire-reports/TEST-*.xml | sed 's/.* tests="\([0-9]*\)".*/\1/' |
    awk '{ tests += $1 } END { print tests " tests passed" }'
