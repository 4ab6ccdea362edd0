"""When and where a followed stream is reopened, for synchronous and asyncio stubs."""

from __future__ import annotations

import copy
import time
from typing import Generic, TypeVar

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

ReplyT = TypeVar("ReplyT", StreamEventsResponse, StreamOrderHistoryResponse)


class Resume(Generic[ReplyT]):
    """The request that reopens a stream after its last message."""

    def __init__(self, request: StreamEventsRequest | StreamOrderHistoryRequest, give_up_after_seconds: float | None) -> None:
        # A copy: the caller's request is not changed.
        self.request = copy.deepcopy(request)
        #: The cursor of the last message.
        self.cursor = ""
        self._give_up_after_seconds = give_up_after_seconds
        self._failing_since: float | None = None
        self._backoff = Backoff()
        self._has_caught_up = False

    def take(self, reply: ReplyT) -> bool:
        """Moves past a message; returns whether to pass it on."""
        self._failing_since = None
        self._backoff.reset()
        self._note(reply)
        self.cursor = reply.cursor
        if reply.WhichOneof("item") != "caught_up":
            return True
        is_first = not self._has_caught_up
        self._has_caught_up = True
        return is_first

    def _note(self, reply: StreamEventsResponse | StreamOrderHistoryResponse) -> None:
        if isinstance(self.request, StreamEventsRequest):
            self.request.start = STREAM_START_AFTER
            self.request.cursor = reply.cursor
        elif reply.WhichOneof("item") == "event":
            self.request.from_revision = reply.event.revision + 1

    def wait_seconds(self, error: grpc.RpcError) -> float:
        """The delay before the stream is reopened; raises the error if that would not help."""
        facts = OrderError.raised_by(error)
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        wait = self._backoff.wait_seconds(facts)
        limit = self._give_up_after_seconds
        if not facts.is_retryable or (limit is not None and now + wait - self._failing_since > limit):
            raise facts
        return wait
