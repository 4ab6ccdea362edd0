"""Runs the conformance scenarios with this client; clients/conformance/README.md says what each step means."""

from __future__ import annotations

import asyncio
import queue
import secrets
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
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
from ordersystem_client import OrderError, aio, connect, follow_events, follow_order, send
from server import ALL_ROLES, ROOT, Redis, Server, identities, persistence, with_identities

SCENARIOS = ROOT / "clients" / "conformance"
CALL_SECONDS = 30.0
MESSAGE_SECONDS = 30.0
CONNECT_SECONDS = 60.0

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


class Synchronous:
    """The synchronous client."""

    def connect(self, address: str, token: Callable[[], str]) -> Any:
        return connect(address, token=token)

    send: Any = staticmethod(send)
    FOLLOWS = {"StreamEvents": follow_events, "StreamOrderHistory": follow_order}

    def until_ready(self, channel: Any) -> None:
        grpc.channel_ready_future(channel).result(CONNECT_SECONDS)

    def call(self, method: Any, request: Any, timeout: float) -> Any:
        return method(request, timeout=timeout)

    def execute(self, method: Any, requests: list[Any], timeout: float) -> list[Any]:
        return list(method(iter(requests), timeout=timeout))

    def open(self, method: Callable[[], Any]) -> Any:
        return method()

    def close(self, channels: list[Any]) -> None:
        for channel in channels:
            channel.close()


class Asyncio:
    """``ordersystem_client.aio``, on an event loop in its own thread."""

    FOLLOWS = {"StreamEvents": aio.follow_events, "StreamOrderHistory": aio.follow_order}

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def connect(self, address: str, token: Callable[[], str]) -> Any:
        async def connect() -> grpc.aio.Channel:
            return aio.connect(address, token=token)

        return self._run(connect())

    def until_ready(self, channel: Any) -> None:
        async def ready() -> None:
            await asyncio.wait_for(channel.channel_ready(), CONNECT_SECONDS)

        self._run(ready())

    def send(self, method: Any, request: Any, **options: Any) -> Any:
        return self._run(aio.send(method, request, **options))

    def call(self, method: Any, request: Any, timeout: float) -> Any:
        async def call() -> Any:
            return await method(request, timeout=timeout)

        return self._run(call())

    def execute(self, method: Any, requests: list[Any], timeout: float) -> list[Any]:
        async def execute() -> list[Any]:
            return [reply async for reply in method(iter(requests), timeout=timeout)]

        return self._run(execute())  # type: ignore[no-any-return]

    def open(self, method: Callable[[], Any]) -> Any:
        async def open() -> Any:
            return method()

        return _Blocking(self._run(open()), self._run, self._loop)

    def close(self, channels: list[Any]) -> None:
        async def close() -> None:
            for channel in channels:
                await channel.close()

        self._run(close())
        self._loop.call_soon_threadsafe(self._loop.stop)


class _Blocking:
    """An asynchronous stream as a synchronous one."""

    def __init__(self, stream: Any, run: Callable[[Coroutine[Any, Any, Any]], Any], loop: asyncio.AbstractEventLoop) -> None:
        self._stream, self._run, self._loop = stream, run, loop
        self._messages = aiter(stream)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        async def read() -> Any:
            try:
                return await anext(self._messages, None)
            except asyncio.CancelledError:
                # The error of a cancelled stream.
                return None

        message = self._run(read())
        if message is None:
            raise StopIteration
        return message

    def cancel(self) -> None:
        self._loop.call_soon_threadsafe(self._stream.cancel)


MODES: dict[str, Callable[[], Any]] = {"sync": Synchronous, "asyncio": Asyncio}


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
    """Reads a stream in its own thread, so that waiting for a message can time out."""

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
            raise AssertionError(f"no message within {MESSAGE_SECONDS:g} s") from None

    def cancel(self) -> None:
        self._stopped.set()
        self._stream.cancel()


