//! A message as a NATS message: a CloudEvent 1.0 in binary mode, its attributes as headers `ce-…` and its data as the payload.
//!
//! A message too large for one message of the server is split: parts of the stored data, on a separate subject, and directly after them the event,
//! with the number of parts. Its payload is then the data in the other form, if there is one and it fits, or empty.

use std::borrow::Cow;

use async_nats::HeaderMap;
use bytes::Bytes;
use data_encoding::BASE64;

use crate::{
    backends::nats::provision::Made,
    ports::message_bus::{CloudEventAttributes, EventId, Message},
};

/// The stored data in base64, if the payload is another form of it.
const STORED: &str = "Ordersystem-Stored";
/// The content type of the stored data.
const STORED_TYPE: &str = "application/protobuf";
/// How many parts come directly before the event.
const PARTS: &str = "Ordersystem-Parts";
/// The number of the part, from 1.
const PART: &str = "Ordersystem-Part";
/// The incarnation of the stream that it was published into, and the position of the log up to which all events had been accepted before.
const AFTER: &str = "Ordersystem-After";
/// The maximum size of the headers: the server's bound for a stream is 64 KiB.
const MAX_HEADER_BYTES: usize = 60 * 1024;
/// The smallest payload of a part, whatever the server's limit is.
const MIN_PART_BYTES: usize = 16 * 1024;

/// The NATS messages that carry a message.
pub(super) struct EncodedMessage {
    /// Published before the event, each as one message.
    pub parts: Vec<(HeaderMap, Bytes)>,
    pub headers: HeaderMap,
    pub payload: Bytes,
}

/// Encodes the message for a server that accepts payloads of `max_payload` bytes, headers included.
pub(super) fn encode(
    message: &Message,
    description: CloudEventAttributes,
    source: &str,
    max_payload: usize,
) -> EncodedMessage {
    let fits = max_payload.saturating_sub(MAX_HEADER_BYTES).max(MIN_PART_BYTES);
    let mut headers = attributes(message, description.time, description.traceparent, source);
    let is_data_other = description.data.is_some();
    let (content_type, data) = description.data.unwrap_or((STORED_TYPE, message.payload.clone()));
    headers.insert("ce-datacontenttype", content_type);
    let stored_fits = !is_data_other || BASE64.encode_len(message.payload.len()) < MAX_HEADER_BYTES / 2;
    if data.len() <= fits && stored_fits {
        if is_data_other {
            headers.insert(STORED, BASE64.encode(&message.payload));
        }
        return EncodedMessage { parts: Vec::new(), headers, payload: data };
    }
    let part = |(at, start): (usize, usize)| {
        let mut headers = HeaderMap::new();
        headers.insert(PART, (at + 1).to_string());
        (headers, message.payload.slice(start..(start + fits).min(message.payload.len())))
    };
    let parts: Vec<_> = (0..message.payload.len()).step_by(fits).enumerate().map(part).collect();
    headers.insert(PARTS, parts.len().to_string());
    let payload = if is_data_other && data.len() <= fits { data } else { Bytes::new() };
    EncodedMessage { parts, headers, payload }
}

fn attributes(message: &Message, time: String, traceparent: String, source: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("ce-specversion", "1.0");
    headers.insert("ce-id", message.event_id().to_string());
    headers.insert("ce-source", source);
    headers.insert("ce-type", message.kind.as_ref());
    headers.insert("ce-subject", message.key.to_string());
    if !time.is_empty() {
        headers.insert("ce-time", time);
    }
    if !traceparent.is_empty() {
        headers.insert("ce-traceparent", traceparent);
    }
    headers.insert("ce-position", message.position.to_string());
    headers
}

/// Records in `headers` that all events up to `position` had been accepted into the stream of this incarnation before.
pub(super) fn stamp(headers: &mut HeaderMap, made: Made, position: u64) {
    headers.insert(AFTER, format!("{}:{position}", made.0));
}

/// The values recorded by [`stamp`].
pub(super) fn stamped(headers: &HeaderMap) -> Option<(Made, u64)> {
    let (made, position) = headers.get(AFTER)?.as_str().split_once(':')?;
    Some((Made(made.parse().ok()?), position.parse().ok()?))
}

/// The number of a part, from 1, if the message is one.
pub(super) fn part_number(headers: &HeaderMap) -> Option<usize> {
    headers.get(PART)?.as_str().parse().ok()
}

/// How many parts come before the event.
pub(super) fn part_count(headers: &HeaderMap) -> usize {
    headers.get(PARTS).and_then(|count| count.as_str().parse().ok()).unwrap_or_default()
}

/// Decodes a NATS message; `None` if it was not written by this service.
pub(super) fn decode(headers: &HeaderMap, payload: Bytes) -> Option<Message> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_message_is_decoded_whole_or_from_its_parts() {
        let json = |bytes: usize| Some(("application/json", Bytes::from(vec![b'x'; bytes])));
        for (stored, data, parts, payload) in [
            (10, None, 0, 10),
            (10, json(7), 0, 7),
            (200_000, None, 0, 200_000),
            (40_000, json(50_000), 1, 50_000),
            (3_000_000, None, 4, 0),
            (3_000_000, json(7), 4, 7),
            (10, json(2_000_000), 1, 0),
        ] {
            let bytes: Vec<u8> = (0..stored).map(|at: usize| at as u8).collect();
            let message =
                Message { key: 7, sequence: 2, position: 9, kind: "OrderPaid".into(), payload: Bytes::from(bytes) };
            let time = "2026-11-21T00:00:00Z".to_owned();
            let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00".to_owned();
            let description = CloudEventAttributes { time, traceparent: traceparent.clone(), data };
            let encoded = encode(&message, description, "/test/orders", 1024 * 1024);
            assert_eq!(encoded.headers.get("ce-traceparent").map(|value| value.as_str()), Some(&*traceparent));
            assert_eq!((encoded.parts.len(), encoded.payload.len()), (parts, payload), "{stored}");
            assert_eq!(part_count(&encoded.headers), parts);
            let mut whole = Vec::new();
            for (at, (headers, part)) in encoded.parts.iter().enumerate() {
                assert_eq!(part_number(headers), Some(at + 1));
                assert!(part.len() <= 1024 * 1024 - MAX_HEADER_BYTES);
                whole.extend_from_slice(part);
            }
            let payload = if parts > 0 { Bytes::from(whole) } else { encoded.payload };
            assert_eq!(decode(&encoded.headers, payload), Some(message));
        }
    }
}
