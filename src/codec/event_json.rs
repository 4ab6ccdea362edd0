//! The proto3 JSON mapping of stored events, derived from `events.proto`: a new event or field needs no code here.
//!
//! Names are in camelCase, 64-bit integers are text, and default values are omitted. Source: the guide to ProtoJSON of Protocol Buffers.

use std::{collections::HashMap, sync::LazyLock};

use prost::Message as _;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet, Timestamp,
    field_descriptor_proto::{Label, Type},
};
use serde_json::{Map, Value};

use super::{
    CodecError, corrupt,
    header::{Fields, Value as Encoded},
    stored,
};
use crate::proto::DESCRIPTORS;

const EVENT: &str = ".catga.events.v1.OrderEvent";
/// A message with a mapping of its own: RFC 3339 text.
const TIMESTAMP: &str = ".google.protobuf.Timestamp";

/// The messages of `proto/`, by their full names.
static MESSAGES: LazyLock<HashMap<String, DescriptorProto>> = LazyLock::new(|| {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap_or_default().file;
    let messages = files.into_iter().flat_map(|mut file| {
        let package = file.package().to_owned();
        let messages = std::mem::take(&mut file.message_type);
        messages.into_iter().map(move |message| (format!(".{package}.{}", message.name()), message))
    });
    messages.collect()
});

/// The JSON of `event`.
///
/// # Errors
/// [`CodecError::Corrupt`], never in practice: every field of an event has a mapping.
pub fn of(event: &stored::OrderEvent) -> Result<Value, CodecError> {
    object(EVENT, &event.encode_to_vec())
}

/// The JSON of the encoded message of type `name`.
fn object(name: &str, message: &[u8]) -> Result<Value, CodecError> {
    let descriptor = MESSAGES.get(name).ok_or_else(|| corrupt(format!("no descriptor of {name}")))?;
    let (mut object, mut fields) = (Map::new(), Fields(message));
    while let Some((number, encoded)) = fields.next()? {
        let field = descriptor.field.iter().find(|field| u32::try_from(field.number()) == Ok(number));
        let field = field.ok_or_else(|| corrupt(format!("no field {number} of {name}")))?;
        let value = value(field, encoded)?;
        let known = object.entry(field.json_name());
        if field.label() == Label::Repeated {
            if let Value::Array(values) = known.or_insert_with(|| Value::Array(Vec::new())) {
                values.push(value);
            }
        } else {
            *known.or_insert(Value::Null) = value;
        }
    }
    Ok(Value::Object(object))
}

/// The JSON of one value of `field`.
#[allow(clippy::cast_possible_wrap, clippy::cast_possible_truncation, reason = "as the wire has negative numbers")]
fn value(field: &FieldDescriptorProto, encoded: Encoded<'_>) -> Result<Value, CodecError> {
    Ok(match field.r#type() {
        Type::String => std::str::from_utf8(encoded.bytes()?).map_err(|_| corrupt("text"))?.into(),
        Type::Int32 => (encoded.number()? as i32).into(),
        Type::Int64 => (encoded.number()? as i64).to_string().into(),
        Type::Message if field.type_name() == TIMESTAMP => {
            let at = Timestamp::decode(encoded.bytes()?).map_err(|error| corrupt(error.to_string()))?;
            at.to_string().into()
        }
        Type::Message => object(field.type_name(), encoded.bytes()?)?,
        other => return Err(corrupt(format!("no JSON mapping of {}", other.as_str_name()))),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        codec::money_to_proto,
        domain::money::{Currency, Money},
        proto::catga::events::v1::{OrderCreated, OrderDelivered, OrderedItem, order_event::Event},
    };

    /// The fields of a message and of all messages within it.
    fn fields(message: &str) -> Vec<&'static FieldDescriptorProto> {
        let own: Vec<_> = MESSAGES[message].field.iter().collect();
        let is_nested =
            |field: &&&FieldDescriptorProto| field.r#type() == Type::Message && field.type_name() != TIMESTAMP;
        let nested: Vec<_> = own.iter().filter(is_nested).flat_map(|field| fields(field.type_name())).collect();
        [own, nested].concat()
    }

    #[test]
    fn every_field_of_events_has_a_mapping() {
        let fields = fields(EVENT);
        assert!(fields.len() > 30, "{}", fields.len());
        for field in fields {
            let is_mapped = matches!(field.r#type(), Type::String | Type::Int32 | Type::Int64 | Type::Message);
            assert!(is_mapped && !field.json_name().is_empty(), "{field:?}");
        }
    }

    #[test]
    fn an_event_is_mapped_with_its_items_and_prices_and_without_default_values() {
        let price = |minor| {
            let money = Money::from_minor(minor, Currency::parse("USD").unwrap()).unwrap();
            Some(money_to_proto(money))
        };
        let item = |name: &str, minor| OrderedItem {
            product_id: "p-1".to_owned(),
            name: name.to_owned(),
            quantity: 2,
            unit_price: price(minor),
            ..OrderedItem::default()
        };
        let created = OrderCreated {
            items: vec![item("Mouse \"M\"", 2_999), item("", 0)],
            total: price(5_998),
            ..OrderCreated::default()
        };
        let event = stored::OrderEvent {
            order_id: "7".to_owned(),
            revision: 1,
            recorded_at: Some(Timestamp { seconds: 1, nanos: 0 }),
            schema_version: 2,
            event: Some(Event::OrderCreated(created)),
            ..stored::OrderEvent::default()
        };
        let expected = json!({
            "orderId": "7", "revision": "1", "recordedAt": "1970-01-01T00:00:01Z", "schemaVersion": 2,
            "orderCreated": {
                "items": [
                    {
                        "productId": "p-1", "name": "Mouse \"M\"", "quantity": "2",
                        "unitPrice": { "currencyCode": "USD", "units": "29", "nanos": 990_000_000 }
                    },
                    { "productId": "p-1", "quantity": "2", "unitPrice": { "currencyCode": "USD" } }
                ],
                "total": { "currencyCode": "USD", "units": "59", "nanos": 980_000_000 }
            }
        });
        assert_eq!(of(&event).unwrap(), expected);
        let delivered =
            stored::OrderEvent { event: Some(Event::OrderDelivered(OrderDelivered {})), ..Default::default() };
        assert_eq!(of(&delivered).unwrap(), json!({ "orderDelivered": {} }));
    }
}
