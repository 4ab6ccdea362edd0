package com.catga.ordersystem.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.PreconditionFailure;
import com.google.rpc.RetryInfo;
import io.grpc.Metadata;
import io.grpc.Status;
import java.nio.channels.ClosedChannelException;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * A view of an error, with its details read. Made by {@link #of} and {@link #ofStatus}.
 *
 * @param code the gRPC code
 * @param message the description, for people
 * @param reason one stable word for programs, such as {@code ILLEGAL_TRANSITION}; empty if the error did not come from the
 *     service
 * @param domain {@code ordersystem}, or empty
 * @param metadata more facts by name: {@code order_id}, {@code actual_revision} ...
 * @param fieldViolations everything that is wrong with the input
 * @param preconditions why the order's status does not allow the command
 * @param retryDelay when to try again; empty if the service did not say
 */
public record OrderError(
        Status.Code code,
        String message,
        String reason,
        String domain,
        Map<String, String> metadata,
        List<FieldViolation> fieldViolations,
        List<Precondition> preconditions,
        Optional<Duration> retryDelay) {

    private static final Metadata.Key<byte[]> DETAILS =
            Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);

    /** The longest that a {@code google.protobuf.Duration} may be: about 10 000 years. */
    private static final long LONGEST_SECONDS = 315_576_000_000L;

    private static final int NANOS_A_SECOND = 1_000_000_000;

    /** Copies the collections. */
    public OrderError {
        metadata = Map.copyOf(metadata);
        fieldViolations = List.copyOf(fieldViolations);
        preconditions = List.copyOf(preconditions);
    }

    /**
     * One thing that is wrong with the input.
     *
     * @param field the field as the proto names it: {@code items[0].unit_price}
     * @param description what it must be
     */
    public record FieldViolation(String field, String description) {}

    /**
     * What stood against a command.
     *
     * @param type {@code ORDER_STATUS}
     * @param subject {@code orders/{order id}}
     * @param description the text, for people
     */
    public record Precondition(String type, String subject, String description) {}

    /** Whether trying again may help. A command must then have the request id of the first attempt. */
    public boolean isRetryable() {
        return code == Status.Code.UNAVAILABLE || retryDelay.isPresent();
    }

    /** Whether the service could not be reached; it always gives a reason when it answers. */
    boolean isOfConnection() {
        return code == Status.Code.UNAVAILABLE && reason.isEmpty();
    }

    /**
     * What the error of a call says: a {@link io.grpc.StatusRuntimeException} or {@link io.grpc.StatusException}, or an error
     * that one of them caused; anything else is UNKNOWN. A broken connection is UNAVAILABLE, also where gRPC says UNKNOWN of it.
     */
    public static OrderError of(Throwable error) {
        Status status = Status.fromThrowable(error);
        String message = status.getDescription() == null ? "" : status.getDescription();
        Status.Code code = isBrokenConnection(status) ? Status.Code.UNAVAILABLE : status.getCode();
        return view(code, message, detailsOf(Status.trailersFromThrowable(error)));
    }

    /** gRPC's "channel closed"; what the service itself says has no cause. */
    private static boolean isBrokenConnection(Status status) {
        return status.getCode() == Status.Code.UNKNOWN && status.getCause() instanceof ClosedChannelException;
    }

    /** What the error of one command of an {@code ExecuteCommands} call says. */
    public static OrderError ofStatus(com.google.rpc.Status status) {
        return view(Status.fromCodeValue(status.getCode()).getCode(), status.getMessage(), status.getDetailsList());
    }

    private static List<Any> detailsOf(Metadata trailers) {
        byte[] details = trailers == null ? null : trailers.get(DETAILS);
        if (details == null) {
            return List.of();
        }
        try {
            return com.google.rpc.Status.parseFrom(details).getDetailsList();
        } catch (InvalidProtocolBufferException damaged) {
            // Must not hide the error that it came with.
            return List.of();
        }
    }

    private static OrderError view(Status.Code code, String message, List<Any> details) {
        ErrorInfo info = find(details, ErrorInfo.class).orElse(ErrorInfo.getDefaultInstance());
        BadRequest bad = find(details, BadRequest.class).orElse(BadRequest.getDefaultInstance());
        PreconditionFailure failure = find(details, PreconditionFailure.class).orElse(PreconditionFailure.getDefaultInstance());
        return new OrderError(
                code,
                message,
                info.getReason(),
                info.getDomain(),
                info.getMetadataMap(),
                bad.getFieldViolationsList().stream().map(v -> new FieldViolation(v.getField(), v.getDescription())).toList(),
                failure.getViolationsList().stream()
                        .map(v -> new Precondition(v.getType(), v.getSubject(), v.getDescription()))
                        .toList(),
                find(details, RetryInfo.class).flatMap(OrderError::delayOf));
    }

    /** The detail of a kind, if there is one that is sound. */
    private static <M extends com.google.protobuf.Message> Optional<M> find(List<Any> details, Class<M> kind) {
        for (Any detail : details) {
            try {
                if (detail.is(kind)) {
                    return Optional.of(detail.unpack(kind));
                }
            } catch (InvalidProtocolBufferException damaged) {
                continue;
            }
        }
        return Optional.empty();
    }

    private static Optional<Duration> delayOf(RetryInfo info) {
        long seconds = info.getRetryDelay().getSeconds();
        int nanos = info.getRetryDelay().getNanos();
        boolean sound = Math.abs(seconds) <= LONGEST_SECONDS && Math.abs(nanos) < NANOS_A_SECOND;
        return sound ? Optional.of(Duration.ofSeconds(seconds, nanos)) : Optional.empty();
    }
}
