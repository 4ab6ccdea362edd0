#!/usr/bin/env python3
"""run-cluster.sh as its users see it: arguments are checked first, nodes know each other and share one log, one of them may die, and
nothing remains after Ctrl-C or SIGTERM.

usage: cluster.py BINARY
"""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request

from harness import Process, call, until

NAMES = ["node1", "node2", "node3"]


def free_base():
    """A BASE_PORT whose ports are free."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            base = probe.getsockname()[1] - 1
        try:
            for port in [base + 1, base + 2, base + 3, base + 100]:
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return base
        except (OSError, OverflowError):
            pass


class Script:
    """The running script, stopped together with everything that it has started."""

    def __init__(self, broker, binary, ignores_interrupts=False):
        self.base = free_base()
        self.ports = [self.base + 1, self.base + 2, self.base + 3]
        environment = {**os.environ, "BASE_PORT": str(self.base), "ORDERSYSTEM": binary}
        # The parent of this test may ignore interrupts: a shell in the background does.
        handler = signal.SIG_IGN if ignores_interrupts else signal.SIG_DFL
        self.process = subprocess.Popen(
            ["./run-cluster.sh", "3", broker],
            env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, handler),
        )
        self.said = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.said.append(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=120)

    def line(self, pattern):
        """The match in its output, sooner or later."""
        return until(f"it says {pattern}", lambda: next(filter(None, (re.search(pattern, line) for line in list(self.said))), None))

    def knows_all(self, port):
        return sorted(node["node"] for node in call(port, "GET", "/cluster")["nodes"]) == NAMES

    def until_complete(self):
        for port in self.ports:
            until(f"{port} knows all", lambda: self.knows_all(port))
            until(f"{port} is ready", lambda: call(port, "GET", "/health/ready")["status"] == "Ready")

    def places_an_order(self, ports):
        order = call(ports[0], "POST", "/orders", {"customerId": "c", "items": [{"productId": "p", "quantity": 1, "price": 1}]})
        for port in ports:
            until(f"{port} has the order", lambda: call(port, "GET", f"/orders/{order['orderId']}")["status"] == "Pending")

    def ends(self, code):
        found = self.process.wait(timeout=120)
        said = "".join(self.said)
        assert found == code, f"the script ended with {found}: {said}"
        for port in [*self.ports, self.base + 100]:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10)
            except OSError as error:
                assert "refused" in str(error), error
            else:
                raise AssertionError(f"something still listens on {port}")


def serves_until_interrupted(broker, binary):
    with Script(broker, binary) as script:
        script.until_complete()
        script.places_an_order(script.ports)
        # Like a terminal: to the whole process group of the script.
        os.killpg(script.process.pid, signal.SIGINT)
        script.ends(0)
        script.line("SIGINT: stopping")


def heeds_sigterm_where_interrupts_are_ignored(broker, binary):
    with Script(broker, binary, ignores_interrupts=True) as script:
        script.line(f"kill {script.process.pid} stops them")
        script.until_complete()
        os.killpg(script.process.pid, signal.SIGINT)
        script.places_an_order(script.ports)
        script.process.send_signal(signal.SIGTERM)
        script.ends(0)
        script.line("SIGTERM: stopping")


def survives_the_death_of_a_node(broker, binary):
    with Script(broker, binary) as script:
        script.until_complete()
        pid = int(script.line(r"lose a node: +kill -9 (\d+)")[1])
        os.kill(pid, signal.SIGKILL)
        script.line("node1 was killed by signal 9; 2 of 3 nodes run")
        again = script.line(r"run-cluster:     (\S+ --cluster --node-id node1 .*)")[1]
        script.places_an_order(script.ports[1:])
        with Process(shlex.split(again)) as node:
            script.until_complete()
            script.places_an_order(script.ports)
            assert node.stop() == 0
        script.process.send_signal(signal.SIGTERM)
        script.ends(0)


def ends_with_its_broker(broker, binary):
    with Script(broker, binary) as script:
        script.until_complete()
        with open(f"/proc/{script.process.pid}/task/{script.process.pid}/children", encoding="ascii") as children:
            pids = [int(pid) for pid in children.read().split()]
        program = lambda pid: os.path.basename(os.readlink(f"/proc/{pid}/exe"))
        [pid] = [pid for pid in pids if program(pid).startswith((f"{broker}-server", f"{broker}-check"))]
        os.kill(pid, signal.SIGKILL)
        script.ends(1)
        script.line(f"{broker}-server has ended with code 137")


def checks_its_arguments_first(broker, binary):
    with tempfile.TemporaryDirectory() as folder:
        # Stands in for a compilation: it leaves a trace.
        cargo = os.path.join(folder, "cargo")
        with open(cargo, "w", encoding="ascii") as file:
            file.write(f"#!/bin/sh\ntouch {folder}/compiled\nexit 1\n")
        os.chmod(cargo, 0o755)
        bare = os.path.join(folder, "bare")
        os.mkdir(bare)
        for tool in ["bash", "dirname", "sed", "seq"]:
            os.symlink(shutil.which(tool), os.path.join(bare, tool))
        base = free_base()
        environment = {name: value for name, value in os.environ.items() if name != "ORDERSYSTEM"}
        environment.update(BASE_PORT=str(base), PATH=f"{folder}:{environment['PATH']}")

        def refused(code, words, *arguments, **more):
            done = subprocess.run(["./run-cluster.sh", *arguments], env={**environment, **more}, capture_output=True, text=True)
            said = done.stdout + done.stderr
            assert done.returncode == code and words in said, (arguments, more, done)
            assert not os.path.exists(f"{folder}/compiled"), f"{arguments} {more}: it compiles before it looks"

        refused(0, "./run-cluster.sh [N] [redis|nats]", "--help")
        refused(2, "the broker is redis or nats, not kafka", "3", "kafka")
        refused(2, "the number of nodes is 1 to 32, not 33", "33")
        refused(2, "the number of nodes is 1 to 32, not -x", "-x")
        refused(2, "at most two arguments", "3", "redis", "more")
        refused(2, "BASE_PORT is a number", BASE_PORT="many")
        refused(1, "is not a program", ORDERSYSTEM="/no/such/program")
        refused(1, f"{broker}-server is not installed", "3", broker, PATH=bare)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", base + 2))
            taken.listen()
            refused(1, f"port {base + 2} is in use", "3", broker, ORDERSYSTEM=binary)


CHECKS = [
    ("checks its arguments before it compiles", checks_its_arguments_first),
    ("three nodes served, nothing is left after Ctrl-C", serves_until_interrupted),
    ("heeds SIGTERM, and says so, where SIGINT was ignored", heeds_sigterm_where_interrupts_are_ignored),
    ("goes on when a node is killed, and says how to start it again", survives_the_death_of_a_node),
    ("ends when its broker does", ends_with_its_broker),
]

if __name__ == "__main__":
    for name in ["redis", "nats"]:
        for what, check in CHECKS:
            check(name, sys.argv[1])
            print(f"run-cluster.sh 3 {name}: {what}", flush=True)
