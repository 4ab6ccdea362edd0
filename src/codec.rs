//! Domain event <-> stored bytes.
//!
//! Stored bytes are never rewritten. Older versions are upcast when they are read.

use bytes::{Buf, BufMut, Bytes};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, WireType, decode_varint, encode_key, encode_varint},
};

use crate::{
    domain::{
        money::{Currency, Money},
        order::{Change, EventKind, Item, Items, OrderEvent, Quantity, Status},
        text::{Actor, RequestId, Text, TextRule},
        timestamp::Timestamp,
    },
    proto::{self, catga::events::v1 as stored},
};

pub mod cloud_event;
pub mod digits;
mod event_json;
mod folded;
mod header;
mod request_ids;
pub mod wire;

pub use folded::{FOLDED_SCHEMA, decode_folded, encode_folded};
pub use header::{EventHeader, sampled_cause};
pub use request_ids::{is_key_of_request, request_id_of_caller};
use wire::MessageWriter;

/// The schema version of written events; readers accept this one and all earlier ones.
pub const SCHEMA_VERSION: i32 = 2;

/// The metadata recorded with an event.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The revision of the event in its stream.
    pub revision: u64,
    /// The idempotency key of the command.
    pub request_id: Option<&'a RequestId>,
    /// The originator of the command.
    pub actor: Option<&'a Actor>,
    /// The name on whose behalf the originator acted.
    pub on_behalf_of: Option<&'a Actor>,
    /// The W3C trace context of the command, sampled or not.
    pub traceparent: Option<&'a str>,
}

/// Why stored bytes cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes are damaged, or were never an event.
    #[error("a stored event is damaged: {0}")]
    Corrupt(String),
    /// The event was written by a newer version of the service.
    #[error("a stored event has schema version {0}; this version reads up to {max}", max = SCHEMA_VERSION)]
    TooNew(i32),
}

/// The room for a typical event. A longer one grows its buffer.
const EVENT_BYTES: usize = 256;

/// Encodes an event for the log and the bus, as a [`stored::OrderEvent`].
#[must_use]
pub fn encode(event: &OrderEvent, record: Record<'_>) -> Bytes {
    let Record { revision, request_id, actor, on_behalf_of, traceparent } = record;
    let mut wire = MessageWriter::with_capacity(EVENT_BYTES);
    wire.event_id(1, event.order_id, revision);
    wire.order_id(2, event.order_id);
    wire.number(3, revision.try_into().unwrap_or(i64::MAX));
    wire.time(4, event.at);
    wire.optional_text(5, request_id);
    wire.optional_text(6, actor);
    wire.text(7, &event.customer_id);
    wire.number(8, SCHEMA_VERSION.into());
    wire.optional_text(9, on_behalf_of);
    wire.text(10, traceparent.unwrap_or_default());
    write_change(&mut wire, &event.change);
    // The log keeps it for a long time, so spare room is released.
    wire.into_bytes().into_boxed_slice().into()
}

fn write_change(wire: &mut MessageWriter, change: &Change) {
    let field = field_of(change.kind());
    match change {
        Change::Created { items, shipping_address } => wire.message(field, |wire| {
            for item in items.lines() {
                wire.message(1, |wire| write_item(wire, item));
            }
            wire.money(2, items.total());
            wire.optional_text(3, shipping_address.as_ref());
        }),
        Change::Paid { method, reference } => wire.message(field, |wire| {
            wire.text(1, method);
            wire.optional_text(2, reference.as_ref());
        }),
        Change::Shipped { tracking_number, carrier } => wire.message(field, |wire| {
            wire.text(1, tracking_number);
            wire.optional_text(2, carrier.as_ref());
        }),
        Change::Delivered => wire.message(field, |_| {}),
        Change::Cancelled { reason } => wire.message(field, |wire| wire.optional_text(1, reason.as_ref())),
    }
}

/// The number of the field of `OrderEvent` that holds a change of this kind. Never renumbered.
const fn field_of(kind: EventKind) -> u32 {
    match kind {
        EventKind::Created => 16,
        EventKind::Paid => 17,
        EventKind::Shipped => 18,
        EventKind::Delivered => 19,
        EventKind::Cancelled => 20,
    }
}

