//! A message bus behind a circuit breaker.

use std::{future::Future, sync::Arc};

use async_trait::async_trait;

use super::{CircuitBreaker, or_refused};
use crate::ports::{
    message_bus::{BusError, Consumer, DeadLetter, EventId, Message, MessageBus, VolatileMessages},
    server_name::ServerName,
};

/// A message bus behind a circuit breaker. Its consumers bypass the breaker: they wait for messages for as long as necessary, and back off by
/// themselves. So do dead letters: occasional reads for health and operators say nothing about publishing.
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

    fn server(&self) -> Option<ServerName> {
        self.inner.server()
    }

    fn unreachable(&self) -> Option<String> {
        self.inner.unreachable()
    }

    fn at_risk(&self) -> Option<String> {
        self.inner.at_risk()
    }

    fn known_outage(&self) -> Option<String> {
        self.inner.known_outage().or_else(|| self.breaker.open_because())
    }

    async fn check(&self) -> Result<(), BusError> {
        self.inner.check().await?;
        self.breaker.half_open();
        Ok(())
    }
}
