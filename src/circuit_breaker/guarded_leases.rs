//! Leases and checkpoints behind a circuit breaker.

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{CircuitBreaker, meters::LeaseMeters, or_refused};
use crate::ports::{
    checkpoint_store::{Checkpoint, CheckpointError, CheckpointStore},
    lease_store::{Lease, LeaseError, LeaseOwner, LeaseStore},
    server_name::ServerName,
};

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
    fn server(&self) -> Option<ServerName> {
        self.inner.server()
    }

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
    fn server(&self) -> Option<ServerName> {
        self.inner.server()
    }

    async fn load(&self, name: &str) -> Result<Option<Checkpoint>, CheckpointError> {
        self.call(self.inner.load(name)).await
    }

    async fn save(&self, name: &str, checkpoint: Checkpoint) -> Result<(), CheckpointError> {
        self.call(self.inner.save(name, checkpoint)).await
    }
}
