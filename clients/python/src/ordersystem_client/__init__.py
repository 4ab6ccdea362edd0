"""Helpers for clients of the order service, for where the generated stubs alone hurt.

The messages and stubs themselves are in ``catga.orders.v1``, ``catga.ids.v1``, ``catga.system.v1`` and ``catga.events.v1``.
"""

from .channel import SERVICE_CONFIG, connect
from .commands import send
from .errors import FieldViolation, OrderError, Precondition
from .follow import Follow, follow_events, follow_order

__all__ = [
    "SERVICE_CONFIG",
    "FieldViolation",
    "Follow",
    "OrderError",
    "Precondition",
    "connect",
    "follow_events",
    "follow_order",
    "send",
]
