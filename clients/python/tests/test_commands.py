"""Which errors are retried, and which are not."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import pytest
from catga.orders.v1.commands_pb2 import CreateOrderRequest, PayOrderRequest, PayOrderResponse
from catga.orders.v1.commands_pb2_grpc import OrderCommandServiceStub
from catga.orders.v1.queries_pb2 import GetOrderRequest, GetOrderResponse
from catga.orders.v1.queries_pb2_grpc import OrderQueryServiceStub
from fake import OVERLOADED, SHUTTING_DOWN, UNAVAILABLE, FakeServer, Failure, info, retry_info
from ordersystem_client import OrderError, aio, connect, send
from server import free_port

TOO_LARGE = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, info("MESSAGE_TOO_LARGE"))
ILLEGAL = Failure(grpc.StatusCode.FAILED_PRECONDITION, info("ILLEGAL_TRANSITION"))
PAID = PayOrderResponse(revision=2)


def reason_of(caught: pytest.ExceptionInfo[grpc.RpcError]) -> str:
    return OrderError.of(caught.value).reason


def test_a_query_is_retried_by_the_channel_while_the_service_is_unavailable() -> None:
    with FakeServer([UNAVAILABLE, UNAVAILABLE, GetOrderResponse(consistency_token="t")]) as fake:
        with connect(fake.address) as channel:
            reply = OrderQueryServiceStub(channel).GetOrder(GetOrderRequest(order_id="1"), timeout=10)
    assert reply.consistency_token == "t"
    assert len(fake.requests) == 3


def test_a_query_is_tried_four_times_and_not_more() -> None:
    with FakeServer([UNAVAILABLE] * 9) as fake, connect(fake.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            OrderQueryServiceStub(channel).GetOrder(GetOrderRequest(order_id="1"), timeout=10)
    assert OrderError.of(caught.value).code is grpc.StatusCode.UNAVAILABLE
    assert len(fake.requests) == 4


def test_a_command_is_never_retried_by_the_channel() -> None:
    with FakeServer([UNAVAILABLE, UNAVAILABLE]) as fake, connect(fake.address) as channel:
        stub = OrderCommandServiceStub(channel)
        with pytest.raises(grpc.RpcError):
            stub.CreateOrder(CreateOrderRequest(customer_id="c"), timeout=10)
        with pytest.raises(grpc.RpcError):
            stub.PayOrder(PayOrderRequest(order_id="1", request_id="with an id as well"), timeout=10)
    assert len(fake.requests) == 2


def test_send_retries_with_one_request_id() -> None:
    with FakeServer([UNAVAILABLE, SHUTTING_DOWN, PAID]) as fake, connect(fake.address) as channel:
        command = PayOrderRequest(order_id="1")
        assert send(OrderCommandServiceStub(channel).PayOrder, command) == PAID
    assert command.request_id, "the caller has the id for further retries"
    assert [request.request_id for request in fake.requests] == [command.request_id] * 3


def test_send_fills_in_another_id_for_another_command_and_keeps_a_given_one() -> None:
    with FakeServer([PAID] * 3) as fake, connect(fake.address) as channel:
        for command in (PayOrderRequest(), PayOrderRequest(), PayOrderRequest(request_id="mine")):
            send(OrderCommandServiceStub(channel).PayOrder, command)
    first, second, third = (request.request_id for request in fake.requests)
    assert len({first, second, third}) == 3
    assert third == "mine"


def test_send_waits_as_long_as_the_service_asks_for() -> None:
    with FakeServer([OVERLOADED, PAID]) as fake, connect(fake.address) as channel:
        send(OrderCommandServiceStub(channel).PayOrder, PayOrderRequest())
    assert fake.times[1] - fake.times[0] >= 0.3


@pytest.mark.parametrize(("failure", "reason"), [(TOO_LARGE, "MESSAGE_TOO_LARGE"), (ILLEGAL, "ILLEGAL_TRANSITION")])
def test_send_does_not_retry_errors_that_a_retry_does_not_fix(failure: Failure, reason: str) -> None:
    with FakeServer([failure, PAID]) as fake, connect(fake.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            send(OrderCommandServiceStub(channel).PayOrder, PayOrderRequest())
    assert reason_of(caught) == reason
    assert len(fake.requests) == 1


def test_send_accepts_as_many_answers_as_allowed_and_a_broken_connection_is_not_one() -> None:
    script = [UNAVAILABLE, UNAVAILABLE, SHUTTING_DOWN, UNAVAILABLE, OVERLOADED, PAID]
    with FakeServer(script) as fake, connect(fake.address) as channel:
        with pytest.raises(OrderError) as caught:
            send(OrderCommandServiceStub(channel).PayOrder, PayOrderRequest(), attempts=2)
    assert caught.value.reason == "OVERLOADED"
    assert len(fake.requests) == 5


def test_send_tries_until_its_time_is_up_and_not_only_so_many_times() -> None:
    with FakeServer([*[SHUTTING_DOWN] * 6, PAID]) as fake, connect(fake.address) as channel:
        assert send(OrderCommandServiceStub(channel).PayOrder, PayOrderRequest()) == PAID
    assert len(fake.requests) == 7


def test_the_time_limit_ends_a_send_that_reaches_nobody_and_nothing_else_does() -> None:
    began = time.monotonic()
    with connect(f"127.0.0.1:{free_port()}") as channel:
        with pytest.raises(OrderError) as caught:
            send(OrderCommandServiceStub(channel).PayOrder, PayOrderRequest(), timeout_seconds=5)
    # It gives up if the next delay, of at most 2 s, would end too late.
    assert 3 <= time.monotonic() - began < 25
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "")


def test_send_sends_headers_with_every_attempt_made_anew_if_they_come_from_a_function() -> None:
    fixed = (("authorization", "Bearer t"), ("trace-bin", b"\x00\xff"))
    tokens = iter("ab")
    with FakeServer([UNAVAILABLE, PAID, UNAVAILABLE, PAID]) as fake, connect(fake.address) as channel:
        method = OrderCommandServiceStub(channel).PayOrder
        send(method, PayOrderRequest(), metadata=fixed)
        send(method, PayOrderRequest(), metadata=lambda: [("authorization", next(tokens))])
    assert [seen["authorization"] for seen in fake.metadata] == ["Bearer t", "Bearer t", "a", "b"]
    assert [seen.get("trace-bin") for seen in fake.metadata] == [b"\x00\xff", b"\x00\xff", None, None]


def test_send_refuses_the_stub_of_an_asyncio_channel_and_names_the_module_for_it() -> None:
    async def send_with_it(wrap: bool) -> None:
        async with aio.connect("127.0.0.1:1") as channel:
            method: Any = OrderCommandServiceStub(channel).PayOrder
            function: Any = lambda *a, **k: method(*a, **k)
            send(function if wrap else method, PayOrderRequest())

    for wrap in (False, True):
        with pytest.raises(TypeError, match=r"use ordersystem_client\.aio\.send"):
            asyncio.run(send_with_it(wrap))


def test_send_gives_up_at_once_when_the_wait_would_pass_the_deadline() -> None:
    slow = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, info("STORE_FULL"), retry_info(600_000))
    with FakeServer([slow, PAID]) as fake, connect(fake.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            send(OrderCommandServiceStub(channel).PayOrder, PayOrderRequest(), timeout_seconds=60)
    assert reason_of(caught) == "STORE_FULL"
    assert len(fake.requests) == 1


def test_send_must_be_allowed_an_attempt() -> None:
    with connect("127.0.0.1:1") as channel, pytest.raises(ValueError, match="attempts"):
        send(OrderCommandServiceStub(channel).PayOrder, PayOrderRequest(), attempts=0)
