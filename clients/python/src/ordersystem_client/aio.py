"""The helpers for the stubs of an asyncio channel: ``from ordersystem_client import aio``.

They follow the rules of those in ``ordersystem_client`` and raise the same :class:`OrderError`; ``money`` and ``amount_of`` are there.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import grpc
from catga.orders.v1.history_pb2 import (
    StreamEventsRequest,
    StreamEventsResponse,
    StreamOrderHistoryRequest,
    StreamOrderHistoryResponse,
)
from catga.orders.v1.queries_pb2 import ListOrdersRequest
from catga.orders.v1.types_pb2 import OrderSummary

from .backoff import Attempts
from .calls import AsyncMetadataSource, require_asynchronous, wrong_stub
from .channel import OPTIONS
from .commands import CommandT, fill_in_request_id
from .errors import FieldViolation, OrderError, Precondition
from .resume import ReplyT as StreamReplyT
from .resume import Resume
from .tokens import AsyncTokenSource, interceptors_for_asyncio

if TYPE_CHECKING:
    from catga.orders.v1.history_pb2_grpc import OrderHistoryServiceAsyncStub
    from catga.orders.v1.queries_pb2_grpc import OrderQueryServiceAsyncStub
    from grpc.aio import UnaryUnaryMultiCallable

__all__ = [
    "FieldViolation",
    "Follow",
    "OrderError",
    "Precondition",
    "connect",
    "follow_events",
    "follow_order",
    "list_orders",
    "send",
]

ReplyT = TypeVar("ReplyT")

# Marks the end of a stream; the type stubs lack it.
_EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]


def connect(
    address: str,
    credentials: grpc.ChannelCredentials | None = None,
    options: Sequence[tuple[str, Any]] = (),
    *,
    token: AsyncTokenSource | None = None,
) -> grpc.aio.Channel:
    """Opens a channel to ``address`` (``host:port``), as ``ordersystem_client.connect`` does: ``async with connect(...) as channel``.

    The function that gives the ``token`` of each call may be a coroutine function.
    """
    every_option = [*OPTIONS, *options]
    interceptors = [] if token is None else interceptors_for_asyncio(token)
    if credentials is None:
        return grpc.aio.insecure_channel(address, every_option, interceptors=interceptors)
    return grpc.aio.secure_channel(address, credentials, every_option, interceptors=interceptors)


async def send(
    method: UnaryUnaryMultiCallable[CommandT, ReplyT],
    command: CommandT,
    *,
    timeout_seconds: float = 30.0,
    attempts: int | None = None,
    metadata: AsyncMetadataSource = None,
) -> ReplyT:
    """Sends a command and retries it until it is answered: ``await send(stub.PayOrder, PayOrderRequest(...))``.

    As ``ordersystem_client.send``. Cancelling the task ends it, like anything that is awaited.
    """
    require_asynchronous(method, "send")
    fill_in_request_id(command)
    tries = Attempts(timeout_seconds, attempts)
    while True:
        try:
            options = await _options_of(metadata)
            call = method(command, timeout=tries.remaining_seconds, **options)
            if not inspect.isawaitable(call):
                raise wrong_stub("send", "ordersystem_client.aio", "a function that is no coroutine", "ordersystem_client")
            return await call
        except grpc.RpcError as error:
            wait = tries.wait_seconds(OrderError.raised_by(error))
        await asyncio.sleep(wait)


class Follow(Generic[StreamReplyT], AsyncIterator[StreamReplyT]):
    """The messages of a stream, which is reopened where it broke off: no message is lost or repeated.

    Iterate it in one task; :meth:`cancel` may be called from any of the same event loop. ``caught_up`` comes once, however often the stream
    is reopened. An error that a retry does not fix is raised as an :class:`OrderError`. A wait for a message that is cancelled, by
    ``asyncio.wait_for`` for example, loses none: the next one reopens the stream.
    """

    def __init__(self, method: Any, resume: Resume[StreamReplyT], metadata: AsyncMetadataSource) -> None:
        self._method = method
        self._metadata = metadata
        self._resume: Any = resume
        self._cancelled = asyncio.Event()
        self._call: Any = None

    @property
    def cursor(self) -> str:
        """The cursor of the last message; keep it to resume from here later with ``STREAM_START_AFTER``. Empty before the first."""
        return str(self._resume.cursor)

    async def __anext__(self) -> StreamReplyT:
        while not self._cancelled.is_set():
            try:
                reply = await self._read()
            except grpc.RpcError as error:
                self._call = None
                if not self._cancelled.is_set():
                    await self._wait(self._resume.wait_seconds(error))
                continue
            if reply is None:
                break
            if self._resume.take(reply):
                return reply
        raise StopAsyncIteration

    async def _read(self) -> StreamReplyT | None:
        """The next message of the stream, opened if it is not open; None at its end."""
        try:
            if self._call is None:
                options = await _options_of(self._metadata)
                self._call = self._method(self._resume.request, **options)
            reply = await self._call.read()
        except asyncio.CancelledError:
            # gRPC raises it for a call that was cancelled as well as for a task that was. The call is over in both cases.
            call, self._call = self._call, None
            if call is not None:
                call.cancel()
            if self._cancelled.is_set() and not _is_being_cancelled():
                return None
            raise
        return None if reply is _EOF else cast(StreamReplyT, reply)

    async def _wait(self, seconds: float) -> None:
        """Waits for this long, or until it is cancelled."""
        try:
            await asyncio.wait_for(self._cancelled.wait(), seconds)
        except asyncio.TimeoutError:
            pass

    def cancel(self) -> None:
        """Ends the stream; iterating it then stops."""
        self._cancelled.set()
        if self._call is not None:
            self._call.cancel()

    async def __aenter__(self) -> Follow[StreamReplyT]:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cancel()


def follow_events(
    history: OrderHistoryServiceAsyncStub,
    request: StreamEventsRequest,
    *,
    give_up_after_seconds: float | None = None,
    metadata: AsyncMetadataSource = None,
) -> Follow[StreamEventsResponse]:
    """The events of all orders, resumed by cursor whenever it breaks off, as ``ordersystem_client.follow_events``: ``async for``."""
    require_asynchronous(history.StreamEvents, "follow_events")
    return Follow(history.StreamEvents, Resume(request, give_up_after_seconds), metadata)


def follow_order(
    history: OrderHistoryServiceAsyncStub,
    request: StreamOrderHistoryRequest,
    *,
    give_up_after_seconds: float | None = None,
    metadata: AsyncMetadataSource = None,
) -> Follow[StreamOrderHistoryResponse]:
    """The history of one order, resumed by revision, as ``ordersystem_client.follow_order``: ``async for``."""
    require_asynchronous(history.StreamOrderHistory, "follow_order")
    return Follow(history.StreamOrderHistory, Resume(request, give_up_after_seconds), metadata)


def list_orders(
    queries: OrderQueryServiceAsyncStub,
    request: ListOrdersRequest,
    *,
    timeout_seconds: float = 30.0,
    metadata: AsyncMetadataSource = None,
) -> AsyncIterator[OrderSummary]:
    """Every order that ``ListOrders`` finds with ``request``, as ``ordersystem_client.list_orders``: ``async for``."""
    require_asynchronous(queries.ListOrders, "list_orders")
    page = ListOrdersRequest()
    page.CopyFrom(request)
    return _pages(queries, page, timeout_seconds, metadata)


async def _pages(
    queries: OrderQueryServiceAsyncStub, page: ListOrdersRequest, timeout_seconds: float, metadata: AsyncMetadataSource
) -> AsyncIterator[OrderSummary]:
    while True:
        try:
            options = await _options_of(metadata)
            reply = await queries.ListOrders(page, timeout=timeout_seconds, **options)
        except grpc.RpcError as error:
            raise OrderError.raised_by(error)
        for order in reply.orders:
            yield order
        if not reply.next_page_token:
            return
        page.page_token = reply.next_page_token


async def _options_of(metadata: AsyncMetadataSource) -> dict[str, Any]:
    if metadata is None:
        return {}
    given = metadata() if callable(metadata) else metadata
    pairs = await given if inspect.isawaitable(given) else given
    return {"metadata": grpc.aio.Metadata(*pairs)}


def _is_being_cancelled() -> bool:
    """Whether the task itself is being cancelled; Python 3.10 does not report it."""
    cancelling: Callable[[], int] | None = getattr(asyncio.current_task(), "cancelling", None)
    return cancelling is not None and cancelling() > 0
