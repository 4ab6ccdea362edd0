//! All errors between the protocol servers and the log, in terms of the client's options.

use std::{fmt, time::Duration};

use crate::{
    codec::CodecError,
    domain::{
        ids::OrderId,
        order::{CorruptHistory, OrderError, Status},
    },
    id_generator::IdError,
    ports::{
        event_store::{AppendError, Position, Revision, StoreError},
        read_model::ReadModelError,
    },
};

/// Why a command or query failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppError {
    /// The order does not exist.
    OrderNotFound(OrderId),
    /// This node has no event handler of this name.
    UnknownHandler {
        /// The requested name.
        name: String,
        /// The existing names.
        known: Vec<String>,
    },
    /// The order has not reached the requested revision or time.
    RevisionNotReached(OrderId),
    /// The requested history starts after the end of the order: the event before it, which the reader must have seen, does not exist.
    HistoryEndsBefore {
        /// The order.
        order_id: OrderId,
        /// The requested first revision.
        from: Revision,
        /// The actual revision of the order.
        actual: Revision,
    },
    /// The order's status does not allow the command.
    IllegalTransition {
        /// The order.
        order_id: OrderId,
        /// Its status.
        status: Status,
        /// Its revision.
        revision: Revision,
        /// The command, as in the API: "PayOrder".
        command: &'static str,
    },
    /// The order is not at the revision that the client expects.
    RevisionConflict {
        /// The order.
        order_id: OrderId,
        /// The expected revision.
        expected: Revision,
        /// The actual revision; 0: the order does not exist.
        actual: Revision,
    },
    /// The request id was used before with another payload.
    RequestReused(String),
    /// Other writers kept winning. Nothing was written; a retry may help.
    Contention,
    /// The limit of concurrent commands and queries is reached.
    Overloaded,
    /// The limit of event streams is reached, on the node or on the connection.
    TooManyStreams,
    /// Responses have waited too long to be read, or the limit of waiting data is reached.
    ReadersBehind,
    /// The call timed out. A command may or may not have taken effect.
    DeadlineExceeded,
    /// The read model did not reach the position in time.
    ConsistencyTimeout(Position),
    /// The node is shutting down; another node, or this one soon, can serve the request.
    ShuttingDown,
    /// It is unknown to the store whether the command took effect.
    OutcomeUnknown(String),
    /// The store is out of space. Nothing was written.
    StoreFull(String),
    /// No new ids can be issued now. Requests that need none are served.
    NewIds {
        /// The reason, worded for the client.
        why: String,
        /// The time until a retry.
        retry_after: Duration,
    },
    /// The commit of the command is larger than the store accepts. Nothing was written.
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The maximum size.
        max_bytes: usize,
    },
    /// A required backend is unavailable.
    Unavailable {
        /// The details, for the log.
        what: String,
        /// The time until a retry.
        retry_after: Duration,
    },
    /// The log no longer has events that were read from it: the reader has to start over.
    LogReplaced(String),
    /// The stored data is inconsistent. The text is for the log; a retry does not help.
    Corrupt(String),
}

/// The default retry delay for clients.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

impl AppError {
    pub(crate) fn refused(order_id: OrderId, revision: Revision, error: OrderError) -> Self {
        match error {
            OrderError::NotFound => Self::OrderNotFound(order_id),
            OrderError::IllegalTransition { status, command } => {
                Self::IllegalTransition { order_id, status, revision, command }
            }
            // The service chooses the id, and another one may be free.
            OrderError::AlreadyExists => Self::unavailable(format_args!("the new order id {order_id} is taken")),
        }
    }

    pub(crate) fn unavailable(what: impl fmt::Display) -> Self {
        Self::Unavailable { what: what.to_string(), retry_after: RETRY_AFTER }
    }

    /// Whether the error makes a claim about the content of the log.
    pub(super) const fn is_claim(&self) -> bool {
        matches!(
            self,
            Self::OrderNotFound(_)
                | Self::RevisionNotReached(_)
                | Self::HistoryEndsBefore { .. }
                | Self::IllegalTransition { .. }
                | Self::RevisionConflict { .. }
                | Self::RequestReused(_)
                | Self::LogReplaced(_)
        )
    }

