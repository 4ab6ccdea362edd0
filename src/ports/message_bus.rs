//! The message bus: carries committed events to consumers, at least once and in order for each order.
//!
//! Every backend guarantees the following, held by one contract suite:
//! - **At least once**: an accepted message reaches every existing consumer, until the consumer acknowledges it or moves it to its dead letters. It
//!   may be delivered more than once; [`Message::event_id`] identifies the event.
//! - **In order for each key**: messages of one key are first delivered in the order of publication. While one waits for its retry, the later ones of
//!   its key wait behind it; those already delivered are requeued and redelivered after it. Other keys continue.
//! - **Independent cursors**: each name has its own cursor. A new name starts with the oldest message that the bus still holds.
//! - **Durable names**: a consumer re-created under its name resumes after the previous one's acknowledgements; delivered, unacknowledged messages are
//!   redelivered. A name has one live [`Consumer`]: a new one replaces it. Spread work by names, not by copies.
//! - **Slowness loses nothing**: where a slow consumer keeps the bus full, publishing waits or fails. Without any consumer the bus may drop the
//!   oldest messages: it carries news, the log keeps history.
//! - **Volatility is reported**: [`MessageBus::oldest_unpersisted`] names the messages that a publisher must be able to publish again.
//! - **Cancel-safe**: dropping any of these futures loses nothing. The dropped call may or may not have taken effect.

use std::{
    borrow::Cow,
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;

use crate::ports::server_name::ServerName;

mod delivery_window;
mod prefetch;

pub use delivery_window::DeliveryWindow;
pub use prefetch::{PrefetchBuffer, Prefetched, run_to_completion};

/// The maximum number of dead letters of a consumer.
pub const MAX_DEAD_LETTERS: usize = 10_000;
/// The maximum length of a dead letter's reason, in bytes; the rest is cut off.
pub const MAX_REASON_BYTES: usize = 1_024;

/// Identifies the event of a message; stable when it is published again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// See [`Message::key`].
    pub key: u64,
    /// See [`Message::sequence`].
    pub sequence: u64,
}

/// One event in transit. Cloning shares the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The order's number: order is kept among the messages of one key.
    pub key: u64,
    /// The event's revision in its order: 1, 2, 3 …
    pub sequence: u64,
    /// The event's position in its log.
    pub position: u64,
    /// The type of the event, such as `OrderPaid`.
    pub kind: Cow<'static, str>,
    /// The encoded event, exactly as stored in the log.
    pub payload: Bytes,
}

impl Message {
    /// The id of its event; its text form is `<key>-<sequence>`.
    #[must_use]
    pub const fn event_id(&self) -> EventId {
        EventId { key: self.key, sequence: self.sequence }
    }
}

/// The metadata of a message for listeners outside this service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloudEventAttributes {
    /// When the event happened, RFC 3339; empty if unknown.
    pub time: String,
    /// The W3C trace context of the command that caused the event; empty if the command has none.
    pub traceparent: String,
    /// The content type and the data for listeners, if they differ from the stored form.
    pub data: Option<(&'static str, Bytes)>,
}

/// Identifies one delivery of one message to one consumer; void once the message has been requeued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    slot: u64,
    delivery: u32,
}

/// A message delivered to a consumer.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// The number of this attempt, from 1; messages requeued because of an earlier one of their key do not count as attempted.
    pub attempt: u32,
    /// A replayed dead letter: it is delivered out of order.
    pub replayed: bool,
    /// The receipt to acknowledge it with.
    pub receipt: Receipt,
}

/// A dead letter: a message that a consumer could not process.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The message.
    pub message: Message,
    /// The reason, at most [`MAX_REASON_BYTES`].
    pub reason: String,
    /// The number of attempts.
    pub attempts: u32,
    /// When it became a dead letter, by the clock of the bus.
    pub at: SystemTime,
}

