package com.catga.ordersystem.client;

import com.catga.orders.v1.ListOrdersRequest;
import com.catga.orders.v1.ListOrdersResponse;
import com.catga.orders.v1.OrderQueryServiceGrpc.OrderQueryServiceBlockingStub;
import com.catga.orders.v1.OrderSummary;
import io.grpc.Deadline;
import java.util.Collections;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.concurrent.TimeUnit;

/** The orders of a list, page after page. */
final class OrderPages implements Iterator<OrderSummary> {
    private static final long PAGE_SECONDS = 30;

    private final OrderQueryServiceBlockingStub queries;
    /** For the next page; null after the last. */
    private ListOrdersRequest request;

    private Iterator<OrderSummary> page = Collections.emptyIterator();

    OrderPages(OrderQueryServiceBlockingStub queries, ListOrdersRequest request) {
        this.queries = queries;
        this.request = request;
    }

    @Override
    public boolean hasNext() {
        while (!page.hasNext() && request != null) {
            ListOrdersRequest asked = request;
            ListOrdersResponse reply =
                    Sending.within(Deadline.after(PAGE_SECONDS, TimeUnit.SECONDS), () -> queries.listOrders(asked));
            page = reply.getOrdersList().iterator();
            String token = reply.getNextPageToken();
            request = token.isEmpty() ? null : asked.toBuilder().setPageToken(token).build();
        }
        return page.hasNext();
    }

    @Override
    public OrderSummary next() {
        if (!hasNext()) {
            throw new NoSuchElementException("the list has ended");
        }
        return page.next();
    }
}
