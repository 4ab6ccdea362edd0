"""A channel to the order service."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any

import grpc

from .tokens import TokenSource, WithToken

#: The gRPC service config of every channel, as JSON: queries are retried when the service is UNAVAILABLE, commands are not.
#: Commands are retried by :func:`ordersystem_client.send`, which knows whether they have a request id.
SERVICE_CONFIG = resources.files(__package__).joinpath("service_config.json").read_text("utf-8")

#: Of every channel, for asyncio as well.
OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.service_config", SERVICE_CONFIG),
    # After a restart the service may be back within a second; gRPC's default maximum backoff is two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Detects a dead peer even while nothing is being sent, as on a followed stream.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


def connect(
    address: str,
    credentials: grpc.ChannelCredentials | None = None,
    options: Sequence[tuple[str, Any]] = (),
    *,
    token: TokenSource | None = None,
) -> grpc.Channel:
    """Opens a channel to ``address`` (``host:port``), in plain text without ``credentials``. Close it after use.

    ``options`` are gRPC's channel arguments, on top of those of the client.

    ``token`` goes with each call: a text, or a function that is called for each call, such as that of
    :func:`ordersystem_client.token_file`. Without ``credentials`` it is sent in plain text.
    """
    every_option = [*OPTIONS, *options]
    if credentials is None:
        channel = grpc.insecure_channel(address, every_option)
    else:
        channel = grpc.secure_channel(address, credentials, every_option)
    return channel if token is None else grpc.intercept_channel(channel, WithToken(token))
