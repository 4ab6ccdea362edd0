//! The message bus contract.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt as _;
use ordersystem::{
    backends::{
        memory::message_bus::{MemoryBusOptions, MemoryMessageBus},
        nats::{
            connection::Nats,
            message_bus::{NatsBusOptions, NatsMessageBus},
        },
        redis::message_bus::{RedisBusOptions, RedisMessageBus},
    },
    ports::message_bus::{BusError, Consumer, Delivery, Message, MessageBus, Receipt},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    backend::{Backend, Time},
    nats_cluster, nats_server, redis_server,
};

mod dead_letters;
mod delivery;
mod races;
mod random;
mod redelivery;

/// Small limits, so that tests reach them; [`DEAD_LETTERS`] is one of them.
const BACKENDS: &[Backend<dyn MessageBus>] = &[
    Backend { name: "inmemory", time: Time::Simulated, open: || async { memory() }.boxed() },
    Backend { name: "redis", time: Time::Real, open: || redis().boxed() },
    Backend { name: "nats", time: Time::Real, open: || nats().boxed() },
    Backend { name: "nats on three servers", time: Time::Real, open: || nats_with_replicas().boxed() },
];

const DEAD_LETTERS: usize = 20;
const ACK_WAIT: Duration = Duration::from_secs(5);
/// If there is no delivery within this time, there is none.
const QUIET: Duration = Duration::from_millis(500);

fn memory() -> Arc<dyn MessageBus> {
    Arc::new(MemoryMessageBus::new(MemoryBusOptions {
        capacity_messages: 64,
        capacity_bytes: 1024 * 1024,
        max_unacked: 48,
        ack_wait: ACK_WAIT,
        max_dead_letters: DEAD_LETTERS,
    }))
}

async fn redis() -> Arc<dyn MessageBus> {
    let options = RedisBusOptions {
        capacity_messages: 64,
        max_unacked: 48,
        ack_wait: ACK_WAIT,
        max_dead_letters: DEAD_LETTERS,
        ..RedisBusOptions::default()
    };
    Arc::new(RedisMessageBus::new(redis_server::shared().connect().await, options))
}

async fn nats() -> Arc<dyn MessageBus> {
    nats_bus(nats_server::shared().connect_to(&nats_server::fresh_prefix()).await)
}

async fn nats_with_replicas() -> Arc<dyn MessageBus> {
    nats_bus(nats_cluster::shared().patient(&nats_server::fresh_prefix()).await)
}

fn nats_bus(nats: Nats) -> Arc<dyn MessageBus> {
    let options = NatsBusOptions {
        capacity_messages: 64,
        max_unacked: 48,
        ack_wait: ACK_WAIT,
        max_dead_letters: DEAD_LETTERS,
        ..NatsBusOptions::default()
    };
    Arc::new(NatsMessageBus::new(nats, options))
}

fn message(key: u64, sequence: u64) -> Message {
    let payload = Bytes::from(format!("payload of {key}-{sequence}"));
    Message { key, sequence, position: 1_000 + sequence, kind: "OrderPaid".into(), payload }
}

fn ids(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| delivery.message.event_id().to_string()).collect()
}

fn receipts(deliveries: &[Delivery]) -> Vec<Receipt> {
    deliveries.iter().map(|delivery| delivery.receipt).collect()
}

/// Publishes as the relay does: retries until the bus accepts it.
async fn publish(bus: &dyn MessageBus, messages: &[Message]) {
    let give_up_at = Instant::now() + Duration::from_secs(60);
    while let Err(error) = bus.publish(messages).await {
        assert!(matches!(error, BusError::Unavailable(_)) && Instant::now() < give_up_at, "{error}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Receives `count` deliveries without acknowledging any.
async fn receive(consumer: &dyn Consumer, count: usize) -> Vec<Delivery> {
    let mut received = Vec::new();
    let give_up_at = Instant::now() + Duration::from_secs(60);
    while received.len() < count {
        let batch = timeout(ACK_WAIT * 5, consumer.next_batch(count - received.len())).await;
        let batch = match batch.unwrap_or_else(|_| panic!("only {:?} of {count} came", ids(&received))) {
            // Reported once, and retried by the consumer itself.
            Err(BusError::Unavailable(why)) if Instant::now() < give_up_at => {
                println!("{why}");
                continue;
            }
            batch => batch.unwrap(),
        };
        assert!(!batch.is_empty() && batch.len() <= count - received.len());
        received.extend(batch);
    }
    received
}

/// Receives and acknowledges `count` deliveries.
async fn receive_and_ack(consumer: &dyn Consumer, count: usize) -> Vec<Delivery> {
    let received = receive(consumer, count).await;
    consumer.ack(&receipts(&received)).await.unwrap();
    received
}

async fn assert_quiet(consumer: &dyn Consumer) {
    if let Ok(batch) = timeout(QUIET, consumer.next_batch(100)).await {
        panic!("unexpected: {:?}", ids(&batch.unwrap()));
    }
}
