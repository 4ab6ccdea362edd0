"""docker-compose.yml: loaded as `docker compose` loads it; then its services run here with the settings that they get there."""

import contextlib
import json
import re
import tempfile
from pathlib import Path

import image
import programs
from programs import ROOT, SECRETS, Nats, Node, Redis, effective_config, clean_environment, get, has_digest, is_pinned, check_that, run, tool, until

# The services of a profile, with the ports that the documentation names; "" stands for no profile.
DOCUMENTED = {
    "": {"ordersystem": [5000], "redis": [6379], "nats": [4222, 8222]},
    "inmemory": {"ordersystem-inmemory": [5010]},
    "embedded": {"ordersystem-embedded": [5011]},
    "redis": {"ordersystem-redis": [5012]},
    "nats": {"ordersystem-nats": [5013]},
    "cluster": {"node1": [5001], "node2": [5002], "node3": [5003]},
    "observability": {"prometheus": [9090], "grafana": [3000]},
}
# persistence, transport, and the durability that the service must detect.
EXPECTED_BACKENDS = {
    "ordersystem": ("redis", "nats", "machine"),
    "ordersystem-inmemory": ("inmemory", "inmemory", "none"),
    "ordersystem-embedded": ("embedded", "inmemory", "machine"),
    "ordersystem-redis": ("redis", "redis", "machine"),
    "ordersystem-nats": ("nats", "nats", "machine"),
    **{f"node{n}": ("redis", "redis", "machine") for n in (1, 2, 3)},
}


# Services that run to completion before others start.
ONE_SHOT = {"secrets"}
# The port for operators, reachable only from within the network.
ADMIN_PORT = "5090"


def compose_model():
    """The file as docker compose sees it; refused here if it violates the schema of the Compose Specification."""
    return json.loads(run(tool("compose-go"), "-format", "json", "docker-compose.yml").stdout)


def nodes(services):
    return {name: service for name, service in services.items() if service["image"].startswith("ordersystem")}


def settings(service):
    """The environment of the service: the image's, then the file's."""
    return {**image.settings(), **service["environment"]}


def profiles(compose):
    found = {}
    for name, service in compose["services"].items():
        if name in ONE_SHOT:
            continue
        ports = sorted(int(port["published"]) for port in service["ports"])
        for profile in service.get("profiles", [""]):
            found.setdefault(profile, {})[name] = ports
    check_that(found == DOCUMENTED, f"profiles, services and ports are as documented, not {found}")
    published = [port for services in found.values() for ports in services.values() for port in ports]
    check_that(len(published) == len(set(published)), "all profiles can run at once: no port is published twice")
    docs = (ROOT / "docs/deploy.md").read_text()
    for profile, services in found.items():
        for port in (port for ports in services.values() for port in ports):
            check_that(re.search(rf"\b{port}\b", docs), f"docs/deploy.md does not tell of port {port}")
        check_that(f"`{profile}`" in docs or not profile, f"docs/deploy.md does not tell of profile {profile}")


def every_service(compose):
    for name, service in compose["services"].items():
        check_that(is_pinned(service["image"]), f"{name}: the image is pinned: {service['image']}")
        check_that(name in nodes(compose["services"]) or has_digest(service["image"]), f"{name}: the image is pinned by its digest")
        if name in ONE_SHOT:
            check_that(service["network_mode"] == "none" and service["read_only"], f"{name}: does nothing but its work")
            continue
        check_that(service["restart"] == "unless-stopped", f"{name}: comes back after a crash and a reboot")
        check_that("stop_grace_period" in service, f"{name}: says how long it may take to stop")
        is_node = name in nodes(compose["services"])
        check_that(is_node or "healthcheck" in service, f"{name}: has a health check (a node has its image's)")
        check_that(all(port["host_ip"] == "127.0.0.1" for port in service["ports"]), f"{name}: is open to this machine only")
        own = service.get("profiles")
        for other, how in service.get("depends_on", {}).items():
            ready = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
            check_that(how["condition"] == ready, f"{name}: waits until {other} is ready")
            check_that(compose["services"][other].get("profiles") in (None, own), f"{name}: {other} starts whenever it does")
        for mount in service.get("volumes", []):
            if mount["type"] == "bind":
                check_that(Path(mount["source"]).exists(), f"{name}: {mount['source']} is not there")
                check_that(mount["read_only"], f"{name}: {mount['source']} is not written to")
            else:
                check_that(mount["source"] in compose["volumes"], f"{name}: the volume {mount['source']} has a name")