/// Why a call of the bus failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// The consumer's name is invalid: see [`crate::ports::checkpoint_store::is_valid_name`].
    #[error("a consumer's name is 1 to 128 ASCII letters, digits, '-' and '_'")]
    InvalidName,
    /// Another consumer was created under this name, or the name was removed: this one has ended.
    #[error("another consumer has taken over this name")]
    Replaced,
    /// No consumer has this name.
    #[error("there is no consumer of this name")]
    UnknownConsumer,
    /// The consumer has reached its maximum of dead letters. Replay or discard some.
    #[error("the consumer already has {capacity} dead letters")]
    DeadLettersFull {
        /// The maximum.
        capacity: usize,
    },
    /// The bus is unreachable, overloaded or full; it is unknown how much was done. A retry may help.
    #[error("the message bus is unavailable: {0}")]
    Unavailable(String),
}

impl BusError {
    /// Whether a retry may help.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::DeadLettersFull { .. })
    }
}

/// The accepted messages that would be lost with this process. See [`MessageBus::oldest_unpersisted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolatileMessages {
    /// Nothing.
    Nothing,
    /// Messages from this [`Message::position`] on, and no earlier ones.
    From(u64),
    /// All published messages: not every consumer exists yet.
    NoConsumer,
}

/// Carries messages from publishers to consumers. See the module for the guarantees of every backend.
#[async_trait]
pub trait MessageBus: fmt::Debug + Send + Sync + 'static {
    /// The name of the backend, as in `--transport`.
    fn kind(&self) -> &'static str;

    /// Publishes `messages` in their order. May wait for slow consumers.
    ///
    /// # Errors
    /// [`BusError::Unavailable`]: any number of them may have been accepted, but none before an earlier one of its key. Publish them all again, if
    /// nothing was lost ([`MessageBus::lost_from`]).
    async fn publish(&self, messages: &[Message]) -> Result<(), BusError>;

    /// The accepted messages that the consumers of these names would never receive if this process ended now.
    ///
    /// For a bus within the process these are the unacknowledged messages; a publisher that reads a log keeps its checkpoint before them and
    /// publishes them again. A publisher must publish in the order of its positions, and again from the first volatile one. A bus outside the process
    /// returns [`VolatileMessages::Nothing`], whatever the lifetime of its server. Dead letters count as processed; a bus within the process loses
    /// them with it.
    fn oldest_unpersisted(&self, consumers: &[String]) -> VolatileMessages;

    /// The [`Message::position`] from which accepted messages may be missing, because the bus lost its data while this process was connected, or
    /// failed over to a server that lacks some; `None` if nothing was lost. Makes no request while messages are published, nothing was lost and the
    /// connection lasts; otherwise at most about one a second.
    /// `consumers` must get every event; all events of this log up to `published_to` have been accepted, from any publisher. Other publishers may
    /// publish other logs.
    ///
    /// Until [`MessageBus::resume`] is called, publishing fails: events from this position on must be published again first.
    ///
    /// # Errors
    /// [`BusError::Unavailable`]: the answer is not known yet.
    async fn lost_from(&self, consumers: &[String], log: u32, published_to: u64) -> Result<Option<u64>, BusError> {
        let _ = (consumers, log, published_to);
        Ok(None)
    }

    /// Allows publishing again: the result of [`MessageBus::lost_from`] has been recorded, and lost messages will be published again.
    fn resume(&self) {}

    /// The consumer of this name, created if it is new; replaces a live one.
    ///
    /// From now on the bus keeps the unacknowledged messages of this name: an abandoned consumer eventually blocks publishers, until it is removed.
    ///
    /// # Errors
    /// [`BusError::InvalidName`], [`BusError::Unavailable`].
    async fn consumer(&self, name: &str) -> Result<Box<dyn Consumer>, BusError>;

    /// Removes the cursor and the unacknowledged messages of `name`, but not its dead letters. Does nothing for an unknown name.
    ///
    /// # Errors
    /// [`BusError::Unavailable`].
    async fn remove_consumer(&self, name: &str) -> Result<(), BusError>;

    /// Up to `max` dead letters of the consumer `name`, the oldest first; empty for an unknown name.
    ///
    /// # Errors
    /// [`BusError::Unavailable`].
    async fn dead_letters(&self, name: &str, max: usize) -> Result<Vec<DeadLetter>, BusError>;

    /// Redelivers dead letters of the consumer `name`, as [`Delivery::replayed`] and with attempts counted from 1. Returns how many of `events` were
    /// among them.
    ///
    /// # Errors
    /// [`BusError::UnknownConsumer`], [`BusError::Unavailable`].
    async fn replay(&self, name: &str, events: &[EventId]) -> Result<usize, BusError>;

    /// Permanently discards dead letters of the consumer `name`. Returns how many of `events` were among them.
    ///
    /// # Errors
    /// [`BusError::Unavailable`].
    async fn discard(&self, name: &str, events: &[EventId]) -> Result<usize, BusError>;

    /// Its server, for messages; `None` if it is none, or has no name here.
    fn server(&self) -> Option<ServerName> {
        None
    }

    /// Why the bus is known to be unreachable, without a call, as [`EventStore::unreachable`] does for a store.
    ///
    /// [`EventStore::unreachable`]: crate::ports::event_store::EventStore::unreachable
    fn unreachable(&self) -> Option<String> {
        None
    }

    /// What threatens the bus while it works, for humans: the loss of one more server would stop it. It makes no call.
    fn at_risk(&self) -> Option<String> {
        None
    }

    /// Why calls are known to fail now, as [`EventStore::known_outage`] does for a store.
    ///
    /// [`EventStore::known_outage`]: crate::ports::event_store::EventStore::known_outage
    fn known_outage(&self) -> Option<String> {
        self.unreachable()
    }

    /// Whether a message published now would be accepted.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] gives the reason if it would not.
    async fn check(&self) -> Result<(), BusError>;
}

