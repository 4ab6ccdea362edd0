//! The stream of the bus in Redis is deleted or cut while nodes run: the events that consumers had not processed are published again, and no others.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use ordersystem::{
    backends::redis::message_bus::{RedisBusOptions, RedisMessageBus},
    ports::message_bus::{BusError, Consumer, Delivery, Message, MessageBus},
};
use tokio::time::timeout;

use crate::{
    redis_server::{fresh_prefix, shared},
    support::{soon, until},
};

/// The logs that are published.
const LOG: u32 = 7;
const OTHER_LOG: u32 = 8;
const HANDLER: &str = "handler";

/// A bus and its keys.
struct Bus {
    prefix: String,
    bus: RedisMessageBus,
}

impl Bus {
    async fn start() -> Self {
        Self::with_prefix(&fresh_prefix()).await
    }

    async fn with_prefix(prefix: &str) -> Self {
        let bus = RedisMessageBus::new(shared().connect_to(prefix).await, RedisBusOptions::default());
        Self { prefix: prefix.to_owned(), bus }
    }

    fn key(&self, name: &str) -> String {
        format!("{{{}}}:{name}", self.prefix)
    }

    /// Runs a command, in which words with a colon before them are keys.
    fn lose(&self, command: &[&str]) {
        let words: Vec<_> = command
            .iter()
            .map(|word| word.strip_prefix(':').map_or_else(|| (*word).to_owned(), |key| self.key(key)))
            .collect();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let answer = shared().cli(&words);
        assert!(!answer.is_empty() && answer != "0" && !answer.contains("ERR"), "{command:?}: {answer}");
    }

    async fn lost_from(&self, log: u32, published_to: u64) -> Result<Option<u64>, BusError> {
        self.bus.lost_from(&[HANDLER.to_owned()], log, published_to).await
    }

    /// Waits until the bus reports a loss, without publishing.
    async fn until_lost(&self, log: u32, published_to: u64) -> u64 {
        until("the loss is noticed", async || self.lost_from(log, published_to).await.ok().flatten()).await
    }

    async fn publish(&self, positions: std::ops::RangeInclusive<u64>) -> Result<(), BusError> {
        self.bus.publish(&positions.map(message).collect::<Vec<_>>()).await
    }

    /// Publishes again from `first` up to `last`, as the relay does.
    async fn resume(&self, log: u32, first: u64, last: u64) {
        self.bus.resume();
        assert_eq!(self.lost_from(log, first - 1).await, Ok(None));
        self.publish(first..=last).await.unwrap();
    }

    async fn consumer(&self) -> Box<dyn Consumer> {
        self.bus.consumer(HANDLER).await.unwrap()
    }
}

fn message(position: u64) -> Message {
    Message { key: position, sequence: 1, position, kind: "order.paid".into(), payload: Bytes::new() }
}

/// The next `count` deliveries.
async fn receive(consumer: &dyn Consumer, count: usize) -> Vec<Delivery> {
    let mut received = Vec::new();
    while received.len() < count {
        received.extend(soon("deliveries", consumer.next_batch(count - received.len())).await.unwrap());
    }
    received
}

fn positions(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|delivery| delivery.message.position).collect()
}

async fn acknowledge(consumer: &dyn Consumer, deliveries: &[Delivery]) {
    consumer.ack(&deliveries.iter().map(|delivery| delivery.receipt).collect::<Vec<_>>()).await.unwrap();
}

/// Receives and acknowledges all of `wanted` with a consumer that is created again after each failure; returns everything that came.
async fn handle(bus: &Bus, wanted: std::ops::RangeInclusive<u64>) -> BTreeSet<u64> {
    let wanted: BTreeSet<u64> = wanted.collect();
    let mut came = BTreeSet::new();
    let mut consumer = bus.consumer().await;
    until("all are handled", async || {
        match timeout(Duration::from_millis(200), consumer.next_batch(100)).await {
            Ok(Ok(batch)) => {
                acknowledge(&*consumer, &batch).await;
                came.extend(positions(&batch));
            }
            Ok(Err(_)) => consumer = bus.consumer().await,
            Err(_) => {}
        }
        wanted.is_subset(&came)
    })
    .await;
    came
}

