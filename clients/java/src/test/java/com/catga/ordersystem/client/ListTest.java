package com.catga.ordersystem.client;

import static com.catga.ordersystem.client.OrderClient.connect;
import static com.catga.ordersystem.client.OrderClient.listOrders;
import static com.catga.ordersystem.client.server.Failure.info;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.catga.orders.v1.ListOrdersRequest;
import com.catga.orders.v1.ListOrdersResponse;
import com.catga.orders.v1.OrderQueryServiceGrpc;
import com.catga.orders.v1.OrderSummary;
import com.catga.ordersystem.client.server.Failure;
import com.catga.ordersystem.client.server.FakeServer;
import io.grpc.Metadata;
import io.grpc.Status.Code;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.MetadataUtils;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** Lists are read page after page. */
class ListTest {
    private static final ListOrdersRequest REQUEST =
            ListOrdersRequest.newBuilder().setCustomerId("c").setPageSize(2).setPageToken("from here").build();

    private static ListOrdersResponse page(String next, String... ids) {
        List<OrderSummary> orders = Stream.of(ids).map(id -> OrderSummary.newBuilder().setOrderId(id).build()).toList();
        return ListOrdersResponse.newBuilder().setNextPageToken(next).addAllOrders(orders).build();
    }

    @Test
    void all_pages_are_read_each_when_it_is_needed() throws Exception {
        Metadata headers = new Metadata();
        headers.put(Metadata.Key.of("tenant", Metadata.ASCII_STRING_MARSHALLER), "t");
        // A page may be empty and not the last.
        try (FakeServer fake = new FakeServer(page("two", "1", "2"), page("three"), page("", "3"));
                OrderChannel channel = connect(fake.address())) {
            var queries = OrderQueryServiceGrpc.newBlockingStub(channel)
                    .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(headers));
            Iterator<OrderSummary> orders = listOrders(queries, REQUEST).iterator();
            assertEquals(0, fake.requests().size());
            assertEquals("1", orders.next().getOrderId());
            assertEquals("2", orders.next().getOrderId());
            assertEquals(1, fake.requests().size());
            assertEquals("3", orders.next().getOrderId());
            assertFalse(orders.hasNext());
            assertThrows(NoSuchElementException.class, orders::next);
            List<ListOrdersRequest> asked = Stream.of("from here", "two", "three")
                    .map(token -> REQUEST.toBuilder().setPageToken(token).build())
                    .toList();
            assertEquals(asked, fake.requests());
            assertEquals(List.of("t", "t", "t"), fake.headers("tenant"));
        }
    }

    @Test
    void a_page_that_is_refused_ends_the_list_with_its_error() throws Exception {
        Failure lost = Failure.of(Code.INVALID_ARGUMENT, info("CURSOR_OF_ANOTHER_LOG"));
        try (FakeServer fake = new FakeServer(page("two", "1"), lost);
                OrderChannel channel = connect(fake.address())) {
            Iterator<OrderSummary> orders =
                    listOrders(OrderQueryServiceGrpc.newBlockingStub(channel), REQUEST).iterator();
            assertEquals("1", orders.next().getOrderId());
            var error = assertThrows(StatusRuntimeException.class, orders::hasNext);
            assertEquals("CURSOR_OF_ANOTHER_LOG", OrderError.of(error).reason());
        }
    }
}
