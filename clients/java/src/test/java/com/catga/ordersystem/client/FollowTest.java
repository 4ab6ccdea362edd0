package com.catga.ordersystem.client;

import static com.catga.ordersystem.client.OrderClient.connect;
import static com.catga.ordersystem.client.OrderClient.followEvents;
import static com.catga.ordersystem.client.OrderClient.followOrder;
import static com.catga.ordersystem.client.server.Failure.UNAVAILABLE;
import static com.catga.ordersystem.client.server.Failure.info;
import static com.catga.ordersystem.client.server.Failure.retryInfo;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.catga.events.v1.OrderEvent;
import com.catga.orders.v1.CaughtUp;
import com.catga.orders.v1.Heartbeat;
import com.catga.orders.v1.OrderHistoryServiceGrpc;
import com.catga.orders.v1.StreamEventsRequest;
import com.catga.orders.v1.StreamEventsResponse;
import com.catga.orders.v1.StreamOrderHistoryRequest;
import com.catga.orders.v1.StreamOrderHistoryResponse;
import com.catga.orders.v1.StreamStart;
import com.catga.ordersystem.client.server.Failure;
import com.catga.ordersystem.client.server.FakeServer;
import io.grpc.Metadata;
import io.grpc.Status.Code;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.MetadataUtils;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Followed histories resume where they broke off. */
class FollowTest {
    private static final StreamEventsRequest ALL = StreamEventsRequest.newBuilder().setFollow(true).build();

    private static StreamEventsResponse event(String cursor) {
        var event = OrderEvent.newBuilder().setEventId("of " + cursor);
        return StreamEventsResponse.newBuilder().setCursor(cursor).setEvent(event).build();
    }

    private static StreamEventsResponse caughtUp(String cursor) {
        return StreamEventsResponse.newBuilder().setCursor(cursor).setCaughtUp(CaughtUp.getDefaultInstance()).build();
    }

    private static StreamEventsResponse heartbeat(String cursor) {
        return StreamEventsResponse.newBuilder().setCursor(cursor).setHeartbeat(Heartbeat.getDefaultInstance()).build();
    }

    private static StreamOrderHistoryResponse step(long revision) {
        var event = OrderEvent.newBuilder().setRevision(revision);
        return StreamOrderHistoryResponse.newBuilder().setCursor("c" + revision).setEvent(event).build();
    }

    private static Follow<StreamEventsResponse> follow(OrderChannel channel, StreamEventsRequest request) {
        return followEvents(OrderHistoryServiceGrpc.newBlockingStub(channel), request);
    }

    private static <T> List<T> take(Follow<T> follow, int count) {
        return Stream.generate(follow::next).limit(count).toList();
    }

    private static List<String> placesAskedOf(FakeServer fake) {
        return fake.requests(StreamEventsRequest.class).stream().map(asked -> asked.getStart().getNumber() + asked.getCursor()).toList();
    }

    @Test
    void events_continue_after_the_last_cursor_whatever_message_it_came_with() throws Exception {
        var request = ALL.toBuilder().setStart(StreamStart.STREAM_START_LATEST).addCustomerIds("c").build();
        Object[] script = {
            List.of(event("a"), UNAVAILABLE),
            List.of(heartbeat("b"), UNAVAILABLE),
            List.of(caughtUp("c"), UNAVAILABLE),
            List.of(UNAVAILABLE),
            List.of(event("d"))
        };
        try (FakeServer fake = new FakeServer(script);
                OrderChannel channel = connect(fake.address());
                Follow<StreamEventsResponse> follow = follow(channel, request)) {
            assertEquals(List.of(event("a"), heartbeat("b"), caughtUp("c"), event("d")), take(follow, 4));
            assertEquals("d", follow.cursor());
            // 2 is LATEST, 3 is AFTER.
            assertEquals(List.of("2", "3a", "3b", "3c", "3c"), placesAskedOf(fake));
            assertTrue(fake.requests(StreamEventsRequest.class).stream()
                    .allMatch(asked -> asked.getFollow() && asked.getCustomerIdsList().equals(List.of("c"))));
        }
    }

