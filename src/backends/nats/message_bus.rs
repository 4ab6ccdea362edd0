//! The message bus in JetStream: one stream for all messages, one subject for each order.
//!
//! The stream `{prefix}-events` takes `{prefix}.events.<key>`. JetStream captures messages that are published normally, so a plain subscriber of
//! `{prefix}.events.>` sees every event, and any durable consumer of these subjects gets every event. Every message is a CloudEvent. A message larger
//! than the server's `max_payload` is preceded by parts on `{prefix}.parts.<key>`, and cannot become a dead letter.
//!
//! The stream is bounded and refuses messages beyond its bound. Messages that every consumer has processed are dropped when room is needed; if a
//! consumer keeps the stream full, publishing waits; with no consumer at all the oldest messages are dropped.
//!
//! A stream or a bucket that vanishes while nodes run is recreated. Earlier sequences are then meaningless (see `identity.rs`): consumers read the
//! new stream from its beginning, and the events that they had not processed are published again from the log. A loss while no node runs is not
//! detected for events that were accepted before.
//!
//! Our own consumers keep their position themselves, in a bucket, and not in a durable JetStream consumer. JetStream persists acknowledgements some
//! time after it has received them, so a crash of the server would redeliver processed messages; it cannot distinguish a replaced consumer from its
//! replacement; and the messages that the previous one held are redelivered only after its ack-wait. A key of a bucket, written on condition of its
//! revision, solves all three. An ephemeral consumer reads messages from that position on. Retries, ack-waits and the order of keys are handled by
//! the live consumer alone ([`DeliveryWindow`]).
//!
//! [`DeliveryWindow`]: crate::ports::message_bus::DeliveryWindow

mod acked_ranges;
mod consumer;
mod dead_letters;
mod envelope;
mod identity;
mod others;
mod publisher;
mod registry;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{
    sync::{Mutex, Notify},
    time::{Instant, timeout_at},
};

use self::{consumer::NatsConsumer, dead_letters::DeadLetters, identity::Identity, publisher::End, registry::Registry};
use super::{
    api::CallError,
    connection::{ConnectError, Nats},
    permissions::FORBIDDEN_FOR,
    server::ServerFacts,
};
use crate::ports::{
    checkpoint_store::is_valid_name,
    message_bus::{
        BusError, CloudEventAttributes, Consumer, DeadLetter, EventId, MAX_DEAD_LETTERS, Message, MessageBus,
        VolatileMessages,
    },
};

/// How long a check waits for a reply.
const CHECK_WITHIN: Duration = Duration::from_secs(2);
/// How long after a loss to wait for a consumer that knows its own position.
const RETURN_WITHIN: Duration = Duration::from_secs(30);

/// The bounds of a [`NatsMessageBus`], all at least 1, and the attributes of its CloudEvents.
#[derive(Clone, Copy, Debug)]
pub struct NatsBusOptions {
    /// How many messages the stream holds. An existing stream keeps its own bounds.
    pub capacity_messages: usize,
    /// How many bytes the stream holds, headers included; at least 2 MiB.
    pub capacity_bytes: i64,
    /// For how long the server detects that an event is published again.
    pub duplicate_window: Duration,
    /// How many messages a consumer may hold unacknowledged.
    pub max_unacked: usize,
    /// The time after which they are redelivered.
    pub ack_wait: Duration,
    /// How many dead letters a consumer may have.
    pub max_dead_letters: usize,
    /// Describes a message to external listeners.
    pub describe: fn(&Message) -> CloudEventAttributes,
}

impl Default for NatsBusOptions {
    fn default() -> Self {
        Self {
            capacity_messages: 65_536,
            capacity_bytes: 1024 * 1024 * 1024,
            duplicate_window: Duration::from_secs(120),
            max_unacked: 8_192,
            ack_wait: Duration::from_secs(30),
            max_dead_letters: MAX_DEAD_LETTERS,
            describe: |_| CloudEventAttributes::default(),
        }
    }
}

