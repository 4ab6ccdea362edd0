//! Folded order <-> the bytes in a shared cache.
//!
//! Unlike events these bytes live for minutes and are only a copy: a change of the encoding gets a new [`FOLDED_SCHEMA`], under which the cache is
//! empty at first.

use bytes::Bytes;
use prost::Message;

use super::{
    CodecError, corrupt, item_from_proto, item_to_proto, optional, optional_text, required, status_code,
    status_of_code, stored,
};
use crate::domain::{
    ids::OrderId,
    order::{Cancellation, Items, Order, Payment, Shipment},
    timestamp::Timestamp,
};

/// The version of the encoding.
pub const FOLDED_SCHEMA: i32 = 1;

#[derive(Clone, PartialEq, Message)]
struct FoldedOrder {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    customer_id: String,
    #[prost(message, repeated, tag = "3")]
    items: Vec<stored::OrderedItem>,
    #[prost(string, tag = "4")]
    shipping_address: String,
    #[prost(uint32, tag = "5")]
    status: u32,
    #[prost(uint64, tag = "6")]
    revision: u64,
    #[prost(sint64, tag = "7")]
    created_at: i64,
    #[prost(sint64, tag = "8")]
    updated_at: i64,
    #[prost(message, optional, tag = "9")]
    payment: Option<FoldedStep>,
    #[prost(message, optional, tag = "10")]
    shipment: Option<FoldedStep>,
    #[prost(sint64, optional, tag = "11")]
    delivered_at: Option<i64>,
    #[prost(message, optional, tag = "12")]
    cancellation: Option<FoldedStep>,
    #[prost(uint64, tag = "13")]
    position: u64,
}

/// A payment (method, reference), a shipment (tracking number, carrier) or a cancellation (reason).
#[derive(Clone, PartialEq, Message)]
struct FoldedStep {
    #[prost(string, tag = "1")]
    what: String,
    #[prost(string, tag = "2")]
    more: String,
    #[prost(sint64, tag = "3")]
    at: i64,
}

/// Encodes `order`, whose last event is at `position`.
#[must_use]
pub fn encode_folded(order: &Order, position: u64) -> Bytes {
    let step = |what: String, more: String, at: Timestamp| FoldedStep { what, more, at: at.as_micros() };
    FoldedOrder {
        id: order.id.get(),
        customer_id: order.customer_id.to_string(),
        items: order.items.lines().iter().map(item_to_proto).collect(),
        shipping_address: optional_text(order.shipping_address.as_ref()),
        status: status_code(order.status).into(),
        revision: order.revision,
        created_at: order.created_at.as_micros(),
        updated_at: order.updated_at.as_micros(),
        payment: order
            .payment
            .as_ref()
            .map(|paid| step(paid.method.to_string(), optional_text(paid.reference.as_ref()), paid.at)),
        shipment: order
            .shipment
            .as_ref()
            .map(|sent| step(sent.tracking_number.to_string(), optional_text(sent.carrier.as_ref()), sent.at)),
        delivered_at: order.delivered_at.map(Timestamp::as_micros),
        cancellation: order
            .cancellation
            .as_ref()
            .map(|end| step(String::new(), optional_text(end.reason.as_ref()), end.at)),
        position,
    }
    .encode_to_vec()
    .into()
}

/// Decodes the output of [`encode_folded`]: the order, and the position of its last event.
///
/// # Errors
/// [`CodecError::Corrupt`].
pub fn decode_folded(bytes: &[u8]) -> Result<(Order, u64), CodecError> {
    let folded = FoldedOrder::decode(bytes).map_err(|error| corrupt(error.to_string()))?;
    let lines = folded.items.iter().map(item_from_proto).collect::<Result<_, _>>()?;
    let at = Timestamp::from_micros;
    let order = Order {
        id: OrderId::new(folded.id).map_err(|_| corrupt("order id"))?,
        customer_id: required(&folded.customer_id)?,
        items: Items::new(lines).map_err(|error| corrupt(format!("items: {error}")))?,
        shipping_address: optional(&folded.shipping_address)?,
        status: u8::try_from(folded.status).ok().and_then(status_of_code).ok_or_else(|| corrupt("status"))?,
        revision: folded.revision,
        created_at: at(folded.created_at),
        updated_at: at(folded.updated_at),
        payment: folded.payment.map(payment).transpose()?,
        shipment: folded.shipment.map(shipment).transpose()?,
        delivered_at: folded.delivered_at.map(at),
        cancellation: folded.cancellation.map(cancellation).transpose()?,
    };
    Ok((order, folded.position))
}

fn payment(step: FoldedStep) -> Result<Payment, CodecError> {
    let (method, reference) = (required(&step.what)?, optional(&step.more)?);
    Ok(Payment { method, reference, at: Timestamp::from_micros(step.at) })
}

fn shipment(step: FoldedStep) -> Result<Shipment, CodecError> {
    let (tracking_number, carrier) = (required(&step.what)?, optional(&step.more)?);
    Ok(Shipment { tracking_number, carrier, at: Timestamp::from_micros(step.at) })
}

fn cancellation(step: FoldedStep) -> Result<Cancellation, CodecError> {
    Ok(Cancellation { reason: optional(&step.more)?, at: Timestamp::from_micros(step.at) })
}
