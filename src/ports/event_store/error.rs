//! Why a store could not append or read.

use super::{Revision, StreamId};

/// Why an append did not happen, or may not have happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The stream does not match the expectation. Reload and decide again.
    #[error("the stream is at revision {actual}")]
    Conflict {
        /// The last revision of the stream; 0: no stream.
        actual: Revision,
    },
    /// The request id was used before with another payload. Never retry.
    #[error("the request id was used with another payload")]
    RequestIdReused,
    /// The store is out of space. Nothing was written.
    #[error("the event store is full: {0}")]
    Full(String),
    /// The commit is larger than the store accepts. Nothing was written; retries fail until an operator changes `setting`.
    #[error(
        "a commit of {bytes} bytes to order {stream} is larger than the {max_bytes} that the event store accepts: raise {setting}"
    )]
    TooLarge {
        /// The target stream.
        stream: StreamId,
        /// Its size.
        bytes: usize,
        /// The maximum size.
        max_bytes: usize,
        /// The setting of the store that imposes the maximum.
        setting: &'static str,
    },
    /// The deadline of the call passed before the commit was begun. Nothing was written.
    #[error("the deadline passed before the commit was begun")]
    TooLate,
    /// It is unknown whether the commit was written. Look it up before retrying.
    #[error("it is not known whether the commit was written: {0}")]
    OutcomeUnknown(String),
    /// The store failed; nothing was written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the store could not serve a read or write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store is unreachable or overloaded. A retry may help.
    #[error("the event store is unavailable: {0}")]
    Unavailable(String),
    /// The stored data is damaged. A retry does not help; damaged data is never returned.
    #[error("the event store is damaged: {0}")]
    Corrupt(String),
    /// The log no longer has events that were read from it before: it was restored to an earlier state, or lost its end. A retry does not help;
    /// reading from the beginning does.
    #[error("the log has lost events: {0}")]
    LogReplaced(String),
}
