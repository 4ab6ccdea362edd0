"""Fixtures that the tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from server import Redis, Server, persistence


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis | None]:
    """The Redis server of this run, if that is the persistence under test."""
    if persistence() != "redis":
        yield None
        return
    server = Redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def server(tmp_path: Path, redis: Redis | None) -> Iterator[Server]:
    """A separate server for the test."""
    server = Server(tmp_path, redis, f"test-{tmp_path.name}"[:64])
    server.start()
    yield server
    server.kill()
