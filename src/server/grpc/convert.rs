//! Converts between domain and proto types, and proto requests to the drafts that both APIs share.

use crate::{
    application::{
        VersionedOrder,
        limits::MAX_ITEMS,
        requests::{
            ActionDraft, CommandDraft, ConsistencyDraft, ConsistencyLevel, Given, ItemDraft, MetaDraft, OrderDraft,
            PriceError, Target, Violations,
        },
        tokens::{self, Signer},
    },
    codec::{money_to_proto, optional_text, timestamp_from_proto, timestamp_to_proto, wire::MessageWriter, write_item},
    domain::{
        money::{Currency, Money, MoneyError},
        order::{Cancellation, EventKind, Order, Payment, Shipment, Status},
        timestamp::Timestamp,
    },
    proto::{
        self,
        catga::orders::v1::{self as pb, execute_commands_request::Command},
    },
    server::error::ApiError,
};

/// An order as a proto message.
#[must_use]
pub fn order_to_proto(order: &Order) -> pb::Order {
    pb::Order {
        order_id: order.id.to_string(),
        customer_id: order.customer_id.to_string(),
        status: status_to_proto(order.status).into(),
        items: order
            .items
            .lines()
            .iter()
            .map(|item| pb::OrderItem {
                product_id: item.product_id.to_string(),
                name: optional_text(item.name.as_ref()),
                quantity: item.quantity.get().into(),
                unit_price: Some(money_to_proto(item.unit_price)),
            })
            .collect(),
        total: Some(money_to_proto(order.items.total())),
        shipping_address: optional_text(order.shipping_address.as_ref()),
        revision: revision_to_proto(order.revision),
        created_at: Some(timestamp_to_proto(order.created_at)),
        updated_at: Some(timestamp_to_proto(order.updated_at)),
        payment: order.payment.as_ref().map(|payment| pb::Payment {
            method: payment.method.to_string(),
            reference: optional_text(payment.reference.as_ref()),
            paid_at: Some(timestamp_to_proto(payment.at)),
        }),
        shipment: order.shipment.as_ref().map(|shipment| pb::Shipment {
            tracking_number: shipment.tracking_number.to_string(),
            carrier: optional_text(shipment.carrier.as_ref()),
            shipped_at: Some(timestamp_to_proto(shipment.at)),
        }),
        delivered_at: order.delivered_at.map(timestamp_to_proto),
        cancellation: order.cancellation.as_ref().map(|cancellation| pb::Cancellation {
            reason: optional_text(cancellation.reason.as_ref()),
            cancelled_at: Some(timestamp_to_proto(cancellation.at)),
        }),
    }
}

/// A revision on the wire.
#[must_use]
pub fn revision_to_proto(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

/// Any command from the wire.
#[must_use]
pub fn command(command: &Command) -> CommandDraft<'_> {
    match command {
        Command::CreateOrder(command) => create_order(command),
        Command::PayOrder(command) => pay_order(command),
        Command::ShipOrder(command) => ship_order(command),
        Command::DeliverOrder(command) => deliver_order(command),
        Command::CancelOrder(command) => cancel_order(command),
    }
}

/// CreateOrder from the wire.
#[must_use]
pub fn create_order(request: &pb::CreateOrderRequest) -> CommandDraft<'_> {
    let items = request.items.iter().map(|item| ItemDraft {
        product_id: Some(&item.product_id),
        name: Some(&item.name),
        quantity: Some(item.quantity),
        unit_price: Some(match &item.unit_price {
            Some(price) => money_from_proto(price).map_err(PriceError::Invalid),
            None => Err(PriceError::LeftOut),
        }),
    });
    let draft = OrderDraft {
        customer_id: Some(&request.customer_id),
        // One item beyond the limit is enough to detect that there are too many.
        items: Some(items.take(MAX_ITEMS + 1).collect()),
        shipping_address: Some(&request.shipping_address),
    };
    let meta = meta(&request.request_id, request.expected_revision, &request.actor);
    CommandDraft { meta, target: Target::New, action: ActionDraft::Create(draft) }
}

/// PayOrder from the wire.
#[must_use]
pub fn pay_order(request: &pb::PayOrderRequest) -> CommandDraft<'_> {
    let (method, reference) = (Some(request.payment_method.as_str()), Some(request.payment_reference.as_str()));
    let meta = meta(&request.request_id, request.expected_revision, &request.actor);
    CommandDraft { meta, target: existing(&request.order_id), action: ActionDraft::Pay { method, reference } }
}

/// ShipOrder from the wire.
#[must_use]
pub fn ship_order(request: &pb::ShipOrderRequest) -> CommandDraft<'_> {
    let (tracking_number, carrier) = (Some(request.tracking_number.as_str()), Some(request.carrier.as_str()));
    let meta = meta(&request.request_id, request.expected_revision, &request.actor);
    CommandDraft { meta, target: existing(&request.order_id), action: ActionDraft::Ship { tracking_number, carrier } }
}

