"""Parts of calls that the helpers for synchronous and asyncio stubs share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Union

import grpc

#: Headers of a call in gRPC's form: pairs of a lower-case name and a value, which is ``bytes`` if the name ends with ``-bin``.
Metadata = Sequence[tuple[str, Union[str, bytes]]]

#: Headers, or a function that gives those of each attempt: for a token that expires.
MetadataSource = Union[Metadata, Callable[[], Metadata], None]

#: As :data:`MetadataSource`; the function may be a coroutine function.
AsyncMetadataSource = Union[Metadata, Callable[[], Union[Metadata, Awaitable[Metadata]]], None]

if TYPE_CHECKING:

    class Command(Protocol):
        """A request that changes an order."""

        request_id: str


def options_of(metadata: MetadataSource) -> dict[str, Any]:
    """The arguments of a call with these headers; empty without headers, so that any callable works as a method."""
    if metadata is None:
        return {}
    return {"metadata": tuple(metadata() if callable(metadata) else metadata)}


def require_synchronous(method: object, helper: str) -> None:
    """Refuses the method of a stub for asyncio, whose calls a synchronous helper cannot wait for."""
    if isinstance(method, (grpc.aio.UnaryUnaryMultiCallable, grpc.aio.UnaryStreamMultiCallable)):
        raise wrong_stub(helper, "ordersystem_client", "a stub of an asyncio channel", "ordersystem_client.aio")


def require_asynchronous(method: object, helper: str) -> None:
    """Refuses the method of a synchronous stub, which would block the event loop."""
    if isinstance(method, (grpc.UnaryUnaryMultiCallable, grpc.UnaryStreamMultiCallable)):
        raise wrong_stub(helper, "ordersystem_client.aio", "a stub of a synchronous channel", "ordersystem_client")


def wrong_stub(helper: str, here: str, given: str, other: str) -> TypeError:
    """Says which module has the helper for a stub."""
    return TypeError(f"{here}.{helper} was given {given}: use {other}.{helper}")
