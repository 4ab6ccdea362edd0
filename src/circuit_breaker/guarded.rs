//! Message buses, leases and checkpoints behind circuit breakers; [`super::guarded_store`] has the event store.
//!
//! A `check` calls the backend itself, whatever the state of the breaker, and half-opens the breaker when it succeeds: a working backend need not
//! wait for the open time to pass.

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{BreakerError, CircuitBreaker, meters::LeaseMeters};
use crate::ports::{
    checkpoint_store::{Checkpoint, CheckpointError, CheckpointStore},
    lease_store::{Lease, LeaseError, LeaseOwner, LeaseStore},
    message_bus::{BusError, Consumer, DeadLetter, EventId, Message, MessageBus, VolatileMessages},
};

/// A message bus behind a circuit breaker. Its consumers bypass the breaker: they wait for messages for as long as necessary, and back off by
/// themselves. So do dead letters: occasional reads for health and operators give no information about publishing.
#[derive(Debug)]
pub struct GuardedBus {
    inner: Arc<dyn MessageBus>,
    breaker: Arc<CircuitBreaker>,
}

impl GuardedBus {
    /// Guards the I/O of `inner` with `breaker`.
    #[must_use]
    pub const fn new(inner: Arc<dyn MessageBus>, breaker: Arc<CircuitBreaker>) -> Self {
        Self { inner, breaker }
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, BusError>> + Send) -> Result<T, BusError> {
        let outcome = self.breaker.call_with(call, |error| matches!(error, BusError::Unavailable(_))).await;
        outcome.map_err(|error| or_refused(error, BusError::Unavailable))
    }
}

#[async_trait]
impl MessageBus for GuardedBus {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    async fn publish(&self, messages: &[Message]) -> Result<(), BusError> {
        self.call(self.inner.publish(messages)).await
    }

    fn oldest_unpersisted(&self, consumers: &[String]) -> VolatileMessages {
        self.inner.oldest_unpersisted(consumers)
    }

    async fn lost_from(&self, consumers: &[String], log: u32, published_to: u64) -> Result<Option<u64>, BusError> {
        self.inner.lost_from(consumers, log, published_to).await
    }

    fn resume(&self) {
        self.inner.resume();
    }

    async fn consumer(&self, name: &str) -> Result<Box<dyn Consumer>, BusError> {
        self.call(self.inner.consumer(name)).await
    }

    async fn remove_consumer(&self, name: &str) -> Result<(), BusError> {
        self.call(self.inner.remove_consumer(name)).await
    }

    async fn dead_letters(&self, name: &str, max: usize) -> Result<Vec<DeadLetter>, BusError> {
        self.inner.dead_letters(name, max).await
    }

    async fn replay(&self, name: &str, events: &[EventId]) -> Result<usize, BusError> {
        self.inner.replay(name, events).await
    }

    async fn discard(&self, name: &str, events: &[EventId]) -> Result<usize, BusError> {
        self.inner.discard(name, events).await
    }

    fn unreachable(&self) -> Option<String> {
        self.inner.unreachable()
    }

    async fn check(&self) -> Result<(), BusError> {
        self.inner.check().await?;
        self.breaker.half_open();
        Ok(())
    }
}

/// Leases behind a circuit breaker.
#[derive(Debug)]
pub struct GuardedLeases {
    inner: Arc<dyn LeaseStore>,
    breaker: Arc<CircuitBreaker>,
    meters: LeaseMeters,
}

impl GuardedLeases {
    /// Guards the I/O of `inner` with `breaker`; renewals are counted with the current recorder.
    #[must_use]
    pub fn new(inner: Arc<dyn LeaseStore>, breaker: Arc<CircuitBreaker>) -> Self {
        Self { inner, breaker, meters: LeaseMeters::new() }
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, LeaseError>> + Send) -> Result<T, LeaseError> {
        let outcome = self.breaker.call_with(call, |error| matches!(error, LeaseError::Unavailable(_))).await;
        outcome.map_err(|error| or_refused(error, LeaseError::Unavailable))
    }
}

#[async_trait]
impl LeaseStore for GuardedLeases {
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Option<Lease>, LeaseError> {
        self.call(self.inner.acquire(name, holder, ttl)).await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LeaseError> {
        let renewal = self.meters.begin();
        let renewed = self.call(self.inner.renew(lease, ttl)).await;
        renewal.end(&renewed);
        renewed
    }

    async fn release(&self, lease: &Lease) -> Result<(), LeaseError> {
        self.call(self.inner.release(lease)).await
    }

    async fn holder(&self, name: &str) -> Result<Option<LeaseOwner>, LeaseError> {
        self.call(self.inner.holder(name)).await
    }
}

/// Checkpoints behind a circuit breaker.
#[derive(Debug)]
pub struct GuardedCheckpoints {
    inner: Arc<dyn CheckpointStore>,
    breaker: Arc<CircuitBreaker>,
}

impl GuardedCheckpoints {
    /// Guards the I/O of `inner` with `breaker`.
    #[must_use]
    pub const fn new(inner: Arc<dyn CheckpointStore>, breaker: Arc<CircuitBreaker>) -> Self {
        Self { inner, breaker }
    }

    async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, CheckpointError>> + Send,
    ) -> Result<T, CheckpointError> {
        let is_failure = |error: &CheckpointError| matches!(error, CheckpointError::Unavailable(_));
        let outcome = self.breaker.call_with(call, is_failure).await;
        outcome.map_err(|error| or_refused(error, CheckpointError::Unavailable))
    }
}

#[async_trait]
impl CheckpointStore for GuardedCheckpoints {
    async fn load(&self, name: &str) -> Result<Option<Checkpoint>, CheckpointError> {
        self.call(self.inner.load(name)).await
    }

    async fn save(&self, name: &str, checkpoint: Checkpoint) -> Result<(), CheckpointError> {
        self.call(self.inner.save(name, checkpoint)).await
    }
}

/// The error of the call; a refusal is converted by `unavailable`.
pub(super) fn or_refused<E>(error: BreakerError<E>, unavailable: impl FnOnce(String) -> E) -> E {
    match error {
        BreakerError::Failed(error) => error,
        BreakerError::Refused(refused) => unavailable(refused.to_string()),
    }
}
