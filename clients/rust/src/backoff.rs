//! The delays between retries.

use std::time::Duration;

use crate::OrderError;

const FIRST: Duration = Duration::from_millis(100);
/// Short, so that a service is used again soon after an outage.
const LONGEST: Duration = Duration::from_secs(2);

/// Delays that grow from 0.1 s to 2 s, with jitter so that clients do not all return at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Backoff { next: FIRST }
    }

    /// Returns to the shortest delay, after a success.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }

    /// The delay after `error`: at least the one that the service requests.
    pub(crate) fn wait(&mut self, error: &OrderError) -> Duration {
        let wait = times_between(self.next, 0.5, 1.0);
        self.next = LONGEST.min(self.next * 2);
        wait.max(times_between(error.retry_delay.unwrap_or_default(), 1.0, 1.2))
    }
}

/// `base` times a random factor from `low` to `high`.
pub(crate) fn times_between(base: Duration, low: f64, high: f64) -> Duration {
    let factor = low + (high - low) * fastrand::f64();
    Duration::try_from_secs_f64(base.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}
