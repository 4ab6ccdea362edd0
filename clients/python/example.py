"""A tour of the order service: the life of an order, errors, a retry, a followed history, health, a deadline.

usage: example.py ADDRESS

Halfway it waits for a line on standard input: restart the service then, and see the history resume. That needs a durable service, such as
``ordersystem --persistence embedded --data-dir DIR``.
"""

import sys
import uuid

import grpc
from catga.ids.v1.ids_pb2 import GenerateIdsRequest
from catga.ids.v1.ids_pb2_grpc import IdServiceStub
from catga.orders.v1.commands_pb2 import (
    CreateOrderRequest,
    DeliverOrderRequest,
    NewOrderItem,
    PayOrderRequest,
    ShipOrderRequest,
)
from catga.orders.v1.commands_pb2_grpc import OrderCommandServiceStub
from catga.orders.v1.history_pb2 import STREAM_START_AFTER, StreamEventsRequest, StreamEventsResponse
from catga.orders.v1.history_pb2_grpc import OrderHistoryServiceStub
from catga.orders.v1.types_pb2 import Order, OrderStatus
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from ordersystem_client import Follow, OrderError, connect, follow_events, money, send


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: example.py ADDRESS")
    with connect(sys.argv[1]) as channel:
        show_health(channel)
        order = place_and_pay(channel)
        cursor = read_history(channel, order)
        print("restart the service if you like, then press Enter", flush=True)
        sys.stdin.readline()
        finish(channel, order, cursor)
        show_deadline(channel)


def show_health(channel: grpc.Channel) -> None:
    answer = HealthStub(channel).Check(HealthCheckRequest(service="readiness"), timeout=30)
    print("readiness:", HealthCheckResponse.ServingStatus.Name(answer.status))


def place_and_pay(channel: grpc.Channel) -> Order:
    commands = OrderCommandServiceStub(channel)
    laptop = NewOrderItem(
        product_id="prod-1",
        name="Laptop",
        quantity=1,
        unit_price=money("999.99", "USD"),
    )
    # A customer unique to this run, to distinguish its events from others.
    create = CreateOrderRequest(customer_id=f"customer-{uuid.uuid4()}", items=[laptop])
    order = send(commands.CreateOrder, create).order
    print("placed:", OrderStatus.Name(order.status))

    try:
        send(commands.ShipOrder, ShipOrderRequest(order_id=order.order_id, tracking_number="TRACK-1"))
    except OrderError as error:
        print("refused:", error.code.name, error.reason, error.metadata["status"])

    pay = PayOrderRequest(request_id=str(uuid.uuid4()), order_id=order.order_id, payment_method="credit_card")
    first = commands.PayOrder(pay, timeout=30)
    second = send(commands.PayOrder, pay)
    print("paid:", OrderStatus.Name(first.order.status), "- the retry got the first answer:", first == second)
    return first.order


def read_history(channel: grpc.Channel, order: Order) -> str:
    """Reads the existing events; returns the cursor to resume from."""
    request = StreamEventsRequest(customer_ids=[order.customer_id], follow=True)
    with follow_events(OrderHistoryServiceStub(channel), request) as follow:
        for message in follow:
            if message.WhichOneof("item") == "caught_up":
                break
            show(message)
        return follow.cursor


def finish(channel: grpc.Channel, order: Order, cursor: str) -> None:
    """Ships and delivers the order, and resumes reading the history."""
    commands = OrderCommandServiceStub(channel)
    request = StreamEventsRequest(
        customer_ids=[order.customer_id], start=STREAM_START_AFTER, cursor=cursor, follow=True
    )
    with follow_events(OrderHistoryServiceStub(channel), request) as follow:
        send(commands.ShipOrder, ShipOrderRequest(order_id=order.order_id, tracking_number="TRACK-1"))
        show_next(follow)
        send(commands.DeliverOrder, DeliverOrderRequest(order_id=order.order_id))
        show_next(follow)


def show_next(follow: Follow[StreamEventsResponse]) -> None:
    """Shows the next event, and skips other messages."""
    for message in follow:
        if message.WhichOneof("item") == "event":
            show(message)
            return


def show(message: StreamEventsResponse) -> None:
    print("event:", message.event.revision, message.event.WhichOneof("event"))


def show_deadline(channel: grpc.Channel) -> None:
    try:
        # A node issues at most 4096 ids per millisecond.
        IdServiceStub(channel).GenerateIds(GenerateIdsRequest(count=100_000), timeout=0.005)
    except grpc.RpcError as error:
        print("too late:", OrderError.of(error).code.name)


if __name__ == "__main__":
    main()
