//! Publishes in order, many messages at once.
//!
//! Order is guaranteed within one key. So a message is sent only when the previous one of its key has been accepted, and messages of other keys do
//! not wait for it: at most one message of each key is in flight. So no message is ever stored before an earlier one of its key, even if messages are
//! refused, lost with a connection or delayed, if a leader that steps down leaves work undone, or if there are many publishers. That needs no
//! condition on the content of the stream. There was one, `Nats-Expected-Last-Msg-Id`, until nats-server 2.11: it checks that header in a replicated
//! stream only when a message is applied, and one refusal there stops all replicas forever. **Never send it.**
//!
//! A message whose id the server still remembers is acknowledged as a duplicate and not stored again. The id has a fingerprint of the event: a log
//! that has lost its end may have another event at the same revision, which is not a duplicate. A message that arrives after the server has forgotten
//! its id is stored again, after those that follow it: at least once.
//!
//! The parts of a large message must be consecutive. They are sent one by one, each on condition that the previous one is the last message of the
//! stream, with nothing else in flight from here. That condition, `Nats-Expected-Last-Sequence`, is decided before a message is proposed.
//!
//! The stream is bounded. Before it is full, messages that every consumer has processed are dropped, counting our own and others' durable consumers;
//! without any consumers, the oldest are.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    time::Duration,
};

use async_nats::jetstream::{
    self, ErrorCode,
    context::{GetStreamErrorKind, PublishError, PublishErrorKind},
    message::PublishMessage,
    publish::PublishAck,
    stream::{Config, DiscardPolicy, Info, StorageType, Stream},
};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::sleep;
use xxhash_rust::xxh3::xxh3_64;

use super::{Shared, envelope, others};
use crate::{
    backends::nats::{
        api::{code, in_words},
        connection::ConnectError,
        provision::{Made, ask_again, connected, make_stream},
    },
    ports::{
        backoff::Backoff,
        message_bus::{BusError, Message},
    },
};

/// How many messages are in flight at once.
const PUBLISH_AT_ONCE: usize = 512;
/// How many bytes the stream must have left so as not to count as full: the largest size of a message.
const SPARE_BYTES: i64 = 1024 * 1024;
/// How often a batch is retried without any of it being accepted, while others publish or the stream is created.
const MAX_TRIES: usize = 100;
/// How often a batch is tried while the stream does not respond: for some seconds.
const MAX_STREAM_TRIES: usize = 10;
/// Logged until the possibly missing messages are published again.
const LOST: &str = "the stream of events was lost with its contents, which are published again first";
/// How often to check which consumer keeps the stream full, if others keep changing the list of consumers.
const MAX_TRIM_TRIES: usize = 20;
/// The longest pause before a message is published again after another one got ahead of it.
const AGAIN_PAUSE: Duration = Duration::from_millis(20);
/// The pauses between two tries to publish into a stream that is full or does not respond.
const RETRIES: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));

/// The known state of the stream.
#[derive(Debug, Default)]
pub(super) struct End {
    /// For how many messages there is room, unless others have published since; 0 if unknown.
    room: usize,
}

/// The result of checking the stream.
pub(super) struct Room {
    last: u64,
    pub room: usize,
    /// The consumer that keeps it full, if it is.
    pub slowest: Option<String>,
}

/// Why a message was not accepted.
#[derive(Debug)]
enum Stop {
    /// Others have published between the parts of a large message, or the same message is in flight already.
    Again,
    /// JetStream did not store it: the stream may be full.
    Refused(String),
    NoStream,
    /// It is unknown whether it was stored.
    Unknown(String),
}

/// The result of sending some messages.
struct Sent {
    /// Whether each was accepted, by index.
    accepted: Vec<bool>,
    /// Why the others were not.
    stop: Option<Stop>,
    /// The lowest and the highest sequence assigned to one.
    sequences: Option<(u64, u64)>,
}

impl Sent {
    fn accept(&mut self, place: usize, ack: &PublishAck) {
        self.accepted[place] = true;
        if !ack.duplicate {
            let (lowest, highest) = self.sequences.unwrap_or((ack.sequence, ack.sequence));
            self.sequences = Some((lowest.min(ack.sequence), highest.max(ack.sequence)));
        }
    }
}

