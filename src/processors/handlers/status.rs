//! The status of a subscription.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::SystemTime,
};

use metrics::{Counter, Gauge};
use parking_lot::Mutex;

/// What a subscription does at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SubscriptionState {
    /// It is not known yet whether another node runs the handler.
    #[default]
    Starting,
    /// This node runs the handler.
    Active,
    /// Another node runs the handler; its name, if known.
    StandingBy(Option<String>),
    /// The bus or the lease store fails, with a description; it is being retried.
    Failing(String),
    /// It was stopped, or has panicked.
    Ended,
}

impl fmt::Display for SubscriptionState {
    /// Completes the phrase "the subscription …".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("is starting"),
            Self::Active => f.write_str("is active: this node runs the handler"),
            Self::StandingBy(Some(owner)) => write!(f, "stands by: {owner} runs the handler"),
            Self::StandingBy(None) => f.write_str("stands by: another node runs the handler"),
            Self::Failing(why) => write!(f, "fails: {why}"),
            Self::Ended => f.write_str("has ended"),
        }
    }
}

/// The last failure.
#[derive(Clone, Debug)]
pub struct LastError {
    /// When it happened.
    pub at: SystemTime,
    /// A description for the operator.
    pub reason: String,
}

/// Counters of one subscription since its start, for health and metrics. They only grow; they are not read as one snapshot.
#[derive(Debug)]
pub struct SubscriptionStatus {
    handler: String,
    state: Mutex<SubscriptionState>,
    active: Gauge,
    handled_total: Counter,
    retried_total: Counter,
    dead_lettered_total: Counter,
    deduplicated_total: Counter,
    received: AtomicU64,
    handled: AtomicU64,
    retried: AtomicU64,
    dead_lettered: AtomicU64,
    deduplicated: AtomicU64,
    last_error: Mutex<Option<LastError>>,
}

impl SubscriptionStatus {
    /// The status of the handler `name`, before any event.
    #[must_use]
    pub(super) fn of(name: &str) -> Self {
        let handler = name.to_owned();
        let total = |outcome: &'static str| {
            let labels = [("handler", handler.clone()), ("outcome", outcome.to_owned())];
            metrics::counter!("ordersystem_subscription_events_total", &labels)
        };
        Self {
            state: Mutex::default(),
            active: metrics::gauge!("ordersystem_subscription_active", "handler" => handler.clone()),
            handled_total: total("handled"),
            retried_total: total("retried"),
            dead_lettered_total: total("dead_lettered"),
            deduplicated_total: total("deduplicated"),
            received: AtomicU64::default(),
            handled: AtomicU64::default(),
            retried: AtomicU64::default(),
            dead_lettered: AtomicU64::default(),
            deduplicated: AtomicU64::default(),
            last_error: Mutex::default(),
            handler,
        }
    }

    /// The name of the handler.
    #[must_use]
    pub fn handler(&self) -> &str {
        &self.handler
    }

    /// The current state of the subscription.
    #[must_use]
    pub fn state(&self) -> SubscriptionState {
        self.state.lock().clone()
    }

    /// Deliveries from the bus, including redeliveries.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Events processed by the handler.
    #[must_use]
    pub fn handled(&self) -> u64 {
        self.handled.load(Relaxed)
    }

    /// Failed attempts that will be retried.
    #[must_use]
    pub fn retried(&self) -> u64 {
        self.retried.load(Relaxed)
    }

    /// Events moved to the dead letters.
    #[must_use]
    pub fn dead_lettered(&self) -> u64 {
        self.dead_lettered.load(Relaxed)
    }

    /// Redelivered events that were skipped.
    #[must_use]
    pub fn deduplicated(&self) -> u64 {
        self.deduplicated.load(Relaxed)
    }

    /// The last failure of the handler or the bus, if any; kept after a recovery.
    #[must_use]
    pub fn last_error(&self) -> Option<LastError> {
        self.last_error.lock().clone()
    }

    pub(super) fn add_received(&self, count: usize) {
        self.received.fetch_add(count as u64, Relaxed);
    }

    pub(super) fn add_handled(&self) {
        self.handled.fetch_add(1, Relaxed);
        self.handled_total.increment(1);
    }

    pub(super) fn add_retried(&self) {
        self.retried.fetch_add(1, Relaxed);
        self.retried_total.increment(1);
    }

    pub(super) fn add_dead_lettered(&self) {
        self.dead_lettered.fetch_add(1, Relaxed);
        self.dead_lettered_total.increment(1);
    }

    pub(super) fn add_deduplicated(&self) {
        self.deduplicated.fetch_add(1, Relaxed);
        self.deduplicated_total.increment(1);
    }

    pub(super) fn set_state(&self, state: SubscriptionState) {
        self.active.set(if state == SubscriptionState::Active { 1.0 } else { 0.0 });
        let mut now = self.state.lock();
        if *now != state {
            // The subscription itself logs failures, since it knows which are new.
            if !matches!(state, SubscriptionState::Failing(_)) {
                tracing::info!(handler = self.handler, "the subscription {state}");
            }
            *now = state;
        }
    }

    pub(super) fn failed(&self, reason: String) {
        let error = LastError { at: SystemTime::now(), reason };
        *self.last_error.lock() = Some(error);
    }
}
