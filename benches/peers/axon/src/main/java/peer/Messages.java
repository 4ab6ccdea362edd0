package peer;

import com.fasterxml.jackson.annotation.JsonProperty;
import java.math.BigDecimal;
import java.util.List;
import org.axonframework.modelling.command.TargetAggregateIdentifier;

/** What goes in, and what is stored. */
final class Messages {
    private Messages() {}

    record Item(
            @JsonProperty("productId") String productId,
            @JsonProperty("name") String name,
            @JsonProperty("quantity") int quantity,
            @JsonProperty("price") BigDecimal price) {}

    /** The body of POST /orders. */
    record NewOrder(
            @JsonProperty("customerId") String customerId,
            @JsonProperty("items") List<Item> items,
            @JsonProperty("shippingAddress") String shippingAddress) {}

    record CreateOrder(@TargetAggregateIdentifier String orderId, NewOrder order) {}

    record OrderCreated(
            @JsonProperty("orderId") String orderId,
            @JsonProperty("customerId") String customerId,
            @JsonProperty("items") List<Item> items,
            @JsonProperty("total") BigDecimal total,
            @JsonProperty("createdAt") String createdAt) {}

    /** The reply. */
    record OrderView(
            String orderId,
            String customerId,
            String status,
            List<Item> items,
            BigDecimal total,
            String currency,
            long revision,
            String createdAt,
            String updatedAt) {}
}
