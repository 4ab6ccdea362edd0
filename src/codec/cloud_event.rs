//! The CloudEvents metadata of a published event: its time, its trace context, and its content as JSON if configured.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::{
    codec::{self, EventHeader},
    ports::message_bus::{CloudEventAttributes, Message},
    proto::{
        Money,
        catga::events::v1::{OrderCreated, OrderEvent, OrderedItem, order_event::Event},
    },
};

/// Publishes the stored bytes.
pub fn protobuf(message: &Message) -> CloudEventAttributes {
    let header = EventHeader::read(&message.payload).unwrap_or_default();
    let time = header.at().map(|at| codec::timestamp_to_proto(at).to_string()).unwrap_or_default();
    CloudEventAttributes { time, traceparent: header.traceparent().unwrap_or_default().to_owned(), data: None }
}

/// Publishes JSON in the proto3 mapping. An event that cannot be decoded is published as stored bytes.
pub fn json(message: &Message) -> CloudEventAttributes {
    let description = protobuf(message);
    match codec::decode_message(&message.payload) {
        Ok(event) => CloudEventAttributes {
            data: Some(("application/json", Bytes::from(to_json(&event).to_string()))),
            ..description
        },
        Err(error) => {
            tracing::warn!(event = %message.event_id(), %error, "publishing an event in its stored encoding instead of JSON");
            description
        }
    }
}

/// The proto3 mapping: names in camelCase, 64-bit integers as text, default values omitted.
fn to_json(event: &OrderEvent) -> Value {
    let mut fields = Map::new();
    put_text(&mut fields, "eventId", &event.event_id);
    put_text(&mut fields, "orderId", &event.order_id);
    put_integer(&mut fields, "revision", event.revision);
    if let Some(at) = &event.recorded_at {
        fields.insert("recordedAt".to_owned(), Value::String(at.to_string()));
    }
    put_text(&mut fields, "requestId", &event.request_id);
    put_text(&mut fields, "actor", &event.actor);
    put_text(&mut fields, "onBehalfOf", &event.on_behalf_of);
    put_text(&mut fields, "customerId", &event.customer_id);
    put_text(&mut fields, "traceparent", &event.traceparent);
    if event.schema_version != 0 {
        fields.insert("schemaVersion".to_owned(), json!(event.schema_version));
    }
    if let Some((name, content)) = event.event.as_ref().map(content) {
        fields.insert(name.to_owned(), Value::Object(content));
    }
    Value::Object(fields)
}

/// The change, with the name of its field.
fn content(event: &Event) -> (&'static str, Map<String, Value>) {
    let mut fields = Map::new();
    let name = match event {
        Event::OrderCreated(created) => {
            put_created(&mut fields, created);
            "orderCreated"
        }
        Event::OrderPaid(paid) => {
            put_text(&mut fields, "paymentMethod", &paid.payment_method);
            put_text(&mut fields, "paymentReference", &paid.payment_reference);
            "orderPaid"
        }
        Event::OrderShipped(shipped) => {
            put_text(&mut fields, "trackingNumber", &shipped.tracking_number);
            put_text(&mut fields, "carrier", &shipped.carrier);
            "orderShipped"
        }
        Event::OrderDelivered(_) => "orderDelivered",
        Event::OrderCancelled(cancelled) => {
            put_text(&mut fields, "reason", &cancelled.reason);
            "orderCancelled"
        }
    };
    (name, fields)
}

#[allow(deprecated, reason = "events of the first schema version are published as well")]
fn put_created(fields: &mut Map<String, Value>, created: &OrderCreated) {
    if !created.items.is_empty() {
        fields.insert("items".to_owned(), created.items.iter().map(item).collect());
    }
    put_money(fields, "total", created.total.as_ref());
    put_text(fields, "shippingAddress", &created.shipping_address);
    put_text(fields, "currency", &created.currency);
}

#[allow(deprecated, reason = "events of the first schema version are published as well")]
fn item(item: &OrderedItem) -> Value {
    let mut fields = Map::new();
    put_text(&mut fields, "productId", &item.product_id);
    put_text(&mut fields, "name", &item.name);
    put_integer(&mut fields, "quantity", item.quantity);
    put_money(&mut fields, "unitPrice", item.unit_price.as_ref());
    put_integer(&mut fields, "unitPriceMinor", item.unit_price_minor);
    Value::Object(fields)
}

fn put_money(fields: &mut Map<String, Value>, name: &str, money: Option<&Money>) {
    let Some(money) = money else { return };
    let mut content = Map::new();
    put_text(&mut content, "currencyCode", &money.currency_code);
    put_integer(&mut content, "units", money.units);
    if money.nanos != 0 {
        content.insert("nanos".to_owned(), json!(money.nanos));
    }
    fields.insert(name.to_owned(), Value::Object(content));
}

fn put_text(fields: &mut Map<String, Value>, name: &str, text: &str) {
    if !text.is_empty() {
        fields.insert(name.to_owned(), Value::String(text.to_owned()));
    }
}

fn put_integer(fields: &mut Map<String, Value>, name: &str, number: i64) {
    if number != 0 {
        fields.insert(name.to_owned(), Value::String(number.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::proto::catga::events::v1::OrderPaid;

    const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    #[test]
    fn json_is_the_proto3_mapping_and_an_undecodable_event_is_published_as_stored() {
        let event = OrderEvent {
            event_id: "7-2".to_owned(),
            order_id: "7".to_owned(),
            revision: 2,
            recorded_at: Some(prost_types::Timestamp { seconds: 0, nanos: 5_000_000 }),
            schema_version: codec::SCHEMA_VERSION,
            actor: "shop".to_owned(),
            on_behalf_of: "ann".to_owned(),
            traceparent: TRACEPARENT.to_owned(),
            event: Some(Event::OrderPaid(OrderPaid { payment_method: "card".to_owned(), ..OrderPaid::default() })),
            ..OrderEvent::default()
        };
        let payload = Bytes::from(event.encode_to_vec());
        let message = Message { key: 7, sequence: 2, position: 1, kind: "OrderPaid".into(), payload };
        let described = json(&message);
        assert_eq!(described.time, "1970-01-01T00:00:00.005Z");
        assert_eq!(described.traceparent, TRACEPARENT);
        let (content_type, data) = described.data.unwrap();
        assert_eq!(content_type, "application/json");
        let expected = json!({
            "eventId": "7-2", "orderId": "7", "revision": "2", "recordedAt": "1970-01-01T00:00:00.005Z",
            "actor": "shop", "onBehalfOf": "ann", "traceparent": TRACEPARENT, "schemaVersion": codec::SCHEMA_VERSION, "orderPaid": { "paymentMethod": "card" }
        });
        assert_eq!(serde_json::from_slice::<Value>(&data).unwrap(), expected);
        let unreadable = Message { payload: Bytes::from_static(b"\xff\xff"), ..message };
        assert_eq!(json(&unreadable), CloudEventAttributes::default());
    }
}
