//! The progress, speed and remaining time of a read model that catches up with the log.

use std::{
    fmt,
    time::{Duration, Instant},
};

use crate::ports::event_store::{EventStore, Position};

/// The interval between progress lines in the log of the node.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(3);

/// The progress of a read model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CatchUp {
    /// The position up to which events are in it.
    pub position: Position,
    /// The target position.
    pub target: Position,
    /// The number of events applied since the start.
    pub events: u64,
    /// The approximate number of events to apply.
    pub total: u64,
    /// The time since the start.
    pub elapsed: Duration,
}

impl CatchUp {
    /// Events per second; 0 before the first.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a rate")]
    pub fn events_per_second(&self) -> f64 {
        self.events as f64 / self.elapsed.as_secs_f64().max(0.001)
    }

    /// The estimated remaining time at the current speed; unknown at the beginning.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn remaining(&self) -> Option<Duration> {
        let left = self.total.saturating_sub(self.events) as f64;
        (self.events > 0).then(|| left / self.events_per_second()).and_then(|s| Duration::try_from_secs_f64(s).ok())
    }
}

impl fmt::Display for CatchUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}, {:.0} events/s", self.position, self.target, self.events_per_second())?;
        match self.remaining() {
            Some(remaining) => write!(f, ", ETA {} s", remaining.as_secs_f64().ceil()),
            None => Ok(()),
        }
    }
}

/// Measures the progress, and logs it.
#[derive(Debug)]
pub(super) struct Meter {
    started: Instant,
    told: Instant,
    state: CatchUp,
}

impl Meter {
    pub(super) fn start(store: &dyn EventStore, start: Position, target: Position) -> Self {
        let total = store.distance(start, target);
        let state = CatchUp { position: start, target, events: 0, total, elapsed: Duration::ZERO };
        Self { started: Instant::now(), told: Instant::now(), state }
    }

    pub(super) fn state(&self) -> CatchUp {
        self.state
    }

    /// Extends the target: there are more events to apply than estimated.
    pub(super) fn extend(&mut self, store: &dyn EventStore, target: Position) {
        self.state.total = self.state.events + store.distance(self.state.position, target);
        self.state.target = target;
    }

    pub(super) fn add_applied(&mut self, events: usize, position: Position) -> CatchUp {
        self.state.events += events as u64;
        self.state.position = position;
        // Positions may have gaps: the estimate was too high or too low.
        self.state.total = self.state.total.max(self.state.events);
        self.state.elapsed = self.started.elapsed();
        if self.told.elapsed() >= PROGRESS_INTERVAL {
            self.told = Instant::now();
            tracing::info!("building the read model: {}", self.state);
        }
        self.state
    }

    pub(super) fn summary(&self) -> String {
        let (events, seconds) = (self.state.events, self.started.elapsed().as_secs_f64());
        format!("the read model has caught up: {events} events in {seconds:.1} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remaining_time_follows_from_the_rate_so_far() {
        let begun = CatchUp {
            position: Position(10),
            target: Position(110),
            events: 0,
            total: 100,
            elapsed: Duration::from_secs(2),
        };
        assert_eq!(begun.to_string(), "10 of 110, 0 events/s");
        let halfway = CatchUp { position: Position(30), events: 20, ..begun };
        assert_eq!(halfway.remaining(), Some(Duration::from_secs(8)));
        assert_eq!(halfway.to_string(), "30 of 110, 10 events/s, ETA 8 s");
    }
}
