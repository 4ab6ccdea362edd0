package com.catga.ordersystem.client.conformance;

import static com.catga.ordersystem.client.OrderClient.bearer;
import static com.catga.ordersystem.client.OrderClient.connect;
import static com.catga.ordersystem.client.OrderClient.followEvents;
import static com.catga.ordersystem.client.OrderClient.followOrder;
import static com.catga.ordersystem.client.OrderClient.send;

import com.catga.orders.v1.ExecuteCommandsRequest;
import com.catga.orders.v1.ExecuteCommandsResponse;
import com.catga.orders.v1.OrderCommandServiceGrpc;
import com.catga.orders.v1.OrderHistoryServiceGrpc;
import com.catga.orders.v1.StreamEventsRequest;
import com.catga.orders.v1.StreamOrderHistoryRequest;
import com.catga.ordersystem.client.Follow;
import com.catga.ordersystem.client.OrderChannel;
import com.catga.ordersystem.client.OrderError;
import com.catga.ordersystem.client.conformance.StreamReader.Item;
import com.catga.ordersystem.client.conformance.StreamReader.Kind;
import com.catga.ordersystem.client.server.OrderServer;
import com.catga.ordersystem.client.server.Surroundings;
import com.google.protobuf.Message;
import io.grpc.CallCredentials;
import io.grpc.Context;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.function.Supplier;

/** One run of one scenario; clients/conformance/README.md says what each step means. */
final class ScenarioRun implements AutoCloseable {
    private static final Duration CALL = Duration.ofSeconds(30);
    private static final List<String> KINDS =
            List.of("call", "send", "execute", "stream", "follow", "take", "end", "cancel", "server", "token");

    private final OrderServer server;
    private final Variables variables = new Variables();
    private final Matching matching = new Matching(variables);
    private final List<OrderChannel> channels = new ArrayList<>();
    private final Map<String, StreamReader> readers = new HashMap<>();
    private volatile String token;

    ScenarioRun(OrderServer server, String token) {
        this.server = server;
        this.token = token;
        variables.put("run", UUID.randomUUID().toString().replace("-", "").substring(0, 12));
        variables.put("persistence", Surroundings.persistence());
        channels.add(connect(server.address()));
    }

    void step(Map<?, ?> unresolved) throws Exception {
        Map<?, ?> step = (Map<?, ?>) variables.resolve(unresolved);
        String kind = KINDS.stream()
                .filter(step::containsKey)
                .findFirst()
                .orElseThrow(() -> new NoSuchElementException("no step " + step));
        switch (kind) {
            case "call" -> unary(step, "call", (rpc, deadline) -> rpc.within(deadline == null ? CALL : deadline)::call);
            case "send" -> unary(step, "send", (rpc, deadline) -> sender(rpc, deadline));
            case "execute" -> execute(step);
            case "stream" -> stream(step);
            case "follow" -> follow(step);
            case "take" -> take(step);
            case "end" -> end(step);
            case "token" -> token = (String) step.get("token");
            case "cancel" -> readers.remove(step.get("cancel")).cancel();
            default -> serverStep((String) step.get("server"));
        }
    }

    @Override
    public void close() {
        readers.values().forEach(StreamReader::cancel);
        channels.forEach(OrderChannel::close);
    }

    private CallCredentials credentials() {
        return bearer(() -> token);
    }

    private OrderChannel channel() {
        return channels.get(channels.size() - 1);
    }

    /** What makes a call of a method and a deadline, which is null if the step has none. */
    private interface Caller {
        Function<Message, Message> of(Rpc rpc, Duration deadline);
    }

    private static Function<Message, Message> sender(Rpc rpc, Duration deadline) {
        return deadline == null ? request -> send(rpc::call, request) : request -> send(rpc::call, request, deadline);
    }

    private void unary(Map<?, ?> step, String kind, Caller caller) throws Exception {
        Rpc rpc = Rpc.find((String) step.get(kind), channel()).with(credentials());
        Message request = rpc.request(step.get("request"));
        Function<Message, Message> call = caller.of(rpc, deadlineOf(step));
        CompletableFuture<Void> started = startLater(step);
        try {
            Message reply = call.apply(request);
            started.get();
            checkSuccess(step, reply);
        } catch (StatusRuntimeException error) {
            started.get();
            checkError(step, OrderError.of(error));
        }
        if (step.containsKey("start_after_ms")) {
            channels.add(connect(server.address()));
        }
    }

    /** Starts the server during a step that asks for it. */
    private CompletableFuture<Void> startLater(Map<?, ?> step) {
        if (!(step.get("start_after_ms") instanceof Integer millis)) {
            return CompletableFuture.completedFuture(null);
        }
        Runnable start = () -> {
            try {
                server.start();
            } catch (Exception error) {
                throw new CompletionException(error);
            }
        };
        return CompletableFuture.runAsync(start, CompletableFuture.delayedExecutor(millis, TimeUnit.MILLISECONDS));
    }

