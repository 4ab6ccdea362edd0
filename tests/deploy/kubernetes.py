"""The manifests: built by kustomize, validated against the schema of Kubernetes, and run here as far as possible without a cluster."""

import contextlib
import re

import kubernetes_validate
import yaml

import image
from programs import ROOT, Nats, Node, Redis, effective_config, free_port, harness, has_digest, is_pinned, check_that, run, tool, until

# The store of the service in each, and the durability that it must detect.
EXPECTED_BACKENDS = {
    "base": ("embedded", "inmemory", "machine"),
    "overlays/redis": ("redis", "redis", "machine"),
    "overlays/nats": ("nats", "nats", "quorum"),
    "overlays/cluster": ("redis", "redis", "machine"),
    "overlays/identities": ("embedded", "inmemory", "machine"),
}
# The oldest version that has the sleep of preStop, and the newest with a schema here.
VERSIONS = ["1.30", "1.37"]
NATS_CONFIG = ROOT / "deploy/kubernetes/components/nats/nats.conf"


def build(overlay):
    return [manifest for manifest in yaml.safe_load_all(run(tool("kustomize"), "build", f"deploy/kubernetes/{overlay}").stdout) if manifest]


def of_kind(manifests, kind):
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def named(manifests, kind, name):
    found = [manifest for manifest in of_kind(manifests, kind) if manifest["metadata"]["name"] == name]
    check_that(len(found) == 1, f"there is one {kind} {name}, not {len(found)}")
    return found[0]


def valid(manifests):
    for version in VERSIONS:
        for manifest in manifests:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                check_that(False, f"{manifest['kind']} {manifest['metadata']['name']}, Kubernetes {version}: {error.message} at {list(error.path)}")


def selectors(manifests):
    pods = {tuple(sorted(manifest["spec"]["template"]["metadata"]["labels"].items())): manifest for manifest in of_kind(manifests, "StatefulSet")}

    def selected(labels):
        found = [manifest for have, manifest in pods.items() if labels.items() <= dict(have).items()]
        check_that(len(found) == 1, f"{labels} chooses one set of pods, not {len(found)}")
        return found[0]

    def ports_of(pod):
        return {port["name"] for container in pod["spec"]["template"]["spec"]["containers"] for port in container["ports"]}

    for service in of_kind(manifests, "Service"):
        ports = ports_of(selected(service["spec"]["selector"]))
        check_that({port["targetPort"] for port in service["spec"]["ports"]} <= ports, f"{service['metadata']['name']}: the pods have its ports")
    for manifest in of_kind(manifests, "PodDisruptionBudget"):
        selected(manifest["spec"]["selector"]["matchLabels"])
    for policy in of_kind(manifests, "NetworkPolicy"):
        own = selected(policy["spec"]["podSelector"]["matchLabels"])
        for rule in policy["spec"].get("ingress", []):
            check_that({port["port"] for port in rule["ports"]} <= ports_of(own), f"{policy['metadata']['name']}: the pods have its ports")
        for rule in policy["spec"].get("egress", []):
            for peer in rule.get("to", []):
                ports = ports_of(selected(peer["podSelector"]["matchLabels"]))
                check_that({port["port"] for port in rule["ports"]} <= ports, f"{policy['metadata']['name']}: who is called has these ports")
    for workload in of_kind(manifests, "StatefulSet"):
        selected(workload["spec"]["selector"]["matchLabels"])
        governing = named(manifests, "Service", workload["spec"]["serviceName"])
        check_that(governing["spec"]["clusterIP"] == "None", f"{workload['metadata']['name']}: its governing service is headless")
        policed = [policy for policy in of_kind(manifests, "NetworkPolicy") if "Ingress" in policy["spec"]["policyTypes"]
                   and selected(policy["spec"]["podSelector"]["matchLabels"]) is workload]
        check_that(policed, f"{workload['metadata']['name']}: a policy says who comes in")


