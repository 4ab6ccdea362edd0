//! The parts of a broker, whose errors name the broker and its address. The event store gets its name with its circuit breaker.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use crate::ports::{
    checkpoint_store::{Checkpoint, CheckpointError, CheckpointStore},
    lease_store::{Lease, LeaseError, LeaseOwner, LeaseStore},
    message_bus::{BusError, Consumer, DeadLetter, Delivery, EventId, Message, MessageBus, Receipt, VolatileMessages},
    order_cache::{CacheError, CacheKey, OrderCache},
    server_name::ServerName,
};

/// A message bus whose errors name its server.
#[derive(Debug)]
pub struct NamedBus {
    /// The bus.
    pub inner: Arc<dyn MessageBus>,
    /// Its server.
    pub server: ServerName,
}

fn bus_error(server: &ServerName) -> impl Fn(BusError) -> BusError {
    move |error| match error {
        BusError::Unavailable(why) => BusError::Unavailable(server.named(why)),
        other => other,
    }
}

#[async_trait]
impl MessageBus for NamedBus {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn server(&self) -> Option<ServerName> {
        Some(self.server.clone())
    }

    async fn publish(&self, messages: &[Message]) -> Result<(), BusError> {
        self.inner.publish(messages).await.map_err(bus_error(&self.server))
    }

    fn oldest_unpersisted(&self, consumers: &[String]) -> VolatileMessages {
        self.inner.oldest_unpersisted(consumers)
    }

    async fn lost_from(&self, consumers: &[String], log: u32, published_to: u64) -> Result<Option<u64>, BusError> {
        self.inner.lost_from(consumers, log, published_to).await.map_err(bus_error(&self.server))
    }

    fn resume(&self) {
        self.inner.resume();
    }

    async fn consumer(&self, name: &str) -> Result<Box<dyn Consumer>, BusError> {
        let inner = self.inner.consumer(name).await.map_err(bus_error(&self.server))?;
        Ok(Box::new(NamedConsumer { inner, server: self.server.clone() }))
    }

    async fn remove_consumer(&self, name: &str) -> Result<(), BusError> {
        self.inner.remove_consumer(name).await.map_err(bus_error(&self.server))
    }

    async fn dead_letters(&self, name: &str, max: usize) -> Result<Vec<DeadLetter>, BusError> {
        self.inner.dead_letters(name, max).await.map_err(bus_error(&self.server))
    }

    async fn replay(&self, name: &str, events: &[EventId]) -> Result<usize, BusError> {
        self.inner.replay(name, events).await.map_err(bus_error(&self.server))
    }

    async fn discard(&self, name: &str, events: &[EventId]) -> Result<usize, BusError> {
        self.inner.discard(name, events).await.map_err(bus_error(&self.server))
    }

    fn unreachable(&self) -> Option<String> {
        self.inner.unreachable().map(|why| self.server.named(why))
    }

    fn at_risk(&self) -> Option<String> {
        self.inner.at_risk().map(|why| self.server.named(why))
    }

    fn known_outage(&self) -> Option<String> {
        self.inner.known_outage().map(|why| self.server.named(why))
    }

    async fn check(&self) -> Result<(), BusError> {
        self.inner.check().await.map_err(bus_error(&self.server))
    }
}

/// A consumer whose errors name its server.
#[derive(Debug)]
struct NamedConsumer {
    inner: Box<dyn Consumer>,
    server: ServerName,
}

#[async_trait]
impl Consumer for NamedConsumer {
    fn ack_wait(&self) -> Duration {
        self.inner.ack_wait()
    }

    async fn next_batch(&self, max: usize) -> Result<Vec<Delivery>, BusError> {
        self.inner.next_batch(max).await.map_err(bus_error(&self.server))
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<(), BusError> {
        self.inner.ack(receipts).await.map_err(bus_error(&self.server))
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<(), BusError> {
        self.inner.extend(receipts).await.map_err(bus_error(&self.server))
    }

    async fn retry(&self, receipt: Receipt, after: Duration) -> Result<(), BusError> {
        self.inner.retry(receipt, after).await.map_err(bus_error(&self.server))
    }

    async fn dead_letter(&self, delivery: &Delivery, reason: &str) -> Result<(), BusError> {
        self.inner.dead_letter(delivery, reason).await.map_err(bus_error(&self.server))
    }
}

/// Leases whose errors name their server.
#[derive(Debug)]
pub struct NamedLeases {
    /// The leases.
    pub inner: Arc<dyn LeaseStore>,
    /// Their server.
    pub server: ServerName,
}

impl NamedLeases {
    fn error(&self, error: LeaseError) -> LeaseError {
        match error {
            LeaseError::Unavailable(why) => LeaseError::Unavailable(self.server.named(why)),
            other => other,
        }
    }
}

#[async_trait]
impl LeaseStore for NamedLeases {
    fn server(&self) -> Option<ServerName> {
        Some(self.server.clone())
    }

    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Option<Lease>, LeaseError> {
        self.inner.acquire(name, holder, ttl).await.map_err(|error| self.error(error))
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LeaseError> {
        self.inner.renew(lease, ttl).await.map_err(|error| self.error(error))
    }

    async fn release(&self, lease: &Lease) -> Result<(), LeaseError> {
        self.inner.release(lease).await.map_err(|error| self.error(error))
    }

    async fn holder(&self, name: &str) -> Result<Option<LeaseOwner>, LeaseError> {
        self.inner.holder(name).await.map_err(|error| self.error(error))
    }
}

/// Checkpoints whose errors name their server.
#[derive(Debug)]
pub struct NamedCheckpoints {
    /// The checkpoints.
    pub inner: Arc<dyn CheckpointStore>,
    /// Their server.
    pub server: ServerName,
}

impl NamedCheckpoints {
    fn error(&self, error: CheckpointError) -> CheckpointError {
        match error {
            CheckpointError::Unavailable(why) => CheckpointError::Unavailable(self.server.named(why)),
            other => other,
        }
    }
}

#[async_trait]
impl CheckpointStore for NamedCheckpoints {
    fn server(&self) -> Option<ServerName> {
        Some(self.server.clone())
    }

    async fn load(&self, name: &str) -> Result<Option<Checkpoint>, CheckpointError> {
        self.inner.load(name).await.map_err(|error| self.error(error))
    }

    async fn save(&self, name: &str, checkpoint: Checkpoint) -> Result<(), CheckpointError> {
        self.inner.save(name, checkpoint).await.map_err(|error| self.error(error))
    }
}

/// A shared cache whose errors name its server.
#[derive(Debug)]
pub struct NamedCache {
    /// The cache.
    pub inner: Arc<dyn OrderCache>,
    /// Its server.
    pub server: ServerName,
}

#[async_trait]
impl OrderCache for NamedCache {
    async fn get(&self, key: CacheKey) -> Result<Option<Bytes>, CacheError> {
        self.inner.get(key).await.map_err(|CacheError(why)| CacheError(self.server.named(why)))
    }

    fn put(&self, key: CacheKey, folded: Bytes) {
        self.inner.put(key, folded);
    }

    fn unreachable(&self) -> Option<String> {
        self.inner.unreachable().map(|why| self.server.named(why))
    }

    fn server(&self) -> Option<ServerName> {
        Some(self.server.clone())
    }

    async fn check(&self) -> Result<(), CacheError> {
        self.inner.check().await.map_err(|CacheError(why)| CacheError(self.server.named(why)))
    }
}
