"""The token of a channel, which goes with each of its calls."""

from __future__ import annotations

import collections
import inspect
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Optional, Union

import grpc

#: A token, or a function that gives the one for each call; without a token (None, or empty) the call has none.
TokenSource = Union[str, Callable[[], Optional[str]]]

#: As :data:`TokenSource`; the function may be a coroutine function.
AsyncTokenSource = Union[str, Callable[[], Union[Optional[str], Awaitable[Optional[str]]]]]


def token_file(path: str | os.PathLike[str]) -> Callable[[], str]:
    """A source that reads the token from a file for each call: a token that is renewed there is used at once.

    Replace the file by renaming another one to its name, so that no call reads half of it.
    """

    def read() -> str:
        return Path(path).read_text("utf-8").strip()

    return read


class _Details(
    collections.namedtuple("_Details", ("method", "timeout", "metadata", "credentials", "wait_for_ready", "compression")),
    grpc.ClientCallDetails,
):
    """The details of a call, with its token."""


class WithToken(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[type-arg]
    grpc.UnaryStreamClientInterceptor,  # type: ignore[type-arg]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[type-arg]
    grpc.StreamStreamClientInterceptor,  # type: ignore[type-arg]
):
    """Sends the token with each call of a channel."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source

    def _call(self, continuation: Any, details: Any, request: Any) -> Any:
        token = self._source() if callable(self._source) else self._source
        metadata = [*(details.metadata or ()), *_header(token)]
        compression = getattr(details, "compression", None)
        wait_for_ready = getattr(details, "wait_for_ready", None)
        with_token = _Details(details.method, details.timeout, metadata, details.credentials, wait_for_ready, compression)
        return continuation(with_token, request)

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return self._call(continuation, client_call_details, request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return self._call(continuation, client_call_details, request)

    def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return self._call(continuation, client_call_details, request_iterator)

    def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return self._call(continuation, client_call_details, request_iterator)


def interceptors_for_asyncio(source: AsyncTokenSource) -> list[Any]:
    """Interceptors that send the token with each call of an asyncio channel. gRPC takes one of each kind."""

    async def call(continuation: Any, details: Any, request: Any) -> Any:
        given = source() if callable(source) else source
        token = await given if inspect.isawaitable(given) else given
        metadata = grpc.aio.Metadata(*(details.metadata or ()), *_header(token))
        with_token = grpc.aio.ClientCallDetails(
            details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
        )
        return await continuation(with_token, request)

    class UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
        async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
            return await call(continuation, client_call_details, request)

    class UnaryStream(grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[type-arg]
        async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
            return await call(continuation, client_call_details, request)

    class StreamUnary(grpc.aio.StreamUnaryClientInterceptor):  # type: ignore[type-arg]
        async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
            return await call(continuation, client_call_details, request_iterator)

    class StreamStream(grpc.aio.StreamStreamClientInterceptor):  # type: ignore[type-arg]
        async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
            return await call(continuation, client_call_details, request_iterator)

    return [UnaryUnary(), UnaryStream(), StreamUnary(), StreamStream()]


def _header(token: str | None) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")] if token else []