def seconds(period):
    minutes, rest = re.fullmatch(r"(?:(\d+)m)?(?:([\d.]+)s)?", period).groups()
    return 60 * int(minutes or 0) + float(rest or 0)


def node_settings(compose):
    logs, ids = {}, {}
    for name, service in nodes(compose["services"]).items():
        given = settings(service)
        effective = effective_config(given)
        grace = int(re.search(r"shutdown_grace_ms = (\d+)", effective)[1]) / 1_000
        check_that(seconds(service["stop_grace_period"]) >= grace + 5, f"{name}: has the time to drain before it is killed")
        check_that(all(str(port["target"]) == given["ORDERSYSTEM_PORT"] for port in service["ports"]), f"{name}: its own port is published")
        check_that(any(mount["target"] == given["ORDERSYSTEM_DATA_DIR"] for mount in service["volumes"]), f"{name}: has a volume")
        check_that(service["read_only"] and service["cap_drop"] == ["ALL"], f"{name}: can do no more than it needs")
        check_that(given["ORDERSYSTEM_ADMIN_PORT"] == ADMIN_PORT, f"{name}: operators come in by a port of their own")
        check_that(all(str(port["target"]) != ADMIN_PORT for port in service["ports"]), f"{name}: which is not published")
        check_that(given.get("ORDERSYSTEM_OPERATORS", "local") == "local", f"{name}: not everyone is an operator")
        check_that({"localhost", name} <= set(given["ORDERSYSTEM_ALLOWED_HOSTS"].split(",")), f"{name}: is served under its name")
        backends = {given["ORDERSYSTEM_PERSISTENCE"], given["ORDERSYSTEM_TRANSPORT"]} & {"redis", "nats"}
        check_that(backends == set(service.get("depends_on", {})), f"{name}: waits for the brokers that it uses: {backends}")
        for broker in backends:
            address = given[f"ORDERSYSTEM_{broker.upper()}"].removeprefix("nats://ordersystem@")
            check_that(given[f"ORDERSYSTEM_{broker.upper()}_PASSWORD_FILE"] == f"{SECRETS}/{broker}-password", f"{name}: has the password of {broker}")
            check_that({"type": "volume", "source": "secrets", "target": SECRETS, "read_only": True}.items() <= next(
                (mount for mount in service["volumes"] if mount["target"] == SECRETS), {}).items(), f"{name}: and its volume")
            check_that(address == {"redis": "redis:6379", "nats": "nats:4222"}[broker], f"{name}: finds {broker} by {address}")
            prefix = given.get(f"ORDERSYSTEM_{broker.upper()}_PREFIX", "ordersystem")
            logs.setdefault((broker, prefix), []).append((name, given.get("ORDERSYSTEM_CLUSTER")))
        if given.get("ORDERSYSTEM_CLUSTER"):
            ids.setdefault(given["ORDERSYSTEM_NODE_ID"], []).append(name)
    for log, users in logs.items():
        check_that(len(users) == 1 or all(cluster for _, cluster in users), f"only nodes of a cluster share {log}: {users}")
    check_that(sorted(map(len, ids.values())) == [1, 1, 1], f"nodes of the cluster have names of their own: {ids}")


