#!/usr/bin/env python3
"""The events that external listeners receive from the bus, read by Python's own clients of the brokers.

usage: listeners.py BINARY [REDIS_OR_NATS ...]

Needs redis-server, nats-server and the packages of listeners/requirements.txt. NATS_SERVER names another nats-server program.

For each transport and each event format some hundred orders are driven over REST, many at a time, while listeners of every kind read
along. Each must receive every event once after dropping duplicates by id, in order for each order, with the attributes of a CloudEvent
and a payload that can be decoded. Prints a table; exits with 1 if there are problems.
"""

import asyncio
import base64
import concurrent.futures
import datetime
import json
import os
import random
import re
import sys
import tempfile
import threading
import time
import urllib.error

import nats
import nats.js.api
import redis

from harness import Nats, Node, Redis, folder_of_brokers, until

ORDERS = 300
DRIVERS = 16
# The time limit of listeners after the last command was answered.
TIMEOUT_S = 30
LIFECYCLES = [["pay", "ship", "deliver"], ["pay", "ship"], ["pay", "cancel"], ["cancel"], ["pay"], []]
KINDS = {"create": "OrderCreated", "pay": "OrderPaid", "ship": "OrderShipped", "deliver": "OrderDelivered", "cancel": "OrderCancelled"}
# The field of an OrderEvent that contains the change.
FIELDS = {"OrderCreated": 16, "OrderPaid": 17, "OrderShipped": 18, "OrderDelivered": 19, "OrderCancelled": 20}
# The same in JSON.
NAMES = {kind: kind[0].lower() + kind[1:] for kind in FIELDS}


def call(node, method, path, body=None):
    """The response of the node; retries while it is overloaded."""
    def answer():
        try:
            return node.call(method, path, body)
        except OSError as error:
            if isinstance(error, urllib.error.HTTPError) and error.code == 429:
                return None
            # `until` would ask again.
            raise AssertionError(f"{path}: {error}") from error

    return until("the node is not overloaded", answer)


def run_order_lifecycle(node, number, steps):
    """One order; its expected events: id -> (order, type, customer)."""
    customer = f"customer-{number % 7} é"
    order = call(node, "POST", "/orders", {"customerId": customer, "items": [{"productId": "p", "quantity": 2, "price": "9.99"}]})["orderId"]
    bodies = {"pay": {"paymentMethod": "card"}, "ship": {"trackingNumber": f"T-{number}"}, "deliver": {}, "cancel": {"reason": "changed"}}
    for step in steps:
        call(node, "POST", f"/orders/{order}/{step}", bodies[step])
    return {f"{order}-{revision}": (order, KINDS[step], customer) for revision, step in enumerate(["create", *steps], 1)}


def drive(node, rng):
    lifecycles = [rng.choice(LIFECYCLES) for _ in range(ORDERS)]
    expected = {}
    with concurrent.futures.ThreadPoolExecutor(DRIVERS) as pool:
        for events in pool.map(lambda numbered: run_order_lifecycle(node, *numbered), enumerate(lifecycles)):
            expected.update(events)
    return expected


class Listener:
    """The record of one listener: (attributes of the CloudEvent, or None if only the payload is delivered; payload)."""

    def __init__(self, name):
        self.name, self.received, self.lock = name, [], threading.Lock()

    def record(self, attributes, payload):
        with self.lock:
            self.received.append((attributes, payload))

    def count(self, event_format):
        with self.lock:
            return len({decode(payload, event_format)["id"] for _, payload in self.received})


def varint(data, offset):
    value, shift = 0, 0
    while True:
        byte = data[offset]
        value, shift, offset = value | (byte & 0x7F) << shift, shift + 7, offset + 1
        if byte < 0x80:
            return value, offset


def fields_of(data):
    """The fields of a protobuf message: number -> last value."""
    fields, offset = {}, 0
    while offset < len(data):
        tag, offset = varint(data, offset)
        if tag & 7 == 0:
            value, offset = varint(data, offset)
        else:
            assert tag & 7 == 2, f"wire type {tag & 7}"
            size, offset = varint(data, offset)
            value, offset = data[offset:offset + size], offset + size
        fields[tag >> 3] = value
    assert offset == len(data), "a field runs beyond the message"
    return fields


