//! Checkpoints: how far a follower of the log has come, kept under its name.
//!
//! What every backend guarantees, held by one contract suite:
//! - **Atomic**: a save is checked against what is stored and written in one step.
//! - **Fenced**: once a save with fencing token t was accepted, none with a lower token is, so an owner that lost its lease cannot
//!   undo the work of the next.
//! - **Forward**: under one token a position never goes back. A higher token may start again from an earlier position.
//! - **Readable when acknowledged**: a load that starts after a save returned sees it, or a later one.
//!
//! How long a checkpoint lives is the backend's affair; losing one costs repeated work, never an event.

use std::fmt;

use async_trait::async_trait;

use crate::ports::event_store::{LogPoint, Position};

/// The longest name of a checkpoint, a lease or a consumer, in characters.
pub const MAX_NAME_CHARS: usize = 128;

/// Whether `name` can name a checkpoint, a lease or a consumer: 1 to [`MAX_NAME_CHARS`] ASCII letters, digits, `-` and `_`,
/// which is what every broker takes as a part of its own keys and subjects.
#[must_use]
pub fn is_valid_name(name: &str) -> bool {
    (1..=MAX_NAME_CHARS).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// How far a follower of the log has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Everything up to here, inclusive, has been dealt with.
    pub position: Position,
    /// Tells the event at that position from another one, see [`LogPoint`]; `None` where the position is none of the log, and in what
    /// earlier versions have saved.
    pub fingerprint: Option<u32>,
    /// The token of the lease under which it was; 0 where one node works alone.
    pub fencing_token: u64,
}

impl Checkpoint {
    /// The checkpoint at `point`, under the lease with `fencing_token`.
    #[must_use]
    pub const fn at(point: LogPoint, fencing_token: u64) -> Self {
        Self { position: point.position, fingerprint: point.fingerprint, fencing_token }
    }

    /// Where in the log it is.
    #[must_use]
    pub const fn point(&self) -> LogPoint {
        LogPoint { position: self.position, fingerprint: self.fingerprint }
    }

    /// Reads what [`Checkpoint::to_text`] has written, also without the fingerprint.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (fencing_token, position) = (parts.next()?.parse().ok()?, Position(parts.next()?.parse().ok()?));
        let fingerprint = parts.next().map(str::parse).transpose().ok()?;
        parts.next().is_none().then_some(Self { position, fingerprint, fencing_token })
    }

    /// Token, position and, where it is known, fingerprint, separated by colons. The numbers have 20 digits, so that texts compare as tokens
    /// and then positions do.
    #[must_use]
    pub fn to_text(&self) -> String {
        let text = format!("{:020}:{:020}", self.fencing_token, self.position.0);
        self.fingerprint.map_or(text.clone(), |fingerprint| format!("{text}:{fingerprint}"))
    }

    /// Whether `next` may take the place of this checkpoint.
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckpointError {
    /// The name is not one: see [`is_valid_name`].
    InvalidName,
    /// A later owner has saved. Stop: the lease is lost.
    Fenced {
        /// The token of the later owner.
        current_token: u64,
    },
    /// The same owner has already saved a later position.
    Regressed {
        /// That position.
        current: Position,
    },
    /// Out of reach or overloaded. Trying again helps, and is harmless if the first try was written.
    Unavailable(String),
}

/// Keeps checkpoints by name. See the module for what every backend guarantees.
#[async_trait]
pub trait CheckpointStore: fmt::Debug + Send + Sync + 'static {
    /// The last checkpoint saved under `name`, if any.
    ///
    /// # Errors
    /// [`CheckpointError::InvalidName`], [`CheckpointError::Unavailable`].
    async fn load(&self, name: &str) -> Result<Option<Checkpoint>, CheckpointError>;

    /// Saves `checkpoint` under `name`. Saving what is stored already succeeds.
    ///
    /// # Errors
    /// [`CheckpointError`] says why it was refused.
    async fn save(&self, name: &str, checkpoint: Checkpoint) -> Result<(), CheckpointError>;
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidName => write!(f, "a name is 1 to {MAX_NAME_CHARS} ASCII letters, digits, '-' and '_'"),
            Self::Fenced { current_token } => write!(f, "a later owner, with token {current_token}, has saved"),
            Self::Regressed { current } => write!(f, "the checkpoint is already at position {current}"),
            Self::Unavailable(why) => write!(f, "the checkpoint store is unavailable: {why}"),
        }
    }
}

impl std::error::Error for CheckpointError {}