/// Writes an item of an order, for an event or a reply: their messages have the same fields.
pub fn write_item(wire: &mut MessageWriter, item: &Item) {
    wire.text(1, &item.product_id);
    wire.optional_text(2, item.name.as_ref());
    wire.number(3, item.quantity.get().into());
    wire.money(4, item.unit_price);
}

fn item_to_proto(item: &Item) -> stored::OrderedItem {
    stored::OrderedItem {
        product_id: item.product_id.to_string(),
        name: optional_text(item.name.as_ref()),
        quantity: item.quantity.get().into(),
        unit_price: Some(money_to_proto(item.unit_price)),
        ..Default::default()
    }
}

/// Optional text on the wire: the empty string stands for none.
pub fn optional_text<R: TextRule>(text: Option<&Text<R>>) -> String {
    text.map_or_else(String::new, ToString::to_string)
}

/// Money as `google.type.Money`.
#[must_use]
pub fn money_to_proto(money: Money) -> proto::Money {
    let (units, nanos) = money.units_and_nanos();
    proto::Money { currency_code: money.currency().code().to_owned(), units, nanos }
}

/// A time as `google.protobuf.Timestamp`.
#[must_use]
pub fn timestamp_to_proto(at: Timestamp) -> prost_types::Timestamp {
    let micros = at.as_micros();
    let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or(0);
    prost_types::Timestamp { seconds: micros.div_euclid(1_000_000), nanos }
}

/// A `google.protobuf.Timestamp` as a time, truncated to microseconds; `None` outside the years 1 to 9999 or with malformed nanos.
#[must_use]
pub fn timestamp_from_proto(at: &prost_types::Timestamp) -> Option<Timestamp> {
    // The range in the documentation of the type.
    const FIRST_SECOND: i64 = -62_135_596_800;
    const LAST_SECOND: i64 = 253_402_300_799;
    let in_range = (FIRST_SECOND..=LAST_SECOND).contains(&at.seconds) && (0..1_000_000_000).contains(&at.nanos);
    in_range.then(|| Timestamp::from_micros(at.seconds * 1_000_000 + i64::from(at.nanos) / 1_000))
}

/// Decodes stored bytes to a message of the current version.
///
/// # Errors
/// [`CodecError`].
pub fn decode_message(payload: &[u8]) -> Result<stored::OrderEvent, CodecError> {
    let message = stored::OrderEvent::decode(payload).map_err(|error| CodecError::Corrupt(error.to_string()))?;
    match message.schema_version {
        SCHEMA_VERSION => Ok(message),
        1 => upcast_from_1(message),
        newer if newer > SCHEMA_VERSION => Err(CodecError::TooNew(newer)),
        other => Err(corrupt(format!("schema version {other}"))),
    }
}

/// Version 1 had prices in minor units and one currency next to the items.
#[allow(deprecated, reason = "the fields of version 1 are read here and nowhere else")]
fn upcast_from_1(mut message: stored::OrderEvent) -> Result<stored::OrderEvent, CodecError> {
    if let Some(stored::order_event::Event::OrderCreated(created)) = &mut message.event {
        let currency = Currency::parse(&created.currency).map_err(|error| corrupt(format!("currency {error}")))?;
        for item in &mut created.items {
            let price = Money::from_minor(item.unit_price_minor, currency);
            item.unit_price = Some(money_to_proto(price.map_err(|error| corrupt(format!("price {error}")))?));
            item.unit_price_minor = 0;
        }
        created.currency.clear();
    }
    message.schema_version = SCHEMA_VERSION;
    Ok(message)
}

/// Decodes stored bytes to a domain event.
///
/// # Errors
/// [`CodecError`].
pub fn decode(payload: &[u8]) -> Result<OrderEvent, CodecError> {
    event_of(decode_message(payload)?)
}

/// Converts a message of the current version to a domain event.
///
/// # Errors
/// [`CodecError::Corrupt`].
pub fn event_of(message: stored::OrderEvent) -> Result<OrderEvent, CodecError> {
    Ok(OrderEvent {
        order_id: message.order_id.parse().map_err(|_| corrupt("order id"))?,
        customer_id: required(&message.customer_id)?,
        at: message.recorded_at.as_ref().and_then(timestamp_from_proto).ok_or_else(|| corrupt("recorded time"))?,
        change: change_from_proto(message.event.ok_or_else(|| corrupt("unknown kind of event"))?)?,
    })
}

