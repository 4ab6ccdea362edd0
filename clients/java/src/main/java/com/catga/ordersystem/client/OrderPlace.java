package com.catga.ordersystem.client;

import com.catga.orders.v1.OrderHistoryServiceGrpc.OrderHistoryServiceBlockingStub;
import com.catga.orders.v1.StreamOrderHistoryRequest;
import com.catga.orders.v1.StreamOrderHistoryResponse;
import java.util.Iterator;

/** A place in the history of one order. */
final class OrderPlace implements Place<StreamOrderHistoryResponse> {
    private final OrderHistoryServiceBlockingStub history;
    private StreamOrderHistoryRequest request;

    OrderPlace(OrderHistoryServiceBlockingStub history, StreamOrderHistoryRequest request) {
        this.history = history;
        this.request = request;
    }

    @Override
    public Iterator<StreamOrderHistoryResponse> open() {
        return history.streamOrderHistory(request);
    }

    @Override
    public void note(StreamOrderHistoryResponse message) {
        if (message.hasEvent()) {
            request = request.toBuilder()
                    .setFromRevision(message.getEvent().getRevision() + 1)
                    .build();
        }
    }

    @Override
    public boolean isCaughtUp(StreamOrderHistoryResponse message) {
        return message.hasCaughtUp();
    }

    @Override
    public String cursorOf(StreamOrderHistoryResponse message) {
        return message.getCursor();
    }
}