/// A [`MessageBus`] in JetStream. See the module.
#[derive(Debug)]
pub struct NatsMessageBus {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    nats: Nats,
    options: NatsBusOptions,
    stream: String,
    /// The prefix of the subjects of messages.
    subject: String,
    /// The prefix of the subjects of parts of large messages.
    parts_subject: String,
    /// The source attribute of messages.
    source: String,
    registry: Registry,
    identity: Identity,
    /// The state of the publisher; one batch at a time is published.
    end: Mutex<End>,
    /// Notified when a consumer may have messages ready, or may have been replaced.
    arrived: Notify,
    /// Notified when the stream may have room again.
    room: Notify,
}

impl NatsMessageBus {
    /// The bus in `nats`, which need not be connected yet.
    #[must_use]
    pub fn new(nats: Nats, options: NatsBusOptions) -> Self {
        let (stream, subject, parts_subject) =
            (nats.stream_name("events"), nats.subject("events"), nats.subject("parts"));
        let source = format!("/{}/orders", nats.options().prefix);
        let registry = Registry::new(nats.clone());
        let (end, arrived, room) = (Mutex::default(), Notify::new(), Notify::new());
        Self {
            shared: Arc::new(Shared {
                nats,
                options,
                stream,
                subject,
                parts_subject,
                source,
                registry,
                identity: Identity::default(),
                end,
                arrived,
                room,
            }),
        }
    }

    /// Finds or creates the stream and the bucket of the bus.
    ///
    /// # Errors
    /// [`ConnectError`] gives the reason why they cannot be used, and whether waiting helps.
    pub async fn verify(&self) -> Result<(), ConnectError> {
        let nats = &self.shared.nats;
        nats.connected().await?;
        let server = ServerFacts::read(nats).await?;
        if let Some(why) = server.unfit_for_replicas(nats.options().replicas as u64) {
            return Err(ConnectError::Fatal(why));
        }
        publisher::verify(&self.shared).await?;
        nats.may_publish(self.shared.probe_subject()).await?;
        nats.may_publish_unseen(format!("{}.probe", self.shared.subject)).await?;
        nats.may_consume(&self.shared.stream).await?;
        nats.may_trim(&self.shared.stream).await?;
        // The dead letters of a handler are in a stream that is created with the first one.
        nats.may_keep(&nats.stream_name("dead-probe")).await?;
        self.shared.registry.verify().await
    }
}

impl Shared {
    /// The position of the log from which on events that are still needed may be missing.
    async fn missing_from(&self, consumers: &[String], lost_at: Instant) -> Result<u64, BusError> {
        let (names, _) = self.registry.names().await?;
        let mut first = u64::MAX;
        for name in names.consumers.keys().chain(consumers) {
            first = first.min(match self.registry.position_of(&names, name).await? {
                Some(position) => position.saturating_add(1),
                None if lost_at.elapsed() < RETURN_WITHIN => {
                    return Err(BusError::Unavailable(format!(
                        "the consumer {name} has not reported its progress yet"
                    )));
                }
                // Unknown: all of it may be missing.
                None => 1,
            });
        }
        Ok(first)
    }

    fn dead_letters(&self, name: &str) -> DeadLetters {
        DeadLetters::new(&self.nats, name, self.source.clone(), self.options.max_dead_letters)
    }
}

impl Shared {
    /// The subject that probes whether a publish would be stored. It is a subject of parts: a refused publish still reaches all plain subscribers of
    /// events.
    fn probe_subject(&self) -> String {
        format!("{}.probe", self.parts_subject)
    }

    /// Returns an error if NATS denied the relay's last publish.
    fn check_permitted(&self) -> Result<(), BusError> {
        let since = Instant::now().checked_sub(FORBIDDEN_FOR);
        let begin = format!("{}.", self.subject);
        let forbidden = since.and_then(|since| self.nats.forbidden().publish_below(&begin, since));
        forbidden.map_or(Ok(()), |what| Err(BusError::Unavailable(what)))
    }
}

