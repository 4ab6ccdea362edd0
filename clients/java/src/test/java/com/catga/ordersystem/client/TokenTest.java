package com.catga.ordersystem.client;

import static com.catga.ordersystem.client.OrderClient.bearer;
import static com.catga.ordersystem.client.OrderClient.connect;
import static com.catga.ordersystem.client.OrderClient.followEvents;
import static com.catga.ordersystem.client.OrderClient.send;
import static com.catga.ordersystem.client.OrderClient.tokenFile;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.catga.orders.v1.GetOrderRequest;
import com.catga.orders.v1.GetOrderResponse;
import com.catga.orders.v1.OrderCommandServiceGrpc;
import com.catga.orders.v1.OrderHistoryServiceGrpc;
import com.catga.orders.v1.OrderQueryServiceGrpc;
import com.catga.orders.v1.PayOrderRequest;
import com.catga.orders.v1.PayOrderResponse;
import com.catga.orders.v1.StreamEventsRequest;
import com.catga.orders.v1.StreamEventsResponse;
import com.catga.ordersystem.client.server.Failure;
import com.catga.ordersystem.client.server.FakeServer;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The token of a stub goes with each attempt, and is asked for each time. */
class TokenTest {


    private static StreamEventsResponse event(String cursor) {
        return StreamEventsResponse.newBuilder().setCursor(cursor).build();
    }

    @Test
    void every_call_attempt_and_opening_has_the_token_of_that_moment() throws Exception {
        AtomicInteger asked = new AtomicInteger();
        var credentials = bearer(() -> String.valueOf(asked.incrementAndGet()));
        try (FakeServer fake = new FakeServer(
                        GetOrderResponse.getDefaultInstance(),
                        Failure.UNAVAILABLE,
                        PayOrderResponse.newBuilder().setRevision(2).build(),
                        List.of(event("a"), Failure.UNAVAILABLE),
                        List.of(event("b")));
                OrderChannel channel = connect(fake.address())) {
            OrderQueryServiceGrpc.newBlockingStub(channel)
                    .withCallCredentials(credentials)
                    .withDeadlineAfter(Duration.ofSeconds(10))
                    .getOrder(GetOrderRequest.getDefaultInstance());
            var commands = OrderCommandServiceGrpc.newBlockingStub(channel).withCallCredentials(credentials);
            assertEquals(2, send(commands::payOrder, PayOrderRequest.getDefaultInstance()).getRevision());
            var history = OrderHistoryServiceGrpc.newBlockingStub(channel).withCallCredentials(credentials);
            try (var follow = followEvents(history, StreamEventsRequest.newBuilder().setFollow(true).build())) {
                var messages = follow.iterator();
                assertEquals("a", messages.next().getCursor());
                assertEquals("b", messages.next().getCursor());
            }
            assertEquals(
                    List.of("Bearer 1", "Bearer 2", "Bearer 3", "Bearer 4", "Bearer 5"), fake.headers("authorization"));
        }
    }

    @Test
    void a_file_is_read_for_each_call_and_an_empty_token_is_not_sent(@TempDir Path folder) throws Exception {
        Path file = folder.resolve("token");
        GetOrderResponse found = GetOrderResponse.getDefaultInstance();
        try (FakeServer fake = new FakeServer(found, found, found);
                OrderChannel channel = connect(fake.address())) {
            var queries = OrderQueryServiceGrpc.newBlockingStub(channel).withCallCredentials(bearer(tokenFile(file)));
            for (String content : List.of("first\n", "renewed\n", "")) {
                Files.writeString(file, content);
                queries.getOrder(GetOrderRequest.getDefaultInstance());
            }
            Files.delete(file);
            var refused = assertThrows(
                    StatusRuntimeException.class, () -> queries.getOrder(GetOrderRequest.getDefaultInstance()));
            assertEquals(Status.Code.UNAUTHENTICATED, refused.getStatus().getCode());
            assertEquals(Arrays.asList("Bearer first", "Bearer renewed", null), fake.headers("authorization"));
        }
    }
}
