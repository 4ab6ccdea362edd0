"""The asyncio helpers follow the rules of the synchronous ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from catga.orders.v1.commands_pb2 import PayOrderRequest, PayOrderResponse
from catga.orders.v1.commands_pb2_grpc import OrderCommandServiceStub
from catga.orders.v1.history_pb2 import (
    STREAM_START_AFTER,
    STREAM_START_LATEST,
    StreamEventsRequest,
    StreamEventsResponse,
    StreamOrderHistoryRequest,
)
from catga.orders.v1.history_pb2_grpc import OrderHistoryServiceStub
from catga.orders.v1.queries_pb2 import GetOrderRequest, GetOrderResponse
from catga.orders.v1.queries_pb2_grpc import OrderQueryServiceStub
from fake import OVERLOADED, SHUTTING_DOWN, UNAVAILABLE, FakeServer, Failure, info, retry_info
from ordersystem_client import OrderError, aio, connect
from server import free_port
from test_follow import caught_up, event, step

PAID = PayOrderResponse(revision=2)
ILLEGAL = Failure(grpc.StatusCode.FAILED_PRECONDITION, info("ILLEGAL_TRANSITION"))


def with_fake(script: list[Any], test: Callable[[FakeServer, grpc.aio.Channel], Awaitable[None]], address: str = "") -> FakeServer:
    """Runs a test with a channel to a server that follows the script."""

    async def run(fake: FakeServer) -> None:
        async with aio.connect(address or fake.address) as channel:
            await asyncio.wait_for(test(fake, channel), 60)

    with FakeServer(script) as fake:
        asyncio.run(run(fake))
    return fake


async def take(count: int, messages: AsyncIterator[StreamEventsResponse]) -> list[StreamEventsResponse]:
    return [await messages.__anext__() for _ in range(count)]


def test_a_query_is_retried_by_the_channel_and_a_command_is_not() -> None:
    async def test(fake: FakeServer, channel: grpc.aio.Channel) -> None:
        reply = await OrderQueryServiceStub(channel).GetOrder(GetOrderRequest(order_id="1"), timeout=10)
        assert reply.consistency_token == "t"
        with pytest.raises(grpc.RpcError):
            await OrderCommandServiceStub(channel).PayOrder(PayOrderRequest(), timeout=10)

    fake = with_fake([UNAVAILABLE, GetOrderResponse(consistency_token="t"), UNAVAILABLE], test)
    assert len(fake.requests) == 3


def test_send_retries_with_one_request_id_for_as_long_as_it_takes() -> None:
    command = PayOrderRequest(order_id="1")

    async def test(_: FakeServer, channel: grpc.aio.Channel) -> None:
        assert await aio.send(OrderCommandServiceStub(channel).PayOrder, command) == PAID

    fake = with_fake([*[UNAVAILABLE, SHUTTING_DOWN] * 3, PAID], test)
    assert command.request_id
    assert [request.request_id for request in fake.requests] == [command.request_id] * 7


def test_send_waits_as_long_as_the_service_asks_for_and_lets_other_tasks_run() -> None:
    async def test(_: FakeServer, channel: grpc.aio.Channel) -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        await aio.send(OrderCommandServiceStub(channel).PayOrder, PayOrderRequest())
        ticking.cancel()
        assert ticks > 2

    fake = with_fake([OVERLOADED, PAID], test)
    assert fake.times[1] - fake.times[0] >= 0.3


def test_send_raises_errors_that_a_retry_does_not_fix() -> None:
    async def test(_: FakeServer, channel: grpc.aio.Channel) -> None:
        with pytest.raises(OrderError) as caught:
            await aio.send(OrderCommandServiceStub(channel).PayOrder, PayOrderRequest())
        assert (caught.value.reason, caught.value.metadata) == ("ILLEGAL_TRANSITION", {})

    assert len(with_fake([ILLEGAL, PAID], test).requests) == 1


def test_send_accepts_as_many_answers_as_allowed() -> None:
    async def test(_: FakeServer, channel: grpc.aio.Channel) -> None:
        with pytest.raises(OrderError):
            await aio.send(OrderCommandServiceStub(channel).PayOrder, PayOrderRequest(), attempts=2)

    assert len(with_fake([UNAVAILABLE, SHUTTING_DOWN, UNAVAILABLE, OVERLOADED, PAID], test).requests) == 4


def test_the_time_limit_ends_a_send_that_reaches_nobody() -> None:
    async def test(_: FakeServer, channel: grpc.aio.Channel) -> None:
        began = time.monotonic()
        with pytest.raises(OrderError) as caught:
            await aio.send(OrderCommandServiceStub(channel).PayOrder, PayOrderRequest(), timeout_seconds=5)
        assert 3 <= time.monotonic() - began < 25
        assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "")

    with_fake([], test, f"127.0.0.1:{free_port()}")


def test_a_task_that_is_cancelled_ends_a_send_that_waits() -> None:
    async def test(fake: FakeServer, channel: grpc.aio.Channel) -> None:
        sending = asyncio.create_task(aio.send(OrderCommandServiceStub(channel).PayOrder, PayOrderRequest()))
        while not fake.requests:
            await asyncio.sleep(0.01)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

    later = Failure(grpc.StatusCode.UNAVAILABLE, retry_info(20_000))
    assert len(with_fake([later, PAID], test).requests) == 1


def test_headers_come_from_a_list_a_function_or_a_coroutine() -> None:
    async def token() -> list[tuple[str, str]]:
        return [("authorization", "c")]

    async def test(_: FakeServer, channel: grpc.aio.Channel) -> None:
        method = OrderCommandServiceStub(channel).PayOrder
        await aio.send(method, PayOrderRequest(), metadata=[("authorization", "a")])
        await aio.send(method, PayOrderRequest(), metadata=lambda: [("authorization", "b")])
        await aio.send(method, PayOrderRequest(), metadata=token)
        history = OrderHistoryServiceStub(channel)
        async with aio.follow_events(history, StreamEventsRequest(follow=True), metadata=token) as follow:
            await take(2, follow)

    fake = with_fake([PAID, UNAVAILABLE, PAID, PAID, [event("a"), UNAVAILABLE], [event("b")]], test)
    assert [seen["authorization"] for seen in fake.metadata] == ["a", "b", "b", "c", "c", "c"]


def test_events_are_resumed_after_the_last_cursor_and_caught_up_comes_once() -> None:
    script = [[event("a"), caught_up("b"), UNAVAILABLE], [UNAVAILABLE], [caught_up("c"), event("d")]]
    request = StreamEventsRequest(start=STREAM_START_LATEST, customer_ids=["c"], follow=True)

    async def test(_: FakeServer, channel: grpc.aio.Channel) -> None:
        async with aio.follow_events(OrderHistoryServiceStub(channel), request) as follow:
            assert await take(3, follow) == [event("a"), caught_up("b"), event("d")]
            assert follow.cursor == "d"
        assert [message async for message in follow] == [], "it has been cancelled"

    fake = with_fake(script, test)
    places = [(asked.start, asked.cursor) for asked in fake.requests]
    assert places == [(STREAM_START_LATEST, ""), (STREAM_START_AFTER, "b"), (STREAM_START_AFTER, "b")]
    assert all(asked.customer_ids == ["c"] and asked.follow for asked in fake.requests)
    assert request.cursor == ""


def test_the_history_of_an_order_is_resumed_after_its_last_revision() -> None:
    async def test(_: FakeServer, channel: grpc.aio.Channel) -> None:
        request = StreamOrderHistoryRequest(order_id="1", from_revision=3, follow=True)
        async with aio.follow_order(OrderHistoryServiceStub(channel), request) as follow:
            assert [await follow.__anext__() for _ in range(3)] == [step(3), step(4), step(5)]

    fake = with_fake([[step(3), step(4), UNAVAILABLE], [step(5)]], test)
    assert [asked.from_revision for asked in fake.requests] == [3, 5]


def test_a_follow_raises_errors_that_a_retry_does_not_fix() -> None:
    lost = Failure(grpc.StatusCode.INVALID_ARGUMENT, info("CURSOR_OF_ANOTHER_LOG"))

    async def test(_: FakeServer, channel: grpc.aio.Channel) -> None:
        follow = aio.follow_events(OrderHistoryServiceStub(channel), StreamEventsRequest(follow=True))
        assert await take(1, follow) == [event("a")]
        with pytest.raises(OrderError) as caught:
            await take(1, follow)
        assert caught.value.reason == "CURSOR_OF_ANOTHER_LOG"

    with_fake([[event("a"), UNAVAILABLE], [lost]], test)


def test_a_follow_gives_up_when_nothing_comes_for_too_long() -> None:
    async def test(_: FakeServer, channel: grpc.aio.Channel) -> None:
        history = OrderHistoryServiceStub(channel)
        follow = aio.follow_events(history, StreamEventsRequest(follow=True), give_up_after_seconds=0.5)
        with pytest.raises(OrderError):
            await take(1, follow)

    assert 2 <= len(with_fake([[UNAVAILABLE]] * 99, test).requests) < 10


@pytest.mark.parametrize("script", [[[]], [[Failure(grpc.StatusCode.UNAVAILABLE, retry_info(60_000))]]], ids=["reading", "waiting"])
def test_a_cancel_by_another_task_ends_a_follow_at_once(script: list[Any]) -> None:
    async def test(fake: FakeServer, channel: grpc.aio.Channel) -> None:
        follow = aio.follow_events(OrderHistoryServiceStub(channel), StreamEventsRequest(follow=True))

        async def read() -> list[StreamEventsResponse]:
            return [message async for message in follow]

        reading = asyncio.create_task(read())
        while not fake.requests:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        follow.cancel()
        assert await asyncio.wait_for(reading, 20) == []

    with_fake(script, test)


def test_a_task_that_is_cancelled_while_it_reads_is_cancelled() -> None:
    async def test(fake: FakeServer, channel: grpc.aio.Channel) -> None:
        follow = aio.follow_events(OrderHistoryServiceStub(channel), StreamEventsRequest(follow=True))
        reading = asyncio.create_task(take(1, follow))
        while not fake.requests:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    with_fake([[]], test)


def test_a_wait_for_a_message_that_is_cut_short_loses_none() -> None:
    async def test(_: FakeServer, channel: grpc.aio.Channel) -> None:
        async with aio.follow_events(OrderHistoryServiceStub(channel), StreamEventsRequest(follow=True)) as follow:
            assert await take(1, follow) == [event("a")]
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(take(1, follow), 0.2)
            assert await take(1, follow) == [event("b")]

    fake = with_fake([[event("a")], [event("b")]], test)
    assert [asked.cursor for asked in fake.requests] == ["", "a"]


def test_the_end_of_a_stream_is_the_end_of_a_follow() -> None:
    class Ends:
        """A stub whose stream ends, unlike that of the fake server."""

        async def read(self) -> Any:
            return getattr(grpc.aio, "EOF")

        def StreamEvents(self, _: StreamEventsRequest) -> Ends:
            return self

    async def test(_: FakeServer, __: grpc.aio.Channel) -> None:
        assert [message async for message in aio.follow_events(Ends(), StreamEventsRequest())] == []  # type: ignore[arg-type]

    with_fake([], test)


def test_the_stubs_of_a_synchronous_channel_are_refused_with_the_module_for_them() -> None:
    async def test(_: FakeServer, __: grpc.aio.Channel) -> None:
        with connect("127.0.0.1:1") as channel:
            method, history = OrderCommandServiceStub(channel).PayOrder, OrderHistoryServiceStub(channel)
            for wrong in (method, lambda *_, **__: PAID):
                with pytest.raises(TypeError, match=r"use ordersystem_client\.send"):
                    await aio.send(wrong, PayOrderRequest())  # type: ignore[arg-type]
            with pytest.raises(TypeError, match=r"use ordersystem_client\.follow_events"):
                aio.follow_events(history, StreamEventsRequest())  # type: ignore[arg-type]
            with pytest.raises(TypeError, match=r"use ordersystem_client\.follow_order"):
                aio.follow_order(history, StreamOrderHistoryRequest())  # type: ignore[arg-type]

    with_fake([], test)
