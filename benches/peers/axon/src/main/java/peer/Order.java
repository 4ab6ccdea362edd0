package peer;

import static org.axonframework.modelling.command.AggregateLifecycle.apply;

import java.math.BigDecimal;
import java.time.Instant;
import java.util.List;
import org.axonframework.commandhandling.CommandHandler;
import org.axonframework.eventsourcing.EventSourcingHandler;
import org.axonframework.modelling.command.AggregateIdentifier;
import peer.Messages.CreateOrder;
import peer.Messages.Item;
import peer.Messages.NewOrder;
import peer.Messages.OrderCreated;

/** The order as an aggregate of Axon. */
final class Order {
    @AggregateIdentifier
    private String orderId;

    private OrderCreated created;

    Order() {}

    @CommandHandler
    Order(CreateOrder command) {
        NewOrder order = command.order();
        if (!isText(order.customerId(), 128) || order.items() == null || order.items().isEmpty() || order.items().size() > 1_000) {
            throw new IllegalArgumentException("a customer and 1 to 1000 items");
        }
        BigDecimal total = BigDecimal.ZERO;
        for (Item item : order.items()) {
            boolean isValid = isText(item.productId(), 128) && isText(item.name(), 256);
            if (!isValid || item.quantity() < 1 || item.quantity() > 1_000_000 || !isPrice(item.price())) {
                throw new IllegalArgumentException("an item is invalid");
            }
            total = total.add(item.price().multiply(BigDecimal.valueOf(item.quantity())));
        }
        apply(new OrderCreated(command.orderId(), order.customerId(), List.copyOf(order.items()), total, Instant.now().toString()));
    }

    @EventSourcingHandler
    void on(OrderCreated event) {
        orderId = event.orderId();
        created = event;
    }

    private static boolean isText(String text, int max) {
        return text != null && !text.isBlank() && text.length() <= max && text.chars().noneMatch(Character::isISOControl);
    }

    private static boolean isPrice(BigDecimal price) {
        return price != null && price.signum() >= 0 && price.stripTrailingZeros().scale() <= 2;
    }
}
