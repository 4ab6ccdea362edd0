//! A message as one of NATS: a CloudEvent 1.0 in binary mode, its attributes as headers `ce-…` and its data as the payload.

use std::borrow::Cow;

use async_nats::HeaderMap;
use bytes::Bytes;
use data_encoding::BASE64;

use crate::message_bus::{Description, EventId, Message};

/// What is stored, in base64, where the payload is another form of it.
const STORED: &str = "Ordersystem-Stored";
/// The content type of what is stored.
const STORED_TYPE: &str = "application/protobuf";
/// How many bytes of headers one event may take: the server's bound for a stream is 64 KiB.
const MAX_STORED_HEADER_BYTES: usize = 60 * 1024;

/// The headers and the payload that carry `message`.
pub(super) fn seal(message: &Message, description: Description, source: &str) -> (HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    headers.insert("ce-specversion", "1.0");
    headers.insert("ce-id", message.event_id().to_string());
    headers.insert("ce-source", source);
    headers.insert("ce-type", message.kind.as_ref());
    headers.insert("ce-subject", message.key.to_string());
    if !description.time.is_empty() {
        headers.insert("ce-time", description.time);
    }
    headers.insert("ce-position", message.position.to_string());
    let (content_type, payload) = match description.data {
        Some((content_type, data)) => {
            headers.insert(STORED, BASE64.encode(&message.payload));
            (content_type, data)
        }
        None => (STORED_TYPE, message.payload.clone()),
    };
    headers.insert("ce-datacontenttype", content_type);
    (headers, payload)
}

/// The message that a message of NATS carries; `None` if it is none of ours.
pub(super) fn open(headers: &HeaderMap, payload: Bytes) -> Option<Message> {
    let header = |name: &str| headers.get(name).map(|value| value.as_str());
    let EventId { key, sequence } = parse_event_id(header("ce-id")?)?;
    let payload = match header(STORED) {
        Some(stored) => Bytes::from(BASE64.decode(stored.as_bytes()).ok()?),
        None => payload,
    };
    Some(Message {
        key,
        sequence,
        position: header("ce-position")?.parse().ok()?,
        kind: Cow::Owned(header("ce-type")?.to_owned()),
        payload,
    })
}

fn parse_event_id(text: &str) -> Option<EventId> {
    let (key, sequence) = text.split_once('-')?;
    Some(EventId { key: key.parse().ok()?, sequence: sequence.parse().ok()? })
}
