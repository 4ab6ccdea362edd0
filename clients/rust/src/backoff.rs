//! How long to wait before trying again.

use std::time::Duration;

use crate::OrderError;

const FIRST: Duration = Duration::from_millis(100);
/// Short, so that a service that is back after an outage is used again soon.
const LONGEST: Duration = Duration::from_secs(2);

/// Waits that grow from 0.1 s to 2 s, spread at random so that clients do not come back all at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Backoff { next: FIRST }
    }

    /// Begins again with the shortest: something has worked.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }

    /// How long to wait after `error`: never less than the service asks for.
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
