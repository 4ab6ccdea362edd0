"""Followed streams resume where they broke off."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from itertools import islice

import grpc
import pytest
from catga.events.v1.events_pb2 import OrderEvent
from catga.orders.v1.history_pb2 import (
    STREAM_START_AFTER,
    STREAM_START_LATEST,
    CaughtUp,
    Heartbeat,
    StreamEventsRequest,
    StreamEventsResponse,
    StreamOrderHistoryRequest,
    StreamOrderHistoryResponse,
)
from catga.orders.v1.history_pb2_grpc import OrderHistoryServiceStub
from fake import UNAVAILABLE, FakeServer, Failure, info, retry_info
from ordersystem_client import OrderError, aio, connect, follow_events, follow_order


UNAVAILABLES: Sequence[Failure] = [UNAVAILABLE]


def event(cursor: str) -> StreamEventsResponse:
    return StreamEventsResponse(cursor=cursor, event=OrderEvent(event_id=f"of {cursor}"))


def caught_up(cursor: str) -> StreamEventsResponse:
    return StreamEventsResponse(cursor=cursor, caught_up=CaughtUp())


def heartbeat(cursor: str) -> StreamEventsResponse:
    return StreamEventsResponse(cursor=cursor, heartbeat=Heartbeat())


def step(revision: int) -> StreamOrderHistoryResponse:
    return StreamOrderHistoryResponse(cursor=f"c{revision}", event=OrderEvent(revision=revision))


def test_events_continue_after_the_last_cursor_whatever_message_it_came_with() -> None:
    script = [
        [event("a"), UNAVAILABLE],
        [heartbeat("b"), UNAVAILABLE],
        [caught_up("c"), UNAVAILABLE],
        UNAVAILABLES,
        [event("d")],
    ]
    request = StreamEventsRequest(start=STREAM_START_LATEST, customer_ids=["c"], follow=True)
    with FakeServer(script) as fake, connect(fake.address) as channel:
        with follow_events(OrderHistoryServiceStub(channel), request) as follow:
            assert list(islice(follow, 4)) == [event("a"), heartbeat("b"), caught_up("c"), event("d")]
            assert follow.cursor == "d"
    places = [(asked.start, asked.cursor) for asked in fake.requests]
    after = STREAM_START_AFTER
    assert places == [(STREAM_START_LATEST, ""), (after, "a"), (after, "b"), (after, "c"), (after, "c")]
    assert all(asked.customer_ids == ["c"] and asked.follow for asked in fake.requests)
    assert (request.start, request.cursor) == (STREAM_START_LATEST, ""), "the caller's request stays as it was"


def test_caught_up_comes_once() -> None:
    script = [[caught_up("a"), UNAVAILABLE], [caught_up("b"), event("c"), UNAVAILABLE], [event("d"), caught_up("e")]]
    with FakeServer(script) as fake, connect(fake.address) as channel:
        with follow_events(OrderHistoryServiceStub(channel), StreamEventsRequest(follow=True)) as follow:
            assert list(islice(follow, 3)) == [caught_up("a"), event("c"), event("d")]
    assert [asked.cursor for asked in fake.requests] == ["", "a", "c"]


def test_the_history_of_an_order_continues_after_its_last_revision() -> None:
    up = StreamOrderHistoryResponse(cursor="x", caught_up=CaughtUp(revision=4))
    script = [[step(3), step(4), up, UNAVAILABLE], [up, UNAVAILABLE], [step(5)]]
    request = StreamOrderHistoryRequest(order_id="1", from_revision=3, follow=True)
    with FakeServer(script) as fake, connect(fake.address) as channel:
        with follow_order(OrderHistoryServiceStub(channel), request) as follow:
            assert list(islice(follow, 4)) == [step(3), step(4), up, step(5)]
            assert follow.cursor == "c5"
    assert [asked.from_revision for asked in fake.requests] == [3, 5, 5]
    assert request.from_revision == 3


def test_an_error_that_a_retry_does_not_fix_is_raised() -> None:
    lost = Failure(grpc.StatusCode.INVALID_ARGUMENT, info("CURSOR_OF_ANOTHER_LOG"))
    with FakeServer([[event("a"), UNAVAILABLE], [lost]]) as fake, connect(fake.address) as channel:
        follow = follow_events(OrderHistoryServiceStub(channel), StreamEventsRequest(follow=True))
        assert next(follow) == event("a")
        with pytest.raises(grpc.RpcError) as caught:
            next(follow)
    assert OrderError.of(caught.value).reason == "CURSOR_OF_ANOTHER_LOG"


def test_a_reopening_waits_as_long_as_the_service_asks_for() -> None:
    draining = Failure(grpc.StatusCode.UNAVAILABLE, info("SHUTTING_DOWN"), retry_info(400))
    with FakeServer([[draining], [event("a")]]) as fake, connect(fake.address) as channel:
        with follow_events(OrderHistoryServiceStub(channel), StreamEventsRequest(follow=True)) as follow:
            next(follow)
    assert fake.times[1] - fake.times[0] >= 0.4


def test_it_gives_up_with_the_last_error_when_nothing_comes_for_too_long() -> None:
    with FakeServer([[event("a"), UNAVAILABLE], *[UNAVAILABLES] * 99]) as fake, connect(fake.address) as channel:
        history = OrderHistoryServiceStub(channel)
        follow = follow_events(history, StreamEventsRequest(follow=True), give_up_after_seconds=0.5)
        assert next(follow) == event("a")
        with pytest.raises(grpc.RpcError) as caught:
            next(follow)
    assert OrderError.of(caught.value).code is grpc.StatusCode.UNAVAILABLE
    assert 2 <= len(fake.requests) < 10


def test_a_message_ends_the_period_of_failures() -> None:
    # All delays together exceed the allowed time of failure, and each is much shorter.
    later = Failure(grpc.StatusCode.UNAVAILABLE, retry_info(3_000))
    with FakeServer([*[[event("a"), later]] * 3, [event("b")]]) as fake, connect(fake.address) as channel:
        history = OrderHistoryServiceStub(channel)
        with follow_events(history, StreamEventsRequest(follow=True), give_up_after_seconds=8) as follow:
            assert list(islice(follow, 4)) == [event("a")] * 3 + [event("b")]


@pytest.mark.parametrize("script", [[[]], [[Failure(grpc.StatusCode.UNAVAILABLE, retry_info(60_000))]]], ids=["reading", "waiting"])
def test_a_cancel_from_another_thread_ends_it_at_once(script: list[list[Failure]]) -> None:
    with FakeServer(script) as fake, connect(fake.address) as channel:
        follow = follow_events(OrderHistoryServiceStub(channel), StreamEventsRequest(follow=True))
        received: list[StreamEventsResponse] = []
        reader = threading.Thread(target=lambda: received.extend(follow))
        reader.start()
        while not fake.requests:
            time.sleep(0.01)
        time.sleep(0.1)
        follow.cancel()
        reader.join(10)
        assert not reader.is_alive()
        assert received == []


def test_headers_are_sent_each_time_that_the_stream_is_opened() -> None:
    tokens = iter("abcd")
    request = StreamEventsRequest(follow=True)
    with FakeServer([[event("a"), UNAVAILABLE], [event("b")], [step(1)]]) as fake, connect(fake.address) as channel:
        history = OrderHistoryServiceStub(channel)
        with follow_events(history, request, metadata=lambda: [("authorization", next(tokens))]) as follow:
            assert list(islice(follow, 2)) == [event("a"), event("b")]
        order = StreamOrderHistoryRequest(order_id="1", follow=True)
        with follow_order(history, order, metadata=[("authorization", "fixed")]) as steps:
            next(steps)
    assert [seen["authorization"] for seen in fake.metadata] == ["a", "b", "fixed"]


def test_the_stub_of_an_asyncio_channel_is_refused_with_the_module_for_it() -> None:
    async def follow_with_it() -> None:
        async with aio.connect("127.0.0.1:1") as channel:
            history = OrderHistoryServiceStub(channel)
            with pytest.raises(TypeError, match=r"use ordersystem_client\.aio\.follow_events"):
                follow_events(history, StreamEventsRequest())
            with pytest.raises(TypeError, match=r"use ordersystem_client\.aio\.follow_order"):
                follow_order(history, StreamOrderHistoryRequest())

    asyncio.run(follow_with_it())
