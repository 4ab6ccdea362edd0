import static com.catga.ordersystem.client.OrderClient.connect;
import static com.catga.ordersystem.client.OrderClient.followEvents;
import static com.catga.ordersystem.client.OrderClient.send;
import static com.catga.ordersystem.client.OrderClient.withRequestId;

import com.catga.ids.v1.GenerateIdsRequest;
import com.catga.ids.v1.IdServiceGrpc;
import com.catga.orders.v1.CreateOrderRequest;
import com.catga.orders.v1.DeliverOrderRequest;
import com.catga.orders.v1.NewOrderItem;
import com.catga.orders.v1.Order;
import com.catga.orders.v1.OrderCommandServiceGrpc;
import com.catga.orders.v1.OrderHistoryServiceGrpc;
import com.catga.orders.v1.PayOrderRequest;
import com.catga.orders.v1.PayOrderResponse;
import com.catga.orders.v1.ShipOrderRequest;
import com.catga.orders.v1.StreamEventsRequest;
import com.catga.orders.v1.StreamEventsResponse;
import com.catga.orders.v1.StreamStart;
import com.catga.ordersystem.client.Amounts;
import com.catga.ordersystem.client.Follow;
import com.catga.ordersystem.client.OrderChannel;
import com.catga.ordersystem.client.OrderError;
import io.grpc.StatusRuntimeException;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthGrpc;
import java.io.IOException;
import java.time.Duration;
import java.util.UUID;

/**
 * A tour of the order service: the life of an order, errors, a retry, a followed history, health, a deadline.
 *
 * <p>Usage: {@code Example ADDRESS}. Halfway it waits for a line on standard input: restart the service then, and see the history resume.
 * That needs a durable service, such as {@code ordersystem --persistence embedded --data-dir DIR}.
 */
public final class Example {
    private static final Duration CALL = Duration.ofSeconds(30);

    private Example() {}

    public static void main(String[] args) throws IOException {
        if (args.length != 1) {
            System.err.println("usage: Example ADDRESS");
            System.exit(2);
        }
        try (OrderChannel channel = connect(args[0])) {
            showHealth(channel);
            Order order = placeAndPay(channel);
            String cursor = readHistory(channel, order);
            System.out.println("restart the service if you like, then press Enter");
            waitForEnter();
            finish(channel, order, cursor);
            showDeadline(channel);
        }
    }

    private static void waitForEnter() throws IOException {
        int key = System.in.read();
        while (key != '\n' && key != -1) {
            key = System.in.read();
        }
    }

    private static void showHealth(OrderChannel channel) {
        var readiness = HealthCheckRequest.newBuilder().setService("readiness").build();
        var answer = HealthGrpc.newBlockingStub(channel).withDeadlineAfter(CALL).check(readiness);
        System.out.println("readiness: " + answer.getStatus());
    }

    private static Order placeAndPay(OrderChannel channel) {
        var commands = OrderCommandServiceGrpc.newBlockingStub(channel);
        NewOrderItem laptop = NewOrderItem.newBuilder()
                .setProductId("prod-1")
                .setName("Laptop")
                .setQuantity(1)
                .setUnitPrice(Amounts.money("999.99", "USD"))
                .build();
        // A customer unique to this run, to distinguish its events from others.
        var create = CreateOrderRequest.newBuilder().setCustomerId("customer-" + UUID.randomUUID()).addItems(laptop).build();
        Order order = send(commands::createOrder, create).getOrder();
        System.out.println("placed: " + order.getStatus());

        try {
            send(commands::shipOrder, ship(order));
        } catch (StatusRuntimeException error) {
            OrderError facts = OrderError.of(error);
            System.out.println("refused: " + facts.code() + " " + facts.reason() + " " + facts.metadata().get("status"));
        }

        PayOrderRequest pay = withRequestId(
                PayOrderRequest.newBuilder().setOrderId(order.getOrderId()).setPaymentMethod("credit_card").build());
        PayOrderResponse first = commands.withDeadlineAfter(CALL).payOrder(pay);
        PayOrderResponse second = send(commands::payOrder, pay);
        System.out.println("paid: " + first.getOrder().getStatus() + " - the retry got the first answer: " + first.equals(second));
        return first.getOrder();
    }

    private static ShipOrderRequest ship(Order order) {
        return ShipOrderRequest.newBuilder().setOrderId(order.getOrderId()).setTrackingNumber("TRACK-1").build();
    }

    /** Reads the existing events; returns the cursor to resume from. */
    private static String readHistory(OrderChannel channel, Order order) {
        var request = StreamEventsRequest.newBuilder().addCustomerIds(order.getCustomerId()).setFollow(true).build();
        try (var follow = followEvents(OrderHistoryServiceGrpc.newBlockingStub(channel), request)) {
            for (StreamEventsResponse message : follow) {
                if (message.hasCaughtUp()) {
                    break;
                }
                show(message);
            }
            return follow.cursor();
        }
    }

    /** Ships and delivers the order, and resumes reading the history. */
    private static void finish(OrderChannel channel, Order order, String cursor) {
        var commands = OrderCommandServiceGrpc.newBlockingStub(channel);
        var request = StreamEventsRequest.newBuilder()
                .addCustomerIds(order.getCustomerId())
                .setStart(StreamStart.STREAM_START_AFTER)
                .setCursor(cursor)
                .setFollow(true)
                .build();
        try (var follow = followEvents(OrderHistoryServiceGrpc.newBlockingStub(channel), request)) {
            send(commands::shipOrder, ship(order));
            showNext(follow);
            send(commands::deliverOrder, DeliverOrderRequest.newBuilder().setOrderId(order.getOrderId()).build());
            showNext(follow);
        }
    }

    /** Shows the next event, and skips other messages. */
    private static void showNext(Follow<StreamEventsResponse> follow) {
        for (StreamEventsResponse message : follow) {
            if (message.hasEvent()) {
                show(message);
                return;
            }
        }
    }

    private static void show(StreamEventsResponse message) {
        System.out.println("event: " + message.getEvent().getRevision() + " " + message.getEvent().getEventCase());
    }

    private static void showDeadline(OrderChannel channel) {
        try {
            // A node issues at most 4096 ids per millisecond.
            var ids = IdServiceGrpc.newBlockingStub(channel).withDeadlineAfter(Duration.ofMillis(5));
            ids.generateIds(GenerateIdsRequest.newBuilder().setCount(100_000).build());
        } catch (StatusRuntimeException error) {
            System.out.println("too late: " + OrderError.of(error).code());
        }
    }
}