def decode(payload, event_format):
    """The header of an event, with its type derived from the field that contains the change."""
    if event_format == "json":
        event = json.loads(payload)
        kinds = [kind for kind, name in NAMES.items() if name in event]
        header = {"id": event["eventId"], "order": event["orderId"], "revision": int(event["revision"]), "customer": event["customerId"]}
    else:
        event = fields_of(payload)
        kinds = [kind for kind, field in FIELDS.items() if field in event]
        header = {"id": event[1].decode(), "order": event[2].decode(), "revision": event[3], "customer": event[7].decode()}
    assert len(kinds) == 1, kinds
    return {**header, "type": kinds[0]}


def check(listener, expected, event_format, started_at):
    revisions, content_type = {}, {"json": "application/json", "protobuf": "application/protobuf"}[event_format]
    for attributes, payload in listener.received:
        event = decode(payload, event_format)
        assert event["id"] in expected, f"{event['id']} is not an event of this run"
        order, kind, customer = expected[event["id"]]
        assert (event["order"], event["type"], event["customer"]) == (order, kind, customer), event
        assert event["id"] == f"{order}-{event['revision']}", event
        last = revisions.get(order, 0)
        # A repetition of an earlier one is a duplicate; a gap is a violation of the order.
        assert event["revision"] <= last + 1, f"{event['id']} came after revision {last}"
        revisions[order] = max(last, event["revision"])
        if attributes is None:
            continue
        expected_attributes = {"specversion": "1.0", "id": event["id"], "source": "/ordersystem/orders", "type": kind, "subject": order,
                  "datacontenttype": content_type}
        assert {name: attributes.get(name) for name in expected_attributes} == expected_attributes, attributes
        assert int(attributes["position"]) >= 1, attributes
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", attributes["time"]), attributes["time"]
        sent_at = datetime.datetime.fromisoformat(attributes["time"][:19] + "+00:00").timestamp()
        assert started_at - 2 <= sent_at <= time.time() + 2, attributes["time"]
    missing = [event for event, (order, _, _) in expected.items() if int(event.rsplit("-", 1)[1]) > revisions.get(order, 0)]
    assert not missing, f"{listener.name} misses {len(missing)} events, such as {missing[0]}"
    return len(listener.received) - len(expected)


class RedisListeners:
    """A plain reader, a consumer group and a subscriber of the channels."""

    STREAM = "{ordersystem}:events"

    def __init__(self, broker):
        self.client = redis.Redis(port=broker.port)
        self.listeners = [Listener("XREAD"), Listener("XREADGROUP"), Listener("PSUBSCRIBE")]
        self.stopping = False
        self.client.xgroup_create(self.STREAM, "billing", id="0", mkstream=True)
        self.channels = self.client.pubsub(ignore_subscribe_messages=True)
        self.channels.psubscribe("ordersystem:events:*")
        # The reply to the subscription: from now on nothing is missed.
        while not self.channels.subscribed:
            self.channels.get_message(timeout=1)
        self.failures = []
        work = zip([self.read, self.read_as_group, self.subscribe], self.listeners)
        self.threads = [threading.Thread(target=self.run, args=each) for each in work]
        for thread in self.threads:
            thread.start()

    def run(self, work, listener):
        try:
            work(listener)
        except Exception as error:  # told by the main thread
            self.failures.append(error)

    def record(self, listener, fields):
        fields = {name.decode(): value for name, value in fields.items()}
        listener.record({name: value.decode() for name, value in fields.items() if name not in ("data", "stored")}, fields["data"])

    def read(self, listener):
        last = "0"
        while not self.stopping:
            for _, entries in self.client.xread({self.STREAM: last}, block=200):
                for last, fields in entries:
                    self.record(listener, fields)

    def read_as_group(self, listener):
        while not self.stopping:
            for _, entries in self.client.xreadgroup("billing", "one", {self.STREAM: ">"}, count=50, block=200):
                for entry, fields in entries:
                    self.record(listener, fields)
                    self.client.xack(self.STREAM, "billing", entry)

    def subscribe(self, listener):
        while not self.stopping:
            message = self.channels.get_message(timeout=0.2)
            if message:
                listener.record(None, message["data"])

    def stop(self):
        self.stopping = True
        for thread in self.threads:
            thread.join()
        self.client.close()
        if self.failures:
            raise self.failures[0]