#[async_trait]
impl MessageBus for NatsMessageBus {
    fn kind(&self) -> &'static str {
        "nats"
    }

    async fn publish(&self, messages: &[Message]) -> Result<(), BusError> {
        publisher::publish(&self.shared, messages).await
    }

    /// JetStream keeps the messages that it has accepted, even if this process ends.
    fn oldest_unpersisted(&self, _consumers: &[String]) -> VolatileMessages {
        VolatileMessages::Nothing
    }

    async fn lost_from(&self, consumers: &[String], _log: u32, _published_to: u64) -> Result<Option<u64>, BusError> {
        let Some(lost_at) = self.shared.identity.lost_since() else { return Ok(None) };
        self.shared.identity.begin_resuming();
        self.shared.missing_from(consumers, lost_at).await.map(Some)
    }

    fn resume(&self) {
        self.shared.identity.resume();
    }

    async fn consumer(&self, name: &str) -> Result<Box<dyn Consumer>, BusError> {
        if !is_valid_name(name) {
            return Err(BusError::InvalidName);
        }
        let (cursor, progress) = self.shared.registry.open(name).await?;
        // Lets the previous consumer notice now that it was replaced.
        self.shared.arrived.notify_waiters();
        Ok(Box::new(NatsConsumer::new(Arc::clone(&self.shared), name.to_owned(), cursor, progress)))
    }

    async fn remove_consumer(&self, name: &str) -> Result<(), BusError> {
        if !is_valid_name(name) {
            return Ok(());
        }
        self.shared.registry.remove(name).await?;
        self.shared.arrived.notify_waiters();
        self.shared.room.notify_waiters();
        Ok(())
    }

    async fn dead_letters(&self, name: &str, max: usize) -> Result<Vec<DeadLetter>, BusError> {
        if !is_valid_name(name) || max == 0 {
            return Ok(Vec::new());
        }
        self.shared.dead_letters(name).list(max).await
    }

    async fn replay(&self, name: &str, events: &[EventId]) -> Result<usize, BusError> {
        let (names, _) = self.shared.registry.names().await?;
        if !names.consumers.contains_key(name) {
            return Err(BusError::UnknownConsumer);
        }
        let replayed = self.shared.dead_letters(name).replay(events).await;
        self.shared.arrived.notify_waiters();
        replayed
    }

    async fn discard(&self, name: &str, events: &[EventId]) -> Result<usize, BusError> {
        if !is_valid_name(name) {
            return Ok(0);
        }
        self.shared.dead_letters(name).discard(events).await
    }

    fn unreachable(&self) -> Option<String> {
        self.shared.nats.unreachable()
    }

    /// JetStream replies, there is room, and a publish would be stored: by this user, too, and by a leader.
    async fn check(&self) -> Result<(), BusError> {
        let Shared { nats, registry, .. } = &*self.shared;
        if !nats.is_connected() {
            let why = nats.failure().unwrap_or_else(|| "not connected yet".to_owned());
            return Err(BusError::Unavailable(format!("NATS is unreachable: {why}")));
        }
        let deadline = Instant::now() + CHECK_WITHIN;
        let silent = |_| BusError::Unavailable(nats.named("no answer in time"));
        let found = timeout_at(deadline, publisher::ensure_room(&self.shared, 1)).await.map_err(silent)??;
        if found.room == 0 {
            let who = found.slowest.as_deref().unwrap_or("nobody");
            return Err(BusError::Unavailable(format!("the stream is full and waits for the consumer {who}")));
        }
        let parts =
            async { nats.probe(self.shared.probe_subject(), deadline).await.map_err(|error| error.to_string()) };
        tokio::try_join!(parts, registry.probe(deadline)).map_err(BusError::Unavailable)?;
        self.shared.check_permitted()
    }
}

fn unreadable(stream: &str, error: &CallError) -> BusError {
    BusError::Unavailable(format!("the stream {stream} cannot be read: {error}"))
}