fn change_from_proto(event: stored::order_event::Event) -> Result<Change, CodecError> {
    use stored::order_event::Event;
    Ok(match event {
        Event::OrderCreated(created) => {
            let lines = created.items.iter().map(item_from_proto).collect::<Result<_, _>>()?;
            let items = Items::new(lines).map_err(|error| corrupt(format!("items: {error}")))?;
            if created.total != Some(money_to_proto(items.total())) {
                return Err(corrupt("the total is not the sum of the items"));
            }
            Change::Created { items, shipping_address: optional(&created.shipping_address)? }
        }
        Event::OrderPaid(paid) => {
            Change::Paid { method: required(&paid.payment_method)?, reference: optional(&paid.payment_reference)? }
        }
        Event::OrderShipped(shipped) => Change::Shipped {
            tracking_number: required(&shipped.tracking_number)?,
            carrier: optional(&shipped.carrier)?,
        },
        Event::OrderDelivered(stored::OrderDelivered {}) => Change::Delivered,
        Event::OrderCancelled(cancelled) => Change::Cancelled { reason: optional(&cancelled.reason)? },
    })
}

fn item_from_proto(item: &stored::OrderedItem) -> Result<Item, CodecError> {
    let price = item.unit_price.as_ref().ok_or_else(|| corrupt("price"))?;
    let money = Currency::parse(&price.currency_code)
        .and_then(|currency| Money::from_units_and_nanos(price.units, price.nanos, currency));
    Ok(Item {
        product_id: required(&item.product_id)?,
        name: optional(&item.name)?,
        quantity: Quantity::new(item.quantity).map_err(|error| corrupt(format!("quantity {error}")))?,
        unit_price: money.map_err(|error| corrupt(format!("price {error}")))?,
    })
}

fn required<R: TextRule>(text: &str) -> Result<Text<R>, CodecError> {
    Text::parse(text).map_err(|error| corrupt(format!("text {error}")))
}

fn optional<R: TextRule>(text: &str) -> Result<Option<Text<R>>, CodecError> {
    Text::parse_optional(text).map_err(|error| corrupt(format!("text {error}")))
}

fn corrupt(what: impl Into<String>) -> CodecError {
    CodecError::Corrupt(what.into())
}

/// The number of a status in stored state. Never renumbered.
#[must_use]
pub const fn status_code(status: Status) -> u8 {
    match status {
        Status::Pending => 1,
        Status::Paid => 2,
        Status::Shipped => 3,
        Status::Delivered => 4,
        Status::Cancelled => 5,
    }
}

/// The status with a number in stored state.
#[must_use]
pub fn status_of_code(code: u8) -> Option<Status> {
    Status::ALL.into_iter().find(|status| status_code(*status) == code)
}

/// A `catga.events.v1.OrderEvent` as stored bytes.
///
/// Its wire form is the message itself, so a stored event is copied into any number of streams without being decoded or encoded again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EncodedEvent(pub Bytes);

impl Message for EncodedEvent {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        _context: DecodeContext,
    ) -> Result<(), DecodeError> {
        let mut whole = Vec::from(std::mem::take(&mut self.0));
        encode_key(tag, wire_type, &mut whole);
        let fixed = match wire_type {
            WireType::Varint => {
                encode_varint(decode_varint(buf)?, &mut whole);
                0
            }
            WireType::LengthDelimited => {
                let length = decode_varint(buf)?;
                encode_varint(length, &mut whole);
                usize::try_from(length).unwrap_or(usize::MAX)
            }
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            WireType::StartGroup | WireType::EndGroup => return Err(malformed()),
        };
        if buf.remaining() < fixed {
            return Err(malformed());
        }
        whole.put(buf.take(fixed));
        self.0 = whole.into();
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0 = Bytes::new();
    }
}

#[allow(deprecated, reason = "prost offers no other way to make the error of a hand-written message")]
fn malformed() -> DecodeError {
    DecodeError::new("malformed field of catga.events.v1.OrderEvent")
}

#[cfg(test)]
mod tests;
