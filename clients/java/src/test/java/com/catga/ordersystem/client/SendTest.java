package com.catga.ordersystem.client;

import static com.catga.ordersystem.client.OrderClient.connect;
import static com.catga.ordersystem.client.OrderClient.send;
import static com.catga.ordersystem.client.OrderClient.withRequestId;
import static com.catga.ordersystem.client.server.Failure.OVERLOADED;
import static com.catga.ordersystem.client.server.Failure.SHUTTING_DOWN;
import static com.catga.ordersystem.client.server.Failure.UNAVAILABLE;
import static com.catga.ordersystem.client.server.Failure.info;
import static com.catga.ordersystem.client.server.Failure.retryInfo;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.catga.orders.v1.CreateOrderRequest;
import com.catga.orders.v1.GetOrderRequest;
import com.catga.orders.v1.GetOrderResponse;
import com.catga.orders.v1.OrderCommandServiceGrpc;
import com.catga.orders.v1.OrderQueryServiceGrpc;
import com.catga.orders.v1.PayOrderRequest;
import com.catga.orders.v1.PayOrderResponse;
import com.catga.ordersystem.client.server.Failure;
import com.catga.ordersystem.client.server.FakeServer;
import com.catga.ordersystem.client.server.Surroundings;
import io.grpc.CallCredentials;
import io.grpc.Context;
import io.grpc.Deadline;
import io.grpc.Metadata;
import io.grpc.Status.Code;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.MetadataUtils;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What is retried, and what is not. */
class SendTest {
    private static final PayOrderRequest PAY = PayOrderRequest.newBuilder().setOrderId("1").build();
    private static final PayOrderResponse PAID = PayOrderResponse.newBuilder().setRevision(2).build();

    private static PayOrderResponse pay(OrderChannel channel, PayOrderRequest command) {
        return send(OrderCommandServiceGrpc.newBlockingStub(channel)::payOrder, command);
    }

    private static List<String> idsSeenBy(FakeServer fake) {
        return fake.requests(PayOrderRequest.class).stream().map(PayOrderRequest::getRequestId).toList();
    }

    @Test
    void a_query_is_retried_by_the_channel_while_the_service_is_unavailable() throws Exception {
        GetOrderResponse answer = GetOrderResponse.newBuilder().setConsistencyToken("t").build();
        try (FakeServer fake = new FakeServer(UNAVAILABLE, UNAVAILABLE, answer);
                OrderChannel channel = connect(fake.address())) {
            var queries = OrderQueryServiceGrpc.newBlockingStub(channel).withDeadlineAfter(Duration.ofSeconds(10));
            assertEquals(answer, queries.getOrder(GetOrderRequest.getDefaultInstance()));
            assertEquals(3, fake.requests().size());
        }
    }

    @Test
    void a_query_is_tried_four_times_and_not_more() throws Exception {
        try (FakeServer fake = new FakeServer(Collections.nCopies(9, UNAVAILABLE).toArray());
                OrderChannel channel = connect(fake.address())) {
            var queries = OrderQueryServiceGrpc.newBlockingStub(channel).withDeadlineAfter(Duration.ofSeconds(10));
            var error = assertThrows(StatusRuntimeException.class, () -> queries.getOrder(GetOrderRequest.getDefaultInstance()));
            assertEquals(Code.UNAVAILABLE, OrderError.of(error).code());
            assertEquals(4, fake.requests().size());
        }
    }

    @Test
    void a_command_is_never_retried_by_the_channel() throws Exception {
        try (FakeServer fake = new FakeServer(UNAVAILABLE, UNAVAILABLE, PAID, PAID);
                OrderChannel channel = connect(fake.address())) {
            var commands = OrderCommandServiceGrpc.newBlockingStub(channel).withDeadlineAfter(Duration.ofSeconds(10));
            var create = CreateOrderRequest.newBuilder().setCustomerId("c").build();
            var payWithId = PAY.toBuilder().setRequestId("with an id as well").build();
            assertThrows(StatusRuntimeException.class, () -> commands.createOrder(create));
            assertThrows(StatusRuntimeException.class, () -> commands.payOrder(payWithId));
            assertEquals(2, fake.requests().size());
        }
    }

