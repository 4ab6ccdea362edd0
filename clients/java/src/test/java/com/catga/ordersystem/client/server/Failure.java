package com.catga.ordersystem.client.server;

import com.google.protobuf.Any;
import com.google.protobuf.Message;
import com.google.protobuf.util.Durations;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.util.Arrays;
import java.util.Map;

/**
 * An error to answer with.
 *
 * @param code its code; the message is "as scripted"
 * @param details the bytes of the trailer that carries a google.rpc.Status; null for none
 */
public record Failure(Status.Code code, byte[] details) {
    /** What a broken connection gives: the service itself always says why. */
    public static final Failure UNAVAILABLE = of(Status.Code.UNAVAILABLE);

    public static final Failure SHUTTING_DOWN = of(Status.Code.UNAVAILABLE, info("SHUTTING_DOWN"));
    public static final Failure OVERLOADED = of(Status.Code.RESOURCE_EXHAUSTED, info("OVERLOADED"), retryInfo(300));

    private static final Metadata.Key<byte[]> DETAILS =
            Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);

    public static Failure of(Status.Code code, Message... details) {
        return new Failure(code, details.length == 0 ? null : status(code, details).toByteArray());
    }

    public static com.google.rpc.Status status(Status.Code code, Message... details) {
        return com.google.rpc.Status.newBuilder()
                .setCode(code.value())
                .setMessage("as scripted")
                .addAllDetails(Arrays.stream(details).map(Any::pack).toList())
                .build();
    }

    public static ErrorInfo info(String reason) {
        return ErrorInfo.newBuilder().setReason(reason).setDomain("ordersystem").putAllMetadata(Map.of("order_id", "1")).build();
    }

    public static RetryInfo retryInfo(long millis) {
        return RetryInfo.newBuilder().setRetryDelay(Durations.fromMillis(millis)).build();
    }

    StatusRuntimeException asException() {
        Metadata trailers = new Metadata();
        if (details != null) {
            trailers.put(DETAILS, details);
        }
        return code.toStatus().withDescription("as scripted").asRuntimeException(trailers);
    }
}
