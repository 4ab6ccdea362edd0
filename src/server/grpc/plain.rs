//! CreateOrder, read in place: the generated decoder copies each text into a separate allocation.
//!
//! Only messages as clients send them are read here: known fields of the right types, each at most once. Everything else is left to the generated
//! decoder, which knows its rules, and describes the errors.

use super::convert::money_of_parts;
use crate::application::{
    limits::MAX_ITEMS,
    requests::{ActionDraft, CommandDraft, ItemDraft, MetaDraft, OrderDraft, PriceError, Target},
};

/// The draft in `message`, an encoded CreateOrderRequest; `None` if the message has to be left to the generated decoder.
#[must_use]
pub fn create_order(message: &[u8]) -> Option<CommandDraft<'_>> {
    let (mut request_id, mut expected_revision, mut actor) = (None, None, None);
    let (mut customer_id, mut shipping_address) = (None, None);
    let (mut items, mut rest) = (Vec::with_capacity(4), Fields(message));
    while let Some(field) = rest.next()? {
        match field {
            (1, Value::Bytes(text)) => once(&mut request_id, utf8(text)?)?,
            (2, Value::Number(number)) => once(&mut expected_revision, signed(number))?,
            (3, Value::Bytes(text)) => once(&mut actor, utf8(text)?)?,
            (4, Value::Bytes(text)) => once(&mut customer_id, utf8(text)?)?,
            (5, Value::Bytes(message)) if items.len() <= MAX_ITEMS => items.push(item(message)?),
            (6, Value::Bytes(text)) => once(&mut shipping_address, utf8(text)?)?,
            _ => return None,
        }
    }
    let meta =
        MetaDraft { request_id: request_id.unwrap_or_default(), expected_revision, actor: actor.unwrap_or_default() };
    let draft = OrderDraft {
        customer_id: Some(customer_id.unwrap_or_default()),
        items: Some(items),
        shipping_address: Some(shipping_address.unwrap_or_default()),
    };
    Some(CommandDraft { meta, target: Target::New, action: ActionDraft::Create(draft) })
}

fn item(message: &[u8]) -> Option<ItemDraft<'_>> {
    let (mut product_id, mut name, mut quantity, mut price) = (None, None, None, None);
    let mut rest = Fields(message);
    while let Some(field) = rest.next()? {
        match field {
            (1, Value::Bytes(text)) => once(&mut product_id, utf8(text)?)?,
            (2, Value::Bytes(text)) => once(&mut name, utf8(text)?)?,
            (3, Value::Number(number)) => once(&mut quantity, signed(number))?,
            (4, Value::Bytes(message)) => once(&mut price, money(message)?)?,
            _ => return None,
        }
    }
    let price = price.map(|(code, units, nanos)| money_of_parts(code, units, nanos).map_err(PriceError::Invalid));
    Some(ItemDraft {
        product_id: Some(product_id.unwrap_or_default()),
        name: Some(name.unwrap_or_default()),
        quantity: Some(quantity.unwrap_or_default()),
        unit_price: Some(price.unwrap_or(Err(PriceError::LeftOut))),
    })
}

/// The code of the currency, the units and the nanos of a `google.type.Money`.
fn money(message: &[u8]) -> Option<(&str, i64, i32)> {
    let (mut code, mut units, mut nanos) = (None, None, None);
    let mut rest = Fields(message);
    while let Some(field) = rest.next()? {
        match field {
            (1, Value::Bytes(text)) => once(&mut code, utf8(text)?)?,
            (2, Value::Number(number)) => once(&mut units, signed(number))?,
            (3, Value::Number(number)) => once(&mut nanos, i32::try_from(signed(number)).ok()?)?,
            _ => return None,
        }
    }
    Some((code.unwrap_or_default(), units.unwrap_or_default(), nanos.unwrap_or_default()))
}

/// Sets a field; `None` if it was set before.
fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

fn utf8(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// The wire format has the two's complement.
const fn signed(number: u64) -> i64 {
    i64::from_ne_bytes(number.to_ne_bytes())
}

/// The value of a field, of one of the two wire types in these messages.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message that have not been read yet.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The number and the value of the next field, `Some(None)` at the end; `None` if the field is of another form.
    fn next(&mut self) -> Option<Option<(u64, Value<'a>)>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            _ => return None,
        };
        Some(Some((key >> 3, value)))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for (place, byte) in self.0.iter().enumerate().take(10) {
            // The tenth byte has room for one bit.
            if place == 9 && *byte > 1 {
                return None;
            }
            number |= u64::from(byte & 0x7F) << (7 * place);
            if *byte < 0x80 {
                self.0 = &self.0[place + 1..];
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};
    use prost::Message as _;

    use super::*;
    use crate::{
        proto::{Money, catga::orders::v1 as pb},
        server::grpc::convert,
    };

    /// The result of the generated decoder, as text; `None` if it refuses the message.
    fn generated(message: &[u8]) -> Option<String> {
        let request = pb::CreateOrderRequest::decode(message).ok()?;
        Some(format!("{:?}", convert::create_order(&request)))
    }

    fn read(message: &[u8]) -> Option<String> {
        create_order(message).map(|draft| format!("{draft:?}"))
    }

    fn requests() -> impl Strategy<Value = pb::CreateOrderRequest> {
        let money = (prop_oneof![Just("USD"), Just(""), Just("usd")], any::<i64>(), any::<i32>());
        let money = money.prop_map(|(code, units, nanos)| Money { currency_code: code.to_owned(), units, nanos });
        let item =
            (".{0,3}", ".{0,3}", any::<i64>(), option::of(money)).prop_map(|(product_id, name, quantity, price)| {
                pb::NewOrderItem { product_id, name, quantity, unit_price: price }
            });
        let texts = (".{0,3}", ".{0,3}", ".{0,200}", ".{0,3}");
        (texts, option::of(any::<i64>()), vec(item, 0..4)).prop_map(|(texts, expected_revision, items)| {
            let (request_id, actor, customer_id, shipping_address) = texts;
            pb::CreateOrderRequest { request_id, expected_revision, actor, customer_id, items, shipping_address }
        })
    }

    proptest! {
        #[test]
        fn a_message_is_read_as_the_generated_decoder_reads_it(request in requests()) {
            let message = request.encode_to_vec();
            prop_assert_eq!(read(&message), generated(&message));
        }

        #[test]
        fn a_damaged_message_is_read_the_same_or_left_to_the_generated_decoder(
            request in requests(),
            place: prop::sample::Index,
            byte: u8,
            length: prop::sample::Index,
        ) {
            let mut message = request.encode_to_vec();
            if !message.is_empty() {
                let place = place.index(message.len());
                message[place] = byte;
                message.truncate(length.index(message.len()) + 1);
            }
            if let Some(read) = read(&message) {
                prop_assert_eq!(Some(read), generated(&message));
            }
        }
    }

    #[test]
    fn repeated_and_unknown_fields_are_left_to_the_generated_decoder() {
        let request = pb::CreateOrderRequest { customer_id: "c".to_owned(), ..Default::default() }.encode_to_vec();
        assert!(read(&request).is_some());
        for more in [&request[..], &[0x38, 1], &[0x22, 1, 0xFF], &[0x20, 1], &[0x22]] {
            assert_eq!(read(&[&request, more].concat()), None, "{more:?}");
        }
    }
}