class File:
    """The scenarios of one file, on a separate server."""

    def __init__(self, path: Path, name: str, folder: Path, redis: Redis | None) -> None:
        server_options = load(path).get("server", {})
        self.token = "" if server_options.get("identities") or not with_identities() else ALL_ROLES
        args = list(server_options.get("args", []))
        if server_options.get("identities") or with_identities():
            args += ["--identities", str(identities(folder, name))]
        self.server = Server(folder, redis, name, args)
        self.server.start()

    def run(self, steps: list[Json], mode: str) -> None:
        """Runs one scenario."""
        run = Run(self.server, MODES[mode](), self.token)
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

    def __init__(self, server: Server, client: Any, token: str) -> None:
        self.server = server
        self.client = client
        self.token = token
        self.variables: dict[str, Json] = {"run": secrets.token_hex(6), "persistence": persistence()}
        self.channels: list[Any] = []
        self.connect()
        self.readers: dict[str, Reader] = {}

    def connect(self) -> None:
        self.channels.append(self.client.connect(self.server.address, lambda: self.token))

    def step(self, step: Json) -> None:
        kinds = ("call", "send", "execute", "stream", "follow", "take", "end", "cancel", "server", "token")
        kind = next(kind for kind in kinds if kind in step)
        getattr(self, f"_{kind}")(resolve(step, self.variables))

    def close(self) -> None:
        for reader in self.readers.values():
            reader.cancel()
        self.client.close(self.channels)

    def _find(self, name: str, request: Json) -> tuple[Any, Any]:
        """The method, and its request as a message."""
        service, method = name.split("/")
        stub, module = SERVICES[service]
        kind = "HealthCheckRequest" if service == "grpc.health.v1.Health" else f"{method}Request"
        message = json_format.ParseDict(request or {}, getattr(module, kind)())
        return getattr(stub(self.channels[-1]), method), message

    def _check(self, expected: Json, reply: Any) -> None:
        """Matches a reply or an error view against the step."""
        is_error = isinstance(reply, dict)
        assert is_error == ("error" in expected), f"expected {'an error' if 'error' in expected else 'success'}, got {reply}"
        pattern = expected.get("error" if is_error else "expect", {})
        match(pattern, reply if is_error else json_format.MessageToDict(reply), self.variables)

    def _call(self, step: Json) -> None:
        method, request = self._find(step["call"], step.get("request"))
        self._unary(step, lambda: self.client.call(method, request, step["deadline_ms"] / 1_000 if "deadline_ms" in step else CALL_SECONDS))

    def _send(self, step: Json) -> None:
        method, request = self._find(step["send"], step.get("request"))
        options = {"timeout_seconds": step["deadline_ms"] / 1_000} if "deadline_ms" in step else {}

        def start_later() -> None:
            time.sleep(step["start_after_ms"] / 1_000)
            self.server.start()

        with ThreadPoolExecutor() as later:
            starting = later.submit(start_later) if "start_after_ms" in step else None
            self._unary(step, lambda: self.client.send(method, request, **options))
        if starting is not None:
            starting.result()
            self.connect()

    def _unary(self, step: Json, call: Callable[[], Any]) -> None:
        try:
            reply = call()
        except grpc.RpcError as error:
            reply = error_view(OrderError.of(error))
        self._check(step, reply)

    def _execute(self, step: Json) -> None:
        stub = commands_pb2_grpc.OrderCommandServiceStub(self.channels[-1])
        requests = [json_format.ParseDict(request, commands_pb2.ExecuteCommandsRequest()) for request in step["execute"]]
        replies = self.client.execute(stub.ExecuteCommands, requests, CALL_SECONDS)
        correlation_ids = sorted(reply.correlation_id for reply in replies)
        assert correlation_ids == sorted(step["replies"]), f"replies to {correlation_ids}"
        for reply in replies:
            outcome = OrderError.of_status(reply.error) if reply.WhichOneof("outcome") == "error" else None
            self._check(step["replies"][reply.correlation_id], error_view(outcome) if outcome else reply.success)

    def _stream(self, step: Json) -> None:
        method, request = self._find(step["stream"], step.get("request"))
        timeout = step["deadline_ms"] / 1_000 if "deadline_ms" in step else None
        self._open(step, self.client.open(lambda: method(request, timeout=timeout)))

    def _follow(self, step: Json) -> None:
        _, request = self._find(step["follow"], step.get("request"))
        history = history_pb2_grpc.OrderHistoryServiceStub(self.channels[-1])
        follow = self.client.FOLLOWS[step["follow"].split("/")[1]]
        self._open(step, self.client.open(lambda: follow(history, request)))

    def _open(self, step: Json, stream: Any) -> None:
        assert step["as"] not in self.readers, "the handle is taken"
        self.readers[step["as"]] = Reader(stream)

    def _take(self, step: Json) -> None:
        for pattern in step["expect"]:
            kind, value = self.readers[step["take"]].next()
            assert kind == "message", f"expected a message, got {kind} {value}"
            match(pattern, value, self.variables)

    def _end(self, step: Json) -> None:
        kind, value = self.readers[step["end"]].next()
        expected = "error" if "error" in step else "end"
        assert kind == expected, f"expected {expected}, got {kind} {value}"
        if kind == "error":
            match(step["error"], value, self.variables)

    def _token(self, step: Json) -> None:
        self.token = step["token"]

    def _cancel(self, step: Json) -> None:
        self.readers.pop(step["cancel"]).cancel()

    def _server(self, step: Json) -> None:
        for name in {"restart": ["stop", "start"]}.get(step["server"], [step["server"]]):
            {"stop": self.server.stop, "kill": self.server.kill, "start": self.server.start}[name]()
            if name == "start":
                self.connect()
                # Channels to one address share their connection: it may still wait for its next attempt, and calls would fail at once.
                self.client.until_ready(self.channels[-1])
