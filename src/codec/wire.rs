//! Writes protobuf messages directly from the domain, without an intermediate message whose texts are copies.
//!
//! The caller names the fields in the order of their numbers, as the generated code does. Tests compare the bytes with those of the generated messages.

use prost::encoding::{WireType, encode_varint, encoded_len_varint};

use super::digits::Digits;
use crate::domain::{
    ids::OrderId,
    money::Money,
    text::{Text, TextRule},
    timestamp::Timestamp,
};

/// The flag and the length that precede each message of a gRPC body.
pub const FRAME_HEADER_BYTES: usize = 5;
/// The maximum length of a message whose length takes one byte.
const MAX_SHORT: usize = 0x7F;

/// A message that is being written.
#[derive(Debug)]
pub struct MessageWriter(Vec<u8>);

impl MessageWriter {
    /// An empty message with room for `bytes`.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// The number of bytes written.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "no caller needs that")]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Writes a message of a gRPC body: not compressed, with its length before it.
    pub fn framed(&mut self, write: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
        write(self);
        let length = self.0.len() - start - FRAME_HEADER_BYTES;
        // No message of this service comes close to the maximum of the length.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.0[start + 1..start + FRAME_HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
    }

    /// The encoded message.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Writes a text; left out if it is empty, as proto3 requires. The same applies to numbers that are 0.
    pub fn text(&mut self, field: u32, text: impl AsRef<[u8]>) {
        let text = text.as_ref();
        if !text.is_empty() {
            self.encoded(field, text);
        }
    }

    /// Writes a message that is already encoded.
    pub fn encoded(&mut self, field: u32, message: &[u8]) {
        self.key(field, WireType::LengthDelimited);
        self.varint(message.len() as u64);
        self.0.extend_from_slice(message);
    }

    /// Writes a text that may be absent.
    pub fn optional_text<R: TextRule>(&mut self, field: u32, text: Option<&Text<R>>) {
        if let Some(text) = text {
            self.text(field, text);
        }
    }

    /// Writes the id of an order, as text.
    pub fn order_id(&mut self, field: u32, id: OrderId) {
        self.text(field, Digits::of(id.get()));
    }

    /// Writes the id of an event, as text: its order and its revision.
    pub fn event_id(&mut self, field: u32, order: OrderId, revision: u64) {
        self.message(field, |wire| {
            wire.0.extend_from_slice(Digits::of(order.get()).as_ref());
            wire.0.push(b'-');
            wire.0.extend_from_slice(Digits::of(revision).as_ref());
        });
    }

    /// Writes a number of any signed type whose wire type is a plain varint.
    #[allow(clippy::cast_sign_loss, reason = "the wire has the two's complement")]
    pub fn number(&mut self, field: u32, number: i64) {
        if number != 0 {
            self.key(field, WireType::Varint);
            self.varint(number as u64);
        }
    }

    /// Writes a message, even if `write` adds nothing to it.
    pub fn message(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        self.key(field, WireType::LengthDelimited);
        let start = self.0.len();
        // Most messages are short: their length fits the byte that is reserved for it.
        self.0.push(0);
        write(self);
        let length = self.0.len() - start - 1;
        if length > MAX_SHORT {
            let more = encoded_len_varint(length as u64) - 1;
            self.0.splice(start..start, std::iter::repeat_n(0, more));
        }
        encode_varint(length as u64, &mut &mut self.0[start..]);
    }

    fn key(&mut self, field: u32, wire_type: WireType) {
        self.varint((u64::from(field) << 3) | wire_type as u64);
    }

    /// Inlined, since most numbers take one byte: a message has as many keys and lengths as values.
    #[inline]
    fn varint(&mut self, number: u64) {
        let mut rest = number;
        while rest > 0x7F {
            self.0.push(rest.to_le_bytes()[0] | 0x80);
            rest >>= 7;
        }
        self.0.push(rest.to_le_bytes()[0]);
    }

    /// Writes an amount as `google.type.Money`.
    pub fn money(&mut self, field: u32, money: Money) {
        let (units, nanos) = money.units_and_nanos();
        self.message(field, |wire| {
            wire.text(1, money.currency().code_bytes());
            wire.number(2, units);
            wire.number(3, nanos.into());
        });
    }

    /// Writes a time as `google.protobuf.Timestamp`.
    pub fn time(&mut self, field: u32, at: Timestamp) {
        let prost_types::Timestamp { seconds, nanos } = super::timestamp_to_proto(at);
        self.message(field, |wire| {
            wire.number(1, seconds);
            wire.number(2, nanos.into());
        });
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn the_length_of_a_message_takes_as_many_bytes_as_it_needs() {
        #[derive(Clone, PartialEq, prost::Message)]
        struct Outer {
            #[prost(message, optional, tag = "3")]
            inner: Option<Inner>,
            #[prost(int64, tag = "1000")]
            after: i64,
        }
        #[derive(Clone, PartialEq, prost::Message)]
        struct Inner {
            #[prost(string, tag = "1")]
            text: String,
        }
        for length in [0, 1, 100, 124, 125, 126, 127, 128, 16_380, 16_381, 16_384, 3_000_000] {
            let text = "x".repeat(length);
            let mut wire = MessageWriter::with_capacity(0);
            wire.message(3, |wire| wire.text(1, &text));
            wire.number(1_000, -7);
            let expected = Outer { inner: Some(Inner { text }), after: -7 };
            assert_eq!(wire.into_bytes(), expected.encode_to_vec(), "{length}");
        }
    }
}