    @Test
    void the_cursor_is_of_the_last_message_given_and_not_of_one_read_ahead() throws Exception {
        try (FakeServer fake = new FakeServer(List.of(event("a"), event("b")));
                OrderChannel channel = connect(fake.address());
                Follow<StreamEventsResponse> follow = follow(channel, ALL)) {
            assertTrue(follow.hasNext());
            assertEquals("", follow.cursor());
            follow.next();
            assertTrue(follow.hasNext());
            assertEquals("a", follow.cursor());
        }
    }

    @Test
    void caught_up_comes_once() throws Exception {
        Object[] script = {
            List.of(caughtUp("a"), UNAVAILABLE), List.of(caughtUp("b"), event("c"), UNAVAILABLE), List.of(event("d"), caughtUp("e"))
        };
        try (FakeServer fake = new FakeServer(script);
                OrderChannel channel = connect(fake.address());
                Follow<StreamEventsResponse> follow = follow(channel, ALL)) {
            assertEquals(List.of(caughtUp("a"), event("c"), event("d")), take(follow, 3));
            assertEquals(List.of("0", "3a", "3c"), placesAskedOf(fake));
        }
    }

    @Test
    void a_caught_up_that_is_not_passed_on_counts_as_seen() throws Exception {
        Object[] script = {List.of(caughtUp("a"), UNAVAILABLE), List.of(caughtUp("b"), UNAVAILABLE), List.of(event("c"))};
        try (FakeServer fake = new FakeServer(script);
                OrderChannel channel = connect(fake.address());
                Follow<StreamEventsResponse> follow = follow(channel, ALL)) {
            assertEquals(List.of(caughtUp("a"), event("c")), take(follow, 2));
            assertEquals(List.of("0", "3a", "3b"), placesAskedOf(fake));
        }
    }

    @Test
    void the_history_of_an_order_continues_after_its_last_revision() throws Exception {
        var up = StreamOrderHistoryResponse.newBuilder().setCursor("x").setCaughtUp(CaughtUp.newBuilder().setRevision(4)).build();
        var request = StreamOrderHistoryRequest.newBuilder().setOrderId("1").setFromRevision(3).setFollow(true).build();
        Object[] script = {List.of(step(3), step(4), up, UNAVAILABLE), List.of(up, UNAVAILABLE), List.of(step(5))};
        try (FakeServer fake = new FakeServer(script);
                OrderChannel channel = connect(fake.address());
                var follow = followOrder(OrderHistoryServiceGrpc.newBlockingStub(channel), request)) {
            assertEquals(List.of(step(3), step(4), up, step(5)), take(follow, 4));
            assertEquals("c5", follow.cursor());
            var asked = fake.requests(StreamOrderHistoryRequest.class);
            assertEquals(List.of(3L, 5L, 5L), asked.stream().map(StreamOrderHistoryRequest::getFromRevision).toList());
            assertTrue(asked.stream().allMatch(a -> a.getFollow() && a.getOrderId().equals("1")));
        }
    }

    @Test
    void an_error_that_a_retry_does_not_fix_is_thrown_and_thrown_again() throws Exception {
        Failure lost = Failure.of(Code.INVALID_ARGUMENT, info("CURSOR_OF_ANOTHER_LOG"));
        try (FakeServer fake = new FakeServer(List.of(event("a"), UNAVAILABLE), List.of(lost));
                OrderChannel channel = connect(fake.address());
                Follow<StreamEventsResponse> follow = follow(channel, ALL)) {
            assertEquals(event("a"), follow.next());
            var error = assertThrows(StatusRuntimeException.class, follow::next);
            assertEquals("CURSOR_OF_ANOTHER_LOG", OrderError.of(error).reason());
            assertSame(error, assertThrows(StatusRuntimeException.class, follow::hasNext));
            assertEquals(2, fake.requests().size());
        }
    }

    @Test
    void a_reopening_waits_as_long_as_the_service_asks_for() throws Exception {
        Failure draining = Failure.of(Code.UNAVAILABLE, info("SHUTTING_DOWN"), retryInfo(400));
        try (FakeServer fake = new FakeServer(List.of(draining), List.of(event("a")));
                OrderChannel channel = connect(fake.address());
                Follow<StreamEventsResponse> follow = follow(channel, ALL)) {
            follow.next();
            assertTrue(fake.firstPauseMillis() >= 400, () -> "it came back after " + fake.firstPauseMillis() + " ms");
        }
    }

