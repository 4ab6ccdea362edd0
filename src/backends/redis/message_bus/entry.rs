//! A message as an entry of a stream: the attributes of a CloudEvent 1.0 as fields, in binary mode.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use redis::Value;

use crate::{
    backends::redis::{script::ScriptCall, values},
    ports::message_bus::{CloudEventAttributes, DeadLetter, EventId, Message},
};

/// The content type of the stored data.
const STORED_TYPE: &str = "application/protobuf";

/// Adds the arguments that `publish.lua` takes for a message.
pub(super) fn add(call: ScriptCall, message: &Message, description: CloudEventAttributes) -> ScriptCall {
    let call =
        call.arg(message.event_id().to_string()).arg(message.kind.as_bytes()).number(message.key).arg(description.time);
    let payload = &message.payload[..];
    let call = match description.data {
        None => call.arg(STORED_TYPE).number(message.position).arg(payload).arg(""),
        Some((content_type, data)) => call.arg(content_type).number(message.position).arg(&data[..]).arg(payload),
    };
    call.arg(description.traceparent)
}

/// The event of an entry: its place in its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub log: u32,
    pub position: u64,
}

/// An entry of a stream with its id.
pub(super) struct Entry {
    pub id: String,
    /// `None` if it was not written by this service.
    pub message: Option<Message>,
    /// `None` if its log was not named.
    pub origin: Option<Origin>,
    reason: String,
    attempts: u32,
}

impl Entry {
    /// Reads an entry as returned by `XRANGE`; `None` without an id.
    pub(super) fn read(value: Value) -> Option<Self> {
        let mut parts = values::list(value)?.into_iter();
        let id = values::text(&parts.next()?)?.to_owned();
        let mut entry = Self { id, message: None, origin: None, reason: String::new(), attempts: 0 };
        let mut fields = parts.next().and_then(values::list).unwrap_or_default().into_iter();
        let (mut event, mut kind, mut position, mut data, mut stored) = (None, None, None, None, None);
        let mut log = None;
        while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
            match (values::text(&name), value) {
                (Some("id"), value) => event = values::text(&value).and_then(parse_event_id),
                (Some("type"), value) => kind = values::text(&value).map(str::to_owned),
                (Some("position"), value) => position = values::number(&value),
                (Some("log"), value) => log = values::number(&value).and_then(|log| u32::try_from(log).ok()),
                (Some("data"), Value::BulkString(bytes)) => data = Some(bytes),
                (Some("stored"), Value::BulkString(bytes)) => stored = Some(bytes).filter(|bytes| !bytes.is_empty()),
                (Some("reason"), value) => entry.reason = values::text(&value).unwrap_or_default().to_owned(),
                (Some("attempts"), value) => entry.attempts = values::number(&value).unwrap_or_default() as u32,
                _ => {}
            }
        }
        let payload = stored.or(data).map(Bytes::from);
        if let (Some(EventId { key, sequence }), Some(kind), Some(position), Some(payload)) =
            (event, kind, position, payload)
        {
            entry.origin = log.map(|log| Origin { log, position });
            entry.message = Some(Message { key, sequence, position, kind: Cow::Owned(kind), payload });
        }
        Some(entry)
    }

    /// The entry as a dead letter; the milliseconds in its id give its time.
    pub(super) fn into_dead_letter(self) -> Option<DeadLetter> {
        let since_epoch = Duration::from_millis(self.id.split_once('-')?.0.parse().ok()?);
        let at = SystemTime::UNIX_EPOCH + since_epoch;
        Some(DeadLetter { message: self.message?, reason: self.reason, attempts: self.attempts, at })
    }
}

fn parse_event_id(text: &str) -> Option<EventId> {
    let (key, sequence) = text.split_once('-')?;
    Some(EventId { key: key.parse().ok()?, sequence: sequence.parse().ok()? })
}
