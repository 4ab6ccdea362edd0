//! Converts between domain and proto types.

use crate::{
    application::{
        Consistency, VersionedOrder,
        requests::{self, Violations},
    },
    codec::{money_to_proto, timestamp_from_proto, timestamp_to_proto},
    domain::{
        money::{Currency, Money, MoneyError},
        order::{Order, Status},
        text::{Text, TextRule},
        timestamp::Timestamp,
    },
    proto::{self, catga::orders::v1 as pb},
    server::{Signer, error::ApiError},
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
                name: text(item.name.as_ref()),
                quantity: item.quantity.get().into(),
                unit_price: Some(money_to_proto(item.unit_price)),
            })
            .collect(),
        total: Some(money_to_proto(order.items.total())),
        shipping_address: text(order.shipping_address.as_ref()),
        revision: revision_to_proto(order.revision),
        created_at: Some(timestamp_to_proto(order.created_at)),
        updated_at: Some(timestamp_to_proto(order.updated_at)),
        payment: order.payment.as_ref().map(|payment| pb::Payment {
            method: payment.method.to_string(),
            reference: text(payment.reference.as_ref()),
            paid_at: Some(timestamp_to_proto(payment.at)),
        }),
        shipment: order.shipment.as_ref().map(|shipment| pb::Shipment {
            tracking_number: shipment.tracking_number.to_string(),
            carrier: text(shipment.carrier.as_ref()),
            shipped_at: Some(timestamp_to_proto(shipment.at)),
        }),
        delivered_at: order.delivered_at.map(timestamp_to_proto),
        cancellation: order.cancellation.as_ref().map(|cancellation| pb::Cancellation {
            reason: text(cancellation.reason.as_ref()),
            cancelled_at: Some(timestamp_to_proto(cancellation.at)),
        }),
    }
}

fn text<R: TextRule>(text: Option<&Text<R>>) -> String {
    text.map_or_else(String::new, ToString::to_string)
}

/// A revision on the wire.
#[must_use]
pub fn revision_to_proto(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

/// A command's reply: the order, its revision and a consistency token.
#[must_use]
pub fn success(loaded: &VersionedOrder, log: &Signer) -> pb::CommandSuccess {
    pb::CommandSuccess {
        revision: revision_to_proto(loaded.order.revision),
        consistency_token: crate::application::tokens::encode_token(log, loaded.position),
        order: Some(order_to_proto(&loaded.order)),
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

/// A status from the wire; `None` for UNSPECIFIED and, with a violation, for an unknown number.
pub fn status_from_proto(violations: &mut Violations, field: &str, status: i32) -> Option<Status> {
    match pb::OrderStatus::try_from(status) {
        Ok(pb::OrderStatus::Unspecified) => None,
        Ok(pb::OrderStatus::Pending) => Some(Status::Pending),
        Ok(pb::OrderStatus::Paid) => Some(Status::Paid),
        Ok(pb::OrderStatus::Shipped) => Some(Status::Shipped),
        Ok(pb::OrderStatus::Delivered) => Some(Status::Delivered),
        Ok(pb::OrderStatus::Cancelled) => Some(Status::Cancelled),
        Err(_) => {
            violations.add(field, "is not a known status");
            None
        }
    }
}

/// Money from the wire.
///
/// # Errors
/// [`MoneyError`].
pub fn money_from_proto(money: &proto::Money) -> Result<Money, MoneyError> {
    let currency = Currency::parse(&money.currency_code)?;
    Money::from_units_and_nanos(money.units, money.nanos, currency)
}

/// A time from the wire; `None` if omitted or, with a violation, if invalid.
pub fn time_from_proto(
    violations: &mut Violations,
    field: &str,
    at: Option<&prost_types::Timestamp>,
) -> Option<Timestamp> {
    let parsed = timestamp_from_proto(at?);
    if parsed.is_none() {
        violations.add(field, "must be a time of the years 1 to 9999 with nanos of 0 to 999999999");
    }
    parsed
}

/// The bound of a range of times from the wire, as [`time_from_proto`]. Rounds up to whole microseconds, so that comparison with microsecond
/// timestamps is unaffected.
pub fn bound_from_proto(
    violations: &mut Violations,
    field: &str,
    at: Option<&prost_types::Timestamp>,
) -> Option<Timestamp> {
    let between = at.is_some_and(|at| at.nanos % 1_000 != 0);
    time_from_proto(violations, field, at).map(|at| Timestamp::from_micros(at.as_micros() + i64::from(between)))
}

/// The required freshness of a reply.
pub fn consistency(
    violations: &mut Violations,
    wanted: Option<&pb::ReadConsistency>,
    log: Option<&Signer>,
) -> Consistency {
    use pb::ConsistencyLevel::{AtLeast, Eventual, Strong, Unspecified};
    let Some(wanted) = wanted else {
        return Consistency::Eventual;
    };
    let level = pb::ConsistencyLevel::try_from(wanted.level);
    if level == Ok(AtLeast) {
        return requests::consistency_token(violations, "consistency.token", &wanted.token, log);
    }
    if !wanted.token.is_empty() {
        violations.add("consistency.token", "must be empty unless the level is AT_LEAST");
    }
    match level {
        Ok(Strong) => Consistency::Strong,
        Ok(Unspecified | Eventual | AtLeast) => Consistency::Eventual,
        Err(_) => {
            violations.add("consistency.level", "is not a known level");
            Consistency::Eventual
        }
    }
}

/// All violations as an error, if there are any.
///
/// # Errors
/// All violations.
pub fn all_good(violations: Violations) -> Result<(), ApiError> {
    Ok(violations.finish(Some(()))?)
}
