//! A commit that waits for the writer.

use tokio::{sync::oneshot, time::Instant};

use crate::ports::event_store::{AppendError, Appended, Commit};

/// A commit and its waiting caller.
#[derive(Debug)]
pub(in super::super) struct PendingCommit {
    pub(in super::super) commit: Commit,
    pub(in super::super) reply: oneshot::Sender<Result<Appended, AppendError>>,
    /// When the caller stops waiting.
    pub(in super::super) deadline: Option<Instant>,
}
