//! Publishes in order, many messages at once.
//!
//! Each message of a batch is sent without waiting for the one before, and carries two conditions: which sequence the stream must have reached,
//! and, from the second on, that the event before it in the batch is the last one there. So when one is refused all later ones
//! are as well, whatever happens between them, and a message that arrives late, from a connection or a node long gone, finds its place taken: what is accepted is always the
//! front of the batch. A message that the server still knows by its id is answered as a duplicate and not stored again.
//!
//! The stream takes no more than it may hold. Before it is full, what every consumer has dealt with is dropped, our own ones and whatever
//! durable consumers others have made on it; with none at all, the oldest are.

use std::time::Duration;

use async_nats::{
    HeaderMap,
    jetstream::{
        ErrorCode,
        consumer::AckPolicy,
        context::{GetStreamErrorKind, PublishError, PublishErrorKind},
        message::PublishMessage,
        stream::{Config, DiscardPolicy, Info, StorageType, Stream},
    },
};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use tokio::time::sleep;

use super::{Shared, envelope};
use crate::{
    backends::nats::provision::{connected, make_stream},
    message_bus::{BusError, Message},
};

/// How many messages are on their way at once.
const PUBLISH_AT_ONCE: usize = 512;
/// How many bytes the stream must have left for it not to be full: as large as a message may be.
const SPARE_BYTES: i64 = 1024 * 1024;
/// How often a batch is tried while others publish, without any of it being accepted.
const MAX_TRIES: usize = 100;
/// How often to look who keeps the stream full, if others keep changing the list of consumers.
const MAX_TRIM_TRIES: usize = 20;
/// The longest pause between two tries to publish into a full stream.
const MAX_ROOM_PAUSE: Duration = Duration::from_millis(500);

/// What is known of the end of the stream.
#[derive(Debug, Default)]
pub(super) struct End {
    /// The last sequence, unless others have published since.
    last: Option<u64>,
    /// For how many messages there was room then.
    room: usize,
}

/// What a look at the stream shows.
pub(super) struct Room {
    last: u64,
    pub room: usize,
    /// The consumer that keeps it full, if it is.
    pub slowest: Option<String>,
}

/// Why a message, and all after it, was not accepted.
enum Stop {
    /// Others have published.
    Moved,
    /// JetStream would not store it: the stream may be full.
    Refused(String),
    NoStream,
    /// It is not known whether it was.
    Unknown(String),
}

/// Publishes all of `messages`, waiting for room where there is none.
pub(super) async fn publish(shared: &Shared, messages: &[Message]) -> Result<(), BusError> {
    let mut end = shared.end.lock().await;
    let mut rest = messages;
    let (mut pause, mut tries) = (Duration::from_millis(20), 0);
    while !rest.is_empty() {
        connected(&shared.nats).await.map_err(BusError::Unavailable)?;
        // Made before looking: from its making on it is woken, even before it is awaited.
        let made_room = shared.room.notified();
        let last = match end.last {
            Some(last) if end.room > 0 => last,
            _ => {
                let found = look(shared, rest.len()).await?;
                if found.room == 0 {
                    // A consumer on another node tells nobody that it has made room.
                    tokio::select! {
                        () = made_room => {}
                        () = sleep(pause) => pause = (pause * 2).min(MAX_ROOM_PAUSE),
                    }
                    continue;
                }
                end.room = found.room;
                found.last
            }
        };
        let chunk = &rest[..rest.len().min(end.room).min(PUBLISH_AT_ONCE)];
        // Unknown until all is well: the future may be dropped.
        end.last = None;
        let (accepted, new_last, stop) = send(shared, chunk, last).await;
        rest = &rest[accepted..];
        end.room -= accepted;
        if accepted > 0 {
            (pause, tries) = (Duration::from_millis(20), 0);
        }
        tries += 1;
        match stop {
            None => end.last = Some(new_last),
            Some(Stop::Moved) if tries < MAX_TRIES => {}
            Some(Stop::Moved) => return Err(BusError::Unavailable("others keep publishing".to_owned())),
            Some(Stop::NoStream) if tries < MAX_TRIES => make(shared).await?,
            Some(Stop::NoStream) => return Err(BusError::Unavailable("the stream is gone".to_owned())),
            Some(Stop::Refused(why) | Stop::Unknown(why)) => {
                // Where it is full, the next look finds out.
                if accepted == 0 && look(shared, 1).await?.room > 0 {
                    return Err(BusError::Unavailable(why));
                }
            }
        }
    }
    Ok(())
}

