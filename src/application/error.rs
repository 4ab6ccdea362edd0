//! All errors between the protocol servers and the log, in terms of the client's options.

use std::{fmt, time::Duration};

use crate::{
    codec::CodecError,
    domain::{
        ids::OrderId,
        order::{CorruptHistory, OrderError, Status},
    },
    id_generator::IdError,
    identity::{Role, Roles},
    ports::{
        event_store::{AppendError, Position, Revision, StoreError},
        read_model::ReadModelError,
    },
};

/// Why a command or query failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppError {
    /// The order does not exist.
    #[error("there is no order {0}")]
    OrderNotFound(OrderId),
    /// This node has no event handler of this name.
    #[error("there is no handler {name:?}; this node has {}", .known.join(", "))]
    HandlerNotFound {
        /// The requested name.
        name: String,
        /// The existing names.
        known: Vec<String>,
    },
    /// The order has not reached the requested revision or time.
    #[error("order {0} did not exist at that revision or time")]
    NotYetThen(OrderId),
    /// The requested history starts after the end of the order: the event before it, which the reader must have seen, does not exist.
    #[error("order {order_id} is at revision {actual}: its history cannot continue with revision {from}")]
    HistoryEndsBefore {
        /// The order.
        order_id: OrderId,
        /// The requested first revision.
        from: Revision,
        /// The actual revision of the order.
        actual: Revision,
    },
    /// The order's status does not allow the command.
    #[error("{command} is not allowed: order {order_id} is {status}")]
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
    #[error("the order is at revision {actual}, not {expected}")]
    RevisionConflict {
        /// The order.
        order_id: OrderId,
        /// The expected revision.
        expected: Revision,
        /// The actual revision; 0: the order does not exist.
        actual: Revision,
    },
    /// The request id was used before with another payload.
    #[error("the request id {0:?} was used before with another payload")]
    RequestIdReused(String),
    /// The caller has none of the roles that the command needs. The table of access refuses most such calls before; this holds for the single commands
    /// of ExecuteCommands as well.
    #[error("this needs one of the roles {}; the caller has {}", named(*.needed), named(*.own))]
    RoleMissing {
        /// The roles of which one is needed.
        needed: Roles,
        /// The roles of the caller.
        own: Roles,
    },
    /// The request names a customer whose orders the caller may not see or change.
    #[error("the request names another customer than that of its caller")]
    CustomerNotAllowed,
    /// The command names another originator than its caller, who may not act for others.
    #[error("the command names another actor than its caller, who may not act for others")]
    ActorNotAllowed,
    /// Other writers kept winning. Nothing was written; a retry may help.
    #[error("too many concurrent commands for the same order")]
    Contention,
    /// The limit of concurrent commands and queries is reached.
    #[error("the node has as many requests in flight as it allows")]
    Overloaded,
    /// The reply would be larger than clients accept.
    #[error("the reply would be larger than {max_bytes} bytes: request less at a time")]
    ReplyTooLarge {
        /// The maximum.
        max_bytes: usize,
    },
    /// The limit of event streams is reached, on the node or on the connection.
    #[error("too many open streams, on the node or on this connection")]
    TooManyStreams,
    /// Responses have waited too long to be read, or the limit of waiting data is reached.
    #[error("the client reads too slowly, or all clients together do: resume after the last cursor")]
    ReadersBehind,
    /// The call timed out. A command may or may not have taken effect.
    #[error("the deadline passed before the reply was ready")]
    DeadlineExceeded,
    /// The read model did not reach the position in time.
    #[error("the read model was not as fresh as required in time")]
    NotFreshInTime(Position),
    /// The node is shutting down; another node, or this one soon, can serve the request.
    #[error("the node is shutting down")]
    ShuttingDown,
    /// It is unknown to the store whether the command took effect.
    #[error("it is not known whether the command took effect: {0}")]
    OutcomeUnknown(String),
    /// The store is out of space. Nothing was written.
    #[error("the event store is full: {0}")]
    StoreFull(String),
    /// No new ids can be issued now. Requests that need none are served.
    #[error("temporarily unavailable: {why}")]
    IdsUnavailable {
        /// The reason, worded for the client.
        why: String,
        /// The time until a retry.
        retry_after: Duration,
    },
    /// The commit of the command is larger than the store accepts. Nothing was written.
    #[error("an order of {bytes} bytes is larger than the {max_bytes} that the event store accepts")]
    CommitTooLarge {
        /// Its size.
        bytes: usize,
        /// The maximum size.
        max_bytes: usize,
    },
    /// A required backend is unavailable.
    #[error("temporarily unavailable: {what}")]
    Unavailable {
        /// The details, for the log.
        what: String,
        /// The time until a retry.
        retry_after: Duration,
    },
    /// The log no longer has events that were read from it: the reader has to start over.
    #[error("the log has lost events: {0}")]
    LogReplaced(String),
    /// The stored data is inconsistent. The text is for the log; a retry does not help.
    #[error("stored data is damaged: {0}")]
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
                | Self::NotYetThen(_)
                | Self::HistoryEndsBefore { .. }
                | Self::IllegalTransition { .. }
                | Self::RevisionConflict { .. }
                | Self::RequestIdReused(_)
                | Self::LogReplaced(_)
        )
    }

    /// Whether the service or a dependency is at fault, not the client.
    #[must_use]
    pub const fn is_service_fault(&self) -> bool {
        matches!(
            self,
            Self::OutcomeUnknown(_)
                | Self::StoreFull(_)
                | Self::IdsUnavailable { .. }
                | Self::Unavailable { .. }
                | Self::LogReplaced(_)
                | Self::Corrupt(_)
                | Self::DeadlineExceeded
        )
    }
}

/// The names of roles, for humans.
fn named(roles: Roles) -> String {
    let names: Vec<_> = roles.iter().map(Role::name).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

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
            AppendError::RequestIdReused => Self::RequestIdReused(String::new()),
            AppendError::Full(why) => Self::StoreFull(why),
            AppendError::TooLate => Self::DeadlineExceeded,
            AppendError::TooLarge { bytes, max_bytes, .. } => Self::CommitTooLarge { bytes, max_bytes },
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
        Self::IdsUnavailable { why: error.to_string(), retry_after }
    }
}
