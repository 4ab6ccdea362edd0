//! Domain event <-> stored bytes.

use bytes::{Buf, BufMut, Bytes};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, WireType, decode_varint, encode_key, encode_varint},
};

/// A `catga.events.v1.OrderEvent` as the bytes that the log holds.
///
/// On the wire it is the message itself, so a stored event is copied into any number of streams without being decoded or
/// encoded again.
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