class NatsListeners:
    """A plain subscriber and a durable pull consumer, in their own event loop."""

    def __init__(self, broker):
        self.url = f"nats://127.0.0.1:{broker.port}"
        self.listeners = [Listener("SUB"), Listener("pull consumer")]
        self.stopping, self.failures, ready = False, [], threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.run(ready)))
        self.thread.start()
        assert ready.wait(20), "the listeners do not get ready"

    @staticmethod
    def record(listener, message):
        headers = message.headers or {}
        attributes = {name[3:]: value for name, value in headers.items() if name.startswith("ce-")}
        assert message.subject == f"ordersystem.events.{attributes['subject']}", message.subject
        assert headers["Nats-Msg-Id"].startswith(attributes["id"] + "-"), headers
        stored = headers.get("Ordersystem-Stored")
        if stored is not None:
            assert decode(base64.b64decode(stored), "protobuf")["id"] == attributes["id"], "what is stored is another event"
        listener.record(attributes, message.data)

    async def run(self, ready):
        try:
            client = await nats.connect(self.url)
            plain = await client.subscribe("ordersystem.events.>")
            jetstream = client.jetstream()
            config = nats.js.api.ConsumerConfig(ack_policy=nats.js.api.AckPolicy.EXPLICIT)
            pulled = await jetstream.pull_subscribe("ordersystem.events.>", durable="billing", stream="ordersystem-events", config=config)
            await client.flush()
            ready.set()
            await asyncio.gather(self.subscribe(plain), self.pull(pulled))
            await client.close()
        except Exception as error:  # told by the main thread
            self.failures.append(error)
            ready.set()

    async def subscribe(self, plain):
        while not self.stopping:
            try:
                self.record(self.listeners[0], await plain.next_msg(timeout=0.2))
            except asyncio.TimeoutError:
                pass

    async def pull(self, pulled):
        while not self.stopping:
            try:
                for message in await pulled.fetch(50, timeout=0.5):
                    self.record(self.listeners[1], message)
                    await message.ack()
            except asyncio.TimeoutError:
                pass

    def stop(self):
        self.stopping = True
        self.thread.join()
        if self.failures:
            raise self.failures[0]


def run(binary, transport, event_format, rng):
    """One configuration: the number of events, and how many each listener received more than once."""
    with tempfile.TemporaryDirectory() as folder, folder_of_brokers() as memory, {"redis": Redis, "nats": Nats}[transport](memory) as broker:
        started_at = time.time()
        store_flags = ["--log-level", "warn", "--persistence", "embedded", "--data-dir", f"{folder}/data"]
        bus_flags = ["--transport", transport, f"--{transport}", f"127.0.0.1:{broker.port}", "--event-format", event_format]
        with Node(binary, *store_flags, *bus_flags).until_ready() as node:
            listeners = {"redis": RedisListeners, "nats": NatsListeners}[transport](broker)
            try:
                expected = drive(node, rng)
                deadline = time.monotonic() + TIMEOUT_S
                while time.monotonic() < deadline and any(each.count(event_format) < len(expected) for each in listeners.listeners):
                    time.sleep(0.1)
            finally:
                listeners.stop()
            duplicates = {each.name: check(each, expected, event_format, started_at) for each in listeners.listeners}
            assert node.stop() == 0, "an orderly shutdown"
    return f"{len(expected)} events, duplicates: " + ", ".join(f"{name} {count}" for name, count in duplicates.items())


def main():
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    print(f"seed: {seed}")
    rng, rows, failed = random.Random(seed), [], 0
    for transport in sys.argv[2:] or ["redis", "nats"]:
        for event_format in ["protobuf", "json"]:
            started = time.monotonic()
            try:
                outcome = "passed, " + run(sys.argv[1], transport, event_format, rng)
            except Exception as error:
                outcome, failed = f"FAILED: {error!r}", failed + 1
            rows.append(f"{transport:<10} {event_format:<9} {time.monotonic() - started:5.1f} s  {outcome}")
    print("\n".join(["transport  format       time  outcome", *rows]))
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
