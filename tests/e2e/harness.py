"""The harness of the end-to-end tests: processes of the service and of brokers with their logs, free ports, waits, and HTTP calls."""

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

# The timeout of every wait, generous enough for a busy machine.
TIMEOUT_S = 60
# With this in the environment every node identifies its callers, and every call is made by an administrator, who has all roles.
WITH_IDENTITIES = os.environ.get("WITH_IDENTITIES") == "1"
KEY = "orderkey_test-only-all------------------------------"
AUTHORIZATION = {"Authorization": f"Bearer {KEY}"} if WITH_IDENTITIES else {}
# The number of log lines that are shown after a failure.
LOG_TAIL_LINES = 40


def free_port():
    """A free port below the ephemeral range, so that no outgoing connection takes it before the server binds it."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


def tool(name):
    """The path of a program that must be installed on this machine."""
    return shutil.which(name) or sys.exit(f"there is no {name} on this machine")


def until(what, condition, timeout_s=TIMEOUT_S):
    """Waits until `condition` returns something true, and returns that. OSError and ValueError count as not yet."""
    deadline, last = time.monotonic() + timeout_s, None
    while True:
        try:
            last = condition()
            if last:
                return last
        except (OSError, ValueError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what} ({last!r})")
        time.sleep(0.05)


def is_listening(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def call(port, method, path, body=None, headers=None, timeout=30):
    """The JSON body of the response; raises urllib.error.HTTPError for an error status."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **AUTHORIZATION, **(headers or {})}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers, method=method)
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return json.load(answer)


def status_of(port, method, path, body=None):
    """The HTTP status of the response."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **AUTHORIZATION}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


class Process:
    """A child process whose output goes to a file. As a context manager it is killed on exit, and its log is shown after a failure."""

    def __init__(self, args, env=None):
        self.args, self.env, self.process = [str(arg) for arg in args], env, None
        self.log = tempfile.NamedTemporaryFile("w+", encoding="utf-8", errors="replace")
        self.start()

    def start(self):
        """Starts it, for the first time or after its end."""
        self.process = subprocess.Popen(self.args, env=self.env, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT)
        return self

    def output(self):
        """Everything that it has written to stdout and stderr."""
        with open(self.log.name, encoding="utf-8", errors="replace") as log:
            return log.read()

    def show(self):
        lines = self.output().splitlines()[-LOG_TAIL_LINES:]
        print(f"the last lines of {os.path.basename(self.args[0])}:", *lines, sep="\n    ", file=sys.stderr)

    def is_running(self):
        return self.process.poll() is None

    def until(self, what, condition):
        """Waits until `condition` holds, as long as the process runs."""
        def holds_or_ended():
            return condition() or not self.is_running()
        try:
            until(what, holds_or_ended)
        except AssertionError:
            self.kill_and_show_log()
            raise
        if not self.is_running():
            self.kill_and_show_log()
            raise AssertionError(f"{os.path.basename(self.args[0])} has ended with {self.process.returncode} before this: {what}")
        return self

    def kill_and_show_log(self):
        """Kills the process and shows its log; for failures before it is used as a context manager."""
        self.kill()
        self.show()

    def until_listening(self, port):
        return self.until(f"it listens on {port}", lambda: is_listening(port))

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self):
        """Asks it to stop; returns its exit code."""
        if self.is_running():
            self.signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            self.kill_and_show_log()
            raise AssertionError(f"{os.path.basename(self.args[0])} does not end within {TIMEOUT_S} s of SIGTERM") from error

    def kill(self):
        """Kills it with SIGKILL, and waits until it has ended."""
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


def identities():
    """The flags of a node that identifies its callers, and the file with them, which only this user can write."""
    source = os.path.join(os.path.dirname(__file__), "../../clients/conformance/identities.toml")
    file = tempfile.NamedTemporaryFile("wb")
    with open(source, "rb") as callers:
        file.write(callers.read())
    file.flush()
    return ["--identities", file.name], file


class Node(Process):
    """A node of the service with these flags, on its own port."""

    def __init__(self, binary, *flags, port=None, env=None):
        self.port = port or free_port()
        more, self.identities = identities() if WITH_IDENTITIES else ([], None)
        super().__init__([os.path.abspath(binary), "--port", self.port, *flags, *more], env)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def until_ready(self):
        return self.until("the node is ready", lambda: status_of(self.port, "GET", "/health/ready") == 200)

    def call(self, method, path, body=None, headers=None):
        return call(self.port, method, path, body, headers)

    def status_of(self, method, path, body=None):
        return status_of(self.port, method, path, body)


def folder_of_brokers():
    """A temporary folder for the files of brokers, in memory where that is possible: what a test proves does not depend on the disk."""
    memory = "/dev/shm"
    has_room = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free >= 4 << 30
    return tempfile.TemporaryDirectory(dir=memory if has_room else None)


class Redis(Process):
    """A redis-server that syncs before it answers, unless `options` say otherwise."""

    def __init__(self, folder, *options, port=None):
        self.port = port or free_port()
        own = ["--port", self.port, "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--maxmemory-policy", "noeviction"]
        synced = ["--appendonly", "yes", "--appendfsync", "always"]
        super().__init__([tool("redis-server"), *own, *synced, *options])
        self.until("redis-server answers", lambda: self.cli("ping") == "PONG")

    def cli(self, *args):
        done = subprocess.run(["redis-cli", "-p", str(self.port), *args], capture_output=True, check=False, timeout=TIMEOUT_S)
        return done.stdout.decode(errors="replace").strip()


class Nats(Process):
    """A nats-server with JetStream; NATS_SERVER names another program than the one that is installed."""

    def __init__(self, folder, port=None):
        self.port = port or free_port()
        program = tool(os.environ.get("NATS_SERVER", "nats-server"))
        os.makedirs(folder, exist_ok=True)
        config = os.path.join(folder, "nats.conf")
        with open(config, "w", encoding="utf-8") as file:
            # Without a limit of its own it would refuse streams on a disk that is nearly full.
            file.write(f'jetstream {{ store_dir: "{folder}", max_file_store: 1TB }}\n')
        super().__init__([program, "-c", config, "-a", "127.0.0.1", "-p", self.port])
        self.until_listening(self.port)
