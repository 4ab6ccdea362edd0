"""Helpers for clients of the order service, for what the generated stubs alone make hard.

The messages and stubs themselves are in ``catga.orders.v1``, ``catga.ids.v1``, ``catga.system.v1`` and ``catga.events.v1``. The helpers
here are for the stubs of a synchronous channel; those for asyncio are in ``ordersystem_client.aio``.
"""

from .amounts import CURRENCIES, amount_of, money
from .calls import AsyncMetadataSource, Metadata, MetadataSource
from .channel import SERVICE_CONFIG, connect
from .commands import send
from .errors import FieldViolation, OrderError, Precondition
from .follow import Follow, follow_events, follow_order
from .lists import list_orders
from .tokens import AsyncTokenSource, TokenSource, token_file

__all__ = [
    "CURRENCIES",
    "SERVICE_CONFIG",
    "AsyncMetadataSource",
    "AsyncTokenSource",
    "FieldViolation",
    "Follow",
    "Metadata",
    "MetadataSource",
    "OrderError",
    "Precondition",
    "TokenSource",
    "amount_of",
    "connect",
    "follow_events",
    "follow_order",
    "list_orders",
    "money",
    "send",
    "token_file",
]
