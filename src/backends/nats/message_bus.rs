//! The message bus in JetStream: one stream for all messages, one subject for each order.
//!
//! The stream `{prefix}-events` takes `{prefix}.events.<key>`, and as JetStream captures what is published anyway, a plain subscriber of
//! `{prefix}.events.>` sees every event, and anyone's durable consumer of these subjects gets every event. Every message is a CloudEvent. One
//! that is larger than the server's `max_payload` is preceded by parts on `{prefix}.parts.<key>`. Such a one cannot become a dead letter.
//!
//! The stream is bounded and refuses what is beyond its bound. What every consumer has dealt with is dropped when room is needed; where a
//! consumer keeps it full, publishing waits; with no consumer at all the oldest messages give way.
//!
//! Our own consumers keep their place themselves, in a bucket, and not in a durable consumer of JetStream's. JetStream
//! writes acknowledgements down some time after it has taken them, so a crash of the server would bring back what was dealt with; it cannot
//! tell a consumer that has been replaced from the one that has replaced it; and what the former one held comes again only after its
//! ack-wait. A key of a bucket, written on condition of its revision, does all three. Messages are read by an ephemeral
//! consumer from that place on. Retries, ack-waits and the order of keys are the live consumer's own affair ([`DeliveryWindow`]).
//!
//! [`DeliveryWindow`]: crate::message_bus::DeliveryWindow

mod consumer;
mod dead_letters;
mod dealt;
mod envelope;
mod publisher;
mod reader;
mod registry;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::{Mutex, Notify};

use self::{consumer::NatsConsumer, dead_letters::DeadLetters, publisher::End, registry::Registry};
use super::connection::Nats;
use crate::{
    checkpoint_store::is_valid_name,
    message_bus::{
        AtRisk, BusError, Consumer, DeadLetter, Description, EventId, MAX_DEAD_LETTERS, Message, MessageBus,
    },
};

/// The bounds of a [`NatsMessageBus`], all at least 1, and what it tells other listeners.
#[derive(Clone, Copy, Debug)]
pub struct NatsBusOptions {
    /// How many messages the stream holds. A stream that is there already keeps its own bounds.
    pub capacity_messages: usize,
    /// How many bytes the stream holds, headers included; at least 2 MiB.
    pub capacity_bytes: i64,
    /// For how long the server knows an event that is published again.
    pub duplicate_window: Duration,
    /// How many messages a consumer may hold unacknowledged.
    pub max_unacked: usize,
    /// After what time they are taken back.
    pub ack_wait: Duration,
    /// How many dead letters a consumer may have.
    pub max_dead_letters: usize,
    /// What messages say of themselves to listeners that are not ours.
    pub describe: fn(&Message) -> Description,
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
            describe: |_| Description::default(),
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
    /// What the subjects of messages begin with.
    subject: String,
    /// What the subjects of parts of large messages begin with.
    parts_subject: String,
    /// The source that messages name.
    source: String,
    registry: Registry,
    /// One batch at a time is published from here.
    end: Mutex<End>,
    /// Something may have become ready for some consumer, or another may have taken its place.
    arrived: Notify,
    /// The stream may have room again.
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
                end,
                arrived,
                room,
            }),
        }
    }
}

impl Shared {
    fn dead_letters(&self, name: &str) -> DeadLetters {
        DeadLetters::new(&self.nats, name, self.source.clone(), self.options.max_dead_letters)
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

    /// What JetStream has accepted it keeps, whatever becomes of this process.
    fn at_risk(&self, _consumers: &[String]) -> AtRisk {
        AtRisk::Nothing
    }

    async fn consumer(&self, name: &str) -> Result<Box<dyn Consumer>, BusError> {
        if !is_valid_name(name) {
            return Err(BusError::InvalidName);
        }
        let (cursor, dealt) = self.shared.registry.open(name).await?;
        // The former one is to notice now.
        self.shared.arrived.notify_waiters();
        Ok(Box::new(NatsConsumer::new(Arc::clone(&self.shared), name.to_owned(), cursor, dealt)))
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

    async fn check(&self) -> Result<(), BusError> {
        if !self.shared.nats.is_connected() {
            return Err(BusError::Unavailable("NATS is out of reach".to_owned()));
        }
        match publisher::look(&self.shared, 1).await? {
            found if found.room > 0 => Ok(()),
            found => {
                let who = found.slowest.as_deref().unwrap_or("nobody");
                Err(BusError::Unavailable(format!("the stream is full and waits for the consumer {who}")))
            }
        }
    }
}
