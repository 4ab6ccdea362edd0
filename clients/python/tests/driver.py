"""Runs the conformance scenarios with this client; clients/conformance/README.md says what each step means."""

from __future__ import annotations

import queue
import secrets
import threading
from pathlib import Path
from typing import Any

import grpc
import yaml
from catga.ids.v1 import ids_pb2, ids_pb2_grpc
from catga.orders.v1 import commands_pb2, commands_pb2_grpc, history_pb2, history_pb2_grpc, queries_pb2, queries_pb2_grpc
from catga.system.v1 import system_pb2, system_pb2_grpc
from google.protobuf import json_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from matching import Json, match, resolve
from ordersystem_client import OrderError, connect, follow_events, follow_order, send
from server import ROOT, Redis, Server, persistence

SCENARIOS = ROOT / "clients" / "conformance"
CALL_SECONDS = 10.0
MESSAGE_SECONDS = 10.0

# Service: the stub and the module with its messages; every request is named after its method.
SERVICES = {
    "catga.orders.v1.OrderCommandService": (commands_pb2_grpc.OrderCommandServiceStub, commands_pb2),
    "catga.orders.v1.OrderQueryService": (queries_pb2_grpc.OrderQueryServiceStub, queries_pb2),
    "catga.orders.v1.OrderHistoryService": (history_pb2_grpc.OrderHistoryServiceStub, history_pb2),
    "catga.ids.v1.IdService": (ids_pb2_grpc.IdServiceStub, ids_pb2),
    "catga.system.v1.SystemService": (system_pb2_grpc.SystemServiceStub, system_pb2),
    "catga.system.v1.AdminService": (system_pb2_grpc.AdminServiceStub, system_pb2),
    "grpc.health.v1.Health": (health_pb2_grpc.HealthStub, health_pb2),
}
FOLLOWS: dict[str, Any] = {"StreamEvents": follow_events, "StreamOrderHistory": follow_order}


def load(path: Path) -> Json:
    return yaml.safe_load(path.read_text("utf-8"))


def error_view(error: OrderError) -> Json:
    """An error as the scenarios describe it."""
    view: dict[str, Json] = {"code": error.code.name, "message": error.message}
    if error.reason:
        view |= {"reason": error.reason, "domain": error.domain, "metadata": dict(error.metadata)}
    view["fieldViolations"] = [{"field": v.field, "description": v.description} for v in error.field_violations]
    view["preconditions"] = [
        {"type": p.type, "subject": p.subject, "description": p.description} for p in error.preconditions
    ]
    if error.retry_delay_seconds is not None:
        view["retryDelayMs"] = round(error.retry_delay_seconds * 1_000)
    return view


