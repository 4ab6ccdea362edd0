"""docker-compose.yml: loaded as `docker compose` loads it, then its services run here with the very settings that they get there."""

import json
import re
from pathlib import Path

import image
from programs import ROOT, Nats, Node, Redis, accepted, is_pinned, need, run, tool, until

# What a profile starts, with the ports that docs and seeds speak of; "" is what starts without one.
DOCUMENTED = {
    "": {"ordersystem": [5000], "redis": [6379], "nats": [4222, 8222]},
    "inmemory": {"ordersystem-inmemory": [5010]},
    "embedded": {"ordersystem-embedded": [5011]},
    "redis": {"ordersystem-redis": [5012]},
    "nats": {"ordersystem-nats": [5013]},
    "cluster": {"node1": [5001], "node2": [5002], "node3": [5003]},
    "observability": {"prometheus": [9090], "grafana": [3000]},
}
# persistence, transport, durability that the service must find.
STATED = {
    "ordersystem": ("redis", "nats", "machine"),
    "ordersystem-inmemory": ("inmemory", "inmemory", "none"),
    "ordersystem-embedded": ("embedded", "inmemory", "machine"),
    "ordersystem-redis": ("redis", "redis", "machine"),
    "ordersystem-nats": ("nats", "nats", "machine"),
    **{f"node{n}": ("redis", "redis", "machine") for n in (1, 2, 3)},
}


def model():
    """The file as docker compose sees it; a file against the schema of the Compose Specification is refused here."""
    return json.loads(run(tool("compose-go"), "-format", "json", "docker-compose.yml").stdout)


def nodes(services):
    return {name: service for name, service in services.items() if service["image"].startswith("ordersystem")}


def settings(service):
    """What the service gets in the environment: the image's, then the file's."""
    return {**image.settings(), **service["environment"]}


def profiles(compose):
    found = {}
    for name, service in compose["services"].items():
        ports = sorted(int(port["published"]) for port in service["ports"])
        for profile in service.get("profiles", [""]):
            found.setdefault(profile, {})[name] = ports
    need(found == DOCUMENTED, f"profiles, services and ports are as documented, not {found}")
    published = [port for services in found.values() for ports in services.values() for port in ports]
    need(len(published) == len(set(published)), "all profiles can run at once: no port is published twice")
    docs = (ROOT / "docs/deploy.md").read_text()
    for profile, services in found.items():
        for port in (port for ports in services.values() for port in ports):
            need(re.search(rf"\b{port}\b", docs), f"docs/deploy.md does not tell of port {port}")
        need(f"`{profile}`" in docs or not profile, f"docs/deploy.md does not tell of profile {profile}")


def every_service(compose):
    for name, service in compose["services"].items():
        need(is_pinned(service["image"]), f"{name}: the image is pinned: {service['image']}")
        need(service["restart"] == "unless-stopped", f"{name}: comes back after a crash and a reboot")
        need("stop_grace_period" in service, f"{name}: says how long it may take to stop")
        is_node = name in nodes(compose["services"])
        need(is_node or "healthcheck" in service, f"{name}: has a health check (a node has its image's)")
        need(all(port["host_ip"] == "127.0.0.1" for port in service["ports"]), f"{name}: is open to this machine only")
        own = service.get("profiles")
        for other, how in service.get("depends_on", {}).items():
            need(how["condition"] == "service_healthy", f"{name}: waits until {other} is healthy")
            need(compose["services"][other].get("profiles") in (None, own), f"{name}: {other} starts whenever it does")
        for mount in service.get("volumes", []):
            if mount["type"] == "bind":
                need(Path(mount["source"]).exists(), f"{name}: {mount['source']} is not there")
                need(mount["read_only"], f"{name}: {mount['source']} is not written to")
            else:
                need(mount["source"] in compose["volumes"], f"{name}: the volume {mount['source']} has a name")


def seconds(period):
    minutes, rest = re.fullmatch(r"(?:(\d+)m)?(?:([\d.]+)s)?", period).groups()
    return 60 * int(minutes or 0) + float(rest or 0)


