#!/usr/bin/env python3
"""Every persistence with every transport, end to end over the real program and real brokers.

usage: run.py BINARY

For each pair: the life of an order, its history, its events on the bus read by a client of the broker's own, and what a
kill -9 leaves, held against the durability that the node states. Prints a table; exits with 1 if anything is not as it should be.
"""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

PERSISTENCE = ["inmemory", "embedded", "redis"]
TRANSPORT = ["inmemory", "redis"]
DURABILITY = {"inmemory": "none", "embedded": "machine", "redis": "machine"}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Redis:
    """A redis-server of this run, synced before it answers."""

    def __init__(self, folder):
        program = shutil.which("redis-server") or sys.exit("there is no redis-server on this machine")
        self.port = str(free_port())
        options = ["--port", self.port, "--dir", folder, "--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        self.process = subprocess.Popen([program, *options, "--maxmemory-policy", "noeviction"], stdout=subprocess.DEVNULL)
        for _ in range(100):
            if self.cli("ping") == "PONG":
                return
            time.sleep(0.05)
        sys.exit("redis-server does not answer")

    def cli(self, *args):
        done = subprocess.run(["redis-cli", "-p", self.port, *args], capture_output=True, check=False)
        return done.stdout.decode(errors="replace").strip()

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Node:
    """The program, for one pair of backends."""

    def __init__(self, binary, persistence, transport, redis, folder, prefix):
        self.port = free_port()
        self.args = [binary, "--port", str(self.port), "--log-level", "warn"]
        self.args += ["--persistence", persistence, "--transport", transport]
        if persistence == "embedded":
            self.args += ["--data-dir", f"{folder}/{prefix}"]
        if "redis" in (persistence, transport):
            self.args += ["--redis", f"127.0.0.1:{redis.port}", "--redis-prefix", prefix]
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.args)
        for _ in range(200):
            try:
                self.call("GET", "/health/ready")
                return
            except (OSError, urllib.error.HTTPError):
                time.sleep(0.05)
        raise AssertionError("not ready after 10 s")

    def call(self, method, path, body=None, headers=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **(headers or {})}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers, method=method)
        return json.load(urllib.request.urlopen(request, timeout=10))

    def status_of(self, method, path, body=None):
        try:
            self.call(method, path, body)
            return 200
        except urllib.error.HTTPError as error:
            return error.code

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        return self.process.wait(timeout=40)


def live(node):
    """The life of one order; its id."""
    new = {"customerId": "customer-1", "items": [{"productId": "p", "quantity": 2, "price": 9.99}]}
    order = node.call("POST", "/orders", new, {"Idempotency-Key": "first"})
    again = node.call("POST", "/orders", new, {"Idempotency-Key": "first"})
    assert order == again, "a retry gets the first answer"
    path = f"/orders/{order['orderId']}"
    node.call("POST", path + "/pay", {"paymentMethod": "card"})
    node.call("POST", path + "/ship", {"trackingNumber": "T-1"})
    assert node.status_of("POST", path + "/cancel", {}) == 409, "a shipped order is not cancelled"
    node.call("POST", path + "/deliver", {})
    return order["orderId"]


def is_told(node, order):
    """What queries say of the order, from the log and from the read model."""
    assert node.call("GET", f"/orders/{order}")["status"] == "Delivered"
    history = [event["type"] for event in node.call("GET", f"/orders/{order}/history")]
    assert history == ["OrderCreated", "OrderPaid", "OrderShipped", "OrderDelivered"], history
    for _ in range(100):
        stats = node.call("GET", "/stats")
        if stats["byStatus"]["Delivered"] == 1:
            break
        time.sleep(0.05)
    assert (stats["totalOrders"], stats["totalRevenue"]) == (1, 19.98), stats
    assert node.call("GET", "/health")["status"] == "Healthy"


def is_published(redis, prefix, order):
    """What a client of the broker's own finds on the bus: every event, in order."""
    keys = [key for key in redis.cli("--scan", "--pattern", f"*{prefix}*").splitlines() if redis.cli("type", key) == "stream"]
    for _ in range(100):
        for key in keys:
            entries = redis.cli("xrange", key, "-", "+").splitlines()
            ids = [line for line in entries if line in {f"{order}-{revision}" for revision in range(1, 5)}]
            if ids == [f"{order}-{revision}" for revision in range(1, 5)]:
                return
        time.sleep(0.05)
    raise AssertionError(f"the bus does not hold the four events in order: {keys}")


def check(binary, persistence, transport, redis, folder):
    prefix = f"{persistence}-{transport}"
    node = Node(binary, persistence, transport, redis, folder, prefix)
    try:
        node_says = node.call("GET", "/")
        assert (node_says["persistence"], node_says["transport"]) == (persistence, transport)
        assert node_says["durability"] == DURABILITY[persistence], node_says["durability"]
        order = live(node)
        is_told(node, order)
        if transport == "redis":
            is_published(redis, prefix, order)
        node.kill()
        node.start()
        if DURABILITY[persistence] == "none":
            assert node.status_of("GET", f"/orders/{order}") == 404, "nothing survives the process"
        else:
            is_told(node, order)
        assert node.stop() == 0, "an orderly shutdown"
    finally:
        if node.process.poll() is None:
            node.kill()
    return node_says["durability"]


def main():
    rows, failed = [], 0
    with tempfile.TemporaryDirectory() as folder:
        redis = Redis(folder)
        try:
            for persistence in PERSISTENCE:
                for transport in TRANSPORT:
                    started = time.monotonic()
                    try:
                        outcome = "passed, durability " + check(sys.argv[1], persistence, transport, redis, folder)
                    except (AssertionError, OSError) as error:
                        outcome, failed = f"FAILED: {error!r}", failed + 1
                    rows.append(f"{persistence:<12} {transport:<10} {time.monotonic() - started:5.1f} s  {outcome}")
        finally:
            redis.stop()
    print("\n".join(["persistence  transport     time  outcome", *rows]))
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
