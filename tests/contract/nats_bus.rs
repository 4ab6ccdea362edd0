//! The bus, the leases and the checkpoints in NATS when the server crashes, stalls, or responds late.

mod consumers;
mod crashes;
mod leases;
mod publishing;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt as _;
use ordersystem::{
    backends::nats::{
        checkpoint_store::NatsCheckpointStore,
        connection::Nats,
        lease::NatsLeaseStore,
        message_bus::{NatsBusOptions, NatsMessageBus},
    },
    ports::{
        checkpoint_store::{Checkpoint, CheckpointStore},
        event_store::Position,
        lease_store::{LeaseError, LeaseStore},
        message_bus::{BusError, CloudEventAttributes, Consumer, Delivery, Message, MessageBus, Receipt},
    },
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::{
    nats_server::{NatsServer, fresh_prefix, shared},
    support::until,
};

pub fn message(key: u64, sequence: u64) -> Message {
    let payload = Bytes::from(format!("payload of {key}-{sequence}"));
    Message { key, sequence, position: sequence, kind: "OrderPaid".into(), payload }
}

fn receipts(batch: &[Delivery]) -> Vec<Receipt> {
    batch.iter().map(|delivery| delivery.receipt).collect()
}

fn ids(batch: &[Delivery]) -> Vec<String> {
    batch.iter().map(|delivery| delivery.message.event_id().to_string()).collect()
}

pub async fn receive(consumer: &dyn Consumer, count: usize) -> Vec<Delivery> {
    let mut received = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    while received.len() < count {
        assert!(Instant::now() < deadline, "only {:?} of {count} came", ids(&received));
        match timeout(Duration::from_secs(1), consumer.next_batch(count - received.len())).await {
            Ok(Ok(batch)) => received.extend(batch),
            // The server is unavailable for a moment.
            Ok(Err(BusError::Unavailable(_))) | Err(_) => {}
            Ok(Err(other)) => panic!("{other}"),
        }
    }
    received
}

/// The number of orders under load.
const KEYS: u64 = 20;

/// The state shared by the two ends of a test under load.
#[derive(Default)]
pub struct Load {
    is_over: AtomicBool,
    /// The number of events published so far.
    published: AtomicU64,
    /// The error of the last publish.
    failure: std::sync::Mutex<String>,
    /// The number of events published for each key; 0 before all are.
    each: AtomicU64,
}

impl Load {
    /// Waits until this many more events are published.
    pub async fn go_on_for(&self, events: u64) {
        let enough = self.published.load(Ordering::Acquire) + events;
        let deadline = Instant::now() + Duration::from_secs(180);
        while self.published.load(Ordering::Acquire) < enough {
            let failure = || self.failure.lock().unwrap().clone();
            assert!(Instant::now() < deadline, "publishing does not continue: {}", failure());
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Publishes as the relay does, until the load is over: a failed batch is published again, as a whole, before the next one. Returns the
/// number of failures.
async fn publish_on(bus: Arc<NatsMessageBus>, load: Arc<Load>) -> usize {
    let (mut failures, mut each) = (0, 0);
    while !load.is_over.load(Ordering::Acquire) {
        let batch: Vec<_> = (each + 1..=each + 5).flat_map(|at| (1..=KEYS).map(move |key| message(key, at))).collect();
        while let Err(error) = bus.publish(&batch).await {
            assert!(matches!(error, BusError::Unavailable(_)), "{error}");
            failures += 1;
            *load.failure.lock().unwrap() = error.to_string();
            sleep(Duration::from_millis(50)).await;
        }
        each += 5;
        load.published.store(each * KEYS, Ordering::Release);
    }
    load.each.store(each, Ordering::Release);
    failures
}

/// The consumer; servers that have just started may not have found each other yet.
async fn the_consumer(bus: &NatsMessageBus) -> Box<dyn Consumer> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match bus.consumer("log").await {
            Ok(consumer) => return consumer,
            Err(error) => assert!(error.is_transient() && Instant::now() < deadline, "{error}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Consumes until everything published has arrived. Panics if a first delivery is out of order. Returns the number of redeliveries.
async fn consume_all(bus: Arc<NatsMessageBus>, load: Arc<Load>) -> usize {
    let mut last: HashMap<u64, u64> = HashMap::new();
    let mut repeats = 0;
    let consumer = the_consumer(&bus).await;
    let is_all = |last: &HashMap<u64, u64>| {
        let each = load.each.load(Ordering::Acquire);
        each > 0 && (1..=KEYS).all(|key| last.get(&key) == Some(&each))
    };
    while !is_all(&last) {
        let batch = match timeout(Duration::from_millis(200), consumer.next_batch(64)).await {
            Ok(Ok(batch)) => batch,
            Ok(Err(error)) => {
                assert!(error.is_transient(), "{error}");
                continue;
            }
            Err(_) => continue,
        };
        for Delivery { message: Message { key, sequence, payload, .. }, .. } in &batch {
            assert_eq!(*payload, format!("payload of {key}-{sequence}"));
            let before = last.entry(*key).or_default();
            if *sequence <= *before {
                repeats += 1;
                continue;
            }
            assert_eq!(*sequence, *before + 1, "key {key}: {sequence} came after {before}");
            *before = *sequence;
        }
        // Acknowledgements missed while the server is unavailable are sent with the next one.
        if let Err(error) = consumer.ack(&receipts(&batch)).await {
            assert!(error.is_transient(), "{error}");
        }
    }
    repeats
}

/// The same with a node that publishes and one that consumes.
pub async fn under_load([publishing, consuming]: [Nats; 2], harm: impl AsyncFnOnce(&Load)) -> usize {
    let load = Arc::new(Load::default());
    let options = NatsBusOptions { capacity_messages: 1_000, ..NatsBusOptions::default() };
    let publishing = Arc::new(NatsMessageBus::new(publishing, options));
    let consuming = Arc::new(NatsMessageBus::new(consuming, options));
    // From the beginning, so that the bounded stream keeps all of it.
    drop(the_consumer(&consuming).await);
    let publisher = tokio::spawn(publish_on(publishing, Arc::clone(&load)));
    let consumer = tokio::spawn(consume_all(consuming, Arc::clone(&load)));
    harm(&load).await;
    load.go_on_for(1_000).await;
    load.is_over.store(true, Ordering::Release);
    let failures = timeout(Duration::from_secs(180), publisher).await.expect("publishing continues").unwrap();
    let repeats = timeout(Duration::from_secs(180), consumer).await.expect("consuming continues").unwrap();
    let events = load.each.load(Ordering::Acquire) * KEYS;
    println!("events: {events}, publishes that failed: {failures}, events that came again: {repeats}");
    failures
}
