//! The progress of work on a log, for display.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Counts events while other threads read the count.
#[derive(Debug, Default)]
pub struct Meter {
    phase: Mutex<&'static str>,
    done: AtomicU64,
    total: AtomicU64,
}

/// The state of a [`Meter`] at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The current phase; empty before the first.
    pub phase: &'static str,
    /// The number of events done in this phase.
    pub done: u64,
    /// The approximate number of events in this phase. A number below `done` means that it is unknown.
    pub total: u64,
}

impl Meter {
    /// Begins another phase, of about `total` events.
    pub fn begin(&self, phase: &'static str, total: u64) {
        let mut current = self.phase.lock();
        *current = phase;
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    /// Counts `events` more.
    pub fn add(&self, events: usize) {
        self.done.fetch_add(events as u64, Ordering::Relaxed);
    }

    /// The current progress.
    #[must_use]
    pub fn read(&self) -> Reading {
        let phase = self.phase.lock();
        Reading { phase: *phase, done: self.done.load(Ordering::Relaxed), total: self.total.load(Ordering::Relaxed) }
    }
}
