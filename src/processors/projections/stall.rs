//! The reason why a projection is stalled.

use std::fmt;

use crate::{
    codec::CodecError,
    ports::{
        event_store::{Position, StoreError},
        read_model::ReadModelError,
    },
    telemetry::outage::{Away, Line, Outage},
};

/// A failure, for humans, and the damage of the log that causes it, if damage is the cause: the read model ends before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stall {
    pub(super) why: String,
    pub(super) damage: Option<String>,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl From<StoreError> for Stall {
    fn from(error: StoreError) -> Self {
        let why = error.to_string();
        Self { why, damage: if let StoreError::Corrupt(what) = error { Some(what) } else { None } }
    }
}

impl From<CodecError> for Stall {
    fn from(error: CodecError) -> Self {
        let why = error.to_string();
        // One of a newer version is intact.
        Self { damage: matches!(error, CodecError::Corrupt(_)).then(|| why.clone()), why }
    }
}

impl From<ReadModelError> for Stall {
    fn from(error: ReadModelError) -> Self {
        Self::from(error.to_string())
    }
}

impl From<String> for Stall {
    fn from(why: String) -> Self {
        Self { why, damage: None }
    }
}

impl From<&str> for Stall {
    fn from(why: &str) -> Self {
        Self::from(why.to_owned())
    }
}

/// What keeps a projection from following the log, each logged on its own.
#[derive(Debug)]
pub(super) struct Stalls {
    /// The log or the read model fails.
    failed: Outage,
    /// The log is damaged: that is news also where it has failed before.
    damaged: Outage,
    /// The rows do not match the log.
    mismatched: Outage,
}

impl Stalls {
    /// Does not log that the log fails while that is known to be `away`.
    pub(super) fn while_not(away: Away) -> Self {
        Self { failed: Outage::while_not(away).whatever_the_cause(), damaged: Outage::new(), mismatched: Outage::new() }
    }

    /// The projection has failed, and will be retried.
    pub(super) fn begin(&self, stall: &Stall, position: Position) {
        let outage = if stall.damage.is_some() { &self.damaged } else { &self.failed };
        if let Some(Line { unsaid }) = outage.failed(&stall.why) {
            tracing::error!(failure = stall.why, %position, unsaid, "the order projection is stalled");
        }
        tracing::debug!(failure = stall.why, %position, "the order projection is tried again");
    }

    /// It follows the log.
    pub(super) fn end(&self, position: Position) {
        if let Some(lasted) = self.failed.works().max(self.damaged.works()) {
            tracing::info!(%position, lasted_ms = lasted.as_millis() as u64, "the order projection follows the log again");
        }
    }

    /// The rows do not match the log because of `why`, and are about to be dropped.
    pub(super) fn drop_rows(&self, why: &str) {
        if let Some(Line { unsaid }) = self.mismatched.failed(why) {
            tracing::warn!(
                why,
                unsaid,
                "the read model does not match the log: dropping it and rebuilding it from the beginning"
            );
        }
    }

    /// They were dropped.
    pub(super) fn dropped_rows(&self) {
        self.mismatched.works();
    }
}
