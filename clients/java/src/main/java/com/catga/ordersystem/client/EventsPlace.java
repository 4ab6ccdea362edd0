package com.catga.ordersystem.client;

import com.catga.orders.v1.OrderHistoryServiceGrpc.OrderHistoryServiceBlockingStub;
import com.catga.orders.v1.StreamEventsRequest;
import com.catga.orders.v1.StreamEventsResponse;
import com.catga.orders.v1.StreamStart;
import java.util.Iterator;

/** A place in the log. Heartbeats move it as well: what was filtered out counts as seen. */
final class EventsPlace implements Place<StreamEventsResponse> {
    private final OrderHistoryServiceBlockingStub history;
    private StreamEventsRequest request;

    EventsPlace(OrderHistoryServiceBlockingStub history, StreamEventsRequest request) {
        this.history = history;
        this.request = request;
    }

    @Override
    public Iterator<StreamEventsResponse> open() {
        return history.streamEvents(request);
    }

    @Override
    public void note(StreamEventsResponse message) {
        request = request.toBuilder()
                .setStart(StreamStart.STREAM_START_AFTER)
                .setCursor(message.getCursor())
                .build();
    }

    @Override
    public boolean isCaughtUp(StreamEventsResponse message) {
        return message.hasCaughtUp();
    }

    @Override
    public String cursorOf(StreamEventsResponse message) {
        return message.getCursor();
    }
}
