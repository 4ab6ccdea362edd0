"""Channels over TLS, with and without a certificate of the client."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
from catga.system.v1.system_pb2 import GetServerInfoRequest, GetServerInfoResponse
from catga.system.v1.system_pb2_grpc import SystemServiceStub
from certificates import Authority
from ordersystem_client import OrderError, aio, connect
from server import Redis, Server


def info(server: Server, credentials: grpc.ChannelCredentials | None) -> GetServerInfoResponse:
    with connect(server.address, credentials) as channel:
        return SystemServiceStub(channel).GetServerInfo(GetServerInfoRequest(), timeout=10)


def test_a_channel_with_credentials_speaks_tls_and_shows_its_certificate(tmp_path: Path, redis: Redis | None) -> None:
    ca = Authority(tmp_path)
    ca.issue("server")
    ca.issue("client")
    args = ["--tls-cert", ca.path("server.pem"), "--tls-key", ca.path("server.key"), "--tls-client-ca", ca.path("ca.pem")]
    server = Server(tmp_path, redis, f"tls-{tmp_path.name}"[:64], args, ca.credentials("client"))
    server.start()
    try:
        assert info(server, ca.credentials("client")).version

        async def ask() -> GetServerInfoResponse:
            async with aio.connect(server.address, ca.credentials("client")) as channel:
                return await SystemServiceStub(channel).GetServerInfo(GetServerInfoRequest(), timeout=10)

        assert asyncio.run(ask()).version
        for wrong in (None, ca.credentials()):
            with pytest.raises(grpc.RpcError) as caught:
                info(server, wrong)
            assert OrderError.of(caught.value).code is grpc.StatusCode.UNAVAILABLE
    finally:
        server.kill()
