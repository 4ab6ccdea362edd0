package com.catga.ordersystem.client;

import io.grpc.CallCredentials;
import io.grpc.Metadata;
import io.grpc.Status;
import java.util.Objects;
import java.util.concurrent.Executor;
import java.util.function.Supplier;

/** Sends the token of a supplier with each attempt of a call. */
final class BearerToken extends CallCredentials {
    private static final Metadata.Key<String> AUTHORIZATION = Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

    private final Supplier<String> source;

    BearerToken(Supplier<String> source) {
        this.source = Objects.requireNonNull(source);
    }

    @Override
    public void applyRequestMetadata(RequestInfo request, Executor executor, MetadataApplier applier) {
        // The supplier may read a file or ask a server: not on a thread of the network.
        executor.execute(() -> {
            Metadata headers = new Metadata();
            try {
                String token = source.get();
                if (token != null && !token.isEmpty()) {
                    headers.put(AUTHORIZATION, "Bearer " + token);
                }
            } catch (RuntimeException error) {
                applier.fail(Status.UNAUTHENTICATED.withDescription("no token: " + error.getMessage()).withCause(error));
                return;
            }
            applier.apply(headers);
        });
    }
}