/// Twenty events are published, and twelve of them processed, of which the last ones out of their order.
async fn twelve_of_twenty() -> (Bus, Box<dyn Consumer>, Vec<Delivery>) {
    let bus = Bus::start().await;
    assert_eq!(bus.lost_from(LOG, 0).await, Ok(None));
    let consumer = bus.consumer().await;
    bus.publish(1..=20).await.unwrap();
    let mut received = receive(&*consumer, 20).await;
    let rest = received.split_off(12);
    acknowledge(&*consumer, &received[..5]).await;
    acknowledge(&*consumer, &received[8..]).await;
    acknowledge(&*consumer, &received[5..8]).await;
    (bus, consumer, rest)
}

#[tokio::test]
async fn events_that_were_not_processed_when_the_stream_was_lost_are_published_again() {
    for lose in [
        &["DEL", ":events"][..],
        &["RENAME", ":events", ":moved"],
        &["XTRIM", ":events", "MAXLEN", "3"],
        &["XDEL", ":events", "0-15"],
    ] {
        let (bus, _former, _rest) = twelve_of_twenty().await;
        bus.lose(lose);
        let refused = bus.publish(21..=21).await;
        assert!(matches!(refused, Err(BusError::Unavailable(_))), "{lose:?}: {refused:?}");
        assert_eq!(bus.lost_from(LOG, 20).await, Ok(Some(13)), "{lose:?}");
        bus.resume(LOG, 13, 25).await;
        let came = handle(&bus, 13..=25).await;
        assert_eq!(came, (13..=25).collect(), "{lose:?}: and nothing that was processed before");
        // Nothing is lost now.
        assert_eq!(bus.lost_from(LOG, 25).await, Ok(None));
        bus.publish(26..=26).await.unwrap();
    }
}

#[tokio::test]
async fn a_loss_is_noticed_at_rest_and_by_a_publisher_that_has_just_started() {
    let (bus, _consumer, _rest) = twelve_of_twenty().await;
    bus.lose(&["DEL", ":events"]);
    assert_eq!(bus.until_lost(LOG, 20).await, 13);
    let started = Bus::with_prefix(&bus.prefix).await;
    assert_eq!(started.lost_from(LOG, 20).await, Ok(Some(13)));
    // The first one to publish again does it for both.
    started.resume(LOG, 13, 20).await;
    assert_eq!(handle(&started, 13..=20).await, (13..=20).collect());
    assert_eq!(Bus::with_prefix(&bus.prefix).await.lost_from(LOG, 20).await, Ok(None));
}

#[tokio::test]
async fn nothing_is_published_again_if_everything_was_processed() {
    let (bus, consumer, rest) = twelve_of_twenty().await;
    acknowledge(&*consumer, &rest).await;
    bus.lose(&["DEL", ":events"]);
    assert_eq!(bus.until_lost(LOG, 20).await, 21);
    bus.resume(LOG, 21, 22).await;
    assert_eq!(handle(&bus, 21..=22).await, [21, 22].into());
}

#[tokio::test]
async fn a_stream_that_is_lost_again_before_publishing_has_resumed_is_lost() {
    let (bus, _consumer, _rest) = twelve_of_twenty().await;
    bus.lose(&["DEL", ":events"]);
    assert_eq!(bus.until_lost(LOG, 20).await, 13);
    // Another node publishes them again, and more; its checkpoint is further.
    let other = Bus::with_prefix(&bus.prefix).await;
    assert_eq!(other.lost_from(LOG, 20).await, Ok(Some(13)));
    other.resume(LOG, 13, 30).await;
    other.lose(&["DEL", ":events"]);
    bus.bus.resume();
    assert_eq!(bus.until_lost(LOG, 30).await, 13, "the loss after that one");
    bus.resume(LOG, 13, 30).await;
    assert_eq!(handle(&bus, 13..=30).await, (13..=30).collect());
}

#[tokio::test]
async fn each_log_on_the_bus_is_published_again_by_its_own_publisher() {
    let (bus, consumer, rest) = twelve_of_twenty().await;
    let other = Bus::with_prefix(&bus.prefix).await;
    assert_eq!(other.lost_from(OTHER_LOG, 0).await, Ok(None));
    other.publish(101..=110).await.unwrap();
    acknowledge(&*consumer, &rest[..1]).await;
    receive(&*consumer, 10).await;
    bus.lose(&["DEL", ":events"]);
    assert_eq!(bus.until_lost(LOG, 20).await, 14);
    bus.resume(LOG, 14, 20).await;
    assert!(other.publish(111..=111).await.is_err(), "its own events are still missing");
    assert_eq!(other.until_lost(OTHER_LOG, 110).await, 1, "none of them was processed");
    other.bus.resume();
    assert_eq!(other.lost_from(OTHER_LOG, 0).await, Ok(None));
    other.publish(101..=111).await.unwrap();
    let mut expected: BTreeSet<u64> = (14..=20).collect();
    expected.extend(101..=111);
    assert_eq!(handle(&bus, 101..=111).await, expected);
}

