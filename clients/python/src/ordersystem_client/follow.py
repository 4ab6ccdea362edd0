"""Histories that are followed over restarts of the service."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import grpc
from catga.orders.v1.history_pb2 import (
    STREAM_START_AFTER,
    StreamEventsRequest,
    StreamEventsResponse,
    StreamOrderHistoryRequest,
    StreamOrderHistoryResponse,
)

from .backoff import Backoff
from .errors import OrderError

if TYPE_CHECKING:
    from catga.orders.v1.history_pb2_grpc import OrderHistoryServiceStub

ReplyT = TypeVar("ReplyT", StreamEventsResponse, StreamOrderHistoryResponse)


class Follow(Generic[ReplyT], Iterator[ReplyT]):
    """The messages of a stream, which is reopened where it broke off: nothing is lost and nothing comes twice.

    Iterate it in one thread; :meth:`cancel` may be called from any. ``caught_up`` comes once, however often the stream is
    reopened. An error that trying again does not mend is raised as the ``grpc.RpcError`` that it is.
    """

    def __init__(
        self,
        open_stream: Callable[[], Any],
        note: Callable[[ReplyT], None],
        give_up_after_seconds: float | None,
    ) -> None:
        self._open = open_stream
        self._note: Callable[[ReplyT], None] = note
        self._give_up_after_seconds = give_up_after_seconds
        self._failing_since: float | None = None
        self._backoff = Backoff()
        self._has_caught_up = False
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._call: Any = None
        #: The cursor of the last message; keep it to go on from here later with ``STREAM_START_AFTER``. Empty before the first.
        self.cursor = ""

    def __next__(self) -> ReplyT:
        while True:
            try:
                call = self._current()
                if call is None:
                    raise StopIteration
                reply: ReplyT = next(call)
            except grpc.RpcError as error:
                self._recover(error)
                continue
            self._failing_since = None
            self._backoff.reset()
            self._note(reply)
            self.cursor = reply.cursor
            if reply.WhichOneof("item") == "caught_up":
                if self._has_caught_up:
                    continue
                self._has_caught_up = True
            return reply

    def cancel(self) -> None:
        """Ends the stream; iterating it then stops."""
        with self._lock:
            self._cancelled.set()
            if self._call is not None:
                self._call.cancel()

    def __enter__(self) -> Follow[ReplyT]:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def _current(self) -> Any:
        """The open stream, opened if there is none; None once cancelled."""
        with self._lock:
            if self._cancelled.is_set():
                return None
            if self._call is None:
                self._call = self._open()
            return self._call

    def _recover(self, error: grpc.RpcError) -> None:
        """Waits before the stream is reopened; raises ``error`` if that would not help."""
        self._call = None
        if self._cancelled.is_set():
            return
        facts = OrderError.of(error)
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        wait = self._backoff.wait_seconds(facts)
        limit = self._give_up_after_seconds
        if not facts.is_retryable or (limit is not None and now + wait - self._failing_since > limit):
            raise error
        self._cancelled.wait(wait)


def follow_events(
    history: OrderHistoryServiceStub,
    request: StreamEventsRequest,
    *,
    give_up_after_seconds: float | None = None,
) -> Follow[StreamEventsResponse]:
    """The events of all orders, as ``StreamEvents`` with ``request`` would give them, resumed by cursor whenever it breaks off.

    ``give_up_after_seconds``: how long to try without a single message before the last error is raised; None: for ever.
    """
    place = StreamEventsRequest()
    place.CopyFrom(request)

    def note(reply: StreamEventsResponse) -> None:
        place.start = STREAM_START_AFTER
        place.cursor = reply.cursor

    return Follow(lambda: history.StreamEvents(place), note, give_up_after_seconds)


def follow_order(
    history: OrderHistoryServiceStub,
    request: StreamOrderHistoryRequest,
    *,
    give_up_after_seconds: float | None = None,
) -> Follow[StreamOrderHistoryResponse]:
    """The history of one order, as ``StreamOrderHistory`` with ``request`` would give it, resumed by revision.

    ``give_up_after_seconds``: how long to try without a single message before the last error is raised; None: for ever.
    """
    place = StreamOrderHistoryRequest()
    place.CopyFrom(request)

    def note(reply: StreamOrderHistoryResponse) -> None:
        if reply.WhichOneof("item") == "event":
            place.from_revision = reply.event.revision + 1

    return Follow(lambda: history.StreamOrderHistory(place), note, give_up_after_seconds)
