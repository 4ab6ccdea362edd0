"""The programs of the checks: the service, the brokers with the deployed configuration, and tools."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "e2e"))

import harness
from harness import Process, free_port

ROOT = Path(__file__).resolve().parents[2]
BINARY = None
TOOLS = None
BROKERS = None


class CheckFailed(Exception):
    """A problem in the deployment files."""


def check_that(condition, what):
    if not condition:
        raise CheckFailed(what)


def tool(name):
    for candidate in (TOOLS / name, TOOLS / "venv/bin" / name):
        if candidate.exists():
            return str(candidate)
    found = shutil.which(name)
    check_that(found, f"there is no {name}: tests/deploy/tools.sh installs it")
    return found


def run(*args, env=None, cwd=ROOT, ok=True, input=None):
    """Runs a program to its end; returns its output. With `ok` it must succeed."""
    done = subprocess.run([str(arg) for arg in args], env=env, cwd=cwd, capture_output=True, text=True, input=input, timeout=120, check=False)
    if ok:
        check_that(done.returncode == 0, f"{' '.join(map(str, args))}: {done.stdout}{done.stderr}")
    return done


def get(url, headers=None):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=5) as answer:
        return answer.read().decode()


def until(what, condition, timeout_s=harness.TIMEOUT_S):
    """Waits until `condition` returns something true, and returns that."""
    try:
        return harness.until(what, condition, timeout_s)
    except AssertionError as error:
        raise CheckFailed(str(error)) from error


SECRETS = "/etc/ordersystem-secrets"


def secrets(folder):
    """The files that deploy/secrets.sh creates, shared by the brokers and their clients."""
    secret_files = folder / "ordersystem-secrets"
    run(ROOT / "deploy/secrets.sh", secret_files)
    return secret_files


def of_broker(folder):
    """The folder for the files of the broker that belongs to `folder`, in memory where that is possible."""
    path = BROKERS / str(folder).lstrip("/")
    path.mkdir(parents=True, exist_ok=True)
    return path


class Redis(Process):
    """redis-server with the deployed configuration, on its own port and folder."""

    def __init__(self, folder, config=ROOT / "deploy/redis/redis.conf", extra=()):
        self.port = free_port()
        folder = of_broker(folder)
        text = config.read_text()
        check_that("\ndir /data\n" in text, f"{config} keeps its data in the volume")
        check_that(f"\ninclude {SECRETS}/redis.conf\n" in text, f"{config} asks for a password")
        self.secrets = secrets(folder)
        text = text.replace(SECRETS, str(self.secrets))
        here = folder / "redis.conf"
        # Redis changes to the folder as it reads the line: a flag comes too late for that.
        here.write_text(text.replace("\ndir /data\n", f"\ndir {folder}\n"))
        super().__init__([tool("redis-server"), here, "--port", self.port, "--bind", "127.0.0.1", *extra])
        until("redis-server answers", lambda: "PONG" in self.cli("ping"))

    def cli(self, *args, password=None):
        password = (self.secrets / "redis-password").read_text() if password is None else password
        return run("redis-cli", "-p", self.port, *args, env={**os.environ, "REDISCLI_AUTH": password}, ok=False).stdout


class Nats(Process):
    """nats-server with a deployed configuration, on its own ports and folder: it has no flags that override these."""

    def __init__(self, folder, config=ROOT / "deploy/nats/nats.conf", name="nats", client=None, routes=None):
        self.port, self.monitor = client or free_port(), free_port()
        folder = of_broker(folder)
        text = config.read_text()
        for setting, value in [("port: 4222", f"port: {self.port}"), ("http_port: 8222", f"http_port: {self.monitor}"),
                               ("store_dir: /data", f"store_dir: {folder / name}, max_file_store: 1TB")]:
            check_that(setting in text, f"{config} has no {setting!r}")
            text = text.replace(setting, value)
        check_that("include ../ordersystem-secrets/nats.conf\n" in text, f"{config} asks for a password")
        self.secrets = secrets(folder)
        if routes:
            check_that("  include ../ordersystem-secrets/nats-routes.conf\n" in text, f"{config} asks other servers for a password")
            text = text.replace("port: 6222", f"port: {routes[int(name[-1])]}")
            others = self.secrets / "nats-routes.conf"
            moved = others.read_text()
            for server, port in enumerate(routes):
                moved = moved.replace(f"ordersystem-nats-{server}.ordersystem-nats:6222", f"127.0.0.1:{port}")
            others.write_text(moved)
        here = folder / f"conf/{name}.conf"
        here.parent.mkdir(exist_ok=True)
        here.write_text(text)
        super().__init__([tool("nats-server"), "--config", here, "--addr", "127.0.0.1"], env={**os.environ, "POD_NAME": name})
        until("nats-server answers", lambda: "ok" in get(f"http://127.0.0.1:{self.monitor}/healthz?js-enabled-only=true"))

    def requires_route_auth(self, port):
        """Whether a server that connects by a route has to authenticate."""
        with socket.create_connection(("127.0.0.1", port), timeout=10) as route:
            return json.loads(route.makefile().readline().removeprefix("INFO ")).get("auth_required", False)

    def jetstream(self):
        return json.loads(get(f"http://127.0.0.1:{self.monitor}/jsz"))


class Node(Process):
    """The service with the settings of a container; its own address and those of its brokers are replaced by local ones."""

    def __init__(self, settings, folder, redis=None, nats=()):
        self.port = free_port()
        self.admin_port = free_port()
        self.settings = {**settings, "ORDERSYSTEM_PORT": str(self.port), "ORDERSYSTEM_BIND": "127.0.0.1",
                         "ORDERSYSTEM_DATA_DIR": str(folder), "ORDERSYSTEM_LOG_LEVEL": "error"}
        if "ORDERSYSTEM_ADMIN_PORT" in settings:
            self.settings["ORDERSYSTEM_ADMIN_PORT"] = str(self.admin_port)
        # In the deployment they are in volumes.
        for broker in ("redis", "nats"):
            self.settings.pop(f"ORDERSYSTEM_{broker.upper()}_PASSWORD_FILE", None)
        if redis:
            self.settings["ORDERSYSTEM_REDIS"] = f"127.0.0.1:{redis.port}"
            self.settings["ORDERSYSTEM_REDIS_PASSWORD_FILE"] = str(redis.secrets / "redis-password")
        if nats and "ORDERSYSTEM_NATS" in settings:
            # The first one names the user for all.
            user = re.match(r"nats://(\w+@)?", settings["ORDERSYSTEM_NATS"])[1] or ""
            self.settings["ORDERSYSTEM_NATS"] = f"nats://{user}" + ",nats://".join(f"127.0.0.1:{server.port}" for server in nats)
            self.settings["ORDERSYSTEM_NATS_PASSWORD_FILE"] = str(nats[0].secrets / "nats-password")
            # In the deployment they are at the default port of each host.
            self.settings["ORDERSYSTEM_NATS_MONITOR"] = ",".join(f"127.0.0.1:{server.monitor}" for server in nats)
        folder.mkdir(parents=True, exist_ok=True)
        self.headers = {}
        if "ORDERSYSTEM_IDENTITIES" in settings:
            # In the deployment it is in a Secret.
            printed = run(BINARY, "keys", "new", "the-tests", "--role", "operator", "--role", "writer").stdout
            key, _, entry = printed.partition("\n\n")
            identities = folder.parent / "identities.toml"
            identities.write_text(entry)
            identities.chmod(0o440)
            self.settings["ORDERSYSTEM_IDENTITIES"] = str(identities)
            self.headers = {"Authorization": f"Bearer {key}"}
        self.env = {**clean_environment(), **self.settings}
        super().__init__([BINARY, "serve"], env=self.env)

    def until_ready(self):
        until("the node is ready", lambda: json.loads(get(self.url("/health/ready"))), timeout_s=60)
        return self

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def info(self):
        return json.loads(get(self.url("/")))

    def create_order(self):
        order = {"customerId": "c", "items": [{"productId": "p", "quantity": 1, "price": 9.99}]}
        return harness.call(self.port, "POST", "/orders", order, self.headers)["orderId"]

    def metrics(self):
        return get(f"http://127.0.0.1:{self.admin_port}/metrics", self.headers)

    def probe(self, service):
        """The gRPC health check as the kubelet does it; SERVING, or the error."""
        asked = json.dumps({"service": service})
        address = f"127.0.0.1:{self.port}"
        # The kubelet sends no credentials; grpcurl needs them to learn what the call looks like.
        headers = [part for name, value in self.headers.items() for part in ("-reflect-header", f"{name}: {value}")]
        done = run(tool("grpcurl"), "-plaintext", "-max-time", 5, *headers, "-d", asked, address, "grpc.health.v1.Health/Check", ok=False)
        found = re.search(r'"status": "(\w+)"|Code: (\w+)', done.stdout + done.stderr)
        return found[1] or found[2] if found else done.stderr

    def passes_health_command(self):
        """The container's own health check ends with 0; what it prints otherwise is the error."""
        run(BINARY, "health", env=self.env)


def clean_environment():
    return {name: value for name, value in os.environ.items() if not name.startswith("ORDERSYSTEM_")}


def effective_config(settings, args=()):
    """The binary must accept these settings, without unknown ones; returns the effective ones. Files with passwords are invented."""
    dummy_secret = tempfile.NamedTemporaryFile("w")
    print("made-up", file=dummy_secret, flush=True)
    settings = {key: dummy_secret.name if key.endswith("_PASSWORD_FILE") else value for key, value in settings.items()}
    done = run(BINARY, "config", *args, env={**clean_environment(), **settings}, ok=False)
    check_that(done.returncode == 0, f"the service refuses {settings}: {done.stderr.strip()}")
    return done.stdout


def has_digest(image):
    """Whether an image is pinned by its digest. That of NATS could not be determined; its file says how to."""
    return "@sha256:" in image or image == "nats:2.12.8-alpine"


def is_pinned(image):
    """Whether an image has a full version as its tag."""
    return re.search(r":v?\d+\.\d+\.\d+(-[\w.-]+)?$|:bookworm-\d{8}-slim$|@sha256:[0-9a-f]{64}$", image) is not None
