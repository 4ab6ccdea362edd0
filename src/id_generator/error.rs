//! What can go wrong with ids, and whether trying again helps.

use std::fmt;

use super::layout::{EPOCH_UNIX_MS, MAX_MS};
use super::{MAX_CLOCK_LEAD_MS, MarkError};

/// Why no id was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdError {
    /// The clock stepped back too far: it is `by_ms` milliseconds behind ids that may have been issued.
    ClockBehind {
        /// Milliseconds from the clock to the next id that is surely unused.
        by_ms: u64,
    },
    /// The clock is before 2024-01-01T00:00:00Z.
    BeforeEpoch,
    /// The 41 bits of milliseconds are used up (September 2093).
    PastEnd,
    /// The stored high-water mark was not moved in time.
    MarkBehind,
    /// All ids of the time that the call may wait went to other callers.
    Saturated,
    /// The generator was sealed: the node is stopping.
    Sealed,
}

impl IdError {
    /// Whether the same call may succeed on the same node a little later.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        match self {
            Self::ClockBehind { .. } | Self::MarkBehind | Self::Saturated => true,
            Self::BeforeEpoch | Self::PastEnd | Self::Sealed => false,
        }
    }
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClockBehind { by_ms } => write!(
                f,
                "the clock is {by_ms} ms behind ids that may have been issued (at most {MAX_CLOCK_LEAD_MS} ms is \
                 bridged); ids are refused until it catches up"
            ),
            Self::BeforeEpoch => write!(f, "the clock is before 2024-01-01T00:00:00Z, the epoch of the ids"),
            Self::PastEnd => write!(f, "the clock is past the last id (Unix ms {})", EPOCH_UNIX_MS + MAX_MS),
            Self::MarkBehind => write!(f, "the stored high-water mark of the ids has not been moved in time"),
            Self::Saturated => write!(f, "all ids of this node are taken at the moment (4 096 000 a second)"),
            Self::Sealed => write!(f, "the id generator has been stopped"),
        }
    }
}

impl std::error::Error for IdError {}

/// Why a generator cannot start, or its mark cannot be moved.
#[derive(Debug)]
pub enum StartError {
    /// The clock does not fit the layout or the mark.
    Clock(IdError),
    /// The mark cannot be read or written.
    Mark(MarkError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clock(error) => write!(f, "ids: {error}"),
            Self::Mark(error) => write!(f, "ids: {error}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Clock(error) => Some(error),
            Self::Mark(error) => Some(error),
        }
    }
}

impl From<IdError> for StartError {
    fn from(error: IdError) -> Self {
        Self::Clock(error)
    }
}

impl From<MarkError> for StartError {
    fn from(error: MarkError) -> Self {
        Self::Mark(error)
    }
}
