//! The errors of id generation, and whether retrying helps.

use std::fmt;
use std::time::Duration;

use super::layout::{EPOCH_UNIX_MS, MAX_MS};
use super::{MAX_CLOCK_LEAD_MS, MarkError};

/// Why no id was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdError {
    /// The clock stepped back too far: it is `by_ms` milliseconds behind ids that may have been issued.
    ClockBehind {
        /// Milliseconds from the clock to the next id that is certainly unused.
        by_ms: u64,
    },
    /// The clock is before 2024-01-01T00:00:00Z.
    BeforeEpoch,
    /// The 41 bits of milliseconds are used up (September 2093).
    PastEnd,
    /// The node has no worker number now.
    Unclaimed,
    /// The stored high-water mark was not moved in time.
    MarkBehind,
    /// Other callers got all ids of the time that the call may wait.
    Saturated,
    /// The generator was sealed: the node is stopping.
    Sealed,
}

impl IdError {
    /// Whether the same call may succeed on the same node a little later.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        match self {
            Self::ClockBehind { .. } | Self::Unclaimed | Self::MarkBehind | Self::Saturated => true,
            Self::BeforeEpoch | Self::PastEnd | Self::Sealed => false,
        }
    }

    /// How long it is until ids are issued again, if known.
    #[must_use]
    pub fn wait(self) -> Option<Duration> {
        match self {
            Self::ClockBehind { by_ms } => Some(Duration::from_millis(by_ms.saturating_sub(MAX_CLOCK_LEAD_MS))),
            _ => None,
        }
    }
}

/// A human-readable length of time, in its two largest units: `24 h 58 m`; less than a second is a second.
fn in_words(time: Duration) -> String {
    let seconds = time.as_millis().div_ceil(1_000).max(1);
    match (seconds / 86_400, seconds / 3_600, seconds / 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} m {} s", seconds % 60),
        // Up to two days in hours.
        (0 | 1, hours, minutes) => format!("{hours} h {} m", minutes % 60),
        (days, hours, _) => format!("{days} d {} h", hours % 24),
    }
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClockBehind { .. } => write!(
                f,
                "new ids wait {}: the clock is behind ids that may have been issued",
                in_words(self.wait().unwrap_or_default())
            ),
            Self::Unclaimed => write!(f, "this node has no worker number for new ids now"),
            Self::BeforeEpoch => write!(f, "the clock is before 2024-01-01T00:00:00Z, the epoch of the ids"),
            Self::PastEnd => write!(f, "the clock is past the last id (Unix ms {})", EPOCH_UNIX_MS + MAX_MS),
            Self::MarkBehind => write!(f, "new ids wait for their high-water mark, and its store does not answer"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_said_with_its_length() {
        let said = |by_ms| IdError::ClockBehind { by_ms }.to_string();
        for (wait_ms, words) in [
            (1, "1 s"),
            (1_001, "2 s"),
            (59_000, "59 s"),
            (61_000, "1 m 1 s"),
            (89_902_131, "24 h 58 m"),
            (172_800_000, "2 d 0 h"),
            (60 * 86_400_000 + 3 * 3_600_000, "60 d 3 h"),
        ] {
            let wanted = format!("new ids wait {words}: the clock is behind ids that may have been issued");
            assert_eq!(said(MAX_CLOCK_LEAD_MS + wait_ms), wanted);
        }
        assert_eq!(IdError::ClockBehind { by_ms: 5_250 }.wait(), Some(Duration::from_millis(250)));
    }
}
