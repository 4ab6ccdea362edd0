//! The common fields of a stored event, read in place: nothing is copied, and the change is not decoded.

use prost::{
    Message as _,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};

use super::{CodecError, corrupt, field_of, timestamp_from_proto};
use crate::{
    domain::{
        money::{Currency, Money},
        order::EventKind,
        timestamp::Timestamp,
    },
    telemetry::traces::{SpanContext, context},
};

/// The common fields of an event, for filters, projections and the bus.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventHeader<'a> {
    recorded_at: Option<prost_types::Timestamp>,
    customer_id: &'a [u8],
    traceparent: &'a [u8],
    /// The kind of the change, and the change itself, still encoded.
    change: Option<(EventKind, &'a [u8])>,
}

impl<'a> EventHeader<'a> {
    /// Reads the header of stored bytes.
    ///
    /// # Errors
    /// [`CodecError::Corrupt`].
    pub fn read(payload: &'a [u8]) -> Result<Self, CodecError> {
        let (mut header, mut fields) = (Self::default(), Fields(payload));
        while let Some((field, value)) = fields.next()? {
            match field {
                4 => {
                    let at = header.recorded_at.get_or_insert_default();
                    at.merge(value.bytes()?).map_err(|error| corrupt(error.to_string()))?;
                }
                7 => header.customer_id = value.bytes()?,
                10 => header.traceparent = value.bytes()?,
                number @ 16.. => {
                    if let Some(kind) = EventKind::ALL.into_iter().find(|kind| field_of(*kind) == number) {
                        header.change = Some((kind, value.bytes()?));
                    }
                }
                _ => {}
            }
        }
        Ok(header)
    }

    /// The kind of the event.
    ///
    /// # Errors
    /// [`CodecError::Corrupt`] for a kind that this version does not know.
    pub fn kind(&self) -> Result<EventKind, CodecError> {
        self.change.map(|(kind, _)| kind).ok_or_else(|| corrupt("unknown kind of event"))
    }

    /// The customer of the order.
    ///
    /// # Errors
    /// [`CodecError::Corrupt`].
    pub fn customer_id(&self) -> Result<&'a str, CodecError> {
        std::str::from_utf8(self.customer_id).map_err(|_| corrupt("customer id"))
    }

    /// The W3C trace context of the command; `None` if the event has none.
    #[must_use]
    pub fn traceparent(&self) -> Option<&'a str> {
        std::str::from_utf8(self.traceparent).ok().filter(|text| !text.is_empty())
    }

    /// When the event was recorded.
    ///
    /// # Errors
    /// [`CodecError::Corrupt`].
    pub fn at(&self) -> Result<Timestamp, CodecError> {
        self.recorded_at.as_ref().and_then(timestamp_from_proto).ok_or_else(|| corrupt("recorded time"))
    }

    /// Total and number of items, if the event is an OrderCreated.
    ///
    /// # Errors
    /// [`CodecError::Corrupt`].
    pub fn created(&self) -> Result<Option<(Money, u32)>, CodecError> {
        let Some((EventKind::Created, created)) = self.change else { return Ok(None) };
        let (mut items, mut total, mut fields) = (0, None, Fields(created));
        while let Some((field, value)) = fields.next()? {
            match field {
                1 => {
                    value.bytes()?;
                    items += 1;
                }
                2 => total = Some(money(value.bytes()?)?),
                _ => {}
            }
        }
        Ok(Some((total.ok_or_else(|| corrupt("total"))?, items)))
    }
}

/// The trace context of the command that caused a stored event; `None` if the event has none that is valid and sampled.
#[must_use]
pub fn sampled_cause(payload: &[u8]) -> Option<SpanContext> {
    let traceparent = EventHeader::read(payload).ok()?.traceparent()?;
    // Most traces are not sampled: nothing more of them is parsed.
    if traceparent.ends_with("-00") {
        return None;
    }
    context::parse(traceparent, None).filter(SpanContext::is_sampled)
}

/// A `google.type.Money`.
#[allow(clippy::cast_possible_wrap, clippy::cast_possible_truncation, reason = "as the wire has negative numbers")]
fn money(message: &[u8]) -> Result<Money, CodecError> {
    let (mut code, mut units, mut nanos, mut fields) = (&[][..], 0, 0, Fields(message));
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => code = value.bytes()?,
            2 => units = value.number()? as i64,
            3 => nanos = value.number()? as i32,
            _ => {}
        }
    }
    let code = std::str::from_utf8(code).map_err(|_| corrupt("total"))?;
    let money = Currency::parse(code).and_then(|currency| Money::from_units_and_nanos(units, nanos, currency));
    money.map_err(|error| corrupt(format!("total {error}")))
}

/// The fields of an encoded message that have not been read.
pub(super) struct Fields<'a>(pub &'a [u8]);

/// The value of a field.
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Other,
}

impl<'a> Fields<'a> {
    pub fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, CodecError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        self.field().map(Some).map_err(|error| corrupt(error.to_string()))
    }

    fn field(&mut self) -> Result<(u32, Value<'a>), prost::DecodeError> {
        let (field, wire_type) = decode_key(&mut self.0)?;
        let value = match wire_type {
            WireType::Varint => Value::Number(decode_varint(&mut self.0)?),
            WireType::LengthDelimited => {
                let length = decode_varint(&mut self.0)?;
                let split = usize::try_from(length).ok().and_then(|length| self.0.split_at_checked(length));
                let (value, rest) = split.ok_or_else(super::malformed)?;
                self.0 = rest;
                Value::Bytes(value)
            }
            _ => {
                skip_field(wire_type, field, &mut self.0, DecodeContext::default())?;
                Value::Other
            }
        };
        Ok((field, value))
    }
}

impl<'a> Value<'a> {
    pub fn bytes(self) -> Result<&'a [u8], CodecError> {
        if let Self::Bytes(bytes) = self { Ok(bytes) } else { Err(corrupt("a field has another type")) }
    }

    pub fn number(self) -> Result<u64, CodecError> {
        if let Self::Number(number) = self { Ok(number) } else { Err(corrupt("a field has another type")) }
    }
}
