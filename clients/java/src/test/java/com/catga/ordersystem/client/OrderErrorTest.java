package com.catga.ordersystem.client;

import static com.catga.ordersystem.client.OrderClient.connect;
import static com.catga.ordersystem.client.server.Failure.info;
import static com.catga.ordersystem.client.server.Failure.retryInfo;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.catga.orders.v1.GetOrderRequest;
import com.catga.orders.v1.OrderQueryServiceGrpc;
import com.catga.ordersystem.client.OrderError.FieldViolation;
import com.catga.ordersystem.client.OrderError.Precondition;
import com.catga.ordersystem.client.server.Failure;
import com.catga.ordersystem.client.server.FakeServer;
import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.Duration;
import com.google.protobuf.Message;
import com.google.rpc.BadRequest;
import com.google.rpc.PreconditionFailure;
import com.google.rpc.RetryInfo;
import io.grpc.Status.Code;
import io.grpc.StatusException;
import io.grpc.StatusRuntimeException;
import java.nio.channels.ClosedChannelException;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.Test;

/** Errors are read whole, and never trip over what they carry. */
class OrderErrorTest {
    private static final Message[] DETAILS = {
        info("SOME_REASON"),
        BadRequest.newBuilder()
                .addFieldViolations(BadRequest.FieldViolation.newBuilder().setField("a").setDescription("must be b"))
                .build(),
        PreconditionFailure.newBuilder()
                .addViolations(PreconditionFailure.Violation.newBuilder()
                        .setType("ORDER_STATUS")
                        .setSubject("orders/1")
                        .setDescription("d"))
                .build(),
        retryInfo(1_500)
    };

    private static final OrderError EXPECTED = new OrderError(
            Code.ABORTED,
            "as scripted",
            "SOME_REASON",
            "ordersystem",
            Map.of("order_id", "1"),
            List.of(new FieldViolation("a", "must be b")),
            List.of(new Precondition("ORDER_STATUS", "orders/1", "d")),
            Optional.of(java.time.Duration.ofMillis(1_500)));

    private static OrderError bare(Code code, String message) {
        return new OrderError(code, message, "", "", Map.of(), List.of(), List.of(), Optional.empty());
    }

    /** What the client makes of a failed call. */
    private static OrderError seen(Failure failure) throws Exception {
        try (FakeServer fake = new FakeServer(failure);
                OrderChannel channel = connect(fake.address())) {
            var queries = OrderQueryServiceGrpc.newBlockingStub(channel);
            return OrderError.of(assertThrows(
                    StatusRuntimeException.class, () -> queries.getOrder(GetOrderRequest.getDefaultInstance())));
        }
    }

    @Test
    void every_detail_of_a_failed_call_is_read() throws Exception {
        assertEquals(EXPECTED, seen(Failure.of(Code.ABORTED, DETAILS)));
    }

    @Test
    void the_status_of_one_command_of_many_is_read_in_the_same_way() {
        assertEquals(EXPECTED, OrderError.ofStatus(Failure.status(Code.ABORTED, DETAILS)));
        assertEquals(Code.UNKNOWN, OrderError.ofStatus(com.google.rpc.Status.newBuilder().setCode(99).build()).code());
    }

    @Test
    void an_error_without_details_has_no_reason() throws Exception {
        assertEquals(bare(Code.INTERNAL, "as scripted"), seen(Failure.of(Code.INTERNAL)));
        assertEquals(bare(Code.UNKNOWN, ""), OrderError.of(new IllegalStateException("no call at all")));
        StatusException checked = Code.ABORTED.toStatus().withDescription("m").asException();
        assertEquals(bare(Code.ABORTED, "m"), OrderError.of(checked));
        assertEquals(bare(Code.ABORTED, "m"), OrderError.of(new RuntimeException(checked)));
    }

    @Test
    void a_connection_that_broke_is_unavailable_whatever_grpc_calls_it() {
        var closed = Code.UNKNOWN.toStatus().withDescription("channel closed").withCause(new ClosedChannelException());
        assertEquals(bare(Code.UNAVAILABLE, "channel closed"), OrderError.of(closed.asRuntimeException()));
        var unknown = Code.UNKNOWN.toStatus().withDescription("channel closed");
        assertEquals(bare(Code.UNKNOWN, "channel closed"), OrderError.of(unknown.asRuntimeException()));
    }

    @Test
    void damaged_details_leave_the_code_and_the_message() throws Exception {
        assertEquals(bare(Code.INTERNAL, "as scripted"), seen(new Failure(Code.INTERNAL, new byte[] {-1})));
        Any broken = Any.newBuilder()
                .setTypeUrl("type.googleapis.com/google.rpc.BadRequest")
                .setValue(ByteString.copyFrom(new byte[] {-1}))
                .build();
        Any unknown = Any.newBuilder().setTypeUrl("type.googleapis.com/of.Tomorrow").build();
        Any forAges = Any.pack(RetryInfo.newBuilder()
                .setRetryDelay(Duration.newBuilder().setSeconds(Long.MAX_VALUE).setNanos(Integer.MAX_VALUE))
                .build());
        var status = com.google.rpc.Status.newBuilder().setCode(3).setMessage("m").addDetails(broken).addDetails(unknown);
        assertEquals(bare(Code.INVALID_ARGUMENT, "m"), OrderError.ofStatus(status.build()));
        assertEquals(bare(Code.INVALID_ARGUMENT, "m"), OrderError.ofStatus(status.addDetails(forAges).build()));
    }

    @Test
    void retryable_errors_are_unavailable_or_have_a_delay() {
        assertTrue(bare(Code.UNAVAILABLE, "").isRetryable());
        assertTrue(OrderError.ofStatus(Failure.status(Code.ABORTED, retryInfo(0))).isRetryable());
        assertFalse(bare(Code.RESOURCE_EXHAUSTED, "").isRetryable());
        assertFalse(bare(Code.DEADLINE_EXCEEDED, "").isRetryable());
    }
}
