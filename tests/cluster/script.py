#!/usr/bin/env python3
"""run-cluster.sh as its users meet it: nodes that know each other and serve one set of orders, and nothing left after Ctrl-C.

usage: script.py BINARY
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request


def call(port, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=10))


def until(what, holds):
    for _ in range(300):
        try:
            if holds():
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"not within 30 s: {what}")


def check(broker, binary):
    base = random.randrange(20_000, 30_000, 200)
    ports = [base + 1, base + 2, base + 3]
    environment = {**os.environ, "BASE_PORT": str(base), "ORDERSYSTEM": binary}
    script = subprocess.Popen(["./run-cluster.sh", "3", broker], env=environment, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        names = ["node1", "node2", "node3"]
        for port in ports:
            until(f"{port} knows all", lambda: sorted(node["node"] for node in call(port, "/cluster")["nodes"]) == names)
            until(f"{port} is ready", lambda: call(port, "/health/ready")["status"] == "Ready")
        order = call(ports[0], "/orders", {"customerId": "c", "items": [{"productId": "p", "quantity": 1, "price": 1}]})
        for port in ports:
            until(f"{port} has the order", lambda: call(port, f"/orders/{order['orderId']}")["status"] == "Pending")
    finally:
        # As a terminal does it: to the whole group of the script.
        os.killpg(script.pid, signal.SIGINT)
        code = script.wait(timeout=60)
    assert code == 0, f"the script ended with {code}"
    for port in [*ports, base + 100]:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2)
        except OSError as error:
            assert "refused" in str(error), error
        else:
            raise AssertionError(f"something still listens on {port}")


if __name__ == "__main__":
    for name in ["redis", "nats"]:
        check(name, sys.argv[1])
        print(f"run-cluster.sh 3 {name}: three nodes served, nothing is left")
