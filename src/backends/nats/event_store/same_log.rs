//! Notices that another log is in the place of this node's while the connection stays open: a stream that is deleted and recreated has the same name.
//!
//! A message is stored after all that were seen before it was published, so an acknowledgement with a lower sequence is of another log. This log is
//! reported not to have something only if, after the read, the stream still begins with the message that names the log: one question, shared by all
//! callers that wait for it, and not needed for anything that is found. With replicas a marker, which is acknowledged as well, confirms an absence
//! (see `confirm`).

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Shared, confirm::PACE};
use crate::{
    backends::nats::api::CallError,
    ports::event_store::{Confirmations, StoreError},
};

/// What has been seen of the log on this connection.
#[derive(Debug)]
pub(super) struct SeenLog {
    /// The highest sequence of a message.
    highest: AtomicU64,
    /// The questions whether it is the same log.
    questions: Confirmations<(), CallError>,
}

impl Default for SeenLog {
    fn default() -> Self {
        Self { highest: AtomicU64::new(0), questions: Confirmations::new(PACE) }
    }
}

impl SeenLog {
    /// Records that message `sequence` exists.
    pub(super) fn saw(&self, sequence: u64) {
        self.highest.fetch_max(sequence, Ordering::AcqRel);
    }

    /// The highest sequence: a message that is published from now on is stored after it.
    pub(super) fn highest(&self) -> u64 {
        self.highest.load(Ordering::Acquire)
    }

    /// On another connection the log may be shorter.
    pub(super) fn forget(&self) {
        self.highest.store(0, Ordering::Release);
    }
}

impl Shared {
    /// Checks the sequence of a message that was stored: it was published when the log had been seen up to `highest`.
    ///
    /// # Errors
    /// [`CallError::Lost`]: it is in another log, or this one has lost its end. The node connects again and checks what it has read.
    pub(super) async fn must_follow(&self, highest: u64, sequence: u64) -> Result<(), CallError> {
        if sequence > highest {
            self.seen.saw(sequence);
            return Ok(());
        }
        self.log.doubt();
        // Only the first of many concurrent publishes does this.
        if self.seen.highest() >= sequence {
            self.seen.forget();
            tracing::warn!(
                server = self.nats.server().address(),
                sequence,
                highest,
                "a message was stored before others that had been seen: checking the log"
            );
            let _ = self.nats.client().force_reconnect().await;
        }
        Err(CallError::Lost(format!(
            "the message was stored as number {sequence} of stream {}, which had been read up to {highest}: another log is in its place, or it \
             has lost its end",
            self.log.stream
        )))
    }

    /// Checks that what has just been read came from the log of this node, before something is reported not to exist.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: it did not, or no reply came.
    pub(super) async fn confirm_absence(&self) -> Result<(), StoreError> {
        if self.log.is_replicated() {
            return Ok(());
        }
        self.seen.questions.confirm(|| self.log.is_same()).await.map_err(|error| self.store_error(error))
    }
}
