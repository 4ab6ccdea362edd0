"""The token of a channel goes with each call, and is asked for each time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from catga.orders.v1.commands_pb2 import PayOrderRequest, PayOrderResponse
from catga.orders.v1.commands_pb2_grpc import OrderCommandServiceStub
from catga.orders.v1.history_pb2 import StreamEventsRequest, StreamEventsResponse
from catga.orders.v1.history_pb2_grpc import OrderHistoryServiceStub
from catga.orders.v1.queries_pb2 import GetOrderRequest, GetOrderResponse
from catga.orders.v1.queries_pb2_grpc import OrderQueryServiceStub
from fake import UNAVAILABLE, FakeServer
from ordersystem_client import aio, connect, follow_events, send, token_file

PAID = PayOrderResponse(revision=2)
SCRIPT = [GetOrderResponse(), UNAVAILABLE, PAID, [StreamEventsResponse(cursor="a"), UNAVAILABLE], [StreamEventsResponse(cursor="b")]]
COUNTED = [f"Bearer {number}" for number in range(1, 6)]


def counting() -> Callable[[], str]:
    """A token that is another one each time."""
    numbers = iter(range(1, 100))
    return lambda: str(next(numbers))


def sent(fake: FakeServer) -> list[str | bytes | None]:
    return [metadata.get("authorization") for metadata in fake.metadata]


def test_every_call_attempt_and_opening_has_the_token_of_that_moment() -> None:
    with FakeServer(SCRIPT) as fake, connect(fake.address, token=counting()) as channel:
        OrderQueryServiceStub(channel).GetOrder(GetOrderRequest(order_id="1"), timeout=10)
        assert send(OrderCommandServiceStub(channel).PayOrder, PayOrderRequest(order_id="1")) == PAID
        follow = follow_events(OrderHistoryServiceStub(channel), StreamEventsRequest(follow=True))
        assert [next(follow).cursor, next(follow).cursor] == ["a", "b"]
        follow.cancel()
    assert sent(fake) == COUNTED


def test_it_is_the_same_with_asyncio_and_a_coroutine_function() -> None:
    async def call(address: str) -> None:
        source = counting()

        async def token() -> str:
            await asyncio.sleep(0)
            return source()

        async with aio.connect(address, token=token) as channel:
            await OrderQueryServiceStub(channel).GetOrder(GetOrderRequest(order_id="1"), timeout=10)
            assert await aio.send(OrderCommandServiceStub(channel).PayOrder, PayOrderRequest(order_id="1")) == PAID
            follow = aio.follow_events(OrderHistoryServiceStub(channel), StreamEventsRequest(follow=True))
            assert [(await anext(follow)).cursor, (await anext(follow)).cursor] == ["a", "b"]
            follow.cancel()

    with FakeServer(SCRIPT) as fake:
        asyncio.run(call(fake.address))
    assert sent(fake) == COUNTED


def test_a_file_is_read_for_each_call_and_an_empty_token_is_not_sent(tmp_path: Path) -> None:
    file = tmp_path / "token"
    with FakeServer([GetOrderResponse()] * 3) as fake, connect(fake.address, token=token_file(file)) as channel:
        queries = OrderQueryServiceStub(channel)
        for content in ("first\n", "renewed\n", ""):
            file.write_text(content)
            queries.GetOrder(GetOrderRequest(order_id="1"), timeout=10)
        file.unlink()
        with pytest.raises(FileNotFoundError):
            queries.GetOrder(GetOrderRequest(order_id="1"), timeout=10)
    assert sent(fake) == ["Bearer first", "Bearer renewed", None]
