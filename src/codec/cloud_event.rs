//! The CloudEvents metadata of a published event: its time, its trace context, and its content as JSON if configured.

use bytes::Bytes;

use crate::{
    codec::{self, EventHeader, event_json},
    ports::message_bus::{CloudEventAttributes, Message},
};

/// The CloudEvents attributes of an event that is published as its stored bytes.
pub fn protobuf(message: &Message) -> CloudEventAttributes {
    let header = EventHeader::read(&message.payload).unwrap_or_default();
    let time = header.at().map(|at| codec::timestamp_to_proto(at).to_string()).unwrap_or_default();
    CloudEventAttributes { time, traceparent: header.traceparent().unwrap_or_default().to_owned(), data: None }
}

/// The CloudEvents attributes of an event that is published as JSON, in the proto3 mapping. An event that cannot be decoded is published as its
/// stored bytes.
pub fn json(message: &Message) -> CloudEventAttributes {
    let description = protobuf(message);
    match codec::decode_message(&message.payload).and_then(|event| event_json::of(&event)) {
        Ok(event) => {
            CloudEventAttributes { data: Some(("application/json", Bytes::from(event.to_string()))), ..description }
        }
        Err(error) => {
            tracing::warn!(event = %message.event_id(), %error, "publishing an event in its stored encoding instead of JSON");
            description
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use serde_json::{Value, json};

    use super::*;
    use crate::proto::catga::events::v1::{OrderEvent, OrderPaid, order_event::Event};

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