#[tokio::test]
async fn a_publisher_that_has_missed_the_loss_is_refused() {
    let (bus, _consumer, _rest) = twelve_of_twenty().await;
    let late = Bus::with_prefix(&bus.prefix).await;
    assert_eq!(late.lost_from(LOG, 20).await, Ok(None));
    bus.lose(&["DEL", ":events"]);
    assert_eq!(bus.until_lost(LOG, 20).await, 13);
    bus.bus.resume();
    assert_eq!(bus.lost_from(LOG, 12).await, Ok(None));
    assert!(late.publish(21..=21).await.is_err(), "before the lost ones");
    assert_eq!(late.lost_from(LOG, 20).await, Ok(Some(13)), "they are not in the stream yet");
    bus.publish(13..=20).await.unwrap();
    late.bus.resume();
    assert_eq!(late.lost_from(LOG, 20).await, Ok(None));
    late.publish(21..=21).await.unwrap();
}

#[tokio::test]
async fn a_message_that_was_lost_does_not_end_without_becoming_a_dead_letter() {
    let (bus, consumer, rest) = twelve_of_twenty().await;
    bus.lose(&["DEL", ":events"]);
    let refused = consumer.dead_letter(&rest[0], "no").await;
    assert!(matches!(refused, Err(BusError::Unavailable(_))), "{refused:?}");
    assert_eq!(bus.until_lost(LOG, 20).await, 13);
    bus.resume(LOG, 13, 20).await;
    let consumer = bus.consumer().await;
    let again = receive(&*consumer, 1).await;
    assert_eq!(positions(&again), [13]);
    consumer.dead_letter(&again[0], "no").await.unwrap();
    assert_eq!(bus.bus.dead_letters(HANDLER, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_record_of_a_bus_is_missed_and_forgets_removed_consumers() {
    let (bus, _consumer, _rest) = twelve_of_twenty().await;
    bus.lose(&["DEL", ":events", ":bus"]);
    assert!(bus.publish(21..=21).await.is_err());
    assert_eq!(bus.lost_from(LOG, 20).await, Ok(Some(1)), "what was processed is not known");
    bus.resume(LOG, 1, 20).await;
    handle(&bus, 1..=20).await;
    let record = || shared().cli(&["HGETALL", &bus.key("bus")]);
    assert!(record().contains(&format!("{HANDLER} {LOG}\n20")), "{}", record());
    bus.bus.remove_consumer(HANDLER).await.unwrap();
    assert!(!record().contains(HANDLER), "{}", record());
}

/// Without its group in the stream, a consumer would not keep the stream from dropping what it has not received.
#[tokio::test]
async fn a_full_stream_waits_for_consumers_that_have_not_returned_since_it_was_lost() {
    let prefix = fresh_prefix();
    let options = RedisBusOptions { capacity_messages: 10, ..RedisBusOptions::default() };
    for lose in [&[":events"][..], &[":events", ":bus", ":consumers", ":published:7"]] {
        let bus = RedisMessageBus::new(shared().connect_to(&prefix).await, options);
        let bus = Bus { prefix: prefix.clone(), bus };
        assert_eq!(bus.lost_from(LOG, 0).await, Ok(None));
        drop(bus.consumer().await);
        bus.publish(1..=10).await.unwrap();
        bus.lose(&[&["DEL"][..], lose].concat());
        assert_eq!(bus.until_lost(LOG, 10).await, 1);
        bus.bus.resume();
        assert_eq!(bus.lost_from(LOG, 0).await, Ok(None));
        let (published, came) = tokio::join!(bus.publish(1..=15), async {
            until("the stream is full", async || shared().cli(&["XLEN", &bus.key("events")]) == "10").await;
            handle(&bus, 1..=15).await
        });
        published.unwrap();
        assert_eq!(came, (1..=15).collect(), "{lose:?}");
        bus.bus.remove_consumer(HANDLER).await.unwrap();
        bus.lose(&["DEL", ":events", ":bus", ":published:7"]);
    }
}