def hardened(manifests):
    for workload in of_kind(manifests, "StatefulSet"):
        name, pod = workload["metadata"]["name"], workload["spec"]["template"]["spec"]
        context = pod["securityContext"]
        check_that(context["runAsNonRoot"] and context["runAsUser"] > 0, f"{name}: is not root")
        check_that(context["seccompProfile"] == {"type": "RuntimeDefault"}, f"{name}: has the runtime's seccomp profile")
        check_that(not pod["automountServiceAccountToken"] and not pod["enableServiceLinks"], f"{name}: gets neither token nor links")
        mounts = {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
        for volume in pod.get("volumes", []):
            mounts.add(volume["name"])
            if "secret" in volume:
                made = f"kubectl create secret generic {volume['secret']['secretName']}"
                check_that(made in (ROOT / "docs/deploy.md").read_text(), f"{name}: docs/deploy.md says `{made}`")
                check_that(volume["secret"]["defaultMode"] == 0o440, f"{name}: only its group reads {volume['name']}")
            if "configMap" in volume:
                named(manifests, "ConfigMap", volume["configMap"]["name"])
        for container in pod["containers"]:
            check_that(is_pinned(container["image"]), f"{name}: the image is pinned: {container['image']}")
            check_that(name == "ordersystem" or has_digest(container["image"]), f"{name}: the image is pinned by its digest")
            own = container["securityContext"]
            check_that(own["readOnlyRootFilesystem"] and not own["allowPrivilegeEscalation"], f"{name}: cannot change itself")
            check_that(own["capabilities"] == {"drop": ["ALL"]}, f"{name}: has no capabilities")
            check_that("memory" in container["resources"]["limits"] and "cpu" in container["resources"]["requests"], f"{name}: says what it needs")
            check_that({"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys(), f"{name}: has all three probes")
            check_that({mount["name"] for mount in container["volumeMounts"]} <= mounts, f"{name}: mounts what there is")


def service(manifests):
    """The StatefulSet of the service, its container, and the settings of its pods, by pod name."""
    workload = named(manifests, "StatefulSet", "ordersystem")
    container = workload["spec"]["template"]["spec"]["containers"][0]
    common = image.settings()
    for source in container["envFrom"]:
        common |= named(manifests, "ConfigMap", source["configMapRef"]["name"])["data"]
    pods = {}
    for number in range(workload["spec"]["replicas"]):
        pod = f"ordersystem-{number}"
        fields = {"metadata.name": pod}
        pods[pod] = common | {variable["name"]: fields[variable["valueFrom"]["fieldRef"]["fieldPath"]] for variable in container.get("env", [])}
    return workload, container, pods


def settings(manifests, overlay):
    workload, container, pods = service(manifests)
    check_that(len(pods) == (3 if overlay == "overlays/cluster" else 1), f"{len(pods)} nodes")
    names = [given.get("ORDERSYSTEM_NODE_ID") for given in pods.values()]
    check_that(len(pods) == 1 or names == list(pods), f"the nodes of a cluster are named as their pods: {names}")
    spec = workload["spec"]["template"]["spec"]
    for given in pods.values():
        effective = effective_config(given)
        grace = int(re.search(r"shutdown_grace_ms = (\d+)", effective)[1]) / 1_000
        pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        check_that(spec["terminationGracePeriodSeconds"] >= pause + grace + 5, "there is time to drain before the kill")
        check_that(given["ORDERSYSTEM_REQUIRE_DURABLE"] == "true", "a pod that would lose orders does not start")
    paths = [mount["mountPath"] for mount in container["volumeMounts"]]
    for given in pods.values():
        folder = given["ORDERSYSTEM_DATA_DIR"]
        check_that(folder.rpartition("/")[0] in paths, f"the data folder {folder} is one that the service makes in a volume: {paths}")
        for broker in ("REDIS", "NATS"):
            if f"ORDERSYSTEM_{broker}" in given:
                file = given[f"ORDERSYSTEM_{broker}_PASSWORD_FILE"]
                check_that(file.rpartition("/")[0] in paths, f"the password {file} is from a Secret")
        if overlay == "overlays/identities":
            check_that(given["ORDERSYSTEM_REQUIRE_AUTH"] == "true", "a pod that does not identify callers does not start")
            check_that(given["ORDERSYSTEM_IDENTITIES"].rpartition("/")[0] in paths, "the identity file is from a Secret")
    admin = only_monitoring_reaches_metrics(manifests, container, pods)
    port = int(image.settings()["ORDERSYSTEM_PORT"])
    check_that(container["ports"][0]["containerPort"] == port, "the container's port is the service's")
    marks = workload["spec"]["template"]["metadata"]["annotations"]
    check_that((marks["prometheus.io/port"], marks["prometheus.io/path"]) == (admin, "/metrics"), f"Prometheus finds it: {marks}")
    addresses = [given[key] for given in pods.values() for key in ("ORDERSYSTEM_REDIS", "ORDERSYSTEM_NATS") if key in given]
    for host, number in re.findall(r"([\w.-]+):(\d+)", ",".join(addresses)):
        to = named(manifests, "Service", host.split(".")[-1])
        check_that(int(number) in [port["port"] for port in to["spec"]["ports"]], f"{host} has port {number}")


def only_monitoring_reaches_metrics(manifests, container, pods):
    """The port for operators; a policy admits only the namespace of Prometheus."""
    ports, = {given["ORDERSYSTEM_ADMIN_PORT"] for given in pods.values()}
    name, = [port["name"] for port in container["ports"] if str(port["containerPort"]) == ports]
    rules = named(manifests, "NetworkPolicy", "ordersystem")["spec"]["ingress"]
    to_it = [rule for rule in rules if name in [port["port"] for port in rule["ports"]]]
    only = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    check_that([rule["from"] for rule in to_it] == [only], f"only Prometheus comes to port {ports}: {to_it}")
    for manifest in of_kind(manifests, "Service"):
        check_that(all(port["targetPort"] != name for port in manifest["spec"]["ports"]), f"no Service leads to port {ports}")
    check_that(all(given.get("ORDERSYSTEM_OPERATORS", "local") == "local" for given in pods.values()), "not everyone is an operator")
    return ports


@contextlib.contextmanager
def brokers(manifests, folder):
    """The brokers with the files of their ConfigMaps, on this machine."""
    with contextlib.ExitStack() as stack:
        redis, nats = None, []
        for manifest in of_kind(manifests, "StatefulSet"):
            if manifest["metadata"]["name"] == "ordersystem-redis":
                command = manifest["spec"]["template"]["spec"]["containers"][0]["command"]
                redis = stack.enter_context(Redis(folder / "redis", extra=command[2:]))
            elif manifest["metadata"]["name"] == "ordersystem-nats":
                check_that(NATS_CONFIG.read_text() in config_texts(manifests), "the ConfigMap holds the file")
                routes = [free_port() for _ in range(manifest["spec"]["replicas"])]
                for number in range(len(routes)):
                    nats.append(stack.enter_context(Nats(folder / "nats", NATS_CONFIG, f"ordersystem-nats-{number}", routes=routes)))
                until("the NATS servers have a leader", lambda: all(server.jetstream().get("meta_cluster", {}).get("leader") for server in nats))
                check_that(all(server.jetstream()["config"].get("sync_always") for server in nats), "NATS syncs before it acknowledges")
                check_that(all(server.requires_route_auth(port) for server, port in zip(nats, routes)), "NATS servers ask each other for a password")
        yield redis, nats


def config_texts(manifests):
    return "".join(text for manifest in of_kind(manifests, "ConfigMap") for text in manifest["data"].values())


def runs(manifests, overlay, folder):
    _, container, pods = service(manifests)
    probes = {kind: container[f"{kind}Probe"]["grpc"] for kind in ("startup", "readiness", "liveness")}
    check_that({kind: probe["service"] for kind, probe in probes.items()} ==
         {"startup": "liveness", "readiness": "readiness", "liveness": "liveness"}, f"each probe asks for its own thing: {probes}")
    with brokers(manifests, folder) as (redis, nats), contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(Node(given, folder / pod, redis, nats)) for pod, given in pods.items()]
        for node in nodes:
            node.until_ready()
            for kind, probe in probes.items():
                check_that(str(probe["port"]) == image.settings()["ORDERSYSTEM_PORT"], f"{kind}: its port")
                until(f"{kind} of {overlay} succeeds", lambda node=node, probe=probe: node.probe(probe["service"]) == "SERVING")
            check_that(node.probe("no-such-service") == "NotFound", "a probe for a service that is not there fails")
            check_that("ordersystem_ready" in node.metrics(), "metrics are at the port for operators")
            if node.headers:
                check_that(harness.status_of(node.port, "GET", "/orders") == 401, "without credentials no one reads orders")
            info = node.info()
            check_that((info["persistence"], info["transport"], info["durability"]) == EXPECTED_BACKENDS[overlay], f"{overlay} states {info}")
            node.create_order()
        if redis:
            # A node without its broker is not ready, and must not be restarted for that.
            redis.stop()
            until("without Redis it is not ready", lambda: nodes[0].probe("readiness") == "NOT_SERVING")
            check_that(nodes[0].probe("liveness") == "SERVING", "without Redis it is live")
            return
        for node in nodes:
            check_that(node.stop() == 0, "SIGTERM ends it in order")


def checks(folder):
    found = []
    for overlay in EXPECTED_BACKENDS:
        manifests = build(overlay)
        found += [
            (f"{overlay}: every manifest is valid for Kubernetes {' and '.join(VERSIONS)}", lambda m=manifests: valid(m)),
            (f"{overlay}: services, budgets and policies choose the pods that are there", lambda m=manifests: selectors(m)),
            (f"{overlay}: pods are hardened, and complete", lambda m=manifests: hardened(m)),
            (f"{overlay}: the service accepts its settings", lambda m=manifests, o=overlay: settings(m, o)),
            (f"{overlay}: its nodes run, pass their probes and state their durability",
             lambda m=manifests, o=overlay: runs(m, o, folder / o)),
        ]
    return found
