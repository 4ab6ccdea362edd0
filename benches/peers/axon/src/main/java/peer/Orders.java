package peer;

import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.vertx.core.AbstractVerticle;
import io.vertx.core.DeploymentOptions;
import io.vertx.core.Vertx;
import io.vertx.core.VertxOptions;
import io.vertx.core.buffer.Buffer;
import io.vertx.core.http.HttpMethod;
import io.vertx.core.http.HttpServerRequest;
import java.time.Instant;
import java.util.concurrent.atomic.AtomicLong;
import org.axonframework.commandhandling.CommandBus;
import org.axonframework.commandhandling.CommandResultMessage;
import org.axonframework.commandhandling.GenericCommandMessage;
import org.axonframework.config.Configuration;
import org.axonframework.config.DefaultConfigurer;
import peer.Messages.CreateOrder;
import peer.Messages.NewOrder;
import peer.Messages.OrderView;

/**
 * POST /orders with Axon: parse, validate, decide, append, reply. HTTP/2 without TLS on PORT. DATABASE names the file of SQLite; without it the events
 * are in memory.
 */
public final class Orders extends AbstractVerticle {
    /** Commands that wait for SQLite's one connection: its queue, not its parallelism. */
    private static final int WRITERS = 4;

    private static final long EPOCH_MS = 1_704_067_200_000L;
    private static final AtomicLong LAST_ID = new AtomicLong();

    private final ObjectMapper json = new ObjectMapper().enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS);
    private final CommandBus commands;
    private final boolean isBlocking;
    private final int port;

    private Orders(CommandBus commands, boolean isBlocking, int port) {
        this.commands = commands;
        this.isBlocking = isBlocking;
        this.port = port;
    }

    public static void main(String[] args) throws Exception {
        String file = System.getenv("DATABASE");
        int port = Integer.parseInt(System.getenv("PORT"));
        var engine = Store.open(file);
        Configuration axon = DefaultConfigurer.defaultConfiguration()
                .configureEmbeddedEventStore(config -> engine)
                .configureAggregate(Order.class)
                .start();
        Vertx vertx = Vertx.vertx(new VertxOptions().setWorkerPoolSize(WRITERS));
        int loops = Runtime.getRuntime().availableProcessors();
        vertx.deployVerticle(() -> new Orders(axon.commandBus(), file != null, port), new DeploymentOptions().setInstances(loops))
                .onFailure(error -> {
                    error.printStackTrace();
                    System.exit(1);
                });
    }

    @Override
    public void start() {
        vertx.createHttpServer().requestHandler(this::answer).listen(port, "127.0.0.1");
    }

    private void answer(HttpServerRequest request) {
        if (request.method() != HttpMethod.POST || !request.path().equals("/orders")) {
            request.response().setStatusCode(404).end();
            return;
        }
        request.body().onSuccess(body -> {
            if (!isBlocking) {
                reply(request, create(body));
                return;
            }
            vertx.executeBlocking(() -> create(body), false).onSuccess(order -> reply(request, order));
        });
    }

    /** The new order; null if it was refused. */
    private OrderView create(Buffer body) {
        try {
            NewOrder order = json.readValue(body.getBytes(), NewOrder.class);
            String orderId = Long.toString(newId());
            CommandResultMessage<?>[] result = new CommandResultMessage<?>[1];
            // The bus runs the handler in this thread.
            commands.dispatch(
                    GenericCommandMessage.<CreateOrder>asCommandMessage(new CreateOrder(orderId, order)),
                    (command, outcome) -> result[0] = outcome);
            if (result[0] == null || result[0].isExceptional()) {
                return null;
            }
            var total = order.items().stream()
                    .map(item -> item.price().multiply(java.math.BigDecimal.valueOf(item.quantity())))
                    .reduce(java.math.BigDecimal.ZERO, java.math.BigDecimal::add);
            String now = Instant.now().toString();
            return new OrderView(orderId, order.customerId(), "Pending", order.items(), total, "USD", 1, now, now);
        } catch (java.io.IOException invalid) {
            return null;
        }
    }

    private void reply(HttpServerRequest request, OrderView order) {
        try {
            if (order == null) {
                request.response().setStatusCode(400).end();
                return;
            }
            var response = request.response().setStatusCode(201).putHeader("content-type", "application/json");
            response.end(Buffer.buffer(json.writeValueAsBytes(order)));
        } catch (java.io.IOException error) {
            request.response().setStatusCode(500).end();
        }
    }

    /** Snowflake ids, as far as they matter here: increasing, 63 bits. */
    private static long newId() {
        long now = (System.currentTimeMillis() - EPOCH_MS) << 22;
        return LAST_ID.updateAndGet(last -> Math.max(now, last + 1));
    }
}
