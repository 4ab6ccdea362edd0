//! Checkpoints: how far each log follower has come, stored by name.
//!
//! Every backend guarantees the following, held by one contract suite:
//! - **Atomic**: a save is checked against the stored checkpoint and written in one step.
//! - **Fenced**: once a save with fencing token t was accepted, saves with lower tokens are refused, so an owner that lost its lease cannot undo the
//!   work of the next.
//! - **Forward**: under one token a position never goes back. A higher token may start again from an earlier position.
//! - **Readable when acknowledged**: a load that starts after a save returned sees it, or a later one.
//!
//! The lifetime of a checkpoint is up to the backend; losing one costs repeated work, never an event.

use std::fmt;

use async_trait::async_trait;

use crate::ports::{
    event_store::{LogPoint, Position},
    server_name::ServerName,
};

/// The maximum length of a checkpoint, lease or consumer name, in characters.
pub const MAX_NAME_CHARS: usize = 128;

/// Whether `name` is a valid checkpoint, lease or consumer name: 1 to [`MAX_NAME_CHARS`] ASCII letters, digits, `-` and `_`, which every broker
/// accepts in its keys and subjects.
#[must_use]
pub fn is_valid_name(name: &str) -> bool {
    (1..=MAX_NAME_CHARS).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// The progress of a log follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Everything up to here, inclusive, has been processed.
    pub position: Position,
    /// Distinguishes the event at that position from any other, see [`LogPoint`]. `None` if the log has no event at the position, and in checkpoints
    /// saved by earlier versions.
    pub fingerprint: Option<u32>,
    /// The fencing token of the lease under which it was saved; 0 where one node works alone.
    pub fencing_token: u64,
}

impl Checkpoint {
    /// The checkpoint at `point`, under the lease with `fencing_token`.
    #[must_use]
    pub const fn at(point: LogPoint, fencing_token: u64) -> Self {
        Self { position: point.position, fingerprint: point.fingerprint, fencing_token }
    }

    /// The point of the log that it refers to.
    #[must_use]
    pub const fn point(&self) -> LogPoint {
        LogPoint { position: self.position, fingerprint: self.fingerprint }
    }

    /// Parses the output of [`Checkpoint::to_text`], with or without the fingerprint.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (fencing_token, position) = (parts.next()?.parse().ok()?, Position(parts.next()?.parse().ok()?));
        let fingerprint = parts.next().map(str::parse).transpose().ok()?;
        parts.next().is_none().then_some(Self { position, fingerprint, fencing_token })
    }

    /// Token, position and, if known, fingerprint, separated by colons. The numbers have 20 digits, so that texts sort by token and then by position.
    #[must_use]
    pub fn to_text(&self) -> String {
        let text = format!("{:020}:{:020}", self.fencing_token, self.position.0);
        self.fingerprint.map_or(text.clone(), |fingerprint| format!("{text}:{fingerprint}"))
    }

    /// Whether `next` may replace this checkpoint.
    ///
    /// # Errors
    /// [`CheckpointError::Fenced`] for a lower token, [`CheckpointError::Regressed`] for a lower position under the same one.
    pub fn allows(&self, next: &Self) -> Result<(), CheckpointError> {
        if next.fencing_token < self.fencing_token {
            return Err(CheckpointError::Fenced { current_token: self.fencing_token });
        }
        if next.fencing_token == self.fencing_token && next.position < self.position {
            return Err(CheckpointError::Regressed { current: self.position });
        }
        Ok(())
    }
}

/// Why a checkpoint could not be loaded or saved. Nothing was written, except perhaps after [`CheckpointError::Unavailable`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The name is invalid: see [`is_valid_name`].
    #[error("a name is 1 to {max} ASCII letters, digits, '-' and '_'", max = MAX_NAME_CHARS)]
    InvalidName,
    /// A later owner has saved. Stop, since the lease is lost.
    #[error("a later owner, with token {current_token}, has saved")]
    Fenced {
        /// The token of the later owner.
        current_token: u64,
    },
    /// The same owner has already saved a later position.
    #[error("the checkpoint is already at position {current}")]
    Regressed {
        /// The later position.
        current: Position,
    },
    /// The store is unreachable or overloaded. A retry may help, and is harmless if the first attempt was written.
    #[error("the checkpoint store is unavailable: {0}")]
    Unavailable(String),
}

/// Stores checkpoints by name. See the module for the guarantees of every backend.
#[async_trait]
pub trait CheckpointStore: fmt::Debug + Send + Sync + 'static {
    /// Its server, for messages; `None` if it is none, or has no name here.
    fn server(&self) -> Option<ServerName> {
        None
    }

    /// The last checkpoint saved under `name`, if any.
    ///
    /// # Errors
    /// [`CheckpointError::InvalidName`], [`CheckpointError::Unavailable`].
    async fn load(&self, name: &str) -> Result<Option<Checkpoint>, CheckpointError>;

    /// Saves `checkpoint` under `name`. Saving an identical checkpoint succeeds.
    ///
    /// # Errors
    /// [`CheckpointError`] says why the save was refused.
    async fn save(&self, name: &str, checkpoint: Checkpoint) -> Result<(), CheckpointError>;
}
