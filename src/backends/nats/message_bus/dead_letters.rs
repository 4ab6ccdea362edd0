//! Dead letters: a stream for each consumer that has any, with one subject for each event.
//!
//! It keeps one message per subject and refuses new subjects beyond its bound, so an event has at most one letter and the server enforces the bound.
//! A letter to be replayed is rewritten in its place, with a header that marks it: it is never in two places or in none. The consumer finds it there
//! and deletes it once it is processed; if handling it fails again, a new dead letter replaces it.

use std::time::{Duration, SystemTime};

use async_nats::{
    HeaderMap,
    jetstream::{
        self, ErrorCode,
        context::{GetStreamErrorKind, PublishErrorKind},
        message::{PublishMessage, StreamMessage},
        stream::{Config, DeleteMessageErrorKind, DiscardPolicy, Info, LastRawMessageErrorKind, StorageType, Stream},
    },
};
use bytes::Bytes;
use tokio::time::sleep;

use super::{envelope, unreadable};
use crate::{
    backends::nats::{
        api::{CallError, code, jetstream_words},
        connection::Nats,
        provision::{Made, connected, make_stream},
        pull_reader::{Ending, Read, Reader, Selection},
    },
    ports::message_bus::{BusError, CloudEventAttributes, DeadLetter, Delivery, EventId, Message, bounded_reason},
};

/// The reason for the dead letter, as a JSON text: always on one line.
const REASON: &str = "Ordersystem-Reason";
const ATTEMPTS: &str = "Ordersystem-Attempts";
const REPLAY: &str = "Ordersystem-Replay";

/// How many letters one pull requests.
const PULL_AT_ONCE: usize = 1_000;
/// How often the write of a letter is retried because another write of it was in flight.
const MAX_UNDECIDED: usize = 20;
/// The longest pause before a retry.
const UNDECIDED_PAUSE: Duration = Duration::from_millis(50);

/// How often a letter is written while its stream does not exist, or has no leader.
const MAX_TRIES: usize = 3;

/// The dead letters of one consumer.
#[derive(Debug)]
pub(super) struct DeadLetters {
    nats: Nats,
    stream: String,
    subject: String,
    source: String,
    capacity: usize,
}

/// The sequence up to which the letters are known, and the incarnation of the stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    stream: Option<Made>,
    sequence: u64,
}

/// A letter that is to be replayed, with its sequence in the stream.
pub(super) struct Replayed {
    pub sequence: u64,
    pub message: Message,
}

impl DeadLetters {
    pub(super) fn new(nats: &Nats, name: &str, source: String, capacity: usize) -> Self {
        let stream = nats.stream_name(&format!("dead-{name}"));
        let subject = nats.subject(&format!("dead.{name}"));
        Self { nats: nats.clone(), stream, subject, source, capacity }
    }

    fn subject_of(&self, event: EventId) -> String {
        format!("{}.{event}", self.subject)
    }

    fn failed(&self, error: impl std::fmt::Display) -> BusError {
        BusError::Unavailable(format!("the stream {}: {}", self.stream, jetstream_words(&error.to_string())))
    }

    async fn make(&self) -> Result<(), BusError> {
        let config = Config {
            name: self.stream.clone(),
            subjects: vec![self.subject_of_any()],
            max_messages: i64::try_from(self.capacity).unwrap_or(i64::MAX),
            max_messages_per_subject: 1,
            discard: DiscardPolicy::New,
            storage: StorageType::File,
            num_replicas: self.nats.options().replicas,
            ..Config::default()
        };
        let made = make_stream(&self.nats, config).await;
        made.map(drop).map_err(|error| BusError::Unavailable(error.why().to_owned()))
    }

    fn subject_of_any(&self) -> String {
        format!("{}.*", self.subject)
    }

