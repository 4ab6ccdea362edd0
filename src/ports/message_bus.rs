//! The message bus: carries committed events to whoever wants to know, at least once and in order for each order.
//!
//! What every backend guarantees, held by one contract suite:
//! - **At least once**: a message that was accepted reaches every consumer that exists, until the consumer acknowledges it or moves it to
//!   its dead letters. It may come more than once; [`Message::event_id`] tells which it is.
//! - **In order for each key**: messages of one key come first in the order of publication. While one waits for its retry, the later ones
//!   of its key wait behind it, and those already handed out are taken back and come again after it. Other keys go on.
//! - **Everyone sees everything**: each name has its own cursor. A new name starts with the oldest message that the bus still holds.
//! - **Durable names**: a consumer made again under its name goes on where the former one had acknowledged; what was handed out and not
//!   acknowledged comes again. A name has one live [`Consumer`]: a new one replaces it. Spread work by names, not by copies.
//! - **Nothing is lost to slowness**: where a slow consumer keeps the bus full, publishing waits or fails. With no consumer at all the bus
//!   may drop the oldest messages: it carries news, the log keeps history.
//! - **What outlives the process is said**: [`MessageBus::oldest_unpersisted`] names what a publisher has to be able to publish again.
//! - **Cancel-safe**: dropping any of these futures loses nothing. What a dropped call was about may or may not have happened.

use std::{
    borrow::Cow,
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;

mod delivery_window;

pub use delivery_window::DeliveryWindow;

/// The most dead letters that a consumer may have.
pub const MAX_DEAD_LETTERS: usize = 10_000;
/// The longest reason of a dead letter, in bytes; the rest is cut off.
pub const MAX_REASON_BYTES: usize = 1_024;

/// Which event a message carries: stable over publishing again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// See [`Message::key`].
    pub key: u64,
    /// See [`Message::sequence`].
    pub sequence: u64,
}

/// One event on its way. Cloning shares the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The order's number: order is kept among the messages of one key.
    pub key: u64,
    /// The event's revision in its order: 1, 2, 3 …
    pub sequence: u64,
    /// The event's position in the log that it comes from.
    pub position: u64,
    /// The type of the event, such as `OrderPaid`.
    pub kind: Cow<'static, str>,
    /// The encoded event, exactly as the log holds it.
    pub payload: Bytes,
}

impl Message {
    /// Which event it carries; written out, `<key>-<sequence>`.
    #[must_use]
    pub const fn event_id(&self) -> EventId {
        EventId { key: self.key, sequence: self.sequence }
    }
}

/// What a message says of itself to listeners that are not ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// When it happened, RFC 3339; empty if that is not known.
    pub time: String,
    /// The content type and the data for listeners, where they are to get another form than what is stored.
    pub data: Option<(&'static str, Bytes)>,
}

/// Stands for one handing out of one message to one consumer; void when the message has been taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    slot: u64,
    delivery: u32,
}

/// A message in a consumer's hands.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// Which try this is, from 1; messages taken back because of an earlier one of their key have not been tried.
    pub attempt: u32,
    /// It was a dead letter and somebody asked for another try: it comes out of order.
    pub replayed: bool,
    /// What to acknowledge it with.
    pub receipt: Receipt,
}

/// A message that a consumer gave up.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The message.
    pub message: Message,
    /// Why, at most [`MAX_REASON_BYTES`].
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was given up, by the clock of the bus.
    pub at: SystemTime,
}

/// Why the bus did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusError {
    /// The consumer's name is not one: see [`crate::ports::checkpoint_store::is_valid_name`].
    InvalidName,
    /// Another consumer was made under this name, or the name was removed: this one is at its end.
    Replaced,
    /// No consumer has this name.
    UnknownConsumer,
    /// The consumer has as many dead letters as it may have. Replay or discard some.
    DeadLettersFull {
        /// As many.
        capacity: usize,
    },
    /// Out of reach, overloaded or full; it is not known how much was done. Trying again helps.
    Unavailable(String),
}

impl BusError {
    /// Whether doing the same again may help.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::DeadLettersFull { .. })
    }
}

/// What of the accepted messages would be lost with this process. See [`MessageBus::oldest_unpersisted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolatileMessages {
    /// Nothing.
    Nothing,
    /// Messages from this [`Message::position`] on, and none before it.
    From(u64),
    /// Whatever is published: not every consumer exists yet.
    NoConsumer,
}