    @Test
    void send_retries_with_one_request_id() throws Exception {
        try (FakeServer fake = new FakeServer(UNAVAILABLE, UNAVAILABLE, PAID);
                OrderChannel channel = connect(fake.address())) {
            assertEquals(PAID, pay(channel, PAY));
            assertEquals(3, fake.requests().size());
            assertEquals(1, new HashSet<>(idsSeenBy(fake)).size());
            assertFalse(idsSeenBy(fake).get(0).isEmpty());
        }
    }

    @Test
    void send_fills_in_another_id_for_another_command_and_keeps_a_given_one() throws Exception {
        try (FakeServer fake = new FakeServer(PAID, PAID, PAID);
                OrderChannel channel = connect(fake.address())) {
            pay(channel, PAY);
            pay(channel, PAY);
            pay(channel, PAY.toBuilder().setRequestId("mine").build());
            assertEquals(3, new HashSet<>(idsSeenBy(fake)).size());
            assertEquals("mine", idsSeenBy(fake).get(2));
        }
    }

    @Test
    void a_command_can_be_given_its_id_before_it_is_sent() throws Exception {
        PayOrderRequest command = withRequestId(PAY);
        assertTrue(command.getRequestId().length() >= 16);
        assertEquals(PAY, command.toBuilder().clearRequestId().build());
        assertSame(command, withRequestId(command));
        assertThrows(IllegalArgumentException.class, () -> withRequestId(GetOrderRequest.getDefaultInstance()));
        try (FakeServer fake = new FakeServer(PAID, PAID);
                OrderChannel channel = connect(fake.address())) {
            pay(channel, command);
            pay(channel, command);
            assertEquals(List.of(command, command), fake.requests());
        }
    }

    @Test
    void send_waits_as_long_as_the_service_asks_for() throws Exception {
        try (FakeServer fake = new FakeServer(OVERLOADED, PAID);
                OrderChannel channel = connect(fake.address())) {
            pay(channel, PAY);
            assertTrue(fake.firstPauseMillis() >= 300, () -> "it came back after " + fake.firstPauseMillis() + " ms");
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "DEADLINE_EXCEEDED"})
    void send_does_not_retry_errors_that_a_retry_does_not_fix(Code code) throws Exception {
        try (FakeServer fake = new FakeServer(Failure.of(code, info("FOR_GOOD")), PAID);
                OrderChannel channel = connect(fake.address())) {
            var error = assertThrows(StatusRuntimeException.class, () -> pay(channel, PAY));
            assertEquals("FOR_GOOD", OrderError.of(error).reason());
            assertEquals(1, fake.requests().size());
        }
    }

    @Test
    void send_accepts_as_many_answers_as_allowed_and_a_broken_connection_is_not_one() throws Exception {
        try (FakeServer fake = new FakeServer(UNAVAILABLE, UNAVAILABLE, SHUTTING_DOWN, UNAVAILABLE, OVERLOADED, PAID);
                OrderChannel channel = connect(fake.address())) {
            var commands = OrderCommandServiceGrpc.newBlockingStub(channel);
            var error = assertThrows(
                    StatusRuntimeException.class, () -> send(commands::payOrder, PAY, Duration.ofSeconds(30), 2));
            assertEquals("OVERLOADED", OrderError.of(error).reason());
            assertEquals(5, fake.requests().size());
            assertThrows(IllegalArgumentException.class, () -> send(commands::payOrder, PAY, Duration.ofSeconds(30), 0));
        }
    }

    @Test
    void send_tries_until_its_time_is_up_and_not_only_so_many_times() throws Exception {
        List<Object> script = new ArrayList<>(Collections.nCopies(6, SHUTTING_DOWN));
        script.add(PAID);
        try (FakeServer fake = new FakeServer(script.toArray());
                OrderChannel channel = connect(fake.address())) {
            assertEquals(PAID, pay(channel, PAY));
            assertEquals(7, fake.requests().size());
        }
    }

    /** It gives up when the next wait, of 2 s at the most, would end too late. On a busy machine the last attempt may reach the end of the time. */
    private static void assertTriedForFiveSeconds(long beganNanos, StatusRuntimeException error) {
        Duration took = Duration.ofNanos(System.nanoTime() - beganNanos);
        Code code = OrderError.of(error).code();
        assertTrue(code == Code.UNAVAILABLE || code == Code.DEADLINE_EXCEEDED, code::toString);
        assertEquals("", OrderError.of(error).reason());
        assertTrue(took.toMillis() >= 3_000 && took.toMillis() < 25_000, () -> "it took " + took);
    }

