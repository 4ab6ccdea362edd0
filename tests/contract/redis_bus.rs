//! A bus in Redis whose keys vanish while consumers live, or revert to the state of a replica: all events that are published after that, or
//! were lost, are delivered.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use ordersystem::{
    backends::redis::{
        checkpoint_store::RedisCheckpointStore,
        event_store::RedisEventStore,
        lease::RedisLeaseStore,
        message_bus::{RedisBusOptions, RedisMessageBus},
    },
    codec::{self, Record},
    domain::{
        ids::OrderId,
        order::{Change, OrderEvent},
        text::Text,
        timestamp::Timestamp,
    },
    ports::{
        checkpoint_store::CheckpointStore,
        clock::SystemClock,
        event_store::{Commit, CommitId, EventStore, ExpectedRevision, Position, StreamId},
        message_bus::{BusError, Consumer, Message, MessageBus},
    },
    processors::{
        outbox::{OutboxDeps, OutboxOptions, OutboxRelay},
        owners::Owners,
    },
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    redis_server::{DURABLE, RedisServer, fresh_prefix, shared},
    support::PATIENCE,
};

fn message(sequence: u64) -> Message {
    Message { key: sequence % 7, sequence, position: sequence, kind: "order.paid".into(), payload: Bytes::new() }
}

/// Receives and acknowledges until all of `wanted` have arrived. A consumer that fails is recreated, as a node does.
async fn handle(
    bus: &RedisMessageBus,
    mut consumer: Box<dyn Consumer>,
    wanted: std::ops::Range<u64>,
) -> Box<dyn Consumer> {
    let mut missing: BTreeSet<u64> = wanted.collect();
    let deadline = Instant::now() + PATIENCE;
    while !missing.is_empty() {
        assert!(Instant::now() < deadline, "never handed out: {missing:?}");
        match timeout(Duration::from_secs(2), consumer.next_batch(100)).await {
            Err(_) => {}
            Ok(Err(_)) => consumer = bus.consumer("handler").await.unwrap(),
            Ok(Ok(batch)) => {
                consumer.ack(&batch.iter().map(|delivery| delivery.receipt).collect::<Vec<_>>()).await.unwrap();
                for delivery in batch {
                    missing.remove(&delivery.message.sequence);
                }
            }
        }
    }
    consumer
}

#[tokio::test]
async fn a_recreated_stream_is_handled_from_its_beginning() {
    // Fewer, as many, and more than had been handled.
    for again in [20, 50, 60] {
        let prefix = fresh_prefix();
        let bus = RedisMessageBus::new(shared().connect_to(&prefix).await, RedisBusOptions::default());
        let consumer = bus.consumer("handler").await.unwrap();
        bus.publish(&(1..51).map(message).collect::<Vec<_>>()).await.unwrap();
        let consumer = handle(&bus, consumer, 1..51).await;
        shared().cli(&["DEL", &format!("{{{prefix}}}:events")]);
        bus.publish(&(100..100 + again).map(message).collect::<Vec<_>>()).await.unwrap();
        handle(&bus, consumer, 100..100 + again).await;
    }
}

#[tokio::test]
async fn dead_letters_are_replayed_to_a_live_consumer_after_the_replayed_ones_were_deleted() {
    let prefix = fresh_prefix();
    let bus = RedisMessageBus::new(shared().connect_to(&prefix).await, RedisBusOptions::default());
    let mut consumer = bus.consumer("handler").await.unwrap();
    for round in 0..2_u64 {
        let sequences = round * 100 + 1..round * 100 + 11;
        bus.publish(&sequences.clone().map(message).collect::<Vec<_>>()).await.unwrap();
        let mut dead = 0;
        while dead < 10 {
            for delivery in timeout(PATIENCE, consumer.next_batch(10)).await.unwrap().unwrap() {
                consumer.dead_letter(&delivery, "no").await.unwrap();
                dead += 1;
            }
        }
        let events: Vec<_> = sequences.clone().map(|sequence| message(sequence).event_id()).collect();
        assert_eq!(bus.replay("handler", &events).await, Ok(10));
        consumer = handle(&bus, consumer, sequences).await;
        shared().cli(&["DEL", &format!("{{{prefix}}}:replayed:handler")]);
    }
}

