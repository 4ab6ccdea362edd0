#!/usr/bin/env python3
"""Every persistence with every transport, end to end with the real program and real brokers.

usage: run.py BINARY

For each pair: the life of an order, its history, its events on the bus read by the broker's own client, and the state after a kill -9,
compared with the durability that the node reports. Prints a table; exits with 1 if there are problems.
"""

import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

PERSISTENCE = ["inmemory", "embedded", "redis", "nats"]
TRANSPORT = ["inmemory", "redis", "nats"]
# One nats-server acknowledges before it has synced.
DURABILITY = {"inmemory": "none", "embedded": "machine", "redis": "machine", "nats": "process"}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Redis:
    """A redis-server of this run, which syncs before it answers."""

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


class Nats:
    """A nats-server of this run, and a listener on its wire without JetStream."""

    def __init__(self, folder):
        program = shutil.which("nats-server") or sys.exit("there is no nats-server on this machine")
        self.port = str(free_port())
        options = ["-a", "127.0.0.1", "-p", self.port, "-js", "-sd", f"{folder}/jetstream"]
        self.process = subprocess.Popen([program, *options], stderr=subprocess.DEVNULL)
        self.heard = b""
        for _ in range(100):
            try:
                self.wire = socket.create_connection(("127.0.0.1", int(self.port)))
                break
            except OSError:
                time.sleep(0.05)
        else:
            sys.exit("nats-server does not answer")
        self.wire.sendall(b'CONNECT {"verbose":false,"headers":true}\r\nSUB *.events.> 1\r\nPING\r\n')
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while read := self.wire.recv(65536):
            self.heard += read
            if b"PING\r\n" in read:
                self.wire.sendall(b"PONG\r\n")

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Node:
    """The program, for one pair of backends."""

    def __init__(self, binary, persistence, transport, brokers, folder, prefix):
        self.port = free_port()
        self.args = [binary, "--port", str(self.port), "--log-level", "warn"]
        self.args += ["--persistence", persistence, "--transport", transport]
        if persistence == "embedded":
            self.args += ["--data-dir", f"{folder}/{prefix}"]
        if "redis" in (persistence, transport):
            self.args += ["--redis", f"127.0.0.1:{brokers['redis'].port}", "--redis-prefix", prefix]
        if "nats" in (persistence, transport):
            self.args += ["--nats", f"127.0.0.1:{brokers['nats'].port}", "--nats-prefix", prefix]
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
    """The life of one order; returns its id."""
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
    """The replies of queries about the order, from the log and from the read model."""
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


def in_redis(redis, prefix, order):
    """The ids of the order's events in a Redis stream."""
    keys = [key for key in redis.cli("--scan", "--pattern", f"*{prefix}*").splitlines() if redis.cli("type", key) == "stream"]
    entries = [line for key in keys for line in redis.cli("xrange", key, "-", "+").splitlines()]
    return [line for line in entries if re.fullmatch(order + "-[0-9]+", line)]


def on_nats(nats, prefix, order):
    """The ids of the order's events, as received over the wire."""
    return re.findall(rf"ce-id: ?({order}-[0-9]+)", nats.heard.decode(errors="replace"), re.IGNORECASE)


def is_published(transport, broker, prefix, order):
    """The events that the broker's own client gets from the bus: every one, in order; any may be repeated."""
    expected = [f"{order}-{revision}" for revision in range(1, 5)]
    for _ in range(100):
        found = list(dict.fromkeys({"redis": in_redis, "nats": on_nats}[transport](broker, prefix, order)))
        if found == expected:
            return
        time.sleep(0.05)
    raise AssertionError(f"the bus has {found}")


def check(binary, persistence, transport, brokers, folder):
    prefix = f"{persistence}-{transport}"
    node = Node(binary, persistence, transport, brokers, folder, prefix)
    try:
        node_says = node.call("GET", "/")
        assert (node_says["persistence"], node_says["transport"]) == (persistence, transport)
        assert node_says["durability"] == DURABILITY[persistence], node_says["durability"]
        order = live(node)
        is_told(node, order)
        if transport in brokers:
            is_published(transport, brokers[transport], prefix, order)
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
        brokers = {"redis": Redis(folder), "nats": Nats(folder)}
        try:
            for persistence in PERSISTENCE:
                for transport in TRANSPORT:
                    started = time.monotonic()
                    try:
                        outcome = "passed, durability " + check(sys.argv[1], persistence, transport, brokers, folder)
                    except (AssertionError, OSError) as error:
                        outcome, failed = f"FAILED: {error!r}", failed + 1
                    rows.append(f"{persistence:<12} {transport:<10} {time.monotonic() - started:5.1f} s  {outcome}")
        finally:
            for broker in brokers.values():
                broker.stop()
    print("\n".join(["persistence  transport     time  outcome", *rows]))
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
