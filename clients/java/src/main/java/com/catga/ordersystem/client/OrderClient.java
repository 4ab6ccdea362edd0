package com.catga.ordersystem.client;

import com.catga.orders.v1.ListOrdersRequest;
import com.catga.orders.v1.OrderHistoryServiceGrpc.OrderHistoryServiceBlockingStub;
import com.catga.orders.v1.OrderQueryServiceGrpc.OrderQueryServiceBlockingStub;
import com.catga.orders.v1.OrderSummary;
import com.catga.orders.v1.StreamEventsRequest;
import com.catga.orders.v1.StreamEventsResponse;
import com.catga.orders.v1.StreamOrderHistoryRequest;
import com.catga.orders.v1.StreamOrderHistoryResponse;
import com.google.protobuf.Message;
import io.grpc.CallCredentials;
import io.grpc.ChannelCredentials;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannelBuilder;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Objects;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.function.Supplier;

/** What the client adds to the generated stubs: channels, commands that are safe to retry, histories that resume, lists page after page. */
public final class OrderClient {
    /**
     * The gRPC service config of every channel, as JSON: queries are retried when the service is UNAVAILABLE, commands are
     * not. Commands are retried by {@link #send}, which sees to it that they have a request id.
     */
    public static final String SERVICE_CONFIG = ServiceConfig.JSON;

    /** How long {@link #send} tries in all, attempts and waits together, if neither the caller nor the context sets a limit. */
    public static final Duration SEND_TIMEOUT = Duration.ofSeconds(30);

    private OrderClient() {}

    /** Opens a channel to {@code address} ({@code host:port}) in plain text. Close it after use. */
    public static OrderChannel connect(String address) {
        return connect(address, InsecureChannelCredentials.create());
    }

    /** Opens a channel to {@code address} ({@code host:port}), with TLS for example: {@link io.grpc.TlsChannelCredentials}. */
    public static OrderChannel connect(String address, ChannelCredentials credentials) {
        return connect(address, credentials, builder -> {});
    }

    /**
     * Opens a channel to {@code address} ({@code host:port}).
     *
     * @param options sets what it likes on the builder, after the client has
     */
    public static OrderChannel connect(
            String address, ChannelCredentials credentials, Consumer<? super ManagedChannelBuilder<?>> options) {
        return OrderChannel.open(address, credentials, options);
    }

    /**
     * Sends a token with every call of a stub: {@code stub.withCallCredentials(bearer(tokenFile(path)))}. The supplier is asked for each
     * attempt, so that a token that is renewed is used at once; null or an empty text sends none, and an exception ends the call with
     * UNAUTHENTICATED. Without TLS the token is sent in plain text.
     */
    public static CallCredentials bearer(Supplier<String> token) {
        return new BearerToken(token);
    }

    /**
     * A supplier for {@link #bearer} that reads the token from a file each time. Replace the file by renaming another one to its name, so that
     * no call reads half of it.
     */
    public static Supplier<String> tokenFile(Path path) {
        return () -> {
            try {
                return Files.readString(path).strip();
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        };
    }

    /**
     * {@link #send(Function, Message, Duration, int)} until the deadline of the {@link io.grpc.Context}, or for {@link #SEND_TIMEOUT} if
     * it has none, with as many attempts as fit.
     *
     * @throws io.grpc.StatusRuntimeException the error of the last attempt
     */
    public static <C extends Message, R> R send(Function<? super C, ? extends R> method, C command) {
        return Sending.send(method, command, null, Sending.UNLIMITED);
    }

    /**
     * {@link #send(Function, Message, Duration, int)} with as many attempts as fit.
     *
     * @throws io.grpc.StatusRuntimeException the error of the last attempt
     */
    public static <C extends Message, R> R send(Function<? super C, ? extends R> method, C command, Duration timeout) {
        return Sending.send(method, command, timeout, Sending.UNLIMITED);
    }

    /**
     * Gives a command and retries it until it is answered: {@code send(stub::payOrder, command)}.
     *
     * <p>A command without a request id gets one, so that it takes effect once however often it is sent. To be able to send it
     * again later, after a DEADLINE_EXCEEDED for example, give it its id first, by {@link #withRequestId}. Retried is what may help
     * ({@link OrderError#isRetryable}), never sooner than the service asks for, until the time is up: it gives up when the wait for
     * the next attempt would end later.
     *
     * @param method a method of a blocking stub; a deadline and headers of that stub hold as well
     * @param timeout how long to try in all; an earlier deadline of the {@link io.grpc.Context} holds
     * @param attempts how many answers of the service to take at the most, 1 or more; a connection that cannot be opened or
     *     that breaks is no answer
     * @throws io.grpc.StatusRuntimeException the error of the last attempt; CANCELLED if the thread is interrupted
     */
    public static <C extends Message, R> R send(
            Function<? super C, ? extends R> method, C command, Duration timeout, int attempts) {
        return Sending.send(method, command, Objects.requireNonNull(timeout), attempts);
    }

    /**
     * Every order that {@code ListOrders} with {@code request} finds, from its page token on. The next page is asked for when it is
     * needed, and may take 30 s; each iterator begins with the first.
     *
     * @param queries a stub; a deadline of it holds for the whole list
     */
    public static Iterable<OrderSummary> listOrders(OrderQueryServiceBlockingStub queries, ListOrdersRequest request) {
        return () -> new OrderPages(queries, request);
    }

    /**
     * The command with a random request id, or as it is if it has one. Sent again with the same id it takes effect once, and
     * is answered in the same way.
     *
     * @throws IllegalArgumentException the message has no request id, so it is no command
     */
    public static <C extends Message> C withRequestId(C command) {
        return Sending.withRequestId(command);
    }

    /** The events of all orders, as {@code StreamEvents} would give them, resumed by cursor whenever it breaks off. */
    public static Follow<StreamEventsResponse> followEvents(OrderHistoryServiceBlockingStub history, StreamEventsRequest request) {
        return new Follow<>(new EventsPlace(history, request), null);
    }

    /**
     * The events of all orders, as {@code StreamEvents} would give them, resumed by cursor whenever it breaks off.
     *
     * @param giveUpAfter how long to try without a single message before the last error is thrown
     */
    public static Follow<StreamEventsResponse> followEvents(
            OrderHistoryServiceBlockingStub history, StreamEventsRequest request, Duration giveUpAfter) {
        return new Follow<>(new EventsPlace(history, request), giveUpAfter);
    }

    /** The history of one order, as {@code StreamOrderHistory} would give it, resumed by revision whenever it breaks off. */
    public static Follow<StreamOrderHistoryResponse> followOrder(
            OrderHistoryServiceBlockingStub history, StreamOrderHistoryRequest request) {
        return new Follow<>(new OrderPlace(history, request), null);
    }

    /**
     * The history of one order, as {@code StreamOrderHistory} would give it, resumed by revision whenever it breaks off.
     *
     * @param giveUpAfter how long to try without a single message before the last error is thrown
     */
    public static Follow<StreamOrderHistoryResponse> followOrder(
            OrderHistoryServiceBlockingStub history, StreamOrderHistoryRequest request, Duration giveUpAfter) {
        return new Follow<>(new OrderPlace(history, request), giveUpAfter);
    }
}