/// The receiving end of one name. One task reads batches; dropping the consumer keeps the name and its cursor.
///
/// Void receipts (the message was acknowledged, or requeued for redelivery) are silently ignored.
#[async_trait]
pub trait Consumer: fmt::Debug + Send + Sync {
    /// How long the consumer may hold a delivery before it is requeued and redelivered.
    fn ack_wait(&self) -> Duration;

    /// The next 1 to `max` deliveries; waits until there is one. A `max` of 0 counts as 1.
    ///
    /// # Errors
    /// [`BusError::Replaced`], [`BusError::Unavailable`].
    async fn next_batch(&self, max: usize) -> Result<Vec<Delivery>, BusError>;

    /// Acknowledges deliveries: they are never delivered again.
    ///
    /// # Errors
    /// [`BusError::Replaced`], [`BusError::Unavailable`].
    async fn ack(&self, receipts: &[Receipt]) -> Result<(), BusError>;

    /// Restarts the ack-wait of deliveries that are still being processed.
    ///
    /// # Errors
    /// [`BusError::Replaced`], [`BusError::Unavailable`].
    async fn extend(&self, receipts: &[Receipt]) -> Result<(), BusError>;

    /// Returns the message, to be redelivered no earlier than `after` from now. Later delivered messages of its key are requeued with it: do not
    /// process them.
    ///
    /// # Errors
    /// [`BusError::Replaced`], [`BusError::Unavailable`].
    async fn retry(&self, receipt: Receipt, after: Duration) -> Result<(), BusError>;

    /// Moves the message to the dead letters of this consumer, replacing an earlier dead letter of the same event; later messages of its key
    /// continue.
    ///
    /// # Errors
    /// [`BusError::DeadLettersFull`]: the message stays in flight; retry or let it be redelivered. [`BusError::Replaced`], [`BusError::Unavailable`].
    async fn dead_letter(&self, delivery: &Delivery, reason: &str) -> Result<(), BusError>;
}

/// `reason`, cut to [`MAX_REASON_BYTES`] at the end of a character.
#[must_use]
pub fn bounded_reason(reason: &str) -> String {
    let mut end = reason.len().min(MAX_REASON_BYTES);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason[..end].to_owned()
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.key, self.sequence)
    }
}

impl FromStr for EventId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        let parts = text.split_once('-').and_then(|(key, sequence)| Some((number(key)?, number(sequence)?)));
        let (key, sequence) = parts.ok_or("must be an event id, <order id>-<revision>")?;
        Ok(Self { key, sequence })
    }
}
