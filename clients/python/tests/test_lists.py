"""Lists are read page by page."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from catga.orders.v1.queries_pb2 import ListOrdersRequest, ListOrdersResponse
from catga.orders.v1.queries_pb2_grpc import OrderQueryServiceStub
from catga.orders.v1.types_pb2 import OrderSummary
from fake import FakeServer, Failure, info
from ordersystem_client import OrderError, aio, connect, list_orders

REQUEST = ListOrdersRequest(customer_id="c", page_size=2, page_token="from here")
PAGES = [
    ListOrdersResponse(orders=[OrderSummary(order_id="1"), OrderSummary(order_id="2")], next_page_token="two"),
    # A page may be empty and not the last.
    ListOrdersResponse(next_page_token="three"),
    ListOrdersResponse(orders=[OrderSummary(order_id="3")]),
]
LOST = Failure(grpc.StatusCode.INVALID_ARGUMENT, info("CURSOR_OF_ANOTHER_LOG"))


def check_requests(fake: FakeServer) -> None:
    assert [asked.page_token for asked in fake.requests] == ["from here", "two", "three"]
    assert all(asked.customer_id == "c" and asked.page_size == 2 for asked in fake.requests)
    assert [seen["tenant"] for seen in fake.metadata] == ["t"] * 3
    assert REQUEST.page_token == "from here", "the caller's request stays as it is"


def test_all_pages_are_read_each_when_it_is_needed() -> None:
    with FakeServer(PAGES) as fake, connect(fake.address) as channel:
        orders = list_orders(OrderQueryServiceStub(channel), REQUEST, metadata=[("tenant", "t")])
        assert fake.requests == []
        assert [next(orders).order_id for _ in range(2)] == ["1", "2"]
        assert len(fake.requests) == 1
        assert [order.order_id for order in orders] == ["3"]
        check_requests(fake)


def test_a_page_that_is_refused_ends_the_list_with_its_error() -> None:
    with FakeServer([PAGES[0], LOST]) as fake, connect(fake.address) as channel:
        orders = list_orders(OrderQueryServiceStub(channel), REQUEST)
        assert [next(orders).order_id for _ in range(2)] == ["1", "2"]
        with pytest.raises(OrderError) as caught:
            next(orders)
    assert caught.value.reason == "CURSOR_OF_ANOTHER_LOG"


def test_asyncio_reads_all_pages_as_well() -> None:
    async def read(fake: FakeServer) -> list[str]:
        async with aio.connect(fake.address) as channel:
            orders = aio.list_orders(OrderQueryServiceStub(channel), REQUEST, metadata=[("tenant", "t")])
            return [order.order_id async for order in orders]

    with FakeServer(PAGES) as fake:
        assert asyncio.run(read(fake)) == ["1", "2", "3"]
        check_requests(fake)


def test_each_helper_refuses_the_stub_of_the_other() -> None:
    async def give_the_stub_for_asyncio_to_the_other() -> None:
        async with aio.connect("127.0.0.1:1") as channel:
            list_orders(OrderQueryServiceStub(channel), REQUEST)

    with pytest.raises(TypeError, match=r"use ordersystem_client\.aio\.list_orders"):
        asyncio.run(give_the_stub_for_asyncio_to_the_other())
    with connect("127.0.0.1:1") as channel, pytest.raises(TypeError, match=r"use ordersystem_client\.list_orders"):
        aio.list_orders(OrderQueryServiceStub(channel), REQUEST)  # type: ignore[arg-type]
