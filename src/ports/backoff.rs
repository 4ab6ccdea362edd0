//! Pauses between retries.

use std::time::Duration;

/// Exponential backoff: each consecutive failure doubles the pause, up to a maximum. Each pause is reduced at random by up to half, so that clients
/// that fail at the same time do not return at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    max: Duration,
}

impl Backoff {
    /// Pauses of at least `first` and at most `max`.
    #[must_use]
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max }
    }

    /// The pause after this many consecutive failures, counted from 1.
    #[must_use]
    pub fn after(&self, failures: u32) -> Duration {
        self.longest(failures).mul_f64(0.5 + 0.5 * fastrand::f64())
    }

    /// The pauses after the first failure, the second, the third …
    #[must_use]
    pub const fn pauses(self) -> Pauses {
        Pauses { backoff: self, failures: 0 }
    }

    fn longest(&self, failures: u32) -> Duration {
        let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.max)
    }
}

/// The pauses of one run of failures.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    backoff: Backoff,
    failures: u32,
}

impl Pauses {
    /// The pause after one more failure.
    pub fn next_pause(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.backoff.after(self.failures)
    }

    /// Records a success: the next failure counts as the first.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_maximum_and_vary_by_half() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for (failures, longest) in [(0, 100), (1, 100), (2, 200), (4, 800), (5, 1_000), (40, 1_000), (u32::MAX, 1_000)]
        {
            let longest = Duration::from_millis(longest);
            let pauses: Vec<_> = (0..200).map(|_| backoff.after(failures)).collect();
            assert!(pauses.iter().all(|pause| (longest / 2..=longest).contains(pause)), "{failures}: {pauses:?}");
            assert!(pauses.iter().any(|pause| *pause != pauses[0]), "they vary");
        }
    }

    #[test]
    fn a_success_resets_the_pauses() {
        let mut pauses = Backoff::new(Duration::from_millis(100), Duration::from_secs(1)).pauses();
        for _ in 0..5 {
            let _ = pauses.next_pause();
        }
        assert!(pauses.next_pause() >= Duration::from_millis(500));
        pauses.reset();
        assert!(pauses.next_pause() <= Duration::from_millis(100));
    }
}
