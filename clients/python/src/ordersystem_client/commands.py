"""Commands that are safe to retry."""

from __future__ import annotations

import inspect
import time
import uuid
from typing import TYPE_CHECKING, TypeVar

import grpc

from .backoff import Attempts
from .calls import MetadataSource, options_of, require_synchronous, wrong_stub
from .errors import OrderError

if TYPE_CHECKING:
    from grpc import UnaryUnaryMultiCallable

    from .calls import Command

CommandT = TypeVar("CommandT", bound="Command")
ReplyT = TypeVar("ReplyT")


def send(
    method: UnaryUnaryMultiCallable[CommandT, ReplyT],
    command: CommandT,
    *,
    timeout_seconds: float = 30.0,
    attempts: int | None = None,
    metadata: MetadataSource = None,
) -> ReplyT:
    """Sends a command and retries it until it is answered: ``send(stub.PayOrder, PayOrderRequest(...))``.

    A ``command`` without a request id gets one, in place, so that it takes effect once however often it is sent; the same message sent
    again, after a DEADLINE_EXCEEDED for example, gets the first reply. Errors for which a retry may help (:attr:`OrderError.is_retryable`)
    are retried, never earlier than the service requests, until ``timeout_seconds`` from now; no attempt starts later.

    ``attempts``: the maximum number of replies of the service; None: limited by time only. A connection that cannot be opened or that
    breaks does not count.

    ``metadata``: headers to send with every attempt, or a function that gives those of each.

    Raises the :class:`OrderError` of the last attempt.
    """
    require_synchronous(method, "send")
    fill_in_request_id(command)
    tries = Attempts(timeout_seconds, attempts)
    while True:
        try:
            reply = method(command, timeout=tries.remaining_seconds, **options_of(metadata))
        except grpc.RpcError as error:
            wait = tries.wait_seconds(OrderError.raised_by(error))
        else:
            if inspect.isawaitable(reply):
                raise wrong_stub("send", "ordersystem_client", "a coroutine function", "ordersystem_client.aio")
            return reply
        time.sleep(wait)


def fill_in_request_id(command: Command) -> None:
    """Sets a request id if the command has none."""
    if not command.request_id:
        command.request_id = str(uuid.uuid4())