    /// The stream, if there is one.
    async fn stream(&self) -> Result<Option<Stream<Info>>, BusError> {
        connected(&self.nats).await.map_err(BusError::Unavailable)?;
        match self.nats.jetstream().get_stream(&self.stream).await {
            Ok(stream) => Ok(Some(stream)),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(why) if why.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
                _ => Err(self.failed(error)),
            },
        }
    }

    async fn publish(&self, event: EventId, message: PublishMessage) -> Result<u64, Refusal> {
        let sent = self.nats.jetstream().send_publish(self.subject_of(event), message).await;
        let error = match sent {
            Ok(ack) => match ack.await {
                Ok(ack) => return Ok(ack.sequence),
                Err(error) => error,
            },
            Err(error) => error,
        };
        let source = std::error::Error::source(&error);
        let code =
            source.and_then(|source| source.downcast_ref::<jetstream::Error>()).map(jetstream::Error::error_code);
        let said = source.map(ToString::to_string).unwrap_or_default();
        Err(match error.kind() {
            PublishErrorKind::StreamNotFound => Refusal::NoStream,
            _ if code.is_some_and(|code| code::UNDECIDED.contains(&code.0)) => Refusal::Undecided,
            _ if said.contains("maximum messages exceeded") => Refusal::Full,
            _ => Refusal::Other(self.failed(error)),
        })
    }

    /// Like `publish`, retried while another publish to the subject is in flight.
    async fn publish_decided(&self, event: EventId, message: PublishMessage) -> Result<u64, Refusal> {
        for _ in 0..MAX_UNDECIDED {
            match self.publish(event, message.clone()).await {
                Err(Refusal::Undecided) => sleep(UNDECIDED_PAUSE.mul_f64(fastrand::f64())).await,
                decided => return decided,
            }
        }
        Err(Refusal::Other(self.failed("others keep changing it")))
    }

    /// Adds a delivery that failed permanently, replacing an earlier letter of the event. Returns its sequence.
    pub(super) async fn add(&self, delivery: &Delivery, reason: &str) -> Result<u64, BusError> {
        connected(&self.nats).await.map_err(BusError::Unavailable)?;
        // In one message: a letter that is larger than the server accepts is refused, and its message stays in the stream.
        let encoded = envelope::encode(&delivery.message, CloudEventAttributes::default(), &self.source, usize::MAX);
        let (mut headers, payload) = (encoded.headers, encoded.payload);
        let reason = serde_json::to_string(&bounded_reason(reason)).map_err(|error| self.failed(error))?;
        headers.insert(REASON, reason);
        headers.insert(ATTEMPTS, delivery.attempt.to_string());
        let event = delivery.message.event_id();
        for _ in 0..MAX_TRIES {
            let message = PublishMessage::build().headers(headers.clone()).payload(payload.clone());
            match self.publish_decided(event, message).await {
                Ok(sequence) => return Ok(sequence),
                Err(Refusal::NoStream) => self.make().await?,
                Err(Refusal::Full) => return Err(BusError::DeadLettersFull { capacity: self.capacity }),
                Err(Refusal::Undecided) => return Err(self.failed("others keep changing it")),
                Err(Refusal::Other(error)) => return Err(error),
            }
        }
        Err(self.failed("it disappears as soon as it is created"))
    }

    /// Up to `max` letters, the oldest first.
    pub(super) async fn list(&self, max: usize) -> Result<Vec<DeadLetter>, BusError> {
        let Some(stream) = self.stream().await? else { return Ok(Vec::new()) };
        let mut letters = Vec::new();
        let each = |read| {
            letters.extend(letter(read));
            letters.len() < max
        };
        self.each_from(&stream, 1, each).await?;
        letters.truncate(max);
        Ok(letters)
    }

    /// The letters to be replayed that came after `seen`; and the sequence up to which they are now known.
    pub(super) async fn to_replay(&self, seen: Seen) -> Result<(Vec<Replayed>, Seen), BusError> {
        let Some(stream) = self.stream().await? else { return Ok((Vec::new(), seen)) };
        let made = Some(Made::of(stream.cached_info()));
        let (mut found, mut last) = (Vec::new(), if seen.stream == made { seen.sequence } else { 0 });
        let each = |Read { sequence, headers, payload, .. }| {
            last = sequence;
            if headers.get(REPLAY).is_some()
                && let Some(message) = envelope::decode(&headers, payload)
            {
                found.push(Replayed { sequence, message });
            }
            true
        };
        self.each_from(&stream, if seen.stream == made { seen.sequence + 1 } else { 1 }, each).await?;
        Ok((found, Seen { stream: made, sequence: last }))
    }

    /// Passes the letters from the sequence `start` on to `visit`, until it has enough.
    async fn each_from(
        &self,
        stream: &Stream<Info>,
        start: u64,
        mut visit: impl FnMut(Read) -> bool,
    ) -> Result<(), BusError> {
        let state = &stream.cached_info().state;
        if state.messages == 0 || state.last_sequence < start {
            return Ok(());
        }
        let selection = Selection { stream: &self.stream, filter: None, from: start };
        let failed = |error: CallError| unreadable(&self.stream, &error);
        let mut reader = Reader::open(&self.nats, selection, "lists dead letters").await.map_err(failed)?;
        loop {
            reader.pull(PULL_AT_ONCE, Duration::ZERO, Ending::AtEnd).await.map_err(failed)?;
            let mut came = 0;
            while let Some(read) = reader.next().await.map_err(failed)? {
                came += 1;
                let is_last = read.pending == 0;
                if !visit(read) || is_last {
                    return Ok(());
                }
            }
            if came == 0 {
                return Ok(());
            }
        }
    }

    /// The letter of an event, unless it is to be replayed already.
    async fn find(&self, stream: &Stream<Info>, event: EventId) -> Result<Option<StreamMessage>, BusError> {
        match stream.get_last_raw_message_by_subject(&self.subject_of(event)).await {
            Ok(message) => Ok(Some(message).filter(|message| message.headers.get(REPLAY).is_none())),
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// The letters of `events`, each once, the oldest first.
    async fn find_all(
        &self,
        stream: &Stream<Info>,
        events: &[EventId],
    ) -> Result<Vec<(EventId, StreamMessage)>, BusError> {
        let mut events = events.to_vec();
        events.sort_unstable();
        events.dedup();
        let mut found = Vec::new();
        for event in events {
            found.extend(self.find(stream, event).await?.map(|letter| (event, letter)));
        }
        found.sort_by_key(|(_, letter)| letter.sequence);
        Ok(found)
    }

    /// Marks the letters of `events` as to be replayed; returns how many there were.
    pub(super) async fn replay(&self, events: &[EventId]) -> Result<usize, BusError> {
        let Some(stream) = self.stream().await? else { return Ok(0) };
        let mut count = 0;
        for (event, letter) in self.find_all(&stream, events).await? {
            let mut headers: HeaderMap = letter.headers;
            headers.insert(REPLAY, "yes");
            let message = PublishMessage::build()
                .headers(headers)
                .payload(letter.payload)
                .expected_last_subject_sequence(letter.sequence);
            match self.publish_decided(event, message).await {
                Ok(_) => count += 1,
                Err(Refusal::NoStream) => return Ok(count),
                Err(Refusal::Full) => return Err(self.failed("it is full")),
                Err(Refusal::Undecided) => return Err(self.failed("others keep changing it")),
                // Another node has changed it in the meantime.
                Err(Refusal::Other(error)) if self.find(&stream, event).await?.is_none() => drop(error),
                Err(Refusal::Other(error)) => return Err(error),
            }
        }
        Ok(count)
    }

    /// Drops the letters of `events`; returns how many there were.
    pub(super) async fn discard(&self, events: &[EventId]) -> Result<usize, BusError> {
        let Some(stream) = self.stream().await? else { return Ok(0) };
        let mut count = 0;
        for (_, letter) in self.find_all(&stream, events).await? {
            count += usize::from(self.delete_from(&stream, letter.sequence).await?);
        }
        Ok(count)
    }

    /// Deletes the letter at `sequence`, if it still exists.
    pub(super) async fn delete(&self, sequence: u64) -> Result<(), BusError> {
        let Some(stream) = self.stream().await? else { return Ok(()) };
        self.delete_from(&stream, sequence).await.map(drop)
    }

    async fn delete_from(&self, stream: &Stream<Info>, sequence: u64) -> Result<bool, BusError> {
        match stream.delete_message(sequence).await {
            Ok(is_deleted) => Ok(is_deleted),
            // JetStream replied: there is none.
            Err(error) if matches!(error.kind(), DeleteMessageErrorKind::JetStream(_)) => Ok(false),
            Err(error) => Err(self.failed(error)),
        }
    }
}

/// Why a letter was not written.
enum Refusal {
    NoStream,
    Full,
    /// Another publish to the subject is in flight.
    Undecided,
    Other(BusError),
}

fn letter(read: Read) -> Option<DeadLetter> {
    let Read { published_at, headers, payload, .. } = read;
    if headers.get(REPLAY).is_some() {
        return None;
    }
    let text = |name: &str| headers.get(name).map(|value| value.as_str());
    let since_epoch = Duration::from_nanos(u64::try_from(published_at).ok()?);
    Some(DeadLetter {
        reason: text(REASON).and_then(|reason| serde_json::from_str(reason).ok()).unwrap_or_default(),
        attempts: text(ATTEMPTS).and_then(|attempts| attempts.parse().ok()).unwrap_or_default(),
        at: SystemTime::UNIX_EPOCH + since_epoch,
        message: envelope::decode(&headers, Bytes::clone(&payload))?,
    })
}