    @Test
    void it_gives_up_with_the_last_error_when_nothing_comes_for_too_long() throws Exception {
        List<Object> script = new ArrayList<>(List.of(List.of(event("a"), UNAVAILABLE)));
        for (int failures = 0; failures < 99; failures++) {
            script.add(List.of(UNAVAILABLE));
        }
        try (FakeServer fake = new FakeServer(script.toArray());
                OrderChannel channel = connect(fake.address());
                var follow = followEvents(OrderHistoryServiceGrpc.newBlockingStub(channel), ALL, Duration.ofMillis(500))) {
            assertEquals(event("a"), follow.next());
            var error = assertThrows(StatusRuntimeException.class, follow::next);
            assertEquals(Code.UNAVAILABLE, OrderError.of(error).code());
            int calls = fake.requests().size();
            assertTrue(2 <= calls && calls < 10, () -> calls + " calls");
        }
    }

    @Test
    void a_message_ends_the_period_of_failures() throws Exception {
        // All waits together are longer than it is allowed to fail, and each is much shorter.
        Failure later = Failure.of(Code.UNAVAILABLE, retryInfo(3_000));
        List<Object> round = List.of(event("a"), later);
        try (FakeServer fake = new FakeServer(round, round, round, List.of(event("b")));
                OrderChannel channel = connect(fake.address());
                var follow = followEvents(OrderHistoryServiceGrpc.newBlockingStub(channel), ALL, Duration.ofSeconds(8))) {
            assertEquals(List.of(event("a"), event("a"), event("a"), event("b")), take(follow, 4));
        }
    }

    @Test
    void the_end_of_a_stream_ends_it() throws Exception {
        try (FakeServer fake = new FakeServer(List.of(event("a"), Failure.of(Code.OK)));
                OrderChannel channel = connect(fake.address());
                Follow<StreamEventsResponse> follow = follow(channel, ALL)) {
            List<StreamEventsResponse> received = new ArrayList<>();
            for (StreamEventsResponse message : follow) {
                received.add(message);
            }
            assertEquals(List.of(event("a")), received);
            assertFalse(follow.hasNext());
            assertThrows(NoSuchElementException.class, follow::next);
            assertEquals(1, fake.requests().size());
        }
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void a_cancel_from_another_thread_ends_it_at_once(boolean whileItWaitsToReopen) throws Exception {
        List<Object> answer = whileItWaitsToReopen ? List.of(Failure.of(Code.UNAVAILABLE, retryInfo(60_000))) : List.of();
        try (FakeServer fake = new FakeServer(answer);
                OrderChannel channel = connect(fake.address());
                Follow<StreamEventsResponse> follow = follow(channel, ALL)) {
            List<StreamEventsResponse> received = new ArrayList<>();
            List<Throwable> errors = new ArrayList<>();
            Thread reader = new Thread(() -> follow.forEach(received::add));
            reader.setUncaughtExceptionHandler((thread, error) -> errors.add(error));
            reader.start();
            while (fake.requests().isEmpty()) {
                Thread.sleep(10);
            }
            Thread.sleep(100);
            follow.cancel();
            reader.join(10_000);
            assertFalse(reader.isAlive());
            assertEquals(List.of(), received);
            assertEquals(List.of(), errors);
        }
    }

    @Test
    void a_follow_that_was_cancelled_before_it_was_read_is_never_opened() throws Exception {
        try (FakeServer fake = new FakeServer(List.of(event("a")));
                OrderChannel channel = connect(fake.address())) {
            Follow<StreamEventsResponse> follow = follow(channel, ALL);
            follow.close();
            assertFalse(follow.hasNext());
            assertEquals(0, fake.requests().size());
        }
    }

    @Test
    void headers_of_the_stub_go_with_each_opening_of_the_stream() throws Exception {
        Metadata headers = new Metadata();
        headers.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "fixed");
        try (FakeServer fake = new FakeServer(List.of(event("a"), UNAVAILABLE), List.of(event("b")));
                OrderChannel channel = connect(fake.address())) {
            var history = OrderHistoryServiceGrpc.newBlockingStub(channel)
                    .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(headers));
            try (var follow = followEvents(history, ALL)) {
                assertEquals(event("a"), follow.next());
                assertEquals(event("b"), follow.next());
            }
            assertEquals(List.of("fixed", "fixed"), fake.headers("authorization"));
        }
    }
}
