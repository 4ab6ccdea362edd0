#!/usr/bin/env python3
"""Fuzzing over real sockets: every gRPC method, every route, and raw HTTP/2 frames. The node must not fail, and must serve other clients.

usage: fuzz.py BINARY [--seconds 20] [--seed N] [--workers 6]

The seed determines what each worker sends; the order in which the node processes it depends on the machine.
"""

import argparse
import glob
import http.client
import json
import os
import random
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from harness import Node

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# UNKNOWN, INTERNAL and DATA_LOSS: the service would be at fault.
FAULT_CODES = {"2", "13", "15"}
# Unavailable, and an HTTP version that does not carry a protocol.
ALLOWED_5XX = {503, 505}
MAX_RSS_MIB = 400


def methods():
    """Every method of the protos, and those of libraries."""
    found = ["/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/no.such.Service/Method"]
    for path in glob.glob(f"{ROOT}/proto/catga/*/v1/*.proto"):
        text = re.sub(r"//.*", "", open(path, encoding="utf-8").read())
        package = re.search(r"package ([\w.]+);", text)[1]
        for service in re.finditer(r"service (\w+) \{(.*?)\n\}", text, re.DOTALL):
            found += [f"/{package}.{service[1]}/{name}" for name in re.findall(r"rpc (\w+)\(", service[2])]
    return found


def corpus(target):
    return [open(path, "rb").read() for path in sorted(glob.glob(f"{ROOT}/tests/fuzz/corpus/{target}/*"))]


def mutate(rng, data):
    """Changes, removes, repeats or inserts some bytes."""
    data = bytearray(data)
    for _ in range(rng.choice([0, 1, 1, 2, 5, 20])):
        index = rng.randrange(len(data) + 1)
        kind = rng.randrange(5)
        if kind == 0 and data:
            data[min(index, len(data) - 1)] = rng.randrange(256)
        elif kind == 1:
            del data[index : index + rng.randrange(1, 9)]
        elif kind == 2:
            data[index:index] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 3:
            data[index:index] = data[max(0, index - 40) : index] * rng.randrange(1, 30)
        else:
            data[index:index] = rng.choice([b"\xff" * 10, b"\x80" * 9 + b"\x01", b"\0" * 8, "\u202e\u0000é😀".encode(), b"9" * 400])
    return bytes(data[:200_000])