/// DeliverOrder from the wire.
#[must_use]
pub fn deliver_order(request: &pb::DeliverOrderRequest) -> CommandDraft<'_> {
    let meta = meta(&request.request_id, request.expected_revision, &request.actor);
    CommandDraft { meta, target: existing(&request.order_id), action: ActionDraft::Deliver }
}

/// CancelOrder from the wire.
#[must_use]
pub fn cancel_order(request: &pb::CancelOrderRequest) -> CommandDraft<'_> {
    let meta = meta(&request.request_id, request.expected_revision, &request.actor);
    let reason = Some(request.reason.as_str());
    CommandDraft { meta, target: existing(&request.order_id), action: ActionDraft::Cancel { reason } }
}

const fn meta<'a>(request_id: &'a str, expected_revision: Option<i64>, actor: &'a str) -> MetaDraft<'a> {
    MetaDraft { request_id, expected_revision, actor }
}

const fn existing(order_id: &str) -> Target<Option<&str>> {
    Target::Existing(Some(order_id))
}

/// A command's reply: the order, its revision and a consistency token. The reply of each command has the fields of `CommandSuccess`.
pub fn write_success(wire: &mut MessageWriter, loaded: &VersionedOrder, signer: &Signer) {
    wire.message(1, |wire| write_order(wire, &loaded.order));
    wire.number(2, revision_to_proto(loaded.order.revision));
    wire.text(3, tokens::encode_token(signer, loaded.position));
}

/// An order, written directly: the same bytes as those of [`order_to_proto`].
pub fn write_order(wire: &mut MessageWriter, order: &Order) {
    // Every part is named, so that a new one cannot be forgotten here.
    let Order {
        id,
        customer_id,
        items,
        shipping_address,
        status,
        revision,
        created_at,
        updated_at,
        payment,
        shipment,
        delivered_at,
        cancellation,
    } = order;
    wire.order_id(1, *id);
    wire.text(2, customer_id);
    wire.number(3, i32::from(status_to_proto(*status)).into());
    for item in items.lines() {
        wire.message(4, |wire| write_item(wire, item));
    }
    wire.money(5, items.total());
    wire.optional_text(6, shipping_address.as_ref());
    wire.number(7, revision_to_proto(*revision));
    wire.time(8, *created_at);
    wire.time(9, *updated_at);
    if let Some(Payment { method, reference, at }) = payment {
        wire.message(10, |wire| {
            wire.text(1, method);
            wire.optional_text(2, reference.as_ref());
            wire.time(3, *at);
        });
    }
    if let Some(Shipment { tracking_number, carrier, at }) = shipment {
        wire.message(11, |wire| {
            wire.text(1, tracking_number);
            wire.optional_text(2, carrier.as_ref());
            wire.time(3, *at);
        });
    }
    if let Some(at) = delivered_at {
        wire.time(12, *at);
    }
    if let Some(Cancellation { reason, at }) = cancellation {
        wire.message(13, |wire| {
            wire.optional_text(1, reason.as_ref());
            wire.time(2, *at);
        });
    }
}

/// A status on the wire.
#[must_use]
pub const fn status_to_proto(status: Status) -> pb::OrderStatus {
    match status {
        Status::Pending => pb::OrderStatus::Pending,
        Status::Paid => pb::OrderStatus::Paid,
        Status::Shipped => pb::OrderStatus::Shipped,
        Status::Delivered => pb::OrderStatus::Delivered,
        Status::Cancelled => pb::OrderStatus::Cancelled,
    }
}

/// A status from the wire; left out if UNSPECIFIED.
///
/// # Errors
/// For an unknown number.
pub fn status_from_proto(status: i32) -> Given<Status> {
    match pb::OrderStatus::try_from(status) {
        Ok(pb::OrderStatus::Unspecified) => Ok(None),
        Ok(pb::OrderStatus::Pending) => Ok(Some(Status::Pending)),
        Ok(pb::OrderStatus::Paid) => Ok(Some(Status::Paid)),
        Ok(pb::OrderStatus::Shipped) => Ok(Some(Status::Shipped)),
        Ok(pb::OrderStatus::Delivered) => Ok(Some(Status::Delivered)),
        Ok(pb::OrderStatus::Cancelled) => Ok(Some(Status::Cancelled)),
        Err(_) => Err("is not a known status".to_owned()),
    }
}

/// A kind of event from the wire; `None` for UNSPECIFIED and for an unknown number.
#[must_use]
pub fn kind_from_proto(kind: i32) -> Option<EventKind> {
    match pb::OrderEventType::try_from(kind) {
        Ok(pb::OrderEventType::OrderCreated) => Some(EventKind::Created),
        Ok(pb::OrderEventType::OrderPaid) => Some(EventKind::Paid),
        Ok(pb::OrderEventType::OrderShipped) => Some(EventKind::Shipped),
        Ok(pb::OrderEventType::OrderDelivered) => Some(EventKind::Delivered),
        Ok(pb::OrderEventType::OrderCancelled) => Some(EventKind::Cancelled),
        Ok(pb::OrderEventType::Unspecified) | Err(_) => None,
    }
}

/// Money from the wire.
///
/// # Errors
/// [`MoneyError`].
pub fn money_from_proto(money: &proto::Money) -> Result<Money, MoneyError> {
    money_of_parts(&money.currency_code, money.units, money.nanos)
}

