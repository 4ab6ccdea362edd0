"""The real server, and the Redis server that stores its data if requested."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ordersystem_client import connect

ROOT = Path(__file__).resolve().parents[3]
START_SECONDS = 60.0
STOP_SECONDS = 30.0


def binary() -> str:
    """The server under test."""
    named = os.environ.get("ORDERSYSTEM_BINARY")
    candidates = [Path(named)] if named else [ROOT / "target" / kind / "ordersystem" for kind in ("release", "debug")]
    for candidate in candidates:
        if candidate.is_file():
            return str(candidate.resolve())
    raise FileNotFoundError(f"no server at {' or '.join(map(str, candidates))}: build it, or set ORDERSYSTEM_BINARY")


def persistence() -> str:
    """The persistence under test."""
    name = os.environ.get("CONFORMANCE_PERSISTENCE", "embedded")
    if name not in ("embedded", "redis"):
        raise ValueError(f"CONFORMANCE_PERSISTENCE must be embedded or redis, not {name!r}")
    return name


#: The key of a caller that may do everything.
ALL_ROLES = "orderkey_test-only-all------------------------------"


def with_identities() -> bool:
    """Whether the server identifies its callers in files that do not say so."""
    return os.environ.get("CONFORMANCE_IDENTITIES", "") == "1"


def identities(folder: Path, name: str) -> Path:
    """The callers of the scenarios, in a file that only this user can write."""
    copy = folder / f"{name}.toml"
    copy.touch(mode=0o600)
    copy.write_bytes((ROOT / "clients" / "conformance" / "identities.toml").read_bytes())
    return copy


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _environment() -> dict[str, str]:
    """The server reads settings from variables that begin with ``ORDERSYSTEM_``, and refuses unknown ones."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ORDERSYSTEM_")}


class Redis:
    """A redis-server that syncs before it answers."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise FileNotFoundError("redis-server 7.0 or newer must be installed")
        self.port = free_port()
        settings = ["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction"]
        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)]
        self._process = subprocess.Popen([program, *where, *settings], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


class Server:
    """The server with a new, empty store; it keeps its port and data across restarts."""

    def __init__(
        self, folder: Path, redis: Redis | None, name: str, args: Sequence[str] = (), credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        # The channel for its health checks.
        self._credentials = credentials
        self._log = folder / f"{name}.log"
        self._args = [binary(), "--port", str(self.port), "--log-level", "warn", *args]
        if redis is None:
            self._args += ["--persistence", "embedded", "--data-dir", str(folder / name)]
        else:
            self._args += ["--persistence", "redis", "--redis", f"127.0.0.1:{redis.port}", "--redis-prefix", name]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert self._process is None, "the server runs already"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._args, env=_environment(), stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        with connect(self.address, self._credentials) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest(service="readiness")
            while True:
                try:
                    if health.Check(request, timeout=1).status == health_pb2.HealthCheckResponse.SERVING:
                        return
                except grpc.RpcError:
                    pass
                running = self._process.poll() is None and time.monotonic() < deadline
                assert running, f"the server does not start: {self._log.read_text()}"
                time.sleep(0.02)

    def stop(self) -> None:
        """Stops it as an operator does."""
        assert self._process is not None, "the server does not run"
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(STOP_SECONDS)
        self._process = None
        assert code == 0, f"the server ended with {code}: {self._log.read_text()}"

    def kill(self) -> None:
        """Kills it, as a crash would; does nothing if it is not running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