def node_settings(compose):
    logs, ids = {}, {}
    for name, service in nodes(compose["services"]).items():
        given = settings(service)
        effective = accepted(given)
        grace = int(re.search(r"shutdown_grace_ms = (\d+)", effective)[1]) / 1_000
        need(seconds(service["stop_grace_period"]) >= grace + 5, f"{name}: has the time to drain before it is killed")
        need(all(str(port["target"]) == given["ORDERSYSTEM_PORT"] for port in service["ports"]), f"{name}: its own port is published")
        need(any(mount["target"] == given["ORDERSYSTEM_DATA_DIR"] for mount in service["volumes"]), f"{name}: has a volume")
        need(service["read_only"] and service["cap_drop"] == ["ALL"], f"{name}: can do no more than it needs")
        backends = {given["ORDERSYSTEM_PERSISTENCE"], given["ORDERSYSTEM_TRANSPORT"]} & {"redis", "nats"}
        need(backends == set(service.get("depends_on", {})), f"{name}: waits for the brokers that it uses: {backends}")
        for broker in backends:
            address = given[f"ORDERSYSTEM_{broker.upper()}"].removeprefix("nats://")
            need(address == {"redis": "redis:6379", "nats": "nats:4222"}[broker], f"{name}: finds {broker} by {address}")
            prefix = given.get(f"ORDERSYSTEM_{broker.upper()}_PREFIX", "ordersystem")
            logs.setdefault((broker, prefix), []).append((name, given.get("ORDERSYSTEM_CLUSTER")))
        if given.get("ORDERSYSTEM_CLUSTER"):
            ids.setdefault(given["ORDERSYSTEM_NODE_ID"], []).append(name)
    for log, users in logs.items():
        need(len(users) == 1 or all(cluster for _, cluster in users), f"only nodes of a cluster share {log}: {users}")
    need(sorted(map(len, ids.values())) == [1, 1, 1], f"nodes of the cluster have names of their own: {ids}")


def brokers_are_durable(redis, nats):
    for name, value in {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no", "maxmemory-policy": "noeviction"}.items():
        need(redis.cli("config", "get", name).split() == [name, value], f"redis: {name} is {value}")
    config = nats.jetstream()["config"]
    need(config.get("sync_always"), f"nats: syncs before it acknowledges: {config}")


def every_node_runs(compose, redis, nats, folder):
    started = {name: Node(settings(service), folder / name, redis, [nats]) for name, service in nodes(compose["services"]).items()}
    try:
        for name, node in started.items():
            node.until_ready()
            info = node.info()
            need((info["persistence"], info["transport"], info["durability"]) == STATED[name], f"{name} states {info}")
            need(node.health_command() == 0, f"{name}: the health check of its container")
            node.create_order()
        names = ["node1", "node2", "node3"]
        for name in names:
            until(f"{name} knows the others", lambda name=name: names == sorted(
                node["node"] for node in json.loads(run("curl", "-s", started[name].url("/cluster")).stdout)["nodes"]))
        order = started["node1"].create_order()
        until("the order of one node is on the others", lambda: run("curl", "-sf", started["node3"].url(f"/orders/{order}"), ok=False).returncode == 0)
        need(run("curl", "-sf", started["ordersystem-redis"].url(f"/orders/{order}"), ok=False).returncode != 0, "other services have other orders")
        for name, node in started.items():
            need(node.stop() == 0, f"{name}: SIGTERM ends it in order")
    finally:
        for node in started.values():
            node.__exit__()


def careless_redis_is_refused(compose, nats, folder):
    """That the settings of redis.conf are needed, and that the service sees it."""
    given = settings(compose["services"]["ordersystem"])
    with Redis(folder / "redis", extra=["--appendfsync", "everysec"]) as redis, Node(given, folder / "node", redis, [nats]) as node:
        until("a node that is to be durable does not start on a careless Redis", lambda: node.process.poll() is not None)
        need(node.process.returncode == 1, f"it ended with {node.process.returncode}")


def checks(folder):
    compose = model()

    def with_brokers(check):
        with Redis(folder / "redis") as redis, Nats(folder / "nats") as nats:
            check(redis, nats)

    return [
        ("profiles start the documented services on the documented ports", lambda: profiles(compose)),
        ("every service is pinned, restarted, watched and kept to this machine", lambda: every_service(compose)),
        ("the service accepts its settings, and only a cluster shares a log", lambda: node_settings(compose)),
        ("the brokers start with their files, and are durable", lambda: with_brokers(brokers_are_durable)),
        ("every node runs with its settings and states its durability",
         lambda: with_brokers(lambda redis, nats: every_node_runs(compose, redis, nats, folder))),
        ("a Redis that is set otherwise is refused",
         lambda: with_brokers(lambda _, nats: careless_redis_is_refused(compose, nats, folder / "careless"))),
    ]