    /// Whether the service or a dependency is at fault, not the client.
    #[must_use]
    pub const fn is_internal(&self) -> bool {
        matches!(
            self,
            Self::OutcomeUnknown(_)
                | Self::StoreFull(_)
                | Self::NewIds { .. }
                | Self::Unavailable { .. }
                | Self::LogReplaced(_)
                | Self::Corrupt(_)
                | Self::DeadlineExceeded
        )
    }
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OrderNotFound(id) => write!(f, "there is no order {id}"),
            Self::UnknownHandler { name, known } => {
                write!(f, "there is no handler {name:?} here, but {}", known.join(", "))
            }
            Self::RevisionNotReached(id) => write!(f, "order {id} did not exist at that revision or time"),
            Self::HistoryEndsBefore { order_id, from, actual } => {
                write!(f, "order {order_id} is at revision {actual}: its history cannot go on with revision {from}")
            }
            Self::IllegalTransition { order_id, status, command, .. } => {
                write!(f, "{command} is not allowed: order {order_id} is {status}")
            }
            Self::RevisionConflict { expected, actual, .. } => {
                write!(f, "the order is at revision {actual}, not {expected}")
            }
            Self::RequestReused(id) => write!(f, "the request id {id:?} was used before with another payload"),
            Self::Contention => f.write_str("other commands for the same order kept coming first"),
            Self::Overloaded => f.write_str("the node is working on as many requests as it may"),
            Self::TooManyStreams => f.write_str("as many streams of events are open as may be, on the node or on this connection"),
            Self::ReadersBehind => f.write_str("what was sent has not been read in time, or as much waits to be read as may: resume after the last cursor"),
            Self::DeadlineExceeded => f.write_str("the deadline passed before the answer was there"),
            Self::ConsistencyTimeout(_) => f.write_str("the read model was not as fresh as asked for in time"),
            Self::ShuttingDown => f.write_str("the node is shutting down"),
            Self::OutcomeUnknown(why) => write!(f, "it is not known whether the command took effect: {why}"),
            Self::StoreFull(why) => write!(f, "the event store is full: {why}"),
            Self::NewIds { why, .. } => write!(f, "temporarily unavailable: {why}"),
            Self::TooLarge { bytes, max_bytes } => {
                write!(f, "an order of {bytes} bytes is larger than the {max_bytes} that the event store takes")
            }
            Self::Unavailable { what, .. } => write!(f, "temporarily unavailable: {what}"),
            Self::LogReplaced(what) => write!(f, "the log has lost events: {what}"),
            Self::Corrupt(what) => write!(f, "stored data is damaged: {what}"),
        }
    }
}

impl std::error::Error for AppError {}

impl From<StoreError> for AppError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::unavailable(error),
            StoreError::Corrupt(what) => Self::Corrupt(what),
            StoreError::LogReplaced(what) => Self::LogReplaced(what),
        }
    }
}

impl From<AppendError> for AppError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Conflict { .. } => Self::Contention,
            // The caller, which knows the id, adds it.
            AppendError::RequestReused => Self::RequestReused(String::new()),
            AppendError::Full(why) => Self::StoreFull(why),
            AppendError::TooLate => Self::DeadlineExceeded,
            AppendError::TooLarge { bytes, max_bytes, .. } => Self::TooLarge { bytes, max_bytes },
            AppendError::OutcomeUnknown(why) => Self::OutcomeUnknown(why),
            AppendError::Store(error) => error.into(),
        }
    }
}

impl From<CodecError> for AppError {
    fn from(error: CodecError) -> Self {
        Self::Corrupt(error.to_string())
    }
}

impl From<CorruptHistory> for AppError {
    fn from(error: CorruptHistory) -> Self {
        Self::Corrupt(error.to_string())
    }
}

impl From<ReadModelError> for AppError {
    fn from(error: ReadModelError) -> Self {
        match error {
            ReadModelError::Unavailable(_) => Self::unavailable(error),
            ReadModelError::Corrupt(what) => Self::Corrupt(what),
        }
    }
}

impl From<IdError> for AppError {
    fn from(error: IdError) -> Self {
        let retry_after = error.wait().map_or(RETRY_AFTER, |wait| wait.max(RETRY_AFTER));
        Self::NewIds { why: error.to_string(), retry_after }
    }
}