class Reader:
    """Reads a stream in a thread of its own, so that a message can be waited for with a limit."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        # Bounded: an endless stream must not fill the memory.
        self._items: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=16)
        self._stopped = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for message in self._stream:
                self._put("message", json_format.MessageToDict(message))
            self._put("end", None)
        except grpc.RpcError as error:
            self._put("error", error_view(OrderError.of(error)))

    def _put(self, kind: str, value: Any) -> None:
        while not self._stopped.is_set():
            try:
                return self._items.put((kind, value), timeout=0.1)
            except queue.Full:
                continue

    def next(self) -> tuple[str, Any]:
        try:
            return self._items.get(timeout=MESSAGE_SECONDS)
        except queue.Empty:
            raise AssertionError(f"nothing came in {MESSAGE_SECONDS:g} s") from None

    def cancel(self) -> None:
        self._stopped.set()
        self._stream.cancel()


class File:
    """The scenarios of one file, on a server of their own."""

    def __init__(self, path: Path, folder: Path, redis: Redis | None) -> None:
        self.server = Server(folder, redis, path.stem, load(path).get("server", {}).get("args", []))
        self.server.start()

    def run(self, steps: list[Json]) -> None:
        """Runs one scenario."""
        run = Run(self.server)
        try:
            for number, step in enumerate(steps, 1):
                try:
                    run.step(step)
                except Exception as error:
                    raise AssertionError(f"step {number}, {next(iter(step.items()))}: {error}") from error
        finally:
            run.close()

    def close(self) -> None:
        self.server.kill()


class Run:
    """One run of one scenario."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.variables: dict[str, Json] = {"run": secrets.token_hex(6), "persistence": persistence()}
        self.channels = [connect(server.address)]
        self.readers: dict[str, Reader] = {}

    def step(self, step: Json) -> None:
        kinds = ("call", "send", "execute", "stream", "follow", "take", "end", "cancel", "server")
        kind = next(kind for kind in kinds if kind in step)
        getattr(self, f"_{kind}")(resolve(step, self.variables))

    def close(self) -> None:
        for reader in self.readers.values():
            reader.cancel()
        for channel in self.channels:
            channel.close()

    def _find(self, name: str, request: Json) -> tuple[Any, Any]:
        """The method, and its request as a message."""
        service, method = name.split("/")
        stub, module = SERVICES[service]
        kind = "HealthCheckRequest" if service == "grpc.health.v1.Health" else f"{method}Request"
        message = json_format.ParseDict(request or {}, getattr(module, kind)())
        return getattr(stub(self.channels[-1]), method), message

    def _check(self, expected: Json, reply: Any) -> None:
        """Matches a reply or an error view with what the step says of it."""
        is_error = isinstance(reply, dict)
        assert is_error == ("error" in expected), f"expected {'an error' if 'error' in expected else 'success'}, came {reply}"
        pattern = expected.get("error" if is_error else "expect", {})
        match(pattern, reply if is_error else json_format.MessageToDict(reply), self.variables)

    def _call(self, step: Json) -> None:
        method, request = self._find(step["call"], step.get("request"))
        self._unary(step, lambda seconds: method(request, timeout=seconds))

    def _send(self, step: Json) -> None:
        method, request = self._find(step["send"], step.get("request"))
        self._unary(step, lambda seconds: send(method, request, timeout_seconds=seconds))

    def _unary(self, step: Json, call: Any) -> None:
        try:
            reply = call(step["deadline_ms"] / 1_000 if "deadline_ms" in step else CALL_SECONDS)
        except grpc.RpcError as error:
            reply = error_view(OrderError.of(error))
        self._check(step, reply)

    def _execute(self, step: Json) -> None:
        stub = commands_pb2_grpc.OrderCommandServiceStub(self.channels[-1])
        requests = [json_format.ParseDict(request, commands_pb2.ExecuteCommandsRequest()) for request in step["execute"]]
        replies = list(stub.ExecuteCommands(iter(requests), timeout=CALL_SECONDS))
        came = sorted(reply.correlation_id for reply in replies)
        assert came == sorted(step["replies"]), f"replies to {came}"
        for reply in replies:
            outcome = OrderError.of_status(reply.error) if reply.WhichOneof("outcome") == "error" else None
            self._check(step["replies"][reply.correlation_id], error_view(outcome) if outcome else reply.success)

    def _stream(self, step: Json) -> None:
        method, request = self._find(step["stream"], step.get("request"))
        timeout = step["deadline_ms"] / 1_000 if "deadline_ms" in step else None
        self._open(step, method(request, timeout=timeout))

    def _follow(self, step: Json) -> None:
        _, request = self._find(step["follow"], step.get("request"))
        history = history_pb2_grpc.OrderHistoryServiceStub(self.channels[-1])
        self._open(step, FOLLOWS[step["follow"].split("/")[1]](history, request))

    def _open(self, step: Json, stream: Any) -> None:
        assert step["as"] not in self.readers, "the handle is taken"
        self.readers[step["as"]] = Reader(stream)

    def _take(self, step: Json) -> None:
        for pattern in step["expect"]:
            kind, value = self.readers[step["take"]].next()
            assert kind == "message", f"expected a message, came {kind} {value}"
            match(pattern, value, self.variables)

    def _end(self, step: Json) -> None:
        kind, value = self.readers[step["end"]].next()
        expected = "error" if "error" in step else "end"
        assert kind == expected, f"expected {expected}, came {kind} {value}"
        if kind == "error":
            match(step["error"], value, self.variables)

    def _cancel(self, step: Json) -> None:
        self.readers.pop(step["cancel"]).cancel()

    def _server(self, step: Json) -> None:
        for name in {"restart": ["stop", "start"]}.get(step["server"], [step["server"]]):
            {"stop": self.server.stop, "kill": self.server.kill, "start": self.server.start}[name]()
            if name == "start":
                self.channels.append(connect(self.server.address))