/// Money from its parts on the wire.
///
/// # Errors
/// [`MoneyError`].
pub fn money_of_parts(currency_code: &str, units: i64, nanos: i32) -> Result<Money, MoneyError> {
    Money::from_units_and_nanos(units, nanos, Currency::parse(currency_code)?)
}

/// A time from the wire.
///
/// # Errors
/// Outside the years 1 to 9999, or with malformed nanos.
pub fn time_from_proto(at: Option<&prost_types::Timestamp>) -> Given<Timestamp> {
    let Some(at) = at else { return Ok(None) };
    let parsed = timestamp_from_proto(at);
    parsed.map(Some).ok_or_else(|| "must be a time of the years 1 to 9999 with nanos of 0 to 999999999".to_owned())
}

/// The bound of a range of times from the wire, as [`time_from_proto`]. Rounds up to whole microseconds, so that comparison with microsecond
/// timestamps is unaffected.
///
/// # Errors
/// As [`time_from_proto`].
pub fn bound_from_proto(at: Option<&prost_types::Timestamp>) -> Given<Timestamp> {
    let between = at.is_some_and(|at| at.nanos % 1_000 != 0);
    let round_up = |at: Timestamp| Timestamp::from_micros(at.as_micros() + i64::from(between));
    Ok(time_from_proto(at)?.map(round_up))
}

/// The required freshness from the wire.
#[must_use]
pub fn consistency(wanted: Option<&pb::ReadConsistency>) -> ConsistencyDraft<'_> {
    use pb::ConsistencyLevel::{AtLeast, Eventual, Strong, Unspecified};
    let Some(wanted) = wanted else {
        return ConsistencyDraft::default();
    };
    let level = match pb::ConsistencyLevel::try_from(wanted.level) {
        Ok(Unspecified | Eventual) => ConsistencyLevel::Eventual,
        Ok(AtLeast) => ConsistencyLevel::AtLeast,
        Ok(Strong) => ConsistencyLevel::Strong,
        Err(_) => ConsistencyLevel::Unknown,
    };
    ConsistencyDraft { level, token: &wanted.token }
}

/// All violations as an error, if there are any.
///
/// # Errors
/// All violations.
pub fn ensure_valid(violations: Violations) -> Result<(), ApiError> {
    Ok(violations.finish(Some(()))?)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::{
        domain::{
            ids::OrderId,
            order::{Change, Item, Items, OrderEvent, Quantity, evolve},
            text::Text,
        },
        ports::event_store::{LogId, Position, TokenKey},
    };

    fn event(seconds: i64, change: Change) -> OrderEvent {
        OrderEvent {
            order_id: OrderId::new(382_520_797_643_669_504).unwrap(),
            customer_id: Text::parse("customer-123").unwrap(),
            at: Timestamp::from_micros(seconds * 1_000_000),
            change,
        }
    }

    fn placed(items: usize) -> Change {
        let item = Item {
            product_id: Text::parse("prod-1").unwrap(),
            name: Text::parse_optional("Laptop").unwrap(),
            quantity: Quantity::new(2).unwrap(),
            unit_price: Money::from_minor(99_999, Currency::parse("USD").unwrap()).unwrap(),
        };
        let shipping_address = Text::parse_optional("123 Main St").unwrap();
        Change::Created { items: Items::new(vec![item; items]).unwrap(), shipping_address }
    }

    fn life(changes: impl IntoIterator<Item = Change>) -> Vec<Order> {
        let mut orders: Vec<Order> = Vec::new();
        for (seconds, change) in (1_736_937_000..).zip(changes) {
            orders.push(evolve(orders.last(), &event(seconds, change)).unwrap());
        }
        orders
    }

    fn success(loaded: &VersionedOrder, signer: &Signer) -> pb::CommandSuccess {
        pb::CommandSuccess {
            revision: revision_to_proto(loaded.order.revision),
            consistency_token: tokens::encode_token(signer, loaded.position),
            order: Some(order_to_proto(&loaded.order)),
        }
    }

    #[test]
    fn a_reply_is_written_as_the_generated_message_writes_it() {
        let paid =
            Change::Paid { method: Text::parse("card").unwrap(), reference: Text::parse_optional("r-1").unwrap() };
        let shipped = Change::Shipped { tracking_number: Text::parse("T").unwrap(), carrier: None };
        let cancelled = Change::Cancelled { reason: Text::parse_optional("no").unwrap() };
        let signer = Signer::new(LogId(7), TokenKey::random().unwrap());
        let lives = [
            life([placed(2), paid, shipped, Change::Delivered]),
            life([placed(1_000), cancelled]),
            life([placed(1), Change::Cancelled { reason: None }]),
        ];
        for order in lives.into_iter().flatten() {
            let loaded = VersionedOrder { order, position: Position(5) };
            let mut wire = MessageWriter::with_capacity(0);
            write_success(&mut wire, &loaded, &signer);
            assert_eq!(wire.into_bytes(), success(&loaded, &signer).encode_to_vec(), "{loaded:?}");
        }
    }
}