/// A server that a test reverts to an earlier state, like a replica that takes over and lacks the last writes.
struct Replaced {
    server: RedisServer,
    prefix: String,
}

impl Replaced {
    fn start() -> Self {
        Self { server: RedisServer::start(DURABLE), prefix: fresh_prefix() }
    }

    /// The replica's copy of these keys.
    fn replicate(&self, keys: &[&str]) {
        self.copy(keys, "", "replica:");
    }

    /// The replica takes over.
    fn fail_over(&self, keys: &[&str]) {
        self.copy(keys, "replica:", "");
        self.server.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    }

    fn copy(&self, keys: &[&str], from: &str, to: &str) {
        // In one step, since a relay may be running.
        let script =
            "for i = 1, #KEYS, 2 do redis.call('DEL', KEYS[i + 1]) redis.call('COPY', KEYS[i], KEYS[i + 1]) end";
        let key = |before: &str, name: &&str| format!("{{{}}}:{before}{name}", self.prefix);
        let names: Vec<_> = keys.iter().flat_map(|name| [key(from, name), key(to, name)]).collect();
        let count = names.len().to_string();
        let words: Vec<_> = ["EVAL", script, &count].into_iter().chain(names.iter().map(String::as_str)).collect();
        self.server.cli(&words);
    }
}

/// The keys of a bus.
const BUS: &[&str] = &["events", "published:7"];
/// The log that is published.
const LOG: u32 = 7;

#[tokio::test]
async fn messages_missing_after_a_failover_are_noticed_before_anything_is_published() {
    // Some of the messages, and all of them.
    for replicated in [5, 0] {
        let replaced = Replaced::start();
        let bus = RedisMessageBus::new(replaced.server.connect_to(&replaced.prefix).await, RedisBusOptions::default());
        let messages: Vec<_> = (1..13).map(message).collect();
        assert_eq!(bus.lost_from(&[], LOG, 0).await, Ok(None));
        bus.publish(&messages[..replicated]).await.unwrap();
        replaced.replicate(BUS);
        bus.publish(&messages[replicated..9]).await.unwrap();
        assert_eq!(bus.lost_from(&[], LOG, 9).await, Ok(None));
        replaced.fail_over(BUS);
        // Also by one that does not check first.
        let deadline = Instant::now() + PATIENCE;
        let lost_from = loop {
            let published = bus.publish(&messages[9..]).await;
            assert!(matches!(published, Err(BusError::Unavailable(_))), "{published:?}");
            match bus.lost_from(&[], LOG, 9).await {
                Ok(Some(first)) => break first,
                other => assert!(Instant::now() < deadline, "{other:?}"),
            }
        };
        assert_eq!(lost_from, replicated as u64 + 1);
        let stream = format!("{{{}}}:events", replaced.prefix);
        assert_eq!(replaced.server.cli(&["XLEN", &stream]), replicated.to_string());
        bus.resume();
        assert_eq!(bus.lost_from(&[], LOG, replicated as u64).await, Ok(None));
        bus.publish(&messages[replicated..]).await.unwrap();
        assert_eq!(replaced.server.cli(&["XLEN", &stream]), "12");
    }
}

#[tokio::test]
async fn a_checkpoint_that_is_ahead_of_the_bus_is_noticed_by_a_publisher_that_has_just_started() {
    let replaced = Replaced::start();
    let bus = RedisMessageBus::new(replaced.server.connect_to(&replaced.prefix).await, RedisBusOptions::default());
    assert_eq!(bus.lost_from(&[], LOG, 0).await, Ok(None));
    bus.publish(&(1..6).map(message).collect::<Vec<_>>()).await.unwrap();
    // Another log on the same bus is not affected.
    let other = RedisMessageBus::new(replaced.server.connect_to(&replaced.prefix).await, RedisBusOptions::default());
    assert_eq!(other.lost_from(&[], 8, 0).await, Ok(None));
    other.publish(&[message(1)]).await.unwrap();
    bus.publish(&[message(6)]).await.unwrap();
    let next = RedisMessageBus::new(replaced.server.connect_to(&replaced.prefix).await, RedisBusOptions::default());
    assert_eq!(next.lost_from(&[], LOG, 6).await, Ok(None));
    assert_eq!(next.lost_from(&[], LOG, 9).await, Ok(Some(7)));
    // A bus without a mark, from an earlier version, reports nothing.
    replaced.server.cli(&["DEL", &format!("{{{}}}:published:7", replaced.prefix)]);
    let next = RedisMessageBus::new(replaced.server.connect_to(&replaced.prefix).await, RedisBusOptions::default());
    assert_eq!(next.lost_from(&[], LOG, 9).await, Ok(None));
}

