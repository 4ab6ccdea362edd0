"""Event streams that are followed across restarts of the service."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Generic

import grpc
from catga.orders.v1.history_pb2 import (
    StreamEventsRequest,
    StreamEventsResponse,
    StreamOrderHistoryRequest,
    StreamOrderHistoryResponse,
)

from .calls import MetadataSource, options_of, require_synchronous
from .resume import ReplyT, Resume

if TYPE_CHECKING:
    from catga.orders.v1.history_pb2_grpc import OrderHistoryServiceStub


class Follow(Generic[ReplyT], Iterator[ReplyT]):
    """The messages of a stream, which is reopened where it broke off: no message is lost or repeated.

    Iterate it in one thread; :meth:`cancel` may be called from any. ``caught_up`` comes once, however often the stream is reopened. An
    error that a retry does not fix is raised as an :class:`OrderError`.
    """

    def __init__(self, method: Any, resume: Resume[ReplyT], metadata: MetadataSource) -> None:
        self._method = method
        self._metadata = metadata
        self._resume: Any = resume
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._call: Any = None

    @property
    def cursor(self) -> str:
        """The cursor of the last message; keep it to resume from here later with ``STREAM_START_AFTER``. Empty before the first."""
        return str(self._resume.cursor)

    def __next__(self) -> ReplyT:
        while True:
            try:
                call = self._current()
                if call is None:
                    raise StopIteration
                reply: ReplyT = next(call)
            except grpc.RpcError as error:
                self._call = None
                if not self._cancelled.is_set():
                    self._cancelled.wait(self._resume.wait_seconds(error))
                continue
            if self._resume.take(reply):
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
        if self._call is None and not self._cancelled.is_set():
            # Before the lock: a function of the caller may take its time.
            options = options_of(self._metadata)
            with self._lock:
                if not self._cancelled.is_set():
                    self._call = self._method(self._resume.request, **options)
        return None if self._cancelled.is_set() else self._call


def follow_events(
    history: OrderHistoryServiceStub,
    request: StreamEventsRequest,
    *,
    give_up_after_seconds: float | None = None,
    metadata: MetadataSource = None,
) -> Follow[StreamEventsResponse]:
    """The events of all orders, as ``StreamEvents`` with ``request`` would give them, resumed by cursor whenever it breaks off.

    ``give_up_after_seconds``: how long to try without a single message before the last error is raised; None: forever.

    ``metadata``: headers to open the stream with, or a function that gives them each time that it is opened.
    """
    require_synchronous(history.StreamEvents, "follow_events")
    return Follow(history.StreamEvents, Resume(request, give_up_after_seconds), metadata)


def follow_order(
    history: OrderHistoryServiceStub,
    request: StreamOrderHistoryRequest,
    *,
    give_up_after_seconds: float | None = None,
    metadata: MetadataSource = None,
) -> Follow[StreamOrderHistoryResponse]:
    """The history of one order, as ``StreamOrderHistory`` with ``request`` would give it, resumed by revision.

    ``give_up_after_seconds`` and ``metadata`` as in :func:`follow_events`.
    """
    require_synchronous(history.StreamOrderHistory, "follow_order")
    return Follow(history.StreamOrderHistory, Resume(request, give_up_after_seconds), metadata)
