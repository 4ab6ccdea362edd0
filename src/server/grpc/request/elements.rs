//! Counts the elements of repeated fields in an encoded message: decoding allocates a value for each, however few bytes it has on the wire.
//!
//! Source: the encoding of Protocol Buffers. Decoding refuses malformed input at the same position as this, or earlier.

const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const GROUP_START: u64 = 3;
const GROUP_END: u64 = 4;
const FIXED_32: u64 = 5;

/// The number of elements in `bytes` of the repeated field at `path`: its number, preceded by those of the enclosing messages; at most `enough`.
///
/// For a packed field of numbers, it counts the numbers.
pub fn count(bytes: &[u8], path: &[u64], is_packed: bool, enough: usize) -> usize {
    let mut total = 0;
    count_into(&mut total, bytes, path, is_packed, enough);
    total.min(enough)
}

fn count_into(total: &mut usize, mut bytes: &[u8], path: &[u64], is_packed: bool, enough: usize) {
    let Some((&wanted, rest)) = path.split_first() else { return };
    while *total < enough
        && let Some((key, after)) = varint(bytes)
    {
        let (number, wire_type) = (key >> 3, key & 7);
        let Some((payload, after)) = field(wire_type, after) else { return };
        bytes = after;
        if number != wanted {
            continue;
        }
        match (rest.is_empty(), wire_type) {
            (true, LENGTH_DELIMITED) if is_packed => {
                // The last byte of each number has its highest bit clear.
                *total += payload.iter().filter(|byte| **byte < 0x80).count();
            }
            (true, _) => *total += 1,
            (false, LENGTH_DELIMITED) => count_into(total, payload, rest, is_packed, enough),
            (false, _) => {}
        }
    }
}

/// The payload of a field, and the remaining bytes. A group has none: its fields are read as if they were outside.
fn field(wire_type: u64, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    match wire_type {
        VARINT => varint(bytes).map(|(_, after)| (&bytes[..0], after)),
        FIXED_64 => bytes.split_at_checked(8),
        LENGTH_DELIMITED => {
            let (length, after) = varint(bytes)?;
            after.split_at_checked(usize::try_from(length).ok()?)
        }
        GROUP_START | GROUP_END => Some((&bytes[..0], bytes)),
        FIXED_32 => bytes.split_at_checked(4),
        _ => None,
    }
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7F).checked_shl(7 * index as u32).unwrap_or(0);
        if *byte < 0x80 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::proto::catga::orders::v1::{
        CreateOrderRequest, ExecuteCommandsRequest, NewOrderItem, StreamEventsRequest,
        execute_commands_request::Command,
    };

    const ITEMS: &[u64] = &[5];

    fn order(items: usize) -> CreateOrderRequest {
        let item = NewOrderItem { name: "\u{5}\u{2a}".to_owned(), ..Default::default() };
        CreateOrderRequest { customer_id: "c".repeat(300), items: vec![item; items], ..Default::default() }
    }

    #[test]
    fn elements_are_counted_without_their_contents() {
        for items in [0, 1, 7, 1_001] {
            assert_eq!(count(&order(items).encode_to_vec(), ITEMS, false, usize::MAX), items);
        }
        assert_eq!(count(&order(50).encode_to_vec(), ITEMS, false, 20), 20, "no further than asked for");
    }

    #[test]
    fn numbers_are_counted_packed_or_not() {
        let packed = StreamEventsRequest { types: vec![1, 300, 5], ..Default::default() }.encode_to_vec();
        assert_eq!(count(&packed, &[5], true, usize::MAX), 3);
        assert_eq!(count(&[0x28, 1, 0x28, 0x80, 1], &[5], true, usize::MAX), 2);
        assert_eq!(count(&packed, &[5], true, 2), 2, "one field with more numbers than asked for");
    }

    #[test]
    fn elements_of_a_nested_message_are_counted_over_all_its_parts() {
        let command =
            ExecuteCommandsRequest { correlation_id: "a".to_owned(), command: Some(Command::CreateOrder(order(3))) };
        // Decoding merges them into one.
        let twice = [command.encode_to_vec(), command.encode_to_vec()].concat();
        let Some(Command::CreateOrder(merged)) = ExecuteCommandsRequest::decode(&*twice).expect("well-formed").command
        else {
            panic!("a new order")
        };
        assert_eq!(merged.items.len(), 6);
        assert_eq!(count(&twice, &[2, 5], false, usize::MAX), 6);
    }

    #[test]
    fn never_fewer_elements_are_counted_than_decoding_makes() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let sound = [order(4).encode_to_vec(), vec![0x2a, 0, 0x2a, 0, 0x2b, 0x2c]].concat();
        for _ in 0..20_000 {
            let mut bytes = sound.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            if let Ok(decoded) = CreateOrderRequest::decode(&*bytes) {
                let counted = count(&bytes, ITEMS, false, usize::MAX);
                assert!(counted >= decoded.items.len(), "{counted} of {}: {bytes:?}", decoded.items.len());
            }
        }
    }
}