def brokers_are_durable(redis, nats):
    for name, value in {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no", "maxmemory-policy": "noeviction"}.items():
        check_that(redis.cli("config", "get", name).split() == [name, value], f"redis: {name} is {value}")
    config = nats.jetstream()["config"]
    check_that(config.get("sync_always"), f"nats: syncs before it acknowledges: {config}")


def passwords_are_required(compose, redis, nats):
    check_that("NOAUTH" in redis.cli("ping", password=""), "redis: asks for a password")
    check_that("PONG" not in redis.cli("ping", password="ordersystem"), "redis: no other password will do")
    (user, password), = re.findall(r'user: (\w+), password: "(\w{48})"', (nats.secrets / "nats.conf").read_text())
    check_that(password == (nats.secrets / "nats-password").read_text(), "nats: the service's password is the server's")
    before = {file.name: file.read_text() for file in redis.secrets.iterdir()}
    run(ROOT / "deploy/secrets.sh", redis.secrets)
    check_that(before == {file.name: file.read_text() for file in redis.secrets.iterdir()}, "passwords are made once")
    check_that(len(set(before.values())) == len(before), "each password is its own")
    for name in ("redis", "nats"):
        node = nodes(compose["services"])[f"ordersystem-{name}"]
        check_that(user == "ordersystem" if name == "nats" else True, "nats: the user of the address")
        given = {**settings(node), f"ORDERSYSTEM_{name.upper()}": f"{'nats://ordersystem:wrong@' if name == 'nats' else 'redis://:wrong@'}127.0.0.1:"
                 f"{nats.port if name == 'nats' else redis.port}", "ORDERSYSTEM_PORT": "0", "ORDERSYSTEM_ADMIN_PORT": "0"}
        given.pop(f"ORDERSYSTEM_{name.upper()}_PASSWORD_FILE")
        with tempfile.TemporaryDirectory() as folder:
            refused = run(programs.BINARY, "serve", env={**clean_environment(), **given, "ORDERSYSTEM_DATA_DIR": folder}, ok=False)
        check_that(refused.returncode == 1, f"{name}: a wrong password is refused: {refused.stderr[-300:]}")
    text = (ROOT / "docker-compose.yml").read_text()
    check_that("ANONYMOUS" not in text and "PASSWORD:" not in text, "no one gets in by a default password, or without one")


def every_node_runs(compose, redis, nats, folder):
    with contextlib.ExitStack() as stack:
        services = nodes(compose["services"])
        started = {name: stack.enter_context(Node(settings(service), folder / name, redis, [nats])) for name, service in services.items()}
        for name, node in started.items():
            node.until_ready()
            info = node.info()
            check_that((info["persistence"], info["transport"], info["durability"]) == EXPECTED_BACKENDS[name], f"{name} states {info}")
            node.passes_health_command()
            check_that("ordersystem_ready" in get(f"http://127.0.0.1:{node.admin_port}/metrics"), f"{name}: metrics at the port for operators")
            node.create_order()
        names = ["node1", "node2", "node3"]
        for name in names:
            until(f"{name} knows the others", lambda name=name: names == sorted(
                node["node"] for node in json.loads(run("curl", "-s", started[name].url("/cluster")).stdout)["nodes"]))
        order = started["node1"].create_order()
        until("the order of one node is on the others", lambda: run("curl", "-sf", started["node3"].url(f"/orders/{order}"), ok=False).returncode == 0)
        check_that(run("curl", "-sf", started["ordersystem-redis"].url(f"/orders/{order}"), ok=False).returncode != 0, "other services have other orders")
        for name, node in started.items():
            check_that(node.stop() == 0, f"{name}: SIGTERM ends it in order")


def non_durable_redis_is_refused(compose, nats, folder):
    """The settings of redis.conf are needed, and the service detects them."""
    given = settings(compose["services"]["ordersystem"])
    with Redis(folder / "redis", extra=["--appendfsync", "everysec"]) as redis, Node(given, folder / "node", redis, [nats]) as node:
        until("a node that is to be durable does not start on a careless Redis", lambda: node.process.poll() is not None)
        check_that(node.process.returncode == 1, f"it ended with {node.process.returncode}")


def checks(folder):
    compose = compose_model()

    def with_brokers(check):
        with Redis(folder / "redis") as redis, Nats(folder / "nats") as nats:
            check(redis, nats)

    return [
        ("profiles start the documented services on the documented ports", lambda: profiles(compose)),
        ("every service is pinned, restarted, watched and kept to this machine", lambda: every_service(compose)),
        ("the service accepts its settings, and only a cluster shares a log", lambda: node_settings(compose)),
        ("the brokers start with their files, and are durable", lambda: with_brokers(brokers_are_durable)),
        ("the brokers ask for passwords, which are made once", lambda: with_brokers(
            lambda redis, nats: passwords_are_required(compose, redis, nats))),
        ("every node runs with its settings and states its durability",
         lambda: with_brokers(lambda redis, nats: every_node_runs(compose, redis, nats, folder))),
        ("a Redis that is set otherwise is refused",
         lambda: with_brokers(lambda _, nats: non_durable_redis_is_refused(compose, nats, folder / "careless"))),
    ]
