"""What the end-to-end programs share: processes of the service and of brokers with their logs, free ports, waits, and calls over HTTP."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

# How long anything that must happen may take, on a busy machine too.
PATIENCE_S = 60
# So many lines of a log are shown when something goes wrong.
SHOWN_LINES = 40


def free_port():
    """A port that nobody listens on, below those that connections are given: no connection takes it before its server does."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


def tool(name):
    """Where a program is that this machine has to have."""
    return shutil.which(name) or sys.exit(f"there is no {name} on this machine")


def until(what, holds, within_s=PATIENCE_S):
    """Waits until `holds` gives something true, and gives it back."""
    deadline, last = time.monotonic() + within_s, None
    while True:
        try:
            last = holds()
            if last:
                return last
        except (OSError, ValueError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {what} ({last!r})")
        time.sleep(0.05)


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def call(port, method, path, body=None, headers=None, timeout=30):
    """The JSON that a node answers; urllib.error.HTTPError for a refusal."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers, method=method)
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return json.load(answer)


def status_of(port, method, path, body=None):
    """The HTTP status that a node answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


class Process:
    """A process of this run, with what it writes in a file. As a context it is killed at the end, and shows its log after a failure."""

    def __init__(self, args, env=None):
        self.args, self.env, self.process = [str(arg) for arg in args], env, None
        self.log = tempfile.NamedTemporaryFile("w+", encoding="utf-8", errors="replace")
        self.start()

    def start(self):
        """Starts it, for the first time or after its end."""
        self.process = subprocess.Popen(self.args, env=self.env, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT)
        return self

    def said(self):
        """Everything that it has written."""
        with open(self.log.name, encoding="utf-8", errors="replace") as log:
            return log.read()

    def show(self):
        lines = self.said().splitlines()[-SHOWN_LINES:]
        print(f"the last lines of {os.path.basename(self.args[0])}:", *lines, sep="\n    ", file=sys.stderr)

    def is_running(self):
        return self.process.poll() is None

    def until(self, what, holds):
        """Waits until `holds`, as long as the process runs."""
        def holds_or_has_ended():
            return holds() or not self.is_running()
        try:
            until(what, holds_or_has_ended)
        except AssertionError:
            self.give_up()
            raise
        if not self.is_running():
            self.give_up()
            raise AssertionError(f"{os.path.basename(self.args[0])} has ended with {self.process.returncode} before this: {what}")
        return self

    def give_up(self):
        """Leaves nothing behind, also where it was not a context yet."""
        self.kill()
        self.show()

    def until_listening(self, port):
        return self.until(f"it listens on {port}", lambda: listens(port))

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self):
        """Asks it to stop; returns its exit code."""
        if self.is_running():
            self.signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired as error:
            self.give_up()
            raise AssertionError(f"{os.path.basename(self.args[0])} does not end within {PATIENCE_S} s of SIGTERM") from error

    def kill(self):
        """kill -9, and no more of it when this returns."""
        if self.is_running():
            self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.kill()
        if kind is not None:
            self.show()
        self.log.close()


class Node(Process):
    """The service, with these flags, on a port of its own."""

    def __init__(self, binary, *flags, port=None, env=None):
        self.port = port or free_port()
        super().__init__([os.path.abspath(binary), "--port", self.port, *flags], env)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def until_ready(self):
        return self.until("the node is ready", lambda: status_of(self.port, "GET", "/health/ready") == 200)

    def call(self, method, path, body=None, headers=None):
        return call(self.port, method, path, body, headers)

    def status_of(self, method, path, body=None):
        return status_of(self.port, method, path, body)


class Redis(Process):
    """A redis-server that syncs before it answers, unless `options` say otherwise."""

    def __init__(self, folder, *options, port=None):
        self.port = port or free_port()
        own = ["--port", self.port, "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--maxmemory-policy", "noeviction"]
        synced = ["--appendonly", "yes", "--appendfsync", "always"]
        super().__init__([tool("redis-server"), *own, *synced, *options])
        self.until("redis-server answers", lambda: self.cli("ping") == "PONG")

    def cli(self, *args):
        done = subprocess.run(["redis-cli", "-p", str(self.port), *args], capture_output=True, check=False, timeout=PATIENCE_S)
        return done.stdout.decode(errors="replace").strip()


class Nats(Process):
    """A nats-server with JetStream; NATS_SERVER names another program than the one that is installed."""

    def __init__(self, folder, port=None):
        self.port = port or free_port()
        program = tool(os.environ.get("NATS_SERVER", "nats-server"))
        super().__init__([program, "-js", "-a", "127.0.0.1", "-p", self.port, "-sd", folder])
        self.until_listening(self.port)