/// Publishes all of `messages`; waits for room if there is none.
pub(super) async fn publish(shared: &Shared, messages: &[Message]) -> Result<(), BusError> {
    let mut end = shared.end.lock().await;
    let mut rest: Vec<&Message> = messages.iter().collect();
    // Publishers publish in the order of the log: all events before this batch have been accepted.
    let after = messages.iter().map(|message| message.position).min().unwrap_or_default().saturating_sub(1);
    let (mut pauses, mut tries) = (RETRIES.pauses(), 0);
    while !rest.is_empty() {
        connected(&shared.nats).await.map_err(BusError::Unavailable)?;
        // Created before the check: it is woken from its creation on, even before it is awaited.
        let made_room = shared.room.notified();
        if end.room == 0 {
            end.room = ensure_room(shared, rest.len()).await?.room;
        }
        if shared.identity.lost_since().is_some() {
            return Err(BusError::Unavailable(LOST.to_owned()));
        }
        if end.room == 0 {
            // A consumer on another node does not notify this one when it has made room.
            tokio::select! {
                () = made_room => {}
                () = sleep(pauses.next_pause()) => {}
            }
            continue;
        }
        let count = rest.len().min(end.room).min(PUBLISH_AT_ONCE);
        // Unknown until the publish succeeds: the future may be dropped.
        let room = std::mem::take(&mut end.room);
        let Sent { accepted, stop, sequences } = send(shared, &rest[..count], after).await;
        if sequences.is_some_and(|(lowest, highest)| !shared.identity.stored(lowest, highest)) {
            stream(shared).await?;
        }
        let before = rest.len();
        let mut accepted = accepted.into_iter();
        rest.retain(|_| !accepted.next().unwrap_or(false));
        let progress = before - rest.len();
        if progress > 0 {
            pauses.reset();
            tries = 0;
        }
        tries += 1;
        match stop {
            None => end.room = room - progress,
            Some(Stop::Again) if tries < MAX_TRIES => sleep(AGAIN_PAUSE.mul_f64(fastrand::f64())).await,
            Some(Stop::Again) => return Err(BusError::Unavailable("others keep publishing".to_owned())),
            Some(Stop::NoStream) if tries < MAX_STREAM_TRIES => {
                make(shared).await?;
                // A stream that existed all the time has no leader now.
                sleep(pauses.next_pause()).await;
            }
            Some(Stop::NoStream) => {
                let why = format!("the stream {} accepts nothing: it has no leader", shared.stream);
                return Err(BusError::Unavailable(why));
            }
            Some(Stop::Refused(why) | Stop::Unknown(why)) => {
                // If it is full, the next check detects it.
                if progress == 0 && ensure_room(shared, 1).await?.room > 0 {
                    shared.check_permitted()?;
                    return Err(BusError::Unavailable(why));
                }
            }
        }
    }
    Ok(())
}

/// Sends `messages`: those that fit in one NATS message concurrently, a larger one when all before it have been acknowledged.
async fn send(shared: &Shared, messages: &[&Message], after: u64) -> Sent {
    let mut sent = Sent { accepted: vec![false; messages.len()], stop: None, sequences: None };
    let stamp = shared.identity.whole().map(|made| (made, after));
    let mut run = ConcurrentBatch::default();
    for (place, message) in messages.iter().enumerate() {
        let mut outgoing = outgoing(shared, message, stamp);
        match outgoing.pop() {
            Some(only) if outgoing.is_empty() => run.add(place, message.key, only),
            Some(event) => {
                run.send(shared, &mut sent).await;
                if sent.stop.is_none() {
                    match send_in_parts(shared, outgoing, event).await {
                        Ok(ack) => sent.accept(place, &ack),
                        Err(stop) => sent.stop = Some(stop),
                    }
                }
            }
            None => {}
        }
        if sent.stop.is_some() {
            return sent;
        }
    }
    run.send(shared, &mut sent).await;
    sent
}

/// Messages of which each waits for the previous one of its key, and for no other.
#[derive(Default)]
struct ConcurrentBatch(Vec<(usize, u64, Outgoing)>);