/// Sends `messages`, to be stored after the sequence `last`. Answers how many were accepted, from the front, and what the last sequence is then.
async fn send(shared: &Shared, messages: &[Message], last: u64) -> (usize, u64, Option<Stop>) {
    let mut acks = Vec::with_capacity(messages.len());
    let mut stop = None;
    let (mut expected, mut before) = (last, None::<String>);
    for Outgoing { subject, id, headers, payload, is_event } in
        messages.iter().flat_map(|message| outgoing(shared, message))
    {
        let mut publish = PublishMessage::build().headers(headers).payload(payload);
        publish = publish.message_id(&id).expected_last_sequence(expected);
        if let Some(before) = before.replace(id) {
            publish = publish.expected_last_message_id(before);
        }
        match shared.nats.jetstream().send_publish(subject, publish).await {
            Ok(ack) => acks.push((ack, is_event)),
            Err(error) => {
                stop = Some(Stop::of(&error));
                break;
            }
        }
        expected += 1;
    }
    let (mut accepted, mut last) = (0, last);
    for (ack, is_event) in acks {
        match ack.await {
            Ok(ack) => {
                accepted += usize::from(is_event);
                if !ack.duplicate {
                    last = ack.sequence;
                }
            }
            // The later ones are refused as well: none may be stored without those before it.
            Err(error) => return (accepted, last, Some(Stop::of(&error))),
        }
    }
    (accepted, last, stop)
}

/// One message of NATS.
struct Outgoing {
    subject: String,
    id: String,
    headers: HeaderMap,
    payload: Bytes,
    /// Not a part that comes before one.
    is_event: bool,
}

/// What carries `message`, in the order in which it is to be stored.
fn outgoing(shared: &Shared, message: &Message) -> Vec<Outgoing> {
    let max_payload = shared.nats.client().server_info().max_payload;
    let sealed = envelope::seal(message, (shared.options.describe)(message), &shared.source, max_payload);
    let (key, id) = (message.key, message.event_id().to_string());
    let part = |(headers, payload)| {
        // Another id each time: a part that is stored already must come again, directly before its event.
        let id = format!("{id}:{:016x}", fastrand::u64(..));
        Outgoing { subject: format!("{}.{key}", shared.parts_subject), id, headers, payload, is_event: false }
    };
    let mut all: Vec<_> = sealed.parts.into_iter().map(part).collect();
    let (headers, payload) = (sealed.headers, sealed.payload);
    all.push(Outgoing { subject: format!("{}.{key}", shared.subject), id, headers, payload, is_event: true });
    all
}

impl Stop {
    fn of(error: &PublishError) -> Self {
        let said = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        match error.kind() {
            PublishErrorKind::WrongLastMessageId | PublishErrorKind::WrongLastSequence => Self::Moved,
            _ if said.contains("wrong last") => Self::Moved,
            PublishErrorKind::StreamNotFound => Self::NoStream,
            PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => Self::Unknown(error.to_string()),
            _ => Self::Refused(error.to_string()),
        }
    }
}

/// Makes the stream.
pub(super) async fn make(shared: &Shared) -> Result<(), BusError> {
    let options = &shared.options;
    let config = Config {
        name: shared.stream.clone(),
        subjects: vec![format!("{}.*", shared.subject), format!("{}.*", shared.parts_subject)],
        max_messages: i64::try_from(options.capacity_messages).unwrap_or(i64::MAX),
        max_bytes: options.capacity_bytes.max(2 * SPARE_BYTES),
        max_messages_per_subject: -1,
        discard: DiscardPolicy::New,
        duplicate_window: options.duplicate_window,
        storage: StorageType::File,
        num_replicas: shared.nats.options().replicas,
        ..Config::default()
    };
    make_stream(&shared.nats, config).await.map_err(BusError::Unavailable)
}

