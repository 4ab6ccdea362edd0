"""What the checks run: the service, the brokers with the configuration that is deployed, and tools."""

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BINARY = None
TOOLS = None


class Wrong(Exception):
    """Something that is deployed is not as it should be."""


def need(holds, what):
    if not holds:
        raise Wrong(what)


def tool(name):
    for candidate in (TOOLS / name, TOOLS / "venv/bin" / name):
        if candidate.exists():
            return str(candidate)
    found = shutil.which(name)
    need(found, f"there is no {name}: tests/deploy/tools.sh installs it")
    return found


def run(*args, env=None, cwd=ROOT, ok=True):
    """Runs a program to its end; its output. With `ok` it must succeed."""
    done = subprocess.run([str(arg) for arg in args], env=env, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    if ok:
        need(done.returncode == 0, f"{' '.join(map(str, args))}: {done.stdout}{done.stderr}")
    return done


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def until(what, holds, within_s=30):
    """Waits until `holds` gives something true, which it returns."""
    give_up_at, last = time.monotonic() + within_s, None
    while time.monotonic() < give_up_at:
        try:
            last = holds()
            if last:
                return last
        except (OSError, ValueError) as error:
            last = error
        time.sleep(0.1)
    raise Wrong(f"not within {within_s} s: {what} ({last!r})")


class Program:
    """A process of this run."""

    def __init__(self, args, env=None):
        self.process = subprocess.Popen([str(arg) for arg in args], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self):
        """Asks it to end; its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(timeout=45)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


SECRETS = "/etc/ordersystem-secrets"


def secrets(folder):
    """What deploy/secrets.sh makes, which the brokers and their clients share."""
    made = folder / "ordersystem-secrets"
    run(ROOT / "deploy/secrets.sh", made)
    return made


class Redis(Program):
    """redis-server with the configuration that is deployed, on a port and a folder of its own."""

    def __init__(self, folder, config=ROOT / "deploy/redis/redis.conf", extra=()):
        self.port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        text = config.read_text()
        need("\ndir /data\n" in text, f"{config} keeps its data in the volume")
        need(f"\ninclude {SECRETS}/redis.conf\n" in text, f"{config} asks for a password")
        self.secrets = secrets(folder)
        text = text.replace(SECRETS, str(self.secrets))
        here = folder / "redis.conf"
        # Redis goes to the folder as it reads the line: a flag comes too late for that.
        here.write_text(text.replace("\ndir /data\n", f"\ndir {folder}\n"))
        super().__init__([tool("redis-server"), here, "--port", self.port, "--bind", "127.0.0.1", *extra])
        until("redis-server answers", lambda: "PONG" in self.cli("ping"))

    def cli(self, *args, password=None):
        password = (self.secrets / "redis-password").read_text() if password is None else password
        return run("redis-cli", "-p", self.port, *args, env={**os.environ, "REDISCLI_AUTH": password}, ok=False).stdout


class Nats(Program):
    """nats-server with a configuration that is deployed, on ports and a folder of its own: it has no flags that win over these."""

    def __init__(self, folder, config=ROOT / "deploy/nats/nats.conf", name="nats", client=None, routes=None):
        self.port, self.monitor = client or free_port(), free_port()
        text = config.read_text()
        for setting, value in [("port: 4222", f"port: {self.port}"), ("http_port: 8222", f"http_port: {self.monitor}"),
                               ("store_dir: /data", f"store_dir: {folder / name}")]:
            need(setting in text, f"{config} has no {setting!r}")
            text = text.replace(setting, value)
        need("include ../ordersystem-secrets/nats.conf\n" in text, f"{config} asks for a password")
        self.secrets = secrets(folder)
        if routes:
            need("  include ../ordersystem-secrets/nats-routes.conf\n" in text, f"{config} asks other servers for a password")
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

    def asks_other_servers(self, port):
        """Whether a server that comes by a route has to say who it is."""
        with socket.create_connection(("127.0.0.1", port), timeout=10) as route:
            return json.loads(route.makefile().readline().removeprefix("INFO ")).get("auth_required", False)

    def jetstream(self):
        return json.loads(get(f"http://127.0.0.1:{self.monitor}/jsz"))


class Node(Program):
    """The service, with the settings that a container gets. Where it listens and what it connects to is moved to this machine."""

    def __init__(self, settings, folder, redis=None, nats=()):
        self.port = free_port()
        self.admin_port = free_port()
        self.settings = {**settings, "ORDERSYSTEM_PORT": str(self.port), "ORDERSYSTEM_BIND": "127.0.0.1",
                         "ORDERSYSTEM_DATA_DIR": str(folder), "ORDERSYSTEM_LOG_LEVEL": "error"}
        if "ORDERSYSTEM_ADMIN_PORT" in settings:
            self.settings["ORDERSYSTEM_ADMIN_PORT"] = str(self.admin_port)
        # Deployed, they are in volumes.
        for broker in ("redis", "nats"):
            self.settings.pop(f"ORDERSYSTEM_{broker.upper()}_PASSWORD_FILE", None)
        if redis:
            self.settings["ORDERSYSTEM_REDIS"] = f"127.0.0.1:{redis.port}"
            self.settings["ORDERSYSTEM_REDIS_PASSWORD_FILE"] = str(redis.secrets / "redis-password")
        if nats and "ORDERSYSTEM_NATS" in settings:
            # The first names the user for all.
            user = re.match(r"nats://(\w+@)?", settings["ORDERSYSTEM_NATS"])[1] or ""
            self.settings["ORDERSYSTEM_NATS"] = f"nats://{user}" + ",nats://".join(f"127.0.0.1:{server.port}" for server in nats)
            self.settings["ORDERSYSTEM_NATS_PASSWORD_FILE"] = str(nats[0].secrets / "nats-password")
            # Deployed, they are at the usual port of each host.
            self.settings["ORDERSYSTEM_NATS_MONITOR"] = ",".join(f"127.0.0.1:{server.monitor}" for server in nats)
        folder.mkdir(parents=True, exist_ok=True)
        self.env = {**clean_environment(), **self.settings}
        super().__init__([BINARY, "serve"], env=self.env)

    def until_ready(self):
        until("the node is ready", lambda: json.loads(get(self.url("/health/ready"))), within_s=60)
        return self

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def info(self):
        return json.loads(get(self.url("/")))

    def create_order(self):
        order = {"customerId": "c", "items": [{"productId": "p", "quantity": 1, "price": 9.99}]}
        request = urllib.request.Request(self.url("/orders"), json.dumps(order).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)["orderId"]

    def probe(self, service):
        """The gRPC health check as the kubelet makes it; SERVING, or what went wrong."""
        asked = json.dumps({"service": service})
        address = f"127.0.0.1:{self.port}"
        done = run(tool("grpcurl"), "-plaintext", "-max-time", 5, "-d", asked, address, "grpc.health.v1.Health/Check", ok=False)
        found = re.search(r'"status": "(\w+)"|Code: (\w+)', done.stdout + done.stderr)
        return found[1] or found[2] if found else done.stderr

    def health_command(self):
        """The exit code of the container's own health check."""
        return run(BINARY, "health", env=self.env, ok=False).returncode


def clean_environment():
    return {name: value for name, value in os.environ.items() if not name.startswith("ORDERSYSTEM_")}


def accepted(settings, args=()):
    """The binary must take these settings, and no others that it does not know; how they come out. Files with passwords are made up."""
    made_up = tempfile.NamedTemporaryFile("w")
    print("made-up", file=made_up, flush=True)
    settings = {key: made_up.name if key.endswith("_PASSWORD_FILE") else value for key, value in settings.items()}
    done = run(BINARY, "config", *args, env={**clean_environment(), **settings}, ok=False)
    need(done.returncode == 0, f"the service refuses {settings}: {done.stderr.strip()}")
    return done.stdout


def has_digest(image):
    """Whether an image is pinned by its digest. That of NATS's could not be looked up where this was written; its file says how."""
    return "@sha256:" in image or image == "nats:2.12.8-alpine"


def is_pinned(image):
    """Whether an image has a tag that is a version, all of it."""
    return re.search(r":v?\d+\.\d+\.\d+(-[\w.-]+)?$|:bookworm-\d{8}-slim$|@sha256:[0-9a-f]{64}$", image) is not None
