//! How a subscription is doing.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};

/// The last thing that went wrong.
#[derive(Clone, Debug)]
pub struct LastError {
    /// When.
    pub at: SystemTime,
    /// What, in words for the operator.
    pub reason: String,
}

/// Counters of one subscription since its start, for health and metrics. Each grows; they are not read as of one moment.
#[derive(Debug, Default)]
pub struct SubscriptionStatus {
    received: AtomicU64,
    handled: AtomicU64,
    retried: AtomicU64,
    dead_lettered: AtomicU64,
    deduplicated: AtomicU64,
    last_error: Mutex<Option<LastError>>,
}

impl SubscriptionStatus {
    /// Deliveries from the bus, repeated ones included.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Events that the handler has dealt with.
    #[must_use]
    pub fn handled(&self) -> u64 {
        self.handled.load(Relaxed)
    }

    /// Failed tries that another one follows.
    #[must_use]
    pub fn retried(&self) -> u64 {
        self.retried.load(Relaxed)
    }

    /// Events given up.
    #[must_use]
    pub fn dead_lettered(&self) -> u64 {
        self.dead_lettered.load(Relaxed)
    }

    /// Events that came again and were passed over.
    #[must_use]
    pub fn deduplicated(&self) -> u64 {
        self.deduplicated.load(Relaxed)
    }

    /// The last failure of the handler or the bus, if there was one; stays after things went well again.
    #[must_use]
    pub fn last_error(&self) -> Option<LastError> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn add_received(&self, count: usize) {
        self.received.fetch_add(count as u64, Relaxed);
    }

    pub(super) fn add_handled(&self) {
        self.handled.fetch_add(1, Relaxed);
    }

    pub(super) fn add_retried(&self) {
        self.retried.fetch_add(1, Relaxed);
    }

    pub(super) fn add_dead_lettered(&self) {
        self.dead_lettered.fetch_add(1, Relaxed);
    }

    pub(super) fn add_deduplicated(&self) {
        self.deduplicated.fetch_add(1, Relaxed);
    }

    pub(super) fn failed(&self, reason: String) {
        let error = LastError { at: SystemTime::now(), reason };
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}