/// Appends the payment of order `order`, whatever its state: the relay does not check.
async fn append(store: &RedisEventStore, order: u64) {
    let event = OrderEvent {
        order_id: OrderId::new(order).unwrap(),
        customer_id: Text::parse("customer-1").unwrap(),
        at: Timestamp::from_micros(0),
        change: Change::Paid { method: Text::parse("card").unwrap(), reference: None },
    };
    let events = vec![codec::encode(
        &event,
        Record { revision: 1, request_id: None, actor: None, on_behalf_of: None, traceparent: None },
    )];
    let (id, expected) = (CommitId::random(), ExpectedRevision::NoStream);
    let commit = Commit { id, stream: StreamId(order), expected, request: None, events };
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = store.append(commit.clone()).await {
        assert!(Instant::now() < deadline, "{error}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// The log is intact, and so is its reader's connection; the bus lacks the last events, and the checkpoint is beyond them.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_publishes_messages_missing_after_a_failover_again() {
    // Also if the checkpoint has reached it, like one that is stored elsewhere.
    for with_checkpoint in [true, false] {
        let replaced = Replaced::start();
        let redis = replaced.server.connect_to(&replaced.prefix).await;
        let store = Arc::new(RedisEventStore::new(redis.clone()));
        let published = format!("published:{}", store.log_id().expect("connected").0);
        let keys = ["events", &published, "checkpoint:outbox"];
        let keys = if with_checkpoint { &keys[..] } else { &keys[..2] };
        let checkpoints = Arc::new(RedisCheckpointStore::new(redis.clone()));
        let parts = OutboxDeps {
            store: Arc::<RedisEventStore>::clone(&store),
            bus: Arc::new(RedisMessageBus::new(redis.clone(), RedisBusOptions::default())),
            consumers: Vec::new(),
            checkpoints: Arc::<RedisCheckpointStore>::clone(&checkpoints),
            leases: Arc::new(RedisLeaseStore::new(redis.clone())),
            node: "node-1".to_owned(),
            owners: Arc::new(Owners::new(Arc::new(SystemClock))),
        };
        let options = OutboxOptions { batch_size: 100, scan_interval: Duration::from_millis(50) };
        let relaying =
            tokio::spawn(async move { OutboxRelay::new(parts, options).run(CancellationToken::new()).await });
        let until_published = async |count: u64| {
            let deadline = Instant::now() + PATIENCE;
            while checkpoints.load("outbox").await.ok().flatten().is_none_or(|saved| saved.position < Position(count)) {
                assert!(Instant::now() < deadline, "not published to {count}");
                sleep(Duration::from_millis(10)).await;
            }
        };
        for order in 1..=12 {
            append(&store, order).await;
            if order == 5 {
                until_published(5).await;
                replaced.replicate(keys);
            }
        }
        until_published(12).await;
        replaced.fail_over(keys);
        for order in 13..=15 {
            append(&store, order).await;
        }
        let bus = RedisMessageBus::new(replaced.server.connect_to(&replaced.prefix).await, RedisBusOptions::default());
        let mut missing: BTreeSet<u64> = (1..=15).collect();
        let deadline = Instant::now() + PATIENCE;
        let consumer = bus.consumer("audit").await.unwrap();
        while !missing.is_empty() {
            assert!(Instant::now() < deadline, "{keys:?}: never published again: {missing:?}");
            let Ok(batch) = timeout(Duration::from_secs(2), consumer.next_batch(100)).await else { continue };
            let batch = batch.unwrap();
            consumer.ack(&batch.iter().map(|delivery| delivery.receipt).collect::<Vec<_>>()).await.unwrap();
            for delivery in batch {
                missing.remove(&delivery.message.position);
            }
        }
        relaying.abort();
    }
}