impl ConcurrentBatch {
    fn add(&mut self, place: usize, key: u64, message: Outgoing) {
        self.0.push((place, key, message));
    }

    /// Sends all that were added. Nothing more is sent once one has been refused, but messages in flight are awaited.
    async fn send(&mut self, shared: &Shared, sent: &mut Sent) {
        let mut waiting: HashMap<u64, VecDeque<(usize, Outgoing)>> = HashMap::new();
        let mut on_their_way = FuturesUnordered::new();
        let mut ready: VecDeque<_> = VecDeque::new();
        for (place, key, message) in self.0.drain(..) {
            match waiting.entry(key) {
                Entry::Occupied(mut later) => later.get_mut().push_back((place, message)),
                Entry::Vacant(none) => {
                    none.insert(VecDeque::new());
                    ready.push_back((place, key, message));
                }
            }
        }
        loop {
            while sent.stop.is_none()
                && let Some((place, key, message)) = ready.pop_front()
            {
                let publish = message.publish.message_id(&message.id);
                match shared.nats.jetstream().send_publish(message.subject, publish).await {
                    Ok(ack) => on_their_way.push(async move { (place, key, ack.await) }),
                    Err(error) => sent.stop = Some(Stop::of(&error)),
                }
            }
            let Some((place, key, ack)) = on_their_way.next().await else { return };
            match ack {
                Ok(ack) => {
                    sent.accept(place, &ack);
                    let next = waiting.get_mut(&key).and_then(VecDeque::pop_front);
                    ready.extend(next.map(|(place, message)| (place, key, message)));
                }
                Err(error) => sent.stop = Some(Stop::of(&error)),
            }
        }
    }
}

/// Sends `parts` and then their `event`, so that they are consecutive.
async fn send_in_parts(shared: &Shared, parts: Vec<Outgoing>, event: Outgoing) -> Result<PublishAck, Stop> {
    let found = ensure_room(shared, parts.len() + 1).await.map_err(|error| Stop::Unknown(error.to_string()))?;
    let mut last = found.last;
    for part in parts {
        last = send_after(shared, part, last).await?.sequence;
    }
    send_after(shared, event, last).await
}

/// Sends one message, to be stored directly after the sequence `last`.
async fn send_after(shared: &Shared, message: Outgoing, last: u64) -> Result<PublishAck, Stop> {
    let Outgoing { subject, id, publish } = message;
    let publish = publish.message_id(&id).expected_last_sequence(last);
    let sent = shared.nats.jetstream().send_publish(subject, publish).await.map_err(|error| Stop::of(&error))?;
    sent.await.map_err(|error| Stop::of(&error))
}

/// One NATS message.
struct Outgoing {
    subject: String,
    id: String,
    publish: PublishMessage,
}

/// The NATS messages of `message`, in the order in which they are to be stored: parts, if it is large, and the event itself.
fn outgoing(shared: &Shared, message: &Message, stamp: Option<(Made, u64)>) -> Vec<Outgoing> {
    let max_payload = shared.nats.client().server_info().max_payload;
    let mut encoded = envelope::encode(message, (shared.options.describe)(message), &shared.source, max_payload);
    if let Some((made, after)) = stamp {
        envelope::stamp(&mut encoded.headers, made, after);
    }
    let (key, id) = (message.key, format!("{}-{:016x}", message.event_id(), xxh3_64(&message.payload)));
    let publish = |headers, payload| PublishMessage::build().headers(headers).payload(payload);
    let part = |(headers, payload)| {
        // A different id each time: a part that is stored already must be stored again, directly before its event.
        let id = format!("{id}:{:016x}", fastrand::u64(..));
        Outgoing { subject: format!("{}.{key}", shared.parts_subject), id, publish: publish(headers, payload) }
    };
    let mut all: Vec<_> = encoded.parts.into_iter().map(part).collect();
    let publish = publish(encoded.headers, encoded.payload);
    all.push(Outgoing { subject: format!("{}.{key}", shared.subject), id, publish });
    all
}

