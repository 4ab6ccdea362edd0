"""Errors are read completely, and damaged details do not hide them."""

from __future__ import annotations

import grpc
import pytest
from catga.orders.v1.commands_pb2 import PayOrderRequest
from catga.orders.v1.commands_pb2_grpc import OrderCommandServiceStub
from catga.orders.v1.queries_pb2 import GetOrderRequest
from catga.orders.v1.queries_pb2_grpc import OrderQueryServiceStub
from fake import FakeServer, Failure, info, retry_info
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2, status_pb2
from ordersystem_client import FieldViolation, OrderError, Precondition, connect, send


def seen(failure: Failure) -> OrderError:
    with FakeServer([failure]) as fake, connect(fake.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            OrderQueryServiceStub(channel).GetOrder(GetOrderRequest(), timeout=10)
    return OrderError.of(caught.value)


def details() -> list[error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.PreconditionFailure]:
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="a", description="must be b")
    failure = error_details_pb2.PreconditionFailure()
    failure.violations.add(type="ORDER_STATUS", subject="orders/1", description="d")
    return [info("SOME_REASON", order_id="1"), bad, failure]


EXPECTED = OrderError(
    grpc.StatusCode.ABORTED,
    "as scripted",
    "SOME_REASON",
    "ordersystem",
    {"order_id": "1"},
    (FieldViolation("a", "must be b"),),
    (Precondition("ORDER_STATUS", "orders/1", "d"),),
    1.5,
)


def test_every_detail_of_a_failed_call_is_read() -> None:
    assert seen(Failure(grpc.StatusCode.ABORTED, *details(), retry_info(1_500))) == EXPECTED


def test_the_status_of_one_command_of_many_is_read_in_the_same_way() -> None:
    status = status_pb2.Status(code=10, message="as scripted")
    for detail in [*details(), retry_info(1_500)]:
        status.details.add().Pack(detail)
    assert OrderError.of_status(status) == EXPECTED
    assert OrderError.of_status(status_pb2.Status(code=99)).code is grpc.StatusCode.UNKNOWN


def test_an_error_without_details_has_no_reason() -> None:
    assert seen(Failure(grpc.StatusCode.INTERNAL)) == OrderError(grpc.StatusCode.INTERNAL, "as scripted")
    assert OrderError.of(grpc.RpcError()) == OrderError(grpc.StatusCode.UNKNOWN, "")


def test_damaged_details_leave_the_code_and_the_message() -> None:
    assert seen(Failure(grpc.StatusCode.INTERNAL, raw=b"\xff")) == OrderError(grpc.StatusCode.INTERNAL, "as scripted")
    broken = Any(type_url="type.googleapis.com/google.rpc.BadRequest", value=b"\xff")
    status = status_pb2.Status(code=3, message="m", details=[broken, Any(type_url="type.googleapis.com/of.Tomorrow")])
    assert OrderError.of_status(status) == OrderError(grpc.StatusCode.INVALID_ARGUMENT, "m")


def test_retryable_errors_are_unavailable_or_have_a_delay() -> None:
    assert OrderError(grpc.StatusCode.UNAVAILABLE, "").is_retryable
    assert OrderError(grpc.StatusCode.ABORTED, "", retry_delay_seconds=0.0).is_retryable
    assert not OrderError(grpc.StatusCode.RESOURCE_EXHAUSTED, "").is_retryable
    assert not OrderError(grpc.StatusCode.DEADLINE_EXCEEDED, "").is_retryable


def test_what_a_helper_raises_is_caught_as_it_is_and_as_grpcs_own_error() -> None:
    refused = Failure(grpc.StatusCode.ABORTED, *details())
    for kind in (OrderError, grpc.RpcError, Exception):
        with FakeServer([refused]) as fake, connect(fake.address) as channel:
            with pytest.raises(kind) as caught:
                send(OrderCommandServiceStub(channel).PayOrder, PayOrderRequest())
        error = caught.value
        assert isinstance(error, OrderError)
        assert error.metadata == {"order_id": "1"}
        assert OrderError.of(error) is error
        cause = error.__cause__
        assert isinstance(cause, grpc.RpcError) and OrderError.of(cause) == error
        assert str(error) == "ABORTED SOME_REASON: as scripted"
        assert {error: 1}[error] == 1


def test_an_error_without_a_reason_is_shown_without_one() -> None:
    assert str(OrderError(grpc.StatusCode.INTERNAL, "words")) == "INTERNAL: words"