/// The stream as it is now, made if it is not there.
pub(super) async fn stream(shared: &Shared) -> Result<Stream<Info>, BusError> {
    for _ in 0..2 {
        match shared.nats.jetstream().get_stream(&shared.stream).await {
            Ok(stream) => return Ok(stream),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(why) if why.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                    make(shared).await?;
                }
                _ => return Err(BusError::Unavailable(format!("the stream {}: {error}", shared.stream))),
            },
        }
    }
    Err(BusError::Unavailable(format!("the stream {} is gone as soon as it is made", shared.stream)))
}

/// Looks for how many messages there is room, and makes some if that is less than `wanted`.
pub(super) async fn look(shared: &Shared, wanted: usize) -> Result<Room, BusError> {
    let mut slowest = None;
    for is_trimmed in [false, true] {
        let stream = stream(shared).await?;
        let (room, last) = (room(stream.cached_info()), stream.cached_info().state.last_sequence);
        if room >= wanted.clamp(1, shared.options.capacity_messages) || is_trimmed {
            return Ok(Room { last, room, slowest: slowest.filter(|_| room == 0) });
        }
        slowest = trim(shared, &stream, wanted).await?;
    }
    Err(BusError::Unavailable("the stream has no state".to_owned()))
}

fn room(info: &Info) -> usize {
    let config = &info.config;
    let bytes = i64::try_from(info.state.bytes).unwrap_or(i64::MAX);
    if config.max_bytes > 0 && config.max_bytes.saturating_sub(bytes) < SPARE_BYTES {
        return 0;
    }
    if config.max_messages <= 0 {
        return PUBLISH_AT_ONCE;
    }
    let left = config.max_messages.saturating_sub(i64::try_from(info.state.messages).unwrap_or(i64::MAX));
    usize::try_from(left).unwrap_or_default()
}

/// Drops what nobody needs, to make room for `wanted` messages. Answers which consumer needs the oldest that is left.
async fn trim(shared: &Shared, stream: &Stream<Info>, wanted: usize) -> Result<Option<String>, BusError> {
    let (state, capacity) = (&stream.cached_info().state, shared.options.capacity_messages);
    for _ in 0..MAX_TRIM_TRIES {
        let (names, revision) = shared.registry.names().await?;
        let mut needed = None::<(u64, String)>;
        for name in names.consumers.keys() {
            let floor = shared.registry.floor_of(&names, name).await?;
            if needed.as_ref().is_none_or(|(lowest, _)| floor < *lowest) {
                needed = Some((floor, name.clone()));
            }
        }
        for (floor, name) in foreign_floors(stream).await? {
            if needed.as_ref().is_none_or(|(lowest, _)| floor < *lowest) {
                needed = Some((floor, name));
            }
        }
        // With nobody there, some more than is wanted now, so as not to be here again for the next message.
        let oldest = (wanted.min(capacity).max(capacity / 8) as u64).min(state.messages);
        let floor = needed.as_ref().map_or((state.first_sequence + oldest).saturating_sub(1), |(floor, _)| *floor);
        if floor > names.floor && !shared.registry.raise_floor(&names, revision, floor).await? {
            continue;
        }
        if floor >= state.first_sequence {
            let purged = stream.purge().sequence(floor + 1).await;
            purged.map_err(|error| BusError::Unavailable(format!("the stream {}: {error}", shared.stream)))?;
        }
        return Ok(needed.map(|(_, name)| name));
    }
    Err(BusError::Unavailable("the list of consumers keeps changing".to_owned()))
}

/// How far the durable consumers have come that others have made on the stream.
async fn foreign_floors(stream: &Stream<Info>) -> Result<Vec<(u64, String)>, BusError> {
    if stream.cached_info().state.consumer_count == 0 {
        return Ok(Vec::new());
    }
    let mut floors = Vec::new();
    let mut consumers = stream.consumers();
    loop {
        match consumers.try_next().await {
            Ok(Some(info)) => {
                let keeps = info.config.durable_name.is_some() && info.config.ack_policy != AckPolicy::None;
                // One that wants few subjects may have acknowledged nothing for long and yet wait for nothing.
                let is_done = info.num_pending == 0 && info.num_ack_pending == 0;
                if keeps && !is_done {
                    floors.push((info.ack_floor.stream_sequence, info.name));
                }
            }
            Ok(None) => return Ok(floors),
            Err(error) => return Err(BusError::Unavailable(format!("the consumers of the stream: {error}"))),
        }
    }
}