/// Carries messages from publishers to consumers. See the module for what every backend guarantees.
#[async_trait]
pub trait MessageBus: fmt::Debug + Send + Sync + 'static {
    /// The name of the backend, as in `--transport`.
    fn kind(&self) -> &'static str;

    /// Publishes `messages` in their order. May wait for slow consumers.
    ///
    /// # Errors
    /// [`BusError::Unavailable`]: any number of them may have been accepted, none before an earlier one of its key. Publish them all again, if
    /// nothing was lost ([`MessageBus::lost_from`]).
    async fn publish(&self, messages: &[Message]) -> Result<(), BusError>;

    /// What of the accepted messages the consumers of these names would never get if this process ended now.
    ///
    /// For a bus that lives in the process that is what they have not acknowledged; whoever publishes from a log then keeps his place there
    /// and publishes it again. Everything of one publisher has to be published in the order of its positions, and again from where it is at risk.
    /// Whatever a bus keeps outside the process is not at risk, however long its server lives: the answer of such a bus is
    /// [`VolatileMessages::Nothing`]. Dead letters count as dealt with; in the process they are lost with it.
    fn oldest_unpersisted(&self, consumers: &[String]) -> VolatileMessages;

    /// From which [`Message::position`] on messages that were accepted may be missing, since the bus has lost its data while this process was
    /// connected to it, or has failed over to a server that lacks some; `None` if it has lost nothing. Asks nobody as long as that is so and the
    /// connection lasts. `consumers` are those that must get every event; up to `published_to` everything of this log has been
    /// accepted, by whomever. Others may publish other logs.
    ///
    /// Until [`MessageBus::resume`] has been called, publishing fails: whatever comes from this position on has to be published again first.
    ///
    /// # Errors
    /// [`BusError::Unavailable`]: it is not known yet.
    async fn lost_from(&self, consumers: &[String], log: u32, published_to: u64) -> Result<Option<u64>, BusError> {
        let _ = (consumers, log, published_to);
        Ok(None)
    }

    /// What was lost is published again from here on: the answer of [`MessageBus::lost_from`] has been written down.
    fn resume(&self) {}

    /// The consumer of this name, made if it is new; replaces a live one.
    ///
    /// From now on the bus keeps what this name has not acknowledged: one that never comes back holds publishers up in the end, until it is
    /// removed.
    ///
    /// # Errors
    /// [`BusError::InvalidName`], [`BusError::Unavailable`].
    async fn consumer(&self, name: &str) -> Result<Box<dyn Consumer>, BusError>;

    /// Forgets the cursor and the unacknowledged messages of `name`, not its dead letters. Does nothing for an unknown name.
    ///
    /// # Errors
    /// [`BusError::Unavailable`].
    async fn remove_consumer(&self, name: &str) -> Result<(), BusError>;

    /// Up to `max` dead letters of the consumer `name`, the oldest first; empty for an unknown name.
    ///
    /// # Errors
    /// [`BusError::Unavailable`].
    async fn dead_letters(&self, name: &str, max: usize) -> Result<Vec<DeadLetter>, BusError>;

    /// Hands dead letters of the consumer `name` to it once more, as [`Delivery::replayed`] and with attempts counted from 1. Answers how
    /// many of `events` were among them.
    ///
    /// # Errors
    /// [`BusError::UnknownConsumer`], [`BusError::Unavailable`].
    async fn replay(&self, name: &str, events: &[EventId]) -> Result<usize, BusError>;

    /// Drops dead letters of the consumer `name` for good. Answers how many of `events` were among them.
    ///
    /// # Errors
    /// [`BusError::Unavailable`].
    async fn discard(&self, name: &str, events: &[EventId]) -> Result<usize, BusError>;

    /// Why the bus is known to be unreachable, without asking it, as [`EventStore::unreachable`] says of a store.
    ///
    /// [`EventStore::unreachable`]: crate::ports::event_store::EventStore::unreachable
    fn unreachable(&self) -> Option<String> {
        None
    }

    /// Whether a message published now would be accepted.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] says what is wrong.
    async fn check(&self) -> Result<(), BusError>;
}

/// The receiving end of one name. One task asks for batches; dropping it keeps the name and its place.
///
/// Receipts that are void (the message was acknowledged, or taken back and will come again) are passed over in silence.
#[async_trait]
pub trait Consumer: fmt::Debug + Send + Sync {
    /// How long the consumer may hold a delivery before it is taken back and comes again.
    fn ack_wait(&self) -> Duration;

    /// The next 1 to `max` deliveries; waits until there is one. A `max` of 0 counts as 1.
    ///
    /// # Errors
    /// [`BusError::Replaced`], [`BusError::Unavailable`].
    async fn next_batch(&self, max: usize) -> Result<Vec<Delivery>, BusError>;

    /// These are dealt with and never come again.
    ///
    /// # Errors
    /// [`BusError::Replaced`], [`BusError::Unavailable`].
    async fn ack(&self, receipts: &[Receipt]) -> Result<(), BusError>;

    /// Starts the wait for these anew: they are still being worked on.
    ///
    /// # Errors
    /// [`BusError::Replaced`], [`BusError::Unavailable`].
    async fn extend(&self, receipts: &[Receipt]) -> Result<(), BusError>;

    /// Gives the message back, to come again not before `after` has passed. Later messages of its key that have been handed out are taken back
    /// with it: do not work on them.
    ///
    /// # Errors
    /// [`BusError::Replaced`], [`BusError::Unavailable`].
    async fn retry(&self, receipt: Receipt, after: Duration) -> Result<(), BusError>;

    /// Moves the message to the dead letters of this consumer, in place of an earlier dead letter of the same event; later ones of its key
    /// go on.
    ///
    /// # Errors
    /// [`BusError::DeadLettersFull`]: the message stays in hand, try again or let it come again. [`BusError::Replaced`],
    /// [`BusError::Unavailable`].
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

impl fmt::Display for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidName => f.write_str("a consumer's name is 1 to 128 ASCII letters, digits, '-' and '_'"),
            Self::Replaced => f.write_str("another consumer has taken over this name"),
            Self::UnknownConsumer => f.write_str("there is no consumer of this name"),
            Self::DeadLettersFull { capacity } => write!(f, "the consumer already has {capacity} dead letters"),
            Self::Unavailable(why) => write!(f, "the message bus is unavailable: {why}"),
        }
    }
}

impl std::error::Error for BusError {}
