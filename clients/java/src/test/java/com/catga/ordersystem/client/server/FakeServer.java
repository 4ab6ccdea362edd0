package com.catga.ordersystem.client.server;

import com.catga.orders.v1.CreateOrderRequest;
import com.catga.orders.v1.CreateOrderResponse;
import com.catga.orders.v1.GetOrderRequest;
import com.catga.orders.v1.GetOrderResponse;
import com.catga.orders.v1.ListOrdersRequest;
import com.catga.orders.v1.ListOrdersResponse;
import com.catga.orders.v1.OrderCommandServiceGrpc.OrderCommandServiceImplBase;
import com.catga.orders.v1.OrderHistoryServiceGrpc.OrderHistoryServiceImplBase;
import com.catga.orders.v1.OrderQueryServiceGrpc.OrderQueryServiceImplBase;
import com.catga.orders.v1.PayOrderRequest;
import com.catga.orders.v1.PayOrderResponse;
import com.catga.orders.v1.StreamEventsRequest;
import com.catga.orders.v1.StreamEventsResponse;
import com.catga.orders.v1.StreamOrderHistoryRequest;
import com.catga.orders.v1.StreamOrderHistoryResponse;
import com.google.protobuf.Message;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.Status;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Queue;

/**
 * A server in this process that answers as a test has written down. Every call takes the next answer of the script: a message, a
 * {@link Failure}, or for a stream a list of both. A stream whose list has no failure stays open until the client ends it.
 */
public final class FakeServer implements AutoCloseable {
    private final Queue<Object> script;
    private final List<Message> requests = new ArrayList<>();
    private final List<Long> timesNanos = new ArrayList<>();
    private final List<Metadata> headers = Collections.synchronizedList(new ArrayList<>());
    private final Server server;

    public FakeServer(Object... script) throws IOException {
        this.script = new ArrayDeque<>(Arrays.asList(script));
        this.server = Grpc.newServerBuilderForPort(0, InsecureServerCredentials.create())
                .addService(new Commands())
                .addService(new Queries())
                .addService(new History())
                .intercept(new ServerInterceptor() {
                    @Override
                    public <C, R> ServerCall.Listener<C> interceptCall(
                            ServerCall<C, R> call, Metadata given, ServerCallHandler<C, R> next) {
                        headers.add(given);
                        return next.startCall(call, given);
                    }
                })
                .build()
                .start();
    }

    public String address() {
        return "127.0.0.1:" + server.getPort();
    }

    /** What has come so far. */
    public synchronized List<Message> requests() {
        return List.copyOf(requests);
    }

    /** What has come so far, as messages of a kind. */
    public <M extends Message> List<M> requests(Class<M> kind) {
        return requests().stream().map(kind::cast).toList();
    }

    /** The values of a header, one for each call. */
    public List<String> headers(String name) {
        return headers.stream().map(given -> given.get(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER))).toList();
    }

    /** The time between the first two calls. */
    public synchronized long firstPauseMillis() {
        return (timesNanos.get(1) - timesNanos.get(0)) / 1_000_000;
    }

    @Override
    public void close() {
        server.shutdownNow();
    }

    private synchronized Object next(Message request) {
        requests.add(request);
        timesNanos.add(System.nanoTime());
        return script.remove();
    }

    private <M extends Message> void answer(Message request, StreamObserver<M> replies, Class<M> kind) {
        Object answer = next(request);
        if (answer instanceof Failure failure) {
            replies.onError(failure.asException());
            return;
        }
        replies.onNext(kind.cast(answer));
        replies.onCompleted();
    }

    private <M extends Message> void stream(Message request, StreamObserver<M> replies, Class<M> kind) {
        for (Object answer : (List<?>) next(request)) {
            if (answer instanceof Failure failure) {
                end(replies, failure);
                return;
            }
            replies.onNext(kind.cast(answer));
        }
    }

    /** A failure with the code OK is the end of a stream that has not failed. */
    private static void end(StreamObserver<?> replies, Failure failure) {
        if (failure.code() == Status.Code.OK) {
            replies.onCompleted();
        } else {
            replies.onError(failure.asException());
        }
    }

    private final class Commands extends OrderCommandServiceImplBase {
        @Override
        public void createOrder(CreateOrderRequest request, StreamObserver<CreateOrderResponse> replies) {
            answer(request, replies, CreateOrderResponse.class);
        }

        @Override
        public void payOrder(PayOrderRequest request, StreamObserver<PayOrderResponse> replies) {
            answer(request, replies, PayOrderResponse.class);
        }
    }

    private final class Queries extends OrderQueryServiceImplBase {
        @Override
        public void getOrder(GetOrderRequest request, StreamObserver<GetOrderResponse> replies) {
            answer(request, replies, GetOrderResponse.class);
        }

        @Override
        public void listOrders(ListOrdersRequest request, StreamObserver<ListOrdersResponse> replies) {
            answer(request, replies, ListOrdersResponse.class);
        }
    }

    private final class History extends OrderHistoryServiceImplBase {
        @Override
        public void streamEvents(StreamEventsRequest request, StreamObserver<StreamEventsResponse> replies) {
            stream(request, replies, StreamEventsResponse.class);
        }

        @Override
        public void streamOrderHistory(StreamOrderHistoryRequest request, StreamObserver<StreamOrderHistoryResponse> replies) {
            stream(request, replies, StreamOrderHistoryResponse.class);
        }
    }
}
