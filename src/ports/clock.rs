//! The time of day as a dependency, so that tests control the time, including steps backwards.

use std::fmt::Debug;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A source of the time of day.
///
/// Readings are *not* monotonic: an operator or NTP may set the clock back. Callers that need ordering must enforce it.
pub trait Clock: Send + Sync + Debug {
    /// Microseconds since 1970-01-01T00:00:00Z; negative before it.
    fn now_micros(&self) -> i64;
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_micros(&self) -> i64 {
        // i64 microseconds last until the year 294 247, so neither conversion saturates in practice.
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros),
        }
    }
}

/// A clock that advances only when set; for tests and simulations. It may go backwards.
#[derive(Debug, Default)]
pub struct ManualClock {
    now_micros: AtomicI64,
}

impl ManualClock {
    /// A clock that is set to `now_micros` since the Unix epoch.
    #[must_use]
    pub fn new(now_micros: i64) -> Self {
        Self { now_micros: AtomicI64::new(now_micros) }
    }

    /// Sets the clock to `now_micros` since the Unix epoch, forwards or backwards.
    pub fn set_micros(&self, now_micros: i64) {
        self.now_micros.store(now_micros, Ordering::SeqCst);
    }

    /// Moves the clock by `by_micros`; a negative amount steps it back.
    pub fn advance_micros(&self, by_micros: i64) {
        self.now_micros.fetch_add(by_micros, Ordering::SeqCst);
    }

    /// Moves the clock by `by_ms` milliseconds; a negative amount steps it back.
    pub fn advance_ms(&self, by_ms: i64) {
        self.advance_micros(by_ms.saturating_mul(1_000));
    }
}

impl Clock for ManualClock {
    fn now_micros(&self) -> i64 {
        self.now_micros.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_is_past_2024_and_in_microseconds() {
        let now = SystemClock.now_micros();
        assert!(now > 1_704_067_200_000_000, "{now}");
        assert!(now < 10_000_000_000_000_000, "{now}");
    }

    #[test]
    fn a_manual_clock_moves_only_when_it_is_set_and_in_both_directions() {
        let clock = ManualClock::new(5_000);
        assert_eq!(clock.now_micros(), 5_000);
        clock.advance_ms(2);
        assert_eq!(clock.now_micros(), 7_000);
        clock.advance_micros(-6_999);
        assert_eq!(clock.now_micros(), 1);
        clock.set_micros(-3);
        assert_eq!(clock.now_micros(), -3);
    }
}
