//! The handler trait for embedders.

use bytes::Bytes;
use prost::Message as _;

use crate::{
    ports::{
        checkpoint_store::is_valid_name,
        message_bus::{EventId, Message},
    },
    proto::catga::events::v1::OrderEvent,
};

/// The prefix of a handler's lease name, followed by the handler's name.
const LEASE_PREFIX: &str = "subscription-";

/// An application's reaction to events. Handle each order's events idempotently: delivery is at least once.
#[async_trait::async_trait]
pub trait EventHandler: Send + Sync + 'static {
    /// The name of its consumer on the bus, its dead letters, its lease and its metrics; never change it. 1 to 115 ASCII letters, digits, `-` and
    /// `_`.
    fn name(&self) -> &str;

    /// Processes one event. Cancelled when it takes longer than [`super::SubscriptionOptions::handler_timeout`]; a panic counts as
    /// [`HandlerError::Retry`].
    ///
    /// # Errors
    /// [`HandlerError`] determines how to proceed with the event.
    async fn handle(&self, event: &ReceivedEvent) -> Result<(), HandlerError>;
}

/// Why an event was not processed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandlerError {
    /// A temporary failure: retry later.
    Retry(String),
    /// A permanent failure: move the event to the dead letters at once.
    Reject(String),
}

impl HandlerError {
    /// The reason given by the handler.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Retry(reason) | Self::Reject(reason) => reason,
        }
    }
}

impl From<prost::DecodeError> for HandlerError {
    fn from(error: prost::DecodeError) -> Self {
        Self::Reject(format!("the event cannot be decoded: {error}"))
    }
}

/// An event as delivered to a handler.
#[derive(Clone, Debug)]
pub struct ReceivedEvent {
    pub(super) message: Message,
    pub(super) attempt: u32,
    pub(super) replayed: bool,
}

impl ReceivedEvent {
    /// Its stable id; the text form is `<order number>-<revision>`.
    #[must_use]
    pub const fn event_id(&self) -> EventId {
        self.message.event_id()
    }

    /// The changed order.
    #[must_use]
    pub const fn order_number(&self) -> u64 {
        self.message.key
    }

    /// Its revision in its order: 1, 2, 3 …
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.message.sequence
    }

    /// Its position in the log.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.message.position
    }

    /// Its type, such as `OrderPaid`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.message.kind
    }

    /// The encoded event, exactly as stored in the log.
    #[must_use]
    pub const fn payload(&self) -> &Bytes {
        &self.message.payload
    }

    /// The number of this attempt, from 1.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether it is a replayed dead letter: later events of its order may have been handled before.
    #[must_use]
    pub const fn replayed(&self) -> bool {
        self.replayed
    }

    /// Decodes the payload on each call.
    ///
    /// # Errors
    /// `DecodeError` if it is not an event; by `?` it becomes [`HandlerError::Reject`].
    pub fn decode(&self) -> Result<OrderEvent, prost::DecodeError> {
        OrderEvent::decode(self.message.payload.clone())
    }
}

/// The name of the lease under which the handler `name` runs.
#[must_use]
pub fn lease_name(name: &str) -> String {
    format!("{LEASE_PREFIX}{name}")
}

/// Whether `name` is a valid handler name: see [`EventHandler::name`].
#[must_use]
pub fn is_valid_handler_name(name: &str) -> bool {
    !name.is_empty() && is_valid_name(&lease_name(name))
}