    @Test
    void the_time_limit_ends_a_send_that_reaches_nobody_and_nothing_else_does() throws Exception {
        try (OrderChannel channel = connect("127.0.0.1:" + Surroundings.freePort())) {
            var commands = OrderCommandServiceGrpc.newBlockingStub(channel);
            long began = System.nanoTime();
            var error = assertThrows(StatusRuntimeException.class, () -> send(commands::payOrder, PAY, Duration.ofSeconds(5)));
            assertTriedForFiveSeconds(began, error);
        }
    }

    @Test
    void the_deadline_of_the_context_is_the_time_limit_if_no_other_is_given() throws Exception {
        try (OrderChannel channel = connect("127.0.0.1:" + Surroundings.freePort())) {
            Context.CancellableContext context =
                    Context.current().withDeadline(Deadline.after(5, TimeUnit.SECONDS), Timers.SHARED);
            Context before = context.attach();
            try {
                long began = System.nanoTime();
                var error = assertThrows(StatusRuntimeException.class, () -> pay(channel, PAY));
                assertTriedForFiveSeconds(began, error);
            } finally {
                context.detachAndCancel(before, null);
            }
        }
    }

    @Test
    void headers_of_the_stub_go_with_every_attempt_and_credentials_are_asked_for_each() throws Exception {
        Metadata.Key<String> authorization = Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
        Metadata fixed = new Metadata();
        fixed.put(authorization, "fixed");
        AtomicInteger used = new AtomicInteger();
        CallCredentials token = new CallCredentials() {
            @Override
            public void applyRequestMetadata(RequestInfo call, Executor executor, MetadataApplier applier) {
                Metadata fresh = new Metadata();
                fresh.put(authorization, "token " + used.incrementAndGet());
                applier.apply(fresh);
            }
        };
        try (FakeServer fake = new FakeServer(UNAVAILABLE, PAID, UNAVAILABLE, PAID);
                OrderChannel channel = connect(fake.address())) {
            var commands = OrderCommandServiceGrpc.newBlockingStub(channel);
            send(commands.withInterceptors(MetadataUtils.newAttachHeadersInterceptor(fixed))::payOrder, PAY);
            send(commands.withCallCredentials(token)::payOrder, PAY);
            assertEquals(List.of("fixed", "fixed", "token 1", "token 2"), fake.headers("authorization"));
        }
    }

    @Test
    void send_gives_up_at_once_when_the_wait_would_pass_the_deadline() throws Exception {
        Failure full = Failure.of(Code.RESOURCE_EXHAUSTED, info("STORE_FULL"), retryInfo(600_000));
        try (FakeServer fake = new FakeServer(full, PAID);
                OrderChannel channel = connect(fake.address())) {
            var commands = OrderCommandServiceGrpc.newBlockingStub(channel);
            var error = assertThrows(StatusRuntimeException.class, () -> send(commands::payOrder, PAY, Duration.ofSeconds(60)));
            assertEquals("STORE_FULL", OrderError.of(error).reason());
            assertEquals(1, fake.requests().size());
        }
    }

    @Test
    void the_time_of_send_holds_for_an_attempt_that_is_not_answered() throws Exception {
        try (SilentServer silent = new SilentServer();
                OrderChannel channel = connect(silent.address())) {
            var commands = OrderCommandServiceGrpc.newBlockingStub(channel);
            var error = assertThrows(StatusRuntimeException.class, () -> send(commands::payOrder, PAY, Duration.ofMillis(300)));
            assertEquals(Code.DEADLINE_EXCEEDED, OrderError.of(error).code());
        }
    }

    @Test
    void an_interrupt_ends_the_wait_for_a_retry() throws Exception {
        Failure full = Failure.of(Code.RESOURCE_EXHAUSTED, info("STORE_FULL"), retryInfo(20_000));
        try (FakeServer fake = new FakeServer(full, PAID);
                OrderChannel channel = connect(fake.address())) {
            Thread sender = Thread.currentThread();
            Thread interrupter = new Thread(() -> {
                while (fake.requests().isEmpty() || sender.getState() != Thread.State.TIMED_WAITING) {
                    Thread.onSpinWait();
                }
                sender.interrupt();
            });
            interrupter.start();
            var error = assertThrows(StatusRuntimeException.class, () -> pay(channel, PAY));
            assertEquals(Code.CANCELLED, OrderError.of(error).code());
            assertTrue(Thread.interrupted(), "the flag stays for the caller");
            interrupter.join();
        }
    }
}
