//! The errors of id generation, and whether retrying helps.

use std::time::Duration;

use super::layout::{EPOCH_UNIX_MS, MAX_MS};
use super::{MAX_CLOCK_LEAD_MS, MarkError};

/// Why no id was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The clock stepped back too far: it is `by_ms` milliseconds behind ids that may have been issued.
    #[error("new ids wait {}: the clock is behind ids that may have been issued", describe(wait_behind(*.by_ms)))]
    ClockBehind {
        /// Milliseconds from the clock to the next id that is certainly unused.
        by_ms: u64,
    },
    /// The clock is before 2024-01-01T00:00:00Z.
    #[error("the clock is before 2024-01-01T00:00:00Z, the epoch of the ids")]
    BeforeEpoch,
    /// The 41 bits of milliseconds are used up (September 2093).
    #[error("the clock is past the last id (Unix ms {})", EPOCH_UNIX_MS + MAX_MS)]
    PastEnd,
    /// The node has no worker number now.
    #[error("this node has no worker number for new ids now")]
    Unclaimed,
    /// The stored high-water mark was not moved in time.
    #[error("new ids wait for their high-water mark, and its store does not answer")]
    MarkBehind,
    /// Other callers got all ids that were issued while the call could wait.
    #[error("this node has no free ids at the moment (4 096 000 a second)")]
    Saturated,
    /// The generator was closed: the node is stopping.
    #[error("the id generator has been stopped")]
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
            Self::ClockBehind { by_ms } => Some(wait_behind(by_ms)),
            _ => None,
        }
    }
}

/// How long new ids wait for a clock that is `by_ms` behind.
const fn wait_behind(by_ms: u64) -> Duration {
    Duration::from_millis(by_ms.saturating_sub(MAX_CLOCK_LEAD_MS))
}

/// A human-readable length of time, in its two largest units: `24 h 58 m`; less than a second is a second.
fn describe(time: Duration) -> String {
    let seconds = time.as_millis().div_ceil(1_000).max(1);
    match (seconds / 86_400, seconds / 3_600, seconds / 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} m {} s", seconds % 60),
        // Up to two days in hours.
        (0 | 1, hours, minutes) => format!("{hours} h {} m", minutes % 60),
        (days, hours, _) => format!("{days} d {} h", hours % 24),
    }
}

/// Why a generator cannot start, or its mark cannot be moved.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The clock does not fit the layout or the mark.
    #[error("ids: {0}")]
    Clock(#[from] IdError),
    /// The mark cannot be read or written.
    #[error("ids: {0}")]
    Mark(#[from] MarkError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_error_states_its_length() {
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
