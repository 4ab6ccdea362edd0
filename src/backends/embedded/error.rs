//! Maps SQLite's errors to ours.

use std::{fmt, path::Path};

use rusqlite::{Error, ErrorCode};

use crate::ports::{
    checkpoint_store::CheckpointError,
    event_store::{AppendError, StoreError},
    lease_store::LeaseError,
    read_model::ReadModelError,
};

/// Why an operation on the file failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DbError {
    /// No space is left.
    #[error("no space is left: {0}")]
    Full(String),
    /// A temporary failure.
    #[error("{0}")]
    Unavailable(String),
    /// The content of the file is damaged.
    #[error("damaged: {0}")]
    Corrupt(String),
}

impl From<Error> for DbError {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match &error {
            Error::SqliteFailure(failure, _) => match failure.code {
                ErrorCode::DiskFull => Self::Full(text),
                // A constraint is only ever violated by rows that cannot exist; retrying an oversized write is futile, too.
                ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::ConstraintViolation
                | ErrorCode::TypeMismatch
                | ErrorCode::TooBig => Self::Corrupt(text),
                _ => Self::Unavailable(format!("{text} (SQLite code {})", failure.extended_code)),
            },
            Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::InvalidColumnType(..)
            | Error::Utf8Error(..)
            | Error::QueryReturnedNoRows => Self::Corrupt(text),
            _ => Self::Unavailable(text),
        }
    }
}

impl From<DbError> for StoreError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Corrupt(what) => Self::Corrupt(what),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl From<DbError> for AppendError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Full(why) => Self::Full(why),
            other => Self::Store(other.into()),
        }
    }
}

impl From<DbError> for ReadModelError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Corrupt(what) => Self::Corrupt(what),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl From<DbError> for CheckpointError {
    fn from(error: DbError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<DbError> for LeaseError {
    fn from(error: DbError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// Why a data folder cannot be used, as one human-readable line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(String);

impl OpenError {
    pub(super) fn new(why: impl fmt::Display) -> Self {
        Self(why.to_string())
    }

    /// Adds the file or folder concerned.
    pub(super) fn at(self, path: &Path) -> Self {
        Self(format!("{}: {}", path.display(), self.0))
    }
}

impl From<DbError> for OpenError {
    fn from(error: DbError) -> Self {
        Self::new(error)
    }
}

impl From<std::io::Error> for OpenError {
    fn from(error: std::io::Error) -> Self {
        Self::new(error)
    }
}
