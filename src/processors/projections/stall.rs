//! The reason why a projection is stalled.

use std::fmt;

use crate::{
    codec::CodecError,
    ports::{event_store::StoreError, read_model::ReadModelError},
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
