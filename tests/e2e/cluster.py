#!/usr/bin/env python3
"""End-to-end tests of run-cluster.sh: it checks its arguments first, the nodes know each other and share one log, a node may die, and no
process is left after Ctrl-C or SIGTERM.

usage: cluster.py [--short] BINARY      --short: only the cluster, without how the script handles signals and wrong arguments
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

from harness import WITH_IDENTITIES, Process, call, identities, until

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
        self.output = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.output.append(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=120)

    def wait_for_line(self, pattern):
        """Waits for a line of the output that matches, and returns the match."""
        return until(f"it says {pattern}", lambda: next(filter(None, (re.search(pattern, line) for line in list(self.output))), None))

    def sees_all_nodes(self, port):
        return sorted(node["node"] for node in call(port, "GET", "/cluster")["nodes"]) == NAMES

    def until_complete(self):
        for port in self.ports:
            until(f"{port} knows all", lambda: self.sees_all_nodes(port))
            until(f"{port} is ready", lambda: call(port, "GET", "/health/ready")["status"] == "Ready")

    def place_an_order(self, ports):
        order = call(ports[0], "POST", "/orders", {"customerId": "c", "items": [{"productId": "p", "quantity": 1, "price": 1}]})
        for port in ports:
            until(f"{port} has the order", lambda: call(port, "GET", f"/orders/{order['orderId']}")["status"] == "Pending")

    def expect_no_complaint(self):
        """Nothing is wrong with a cluster that has just started, so no node says so."""
        complaints = [line for line in self.output if re.search(r" (WARN|ERROR) ", line)]
        assert not complaints, "".join(complaints)

    def expect_exit(self, code):
        found = self.process.wait(timeout=120)
        output = "".join(self.output)
        assert found == code, f"the script ended with {found}: {output}"
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
        script.place_an_order(script.ports)
        script.expect_no_complaint()
        # Like a terminal: to the whole process group of the script.
        os.killpg(script.process.pid, signal.SIGINT)
        script.expect_exit(0)
        script.wait_for_line("SIGINT: stopping")


def acts_on_sigterm_where_interrupts_are_ignored(broker, binary):
    with Script(broker, binary, ignores_interrupts=True) as script:
        script.wait_for_line(f"kill {script.process.pid} stops them")
        script.until_complete()
        os.killpg(script.process.pid, signal.SIGINT)
        script.place_an_order(script.ports)
        script.process.send_signal(signal.SIGTERM)
        script.expect_exit(0)
        script.wait_for_line("SIGTERM: stopping")


def survives_the_death_of_a_node(broker, binary):
    with Script(broker, binary) as script:
        script.until_complete()
        pid = int(script.wait_for_line(r"lose a node: +kill -9 (\d+)")[1])
        os.kill(pid, signal.SIGKILL)
        script.wait_for_line("node1 was killed by signal 9; 2 of 3 nodes run")
        restart_command = script.wait_for_line(r"run-cluster:     (\S+ --cluster --node-id node1 .*)")[1]
        script.place_an_order(script.ports[1:])
        with Process(shlex.split(restart_command)) as node:
            script.until_complete()
            script.place_an_order(script.ports)
            assert node.stop() == 0
        script.process.send_signal(signal.SIGTERM)
        script.expect_exit(0)


def ends_with_its_broker(broker, binary):
    with Script(broker, binary) as script:
        script.until_complete()
        with open(f"/proc/{script.process.pid}/task/{script.process.pid}/children", encoding="ascii") as children:
            pids = [int(pid) for pid in children.read().split()]
        program = lambda pid: os.path.basename(os.readlink(f"/proc/{pid}/exe"))
        [pid] = [pid for pid in pids if program(pid).startswith((f"{broker}-server", f"{broker}-check"))]
        os.kill(pid, signal.SIGKILL)
        script.expect_exit(1)
        script.wait_for_line(f"{broker}-server has ended with code 137")


def checks_its_arguments_first(broker, binary):
    with tempfile.TemporaryDirectory() as folder:
        # A fake cargo, which records that it was called.
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

        def expect_refusal(code, words, *arguments, **more):
            done = subprocess.run(["./run-cluster.sh", *arguments], env={**environment, **more}, capture_output=True, text=True)
            output = done.stdout + done.stderr
            assert done.returncode == code and words in output, (arguments, more, done)
            assert not os.path.exists(f"{folder}/compiled"), f"{arguments} {more}: it compiles before it checks its arguments"

        expect_refusal(0, "./run-cluster.sh [N] [redis|nats]", "--help")
        expect_refusal(2, "the broker is redis or nats, not kafka", "3", "kafka")
        expect_refusal(2, "the number of nodes is 1 to 32, not 33", "33")
        expect_refusal(2, "the number of nodes is 1 to 32, not -x", "-x")
        expect_refusal(2, "at most two arguments", "3", "redis", "more")
        expect_refusal(2, "BASE_PORT is a number", BASE_PORT="many")
        expect_refusal(1, "is not a program", ORDERSYSTEM="/no/such/program")
        expect_refusal(1, f"{broker}-server is not installed", "3", broker, PATH=bare)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", base + 2))
            taken.listen()
            expect_refusal(1, f"port {base + 2} is in use", "3", broker, ORDERSYSTEM=binary)


CHECKS = [
    ("checks its arguments before it compiles", checks_its_arguments_first),
    ("three nodes served, no process is left after Ctrl-C", serves_until_interrupted),
    ("acts on SIGTERM, and logs it, where SIGINT is ignored", acts_on_sigterm_where_interrupts_are_ignored),
    ("continues when a node is killed, and says how to restart it", survives_the_death_of_a_node),
    ("ends when its broker does", ends_with_its_broker),
]

SHORT = [survives_the_death_of_a_node]


def main():
    binary = sys.argv[-1]
    if WITH_IDENTITIES:
        # The nodes, also the one that is started again, take their settings from here.
        flags, _file = identities()
        os.environ["ORDERSYSTEM_IDENTITIES"] = flags[-1]
    for name in ["redis", "nats"]:
        for what, check in CHECKS:
            if "--short" in sys.argv and check not in SHORT:
                continue
            check(name, binary)
            print(f"run-cluster.sh 3 {name}: {what}", flush=True)


if __name__ == "__main__":
    main()
