"""The details of an error of the order service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

_DETAILS_KEY = "grpc-status-details-bin"
_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True)
class FieldViolation:
    """One violation in the input."""

    #: The field as the proto names it: ``items[0].unit_price``.
    field: str
    #: The constraint.
    description: str


@dataclass(frozen=True)
class Precondition:
    """A violated precondition of a command."""

    #: ``ORDER_STATUS``.
    type: str
    #: ``orders/{order id}``.
    subject: str
    #: A description for people.
    description: str


# Not frozen: Python itself writes to exceptions while they are raised.
@dataclass(eq=False)
class OrderError(grpc.RpcError):
    """An error of a call, with its details read.

    The helpers raise it: ``except OrderError as error``. Its cause is the ``grpc.RpcError`` that the stub raised. :meth:`of` makes one
    of what a stub raises, :meth:`of_status` of the error of one command of many.
    """

    #: The gRPC code. (That ``RpcError`` has a method of this name is a word of its type stubs alone.)
    code: grpc.StatusCode  # type: ignore[assignment]
    #: A description for people.
    message: str
    #: One stable word for programs, such as ``ILLEGAL_TRANSITION``; empty if the error did not come from the service.
    reason: str = ""
    #: ``ordersystem``, or empty.
    domain: str = ""
    #: Additional facts by name: ``order_id``, ``actual_revision`` ...
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: All violations in the input.
    field_violations: tuple[FieldViolation, ...] = ()
    #: Why the order's status does not allow the command.
    preconditions: tuple[Precondition, ...] = ()
    #: The delay before a retry, in seconds; None if the service gave none.
    retry_delay_seconds: float | None = None

    def __str__(self) -> str:
        """One line."""
        return f"{' '.join(filter(None, (self.code.name, self.reason)))}: {self.message}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OrderError) and astuple(self) == astuple(other)

    # An exception is hashed as itself: its facts include a mapping.
    __hash__ = grpc.RpcError.__hash__

    @property
    def is_retryable(self) -> bool:
        """Whether a retry may help. A command must then have the request id of the first attempt."""
        return self.code is grpc.StatusCode.UNAVAILABLE or self.retry_delay_seconds is not None

    @classmethod
    def of(cls, error: grpc.RpcError) -> OrderError:
        """What the error of a call says; an ``OrderError`` is returned as it is."""
        if isinstance(error, OrderError):
            return error
        code = _part(error, "code") or grpc.StatusCode.UNKNOWN
        message = _part(error, "details") or ""
        for key, value in _part(error, "trailing_metadata") or ():
            if key == _DETAILS_KEY:
                try:
                    details = status_pb2.Status.FromString(value).details
                except DecodeError:
                    break
                return _view(code, message, details)
        return cls(code, message)

    @classmethod
    def raised_by(cls, error: grpc.RpcError) -> OrderError:
        """As :meth:`of`, with the error as its cause: to be raised in its place."""
        facts = cls.of(error)
        if facts is not error:
            facts.__cause__ = error
        return facts

    @classmethod
    def of_status(cls, status: status_pb2.Status) -> OrderError:
        """The details of the error of one command of an ``ExecuteCommands`` call."""
        return _view(_CODES.get(status.code, grpc.StatusCode.UNKNOWN), status.message, status.details)


def _part(error: grpc.RpcError, name: str) -> Any:
    """``RpcError`` itself has no methods; the errors that calls raise have those of ``grpc.Call``."""
    part = getattr(error, name, None)
    return part() if callable(part) else None


def _view(code: grpc.StatusCode, message: str, details: Any) -> OrderError:
    found: dict[str, Any] = {}
    for detail in details:
        try:
            found.update(_facts(detail))
        except DecodeError:
            # A damaged detail must not hide the error.
            continue
    return OrderError(code, message, **found)


def _facts(detail: AnyMessage) -> dict[str, Any]:
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    failure, retry = error_details_pb2.PreconditionFailure(), error_details_pb2.RetryInfo()
    if detail.Unpack(info):
        return {"reason": info.reason, "domain": info.domain, "metadata": dict(info.metadata)}
    if detail.Unpack(bad):
        return {"field_violations": tuple(FieldViolation(v.field, v.description) for v in bad.field_violations)}
    if detail.Unpack(failure):
        return {"preconditions": tuple(Precondition(v.type, v.subject, v.description) for v in failure.violations)}
    if detail.Unpack(retry):
        return {"retry_delay_seconds": retry.retry_delay.ToMilliseconds() / 1_000}
    return {}