class Worker(threading.Thread):
    """One hostile client."""

    def __init__(self, number, seed, port, until):
        super().__init__(daemon=True)
        self.rng = random.Random(f"{seed}-{number}")
        self.port, self.until = port, until
        self.sent, self.reports = 0, []
        self.methods, self.messages, self.requests = methods(), corpus("requests"), corpus("rest")
        self.ids = ["384296157519544320"]

    def run(self):
        while time.monotonic() < self.until and len(self.reports) < 5:
            kind = self.rng.choice([self.grpc_web, self.grpc_web, self.rest, self.rest, self.frames, self.garbage])
            try:
                kind()
            except (OSError, http.client.HTTPException):
                # The node may close a connection that sends nonsense.
                pass
            self.sent += 1

    def report(self, what, answer):
        self.reports.append(f"{what}: {answer!r:.500}")

    def grpc_web(self):
        method = self.rng.choice(self.methods)
        message = mutate(self.rng, self.rng.choice(self.messages)[2:])
        length = len(message) + self.rng.choice([0] * 9 + [1, -1, 2**31])
        frame = struct.pack(">BI", self.rng.choice([0] * 9 + [1, 2, 128, 255]), length % 2**32) + message
        headers = {
            "content-type": self.rng.choice(["application/grpc-web+proto", "application/grpc-web", "application/grpc-web-text"]),
            "grpc-timeout": self.rng.choice(["100m", "100m", "1S", "0n", "x", "99999999H"]),
            "grpc-encoding": self.rng.choice(["identity", "gzip", "zstd"]),
        }
        if self.rng.random() < 0.2:
            frame = frame * 2
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("POST", method, frame, headers)
        reply = connection.getresponse()
        body = reply.read(200_000) if headers["grpc-timeout"] not in ("99999999H",) else b""
        status = reply.getheader("grpc-status") or (re.search(rb"grpc-status: ?(\d+)", body) or [b"", b"0"])[1].decode()
        if status in FAULT_CODES or (reply.status >= 500 and reply.status not in ALLOWED_5XX):
            self.report(method, (reply.status, status, reply.getheader("grpc-message"), body[-300:]))
        connection.close()

    def rest(self):
        head, _, body = self.rng.choice(self.requests).partition(b"\n\n")
        first, *headers = head.decode().split("\n")
        verb, target = first.split(" ", 1)
        target = target.replace("384296157519544320", self.rng.choice(self.ids))
        if self.rng.random() < 0.5:
            target = "/" + urllib.request.quote(mutate(self.rng, target[1:].encode()), safe="/?&=%")[:4000]
        if self.rng.random() < 0.7:
            body = mutate(self.rng, body)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.putrequest(self.rng.choice([verb, verb, verb, "PUT", "DELETE", "HEAD", "OPTIONS"]), target)
        for line in headers:
            name, value = line.split(": ", 1)
            if self.rng.random() < 0.3:
                value = mutate(self.rng, value.encode()).decode("latin-1").replace("\n", "").replace("\r", "")
            try:
                connection.putheader(name, value)
            except ValueError:
                return
        connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        reply = connection.getresponse()
        answer = reply.read(200_000)
        if reply.status >= 500 and reply.status not in ALLOWED_5XX:
            self.report(f"{verb} {target}", (reply.status, answer))
        if reply.status == 201:
            self.ids = [*self.ids[-50:], json.loads(answer)["orderId"]]
        connection.close()

    def raw(self, data):
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(data)
            connection.settimeout(0.05)
            try:
                while connection.recv(65536):
                    pass
            except TimeoutError:
                pass

    def frames(self):
        """HTTP/2 below gRPC: frames of all types, with arbitrary lengths, flags and streams."""
        data = PREFACE + b"\0\0\0\x04\0\0\0\0\0"
        for _ in range(self.rng.randrange(1, 40)):
            payload = self.rng.randbytes(self.rng.choice([0, 1, 4, 5, 6, 8, 40, 300]))
            length = len(payload) if self.rng.random() < 0.9 else self.rng.randrange(2**24)
            stream = self.rng.choice([0, 1, 1, 3, 5, 2, 2**31 - 1])
            data += struct.pack(">I", length)[1:] + bytes([self.rng.randrange(12), self.rng.randrange(256)]) + struct.pack(">I", stream) + payload
        self.raw(data)

    def garbage(self):
        self.raw(mutate(self.rng, b"POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"))


class FuzzedNode(Node):
    """A node with the embedded store in a folder of its own."""

    def __init__(self, binary, folder):
        self.data = f"{folder}/data"
        super().__init__(binary, "--persistence", "embedded", "--data-dir", self.data)

    def rss_mib(self):
        status = open(f"/proc/{self.process.pid}/status", encoding="utf-8").read()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) // 1024

    def verify(self):
        command = [self.args[0], "verify", f"embedded:{self.data}"]
        run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        return run.returncode, run.stdout + run.stderr


def check(node, workers):
    """All problems found."""
    orders = 0
    while any(worker.is_alive() for worker in workers):
        if not node.is_running():
            yield f"the node has ended with {node.process.returncode}"
            return
        # An ordinary client at the same time.
        order = node.call("POST", "/orders", {"customerId": "c", "items": [{"productId": "p", "quantity": 1, "price": "1.50"}]})
        node.call("POST", f"/orders/{order['orderId']}/pay", {"paymentMethod": "card"})
        orders += 1
        time.sleep(0.1)
    for worker in workers:
        yield from worker.reports
    ready = node.call("GET", "/health/ready")
    if ready["status"] != "Ready":
        yield f"the node is not ready in the end: {ready}"
    if (rss := node.rss_mib()) > MAX_RSS_MIB:
        yield f"the node has taken {rss} MiB"
    if (code := node.stop()) != 0:
        yield f"the node ended with {code}"
    output = node.output()
    for line in output.splitlines():
        if "panicked" in line or " ERROR " in line:
            yield f"the log has: {line}"
    code, outcome = node.verify()
    if code != 0:
        yield f"verify ends with {code}: {outcome}"
    print(f"{sum(worker.sent for worker in workers)} requests, {orders} orders of an ordinary client, {rss} MiB, {len(output.splitlines())} lines of log")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--workers", type=int, default=6)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder, FuzzedNode(arguments.binary, folder).until_ready() as node:
        until = time.monotonic() + arguments.seconds
        workers = [Worker(number, arguments.seed, node.port, until) for number in range(arguments.workers)]
        for worker in workers:
            worker.start()
        reports = list(check(node, workers))
    print("\n".join(reports) or "the node was never at fault")
    sys.exit(bool(reports))


if __name__ == "__main__":
    main()
