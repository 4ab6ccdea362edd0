#!/usr/bin/env python3
"""Every persistence with every transport, end to end with the real program and real brokers.

usage: matrix.py BINARY

For each pair: the life of an order, its history, its events on the bus read by the broker's own client, and the state after a kill -9,
compared with the durability that the node reports. Prints a table; exits with 1 if there are problems.
"""

import contextlib
import re
import socket
import sys
import tempfile
import threading
import time

from harness import Nats, Node, Redis, folder_of_brokers, until

PERSISTENCE = ["inmemory", "embedded", "redis", "nats"]
TRANSPORT = ["inmemory", "redis", "nats"]
# One nats-server acknowledges before it has synced.
DURABILITY = {"inmemory": "none", "embedded": "machine", "redis": "machine", "nats": "process"}


class NatsSubscriber:
    """A subscriber that speaks the plain NATS protocol, without JetStream."""

    def __init__(self, server):
        self.received = b""
        self.wire = socket.create_connection(("127.0.0.1", server.port))
        self.wire.sendall(b'CONNECT {"verbose":false,"headers":true}\r\nSUB *.events.> 1\r\nPING\r\n')
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while read := self.wire.recv(65536):
            self.received += read
            if b"PING\r\n" in read:
                self.wire.sendall(b"PONG\r\n")


def flags(persistence, transport, ports, folder, prefix):
    """The flags of a node with one pair of backends."""
    flags = ["--log-level", "warn", "--persistence", persistence, "--transport", transport]
    if persistence == "embedded":
        flags += ["--data-dir", f"{folder}/{prefix}"]
    for broker in ("redis", "nats"):
        if broker in (persistence, transport):
            flags += [f"--{broker}", f"127.0.0.1:{ports[broker]}", f"--{broker}-prefix", prefix]
    return flags


def run_order_lifecycle(node):
    """Drives one order through its life cycle; returns its id."""
    new = {"customerId": "customer-1", "items": [{"productId": "p", "quantity": 2, "price": 9.99}]}
    order = node.call("POST", "/orders", new, {"Idempotency-Key": "first"})
    retried = node.call("POST", "/orders", new, {"Idempotency-Key": "first"})
    assert order == retried, "a retry gets the first answer"
    path = f"/orders/{order['orderId']}"
    node.call("POST", path + "/pay", {"paymentMethod": "card"})
    node.call("POST", path + "/ship", {"trackingNumber": "T-1"})
    assert node.status_of("POST", path + "/cancel", {}) == 409, "a shipped order is not cancelled"
    node.call("POST", path + "/deliver", {})
    return order["orderId"]


def check_order(node, order):
    """Checks the replies of queries about the order, from the log and from the read model."""
    assert node.call("GET", f"/orders/{order}")["status"] == "Delivered"
    history = [event["type"] for event in node.call("GET", f"/orders/{order}/history")]
    assert history == ["OrderCreated", "OrderPaid", "OrderShipped", "OrderDelivered"], history
    until("the read model has the delivery", lambda: node.call("GET", "/stats")["byStatus"]["Delivered"] == 1)
    stats = node.call("GET", "/stats")
    assert (stats["totalOrders"], stats["totalRevenue"]) == (1, 19.98), stats
    assert node.call("GET", "/health")["status"] == "Healthy"


def ids_in_redis(redis, prefix, order):
    """The ids of the order's events in a Redis stream."""
    keys = [key for key in redis.cli("--scan", "--pattern", f"*{prefix}*").splitlines() if redis.cli("type", key) == "stream"]
    entries = [line for key in keys for line in redis.cli("xrange", key, "-", "+").splitlines()]
    return [line for line in entries if re.fullmatch(order + "-[0-9]+", line)]


def ids_on_nats(wire, prefix, order):
    """The ids of the order's events, as received over the wire."""
    return re.findall(rf"ce-id: ?({order}-[0-9]+)", wire.received.decode(errors="replace"), re.IGNORECASE)


def check_published(transport, broker, prefix, order):
    """Checks that the broker's own client gets every event from the bus, in order; events may be repeated."""
    expected = [f"{order}-{revision}" for revision in range(1, 5)]
    found = lambda: list(dict.fromkeys({"redis": ids_in_redis, "nats": ids_on_nats}[transport](broker, prefix, order)))
    try:
        until("all events are on the bus", lambda: found() == expected)
    except AssertionError as error:
        raise AssertionError(f"the bus has {found()}") from error


def check(binary, persistence, transport, ports, listeners, folder):
    prefix = f"{persistence}-{transport}"
    with Node(binary, *flags(persistence, transport, ports, folder, prefix)).until_ready() as node:
        info = node.call("GET", "/")
        assert (info["persistence"], info["transport"]) == (persistence, transport)
        assert info["durability"] == DURABILITY[persistence], info["durability"]
        order = run_order_lifecycle(node)
        check_order(node, order)
        if transport in listeners:
            check_published(transport, listeners[transport], prefix, order)
        node.kill()
        node.start().until_ready()
        if DURABILITY[persistence] == "none":
            assert node.status_of("GET", f"/orders/{order}") == 404, "nothing survives the process"
        else:
            check_order(node, order)
        assert node.stop() == 0, "an orderly shutdown"
    return info["durability"]


def main():
    rows, failed = [], 0
    with tempfile.TemporaryDirectory() as folder, folder_of_brokers() as memory, contextlib.ExitStack() as brokers:
        redis, nats = brokers.enter_context(Redis(memory)), brokers.enter_context(Nats(f"{memory}/jetstream"))
        ports, listeners = {"redis": redis.port, "nats": nats.port}, {"redis": redis, "nats": NatsSubscriber(nats)}
        for persistence in PERSISTENCE:
            for transport in TRANSPORT:
                started = time.monotonic()
                try:
                    outcome = "passed, durability " + check(sys.argv[1], persistence, transport, ports, listeners, folder)
                except (AssertionError, OSError) as error:
                    outcome, failed = f"FAILED: {error!r}", failed + 1
                rows.append(f"{persistence:<12} {transport:<10} {time.monotonic() - started:5.1f} s  {outcome}")
    print("\n".join(["persistence  transport     time  outcome", *rows]))
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