    private static Duration deadlineOf(Map<?, ?> step) {
        return step.get("deadline_ms") instanceof Integer millis ? Duration.ofMillis(millis) : null;
    }

    private void checkSuccess(Map<?, ?> expected, Message reply) {
        if (expected.containsKey("error")) {
            throw new AssertionError("expected an error, got " + Json.of(reply));
        }
        matching.match(expected.containsKey("expect") ? expected.get("expect") : Map.of(), Json.of(reply));
    }

    private void checkError(Map<?, ?> expected, OrderError error) {
        if (!expected.containsKey("error")) {
            throw new AssertionError("expected success, got " + error);
        }
        matching.match(expected.get("error"), Json.of(error));
    }

    private void execute(Map<?, ?> step) throws Exception {
        var call = OrderCommandServiceGrpc.newBlockingV2Stub(channel())
                .withCallCredentials(credentials())
                .withDeadlineAfter(CALL)
                .executeCommands();
        for (Object request : (List<?>) step.get("execute")) {
            call.write((ExecuteCommandsRequest) Json.parse(request, ExecuteCommandsRequest.newBuilder()));
        }
        call.halfClose();
        Map<?, ?> expected = (Map<?, ?>) step.get("replies");
        List<String> correlationIds = new ArrayList<>();
        for (ExecuteCommandsResponse reply = call.read(); reply != null; reply = call.read()) {
            correlationIds.add(reply.getCorrelationId());
            if (!(expected.get(reply.getCorrelationId()) instanceof Map<?, ?> outcome)) {
                throw new AssertionError("no reply was expected to " + reply.getCorrelationId());
            }
            if (reply.hasError()) {
                checkError(outcome, OrderError.ofStatus(reply.getError()));
            } else {
                checkSuccess(outcome, reply.getSuccess());
            }
        }
        List<String> wanted = expected.keySet().stream().map(String.class::cast).sorted().toList();
        if (!correlationIds.stream().sorted().toList().equals(wanted)) {
            throw new AssertionError("replies to " + correlationIds);
        }
    }

    private void stream(Map<?, ?> step) {
        Rpc rpc = Rpc.find((String) step.get("stream"), channel()).with(credentials());
        Message request = rpc.request(step.get("request"));
        Duration deadline = deadlineOf(step);
        Context.CancellableContext context = Context.ROOT.withCancellation();
        Context before = context.attach();
        try {
            Iterator<Message> messages = (deadline == null ? rpc : rpc.within(deadline)).stream(request);
            open(step, () -> new StreamReader(messages, () -> context.cancel(null)));
        } finally {
            context.detach(before);
        }
    }

    private void follow(Map<?, ?> step) {
        Message request = Rpc.find((String) step.get("follow"), channel()).request(step.get("request"));
        var history = OrderHistoryServiceGrpc.newBlockingStub(channel()).withCallCredentials(credentials());
        Follow<? extends Message> follow = request instanceof StreamEventsRequest events
                ? followEvents(history, events)
                : followOrder(history, (StreamOrderHistoryRequest) request);
        open(step, () -> new StreamReader(follow, follow::cancel));
    }

    private void open(Map<?, ?> step, Supplier<StreamReader> reader) {
        String handle = (String) step.get("as");
        if (readers.containsKey(handle)) {
            throw new IllegalStateException("the handle " + handle + " is taken");
        }
        readers.put(handle, reader.get());
    }

    private void take(Map<?, ?> step) throws InterruptedException {
        for (Object pattern : (List<?>) step.get("expect")) {
            matching.match(pattern, next(step.get("take"), Kind.MESSAGE).value());
        }
    }

    private void end(Map<?, ?> step) throws InterruptedException {
        Item item = next(step.get("end"), step.containsKey("error") ? Kind.ERROR : Kind.END);
        if (item.kind() == Kind.ERROR) {
            matching.match(step.get("error"), item.value());
        }
    }

    private Item next(Object handle, Kind expected) throws InterruptedException {
        Item item = readers.get(handle).next();
        if (item.kind() != expected) {
            throw new AssertionError("expected " + expected + ", got " + item);
        }
        return item;
    }

    private void serverStep(String what) throws Exception {
        switch (what) {
            case "stop" -> server.stop();
            case "kill" -> server.kill();
            case "start" -> start();
            case "restart" -> {
                server.stop();
                start();
            }
            default -> throw new NoSuchElementException("no server step " + what);
        }
    }

    private void start() throws Exception {
        server.start();
        channels.add(connect(server.address()));
    }
}
