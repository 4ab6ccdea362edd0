"""Lists of orders, page by page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import grpc
from catga.orders.v1.queries_pb2 import ListOrdersRequest
from catga.orders.v1.types_pb2 import OrderSummary

from .calls import MetadataSource, options_of, require_synchronous
from .errors import OrderError

if TYPE_CHECKING:
    from catga.orders.v1.queries_pb2_grpc import OrderQueryServiceStub


def list_orders(
    queries: OrderQueryServiceStub,
    request: ListOrdersRequest,
    *,
    timeout_seconds: float = 30.0,
    metadata: MetadataSource = None,
) -> Iterator[OrderSummary]:
    """Every order that ``ListOrders`` finds with ``request``, from its ``page_token`` on: the next page is fetched when it is needed.

    ``timeout_seconds`` holds for each page, of ``request.page_size`` orders; ``metadata`` as in :func:`send`. Raises the
    :class:`OrderError` of a page that cannot be fetched.
    """
    require_synchronous(queries.ListOrders, "list_orders")
    page = ListOrdersRequest()
    page.CopyFrom(request)
    return _pages(queries, page, timeout_seconds, metadata)


def _pages(
    queries: OrderQueryServiceStub, page: ListOrdersRequest, timeout_seconds: float, metadata: MetadataSource
) -> Iterator[OrderSummary]:
    while True:
        try:
            reply = queries.ListOrders(page, timeout=timeout_seconds, **options_of(metadata))
        except grpc.RpcError as error:
            raise OrderError.raised_by(error)
        yield from reply.orders
        if not reply.next_page_token:
            return
        page.page_token = reply.next_page_token
