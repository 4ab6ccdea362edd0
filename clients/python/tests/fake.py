"""A server in this process that follows the script of a test."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent import futures
from typing import Any

import grpc
from catga.orders.v1 import commands_pb2, commands_pb2_grpc, history_pb2, history_pb2_grpc, queries_pb2, queries_pb2_grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2


class Failure:
    """An error to answer with."""

    def __init__(self, code: grpc.StatusCode, *details: Message, raw: bytes | None = None) -> None:
        self.code = code
        status = status_pb2.Status(code=code.value[0], message="as scripted")
        for detail in details:
            status.details.add().Pack(detail)
        self.trailer = raw if raw is not None else status.SerializeToString() if details else None

    def abort(self, context: grpc.ServicerContext) -> Any:
        if self.trailer is not None:
            context.set_trailing_metadata((("grpc-status-details-bin", self.trailer),))
        context.abort(self.code, "as scripted")


def info(reason: str, **metadata: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain="ordersystem", metadata=metadata)


def retry_info(milliseconds: int) -> error_details_pb2.RetryInfo:
    delay = Duration()
    delay.FromMilliseconds(milliseconds)
    return error_details_pb2.RetryInfo(retry_delay=delay)


#: The error of a broken connection: the service itself always gives a reason.
UNAVAILABLE = Failure(grpc.StatusCode.UNAVAILABLE)
SHUTTING_DOWN = Failure(grpc.StatusCode.UNAVAILABLE, info("SHUTTING_DOWN"))
OVERLOADED = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, info("OVERLOADED"), retry_info(300))


class FakeServer(
    commands_pb2_grpc.OrderCommandServiceServicer,
    queries_pb2_grpc.OrderQueryServiceServicer,
    history_pb2_grpc.OrderHistoryServiceServicer,
):
    """Every call takes the next answer of ``script``: a message, a failure, or for a stream a list of both. A stream whose list has no
    failure stays open for half a minute, until the client ends it."""

    def __init__(self, script: Sequence[Any]) -> None:
        self.requests: list[Any] = []
        self.times: list[float] = []
        #: The headers of each call; a header that ends with ``-bin`` has bytes.
        self.metadata: list[dict[str, str | bytes]] = []
        self._script = iter(script)
        self._lock = threading.Lock()
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        commands_pb2_grpc.add_OrderCommandServiceServicer_to_server(self, self._server)
        queries_pb2_grpc.add_OrderQueryServiceServicer_to_server(self, self._server)
        history_pb2_grpc.add_OrderHistoryServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None)

    def _next(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._lock:
            self.requests.append(request)
            self.times.append(time.monotonic())
            self.metadata.append(dict(context.invocation_metadata()))
            return next(self._script)

    def _unary(self, request: Any, context: grpc.ServicerContext) -> Any:
        answer = self._next(request, context)
        return answer.abort(context) if isinstance(answer, Failure) else answer

    def _stream(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        for answer in self._next(request, context):
            if isinstance(answer, Failure):
                answer.abort(context)
            yield answer
        ended = threading.Event()
        if context.add_callback(ended.set):
            ended.wait(30)

    def CreateOrder(self, request: Any, context: Any) -> commands_pb2.CreateOrderResponse:
        return self._unary(request, context)  # type: ignore[no-any-return]

    def PayOrder(self, request: Any, context: Any) -> commands_pb2.PayOrderResponse:
        return self._unary(request, context)  # type: ignore[no-any-return]

    def GetOrder(self, request: Any, context: Any) -> queries_pb2.GetOrderResponse:
        return self._unary(request, context)  # type: ignore[no-any-return]

    def ListOrders(self, request: Any, context: Any) -> queries_pb2.ListOrdersResponse:
        return self._unary(request, context)  # type: ignore[no-any-return]

    def StreamEvents(self, request: Any, context: Any) -> Iterator[history_pb2.StreamEventsResponse]:
        return self._stream(request, context)

    def StreamOrderHistory(self, request: Any, context: Any) -> Iterator[history_pb2.StreamOrderHistoryResponse]:
        return self._stream(request, context)