impl Stop {
    fn of(error: &PublishError) -> Self {
        let source = std::error::Error::source(error);
        let code =
            source.and_then(|source| source.downcast_ref::<jetstream::Error>()).map(jetstream::Error::error_code);
        match error.kind() {
            PublishErrorKind::WrongLastSequence => Self::Again,
            _ if code.is_some_and(|code| code::UNDECIDED.contains(&code.0)) => Self::Again,
            PublishErrorKind::StreamNotFound => Self::NoStream,
            PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => Self::Unknown(error.to_string()),
            _ => Self::Refused(error.to_string()),
        }
    }
}

/// Finds or creates the stream.
///
/// # Errors
/// [`ConnectError`] gives the reason why it cannot be used, and whether waiting helps.
pub(super) async fn verify(shared: &Shared) -> Result<(), ConnectError> {
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
    let found = make_stream(&shared.nats, config).await?;
    shared.identity.found(Made::of(&found), &shared.stream, shared.nats.server());
    Ok(())
}

async fn make(shared: &Shared) -> Result<(), BusError> {
    verify(shared).await.map_err(|error| BusError::Unavailable(error.why().to_owned()))
}

/// The current state of the stream, which is created if it does not exist.
pub(super) async fn stream(shared: &Shared) -> Result<Stream<Info>, BusError> {
    for _ in 0..2 {
        match ask_again(|| shared.nats.jetstream().get_stream(&shared.stream)).await {
            Ok(stream) => {
                shared.identity.found(Made::of(stream.cached_info()), &shared.stream, shared.nats.server());
                return Ok(stream);
            }
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(why) if why.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                    make(shared).await?;
                }
                _ => return Err(BusError::Unavailable(format!("the stream {}: {}", shared.stream, in_words(&error)))),
            },
        }
    }
    Err(BusError::Unavailable(format!("the stream {} disappears as soon as it is created", shared.stream)))
}

/// Checks for how many messages there is room, and makes some if that is less than `wanted`.
pub(super) async fn ensure_room(shared: &Shared, wanted: usize) -> Result<Room, BusError> {
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

/// Drops messages that are no longer needed, to make room for `wanted` messages. Returns the consumer that needs the oldest remaining one.
async fn trim(shared: &Shared, stream: &Stream<Info>, wanted: usize) -> Result<Option<String>, BusError> {
    let (state, capacity) = (&stream.cached_info().state, shared.options.capacity_messages);
    let made = Made::of(stream.cached_info());
    if !shared.registry.is_complete().await? {
        return Ok(Some("that has not reported since the list of consumers was lost".to_owned()));
    }
    for _ in 0..MAX_TRIM_TRIES {
        let (names, revision) = shared.registry.names().await?;
        let mut needed = None::<(u64, String)>;
        for name in names.consumers.keys() {
            let floor = shared.registry.floor_of(&names, name, made).await?;
            if needed.as_ref().is_none_or(|(lowest, _)| floor < *lowest) {
                needed = Some((floor, name.clone()));
            }
        }
        // That there are none is cheap to detect.
        let has_others = stream.cached_info().state.consumer_count > 0;
        let others = if has_others { others::floors(&shared.nats, &shared.stream).await? } else { Vec::new() };
        for (floor, name) in others {
            if needed.as_ref().is_none_or(|(lowest, _)| floor < *lowest) {
                needed = Some((floor, name));
            }
        }
        // Without consumers, more is dropped than is wanted now, so that the next message need not repeat this.
        let oldest = (wanted.min(capacity).max(capacity / 8) as u64).min(state.messages);
        let floor = needed.as_ref().map_or((state.first_sequence + oldest).saturating_sub(1), |(floor, _)| *floor);
        if floor > names.floor_in(made) && !shared.registry.raise_floor(&names, revision, made, floor).await? {
            continue;
        }
        if floor >= state.first_sequence {
            let purged = stream.purge().sequence(floor + 1).await;
            purged.map_err(|error| {
                BusError::Unavailable(format!("the stream {}: {}", shared.stream, in_words(&error)))
            })?;
        }
        return Ok(needed.map(|(_, name)| name));
    }
    Err(BusError::Unavailable("the list of consumers keeps changing".to_owned()))
}
