"""Commands that are safe to retry."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Protocol, TypeVar

import grpc

from .backoff import Backoff
from .errors import OrderError

if TYPE_CHECKING:
    from grpc import UnaryUnaryMultiCallable


class _Command(Protocol):
    request_id: str


CommandT = TypeVar("CommandT", bound=_Command)
ReplyT = TypeVar("ReplyT")


def send(
    method: UnaryUnaryMultiCallable[CommandT, ReplyT],
    command: CommandT,
    *,
    timeout_seconds: float = 30.0,
    attempts: int = 5,
) -> ReplyT:
    """Gives a command and retries it until it is answered: ``send(stub.PayOrder, PayOrderRequest(...))``.

    A ``command`` without a request id gets one, in place, so that it takes effect once however often it is sent; whoever
    sends the same message again, after a DEADLINE_EXCEEDED for example, gets the first answer. Retried is what may help
    (:attr:`OrderError.is_retryable`), after the time that the service asks for, up to ``attempts`` attempts in all and
    ``timeout_seconds`` from now.

    Raises the ``grpc.RpcError`` of the last attempt.
    """
    if not command.request_id:
        command.request_id = str(uuid.uuid4())
    deadline = time.monotonic() + timeout_seconds
    backoff = Backoff()
    for left in range(attempts - 1, -1, -1):
        remaining_seconds = max(deadline - time.monotonic(), 0.0)
        try:
            return method(command, timeout=remaining_seconds)
        except grpc.RpcError as error:
            facts = OrderError.of(error)
            wait = backoff.wait_seconds(facts)
            if left == 0 or not facts.is_retryable or time.monotonic() + wait >= deadline:
                raise
        time.sleep(wait)
    raise ValueError("attempts must be at least 1")
