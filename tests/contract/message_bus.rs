//! The message bus contract.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::try_join_all};
use ordersystem::{
    backends::{
        memory::message_bus::{MemoryBusOptions, MemoryMessageBus},
        nats::{
            connection::Nats,
            message_bus::{NatsBusOptions, NatsMessageBus},
        },
        redis::message_bus::{RedisBusOptions, RedisMessageBus},
    },
    ports::message_bus::{BusError, Consumer, Delivery, EventId, MAX_REASON_BYTES, Message, MessageBus, Receipt},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    backend::{Backend, Time, on_each, only_on, race_on_each},
    nats_cluster, nats_server, redis_server,
};

mod random;

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

#[test]
fn a_message_arrives_as_it_was_published() {
    on_each(BACKENDS, |bus| async move {
        let consumer = bus.consumer("log").await.unwrap();
        let sent = Message { kind: "OrderCreated".to_owned().into(), ..message(u64::MAX >> 1, 7) };
        bus.publish(std::slice::from_ref(&sent)).await.unwrap();
        let received = receive(&*consumer, 1).await;
        assert_eq!(received[0].message, sent);
        assert_eq!((received[0].attempt, received[0].replayed), (1, false));
        assert_eq!(sent.event_id().to_string(), "9223372036854775807-7");
        bus.check().await.unwrap();
    });
}

#[test]
fn every_consumer_sees_every_message_in_the_order_of_its_key() {
    on_each(BACKENDS, |bus| async move {
        let consumers = [bus.consumer("a").await.unwrap(), bus.consumer("b").await.unwrap()];
        let sent: Vec<_> = (1..=10).flat_map(|sequence| [message(1, sequence), message(2, sequence)]).collect();
        publish(&*bus, &sent).await;
        for consumer in &consumers {
            let received = receive_and_ack(&**consumer, 20).await;
            for key in [1, 2] {
                let of_key = received.iter().filter(|delivery| delivery.message.key == key);
                let sequences: Vec<_> = of_key.map(|delivery| delivery.message.sequence).collect();
                assert_eq!(sequences, (1..=10).collect::<Vec<_>>());
            }
            assert_quiet(&**consumer).await;
        }
    });
}

#[test]
fn a_new_consumer_starts_with_what_the_bus_still_holds() {
    on_each(BACKENDS, |bus| async move {
        publish(&*bus, &[message(1, 1), message(1, 2)]).await;
        let consumer = bus.consumer("late").await.unwrap();
        assert_eq!(ids(&receive(&*consumer, 2).await), ["1-1", "1-2"]);
    });
}

#[test]
fn a_waiting_consumer_is_woken_by_a_publish() {
    on_each(BACKENDS, |bus| async move {
        let consumer = bus.consumer("log").await.unwrap();
        let waiting = tokio::spawn(async move { receive(&*consumer, 1).await });
        tokio::task::yield_now().await;
        publish(&*bus, &[message(1, 1)]).await;
        assert_eq!(ids(&waiting.await.unwrap()), ["1-1"]);
    });
}

#[test]
fn an_unacknowledged_message_is_redelivered_after_the_ack_wait_and_an_acknowledged_one_never() {
    on_each(BACKENDS, |bus| async move {
        let consumer = bus.consumer("log").await.unwrap();
        assert_eq!(consumer.ack_wait(), ACK_WAIT);
        publish(&*bus, &[message(1, 1), message(2, 1), message(3, 1)]).await;
        let started = Instant::now();
        let first = receive(&*consumer, 3).await;
        consumer.ack(&[first[1].receipt]).await.unwrap();
        assert_quiet(&*consumer).await;
        let mut again = receive_and_ack(&*consumer, 2).await;
        assert!(started.elapsed() >= ACK_WAIT);
        again.sort_by_key(|delivery| delivery.message.key);
        assert_eq!(ids(&again), ["1-1", "3-1"]);
        assert_eq!(again[0].attempt, 2);
        consumer.ack(&receipts(&first)).await.expect("void receipts are passed over");
        sleep(ACK_WAIT).await;
        assert_quiet(&*consumer).await;
    });
}

#[test]
fn a_void_receipt_does_not_acknowledge_the_next_delivery() {
    on_each(BACKENDS, |bus| async move {
        let consumer = bus.consumer("log").await.unwrap();
        publish(&*bus, &[message(1, 1)]).await;
        let first = receive(&*consumer, 1).await;
        consumer.retry(first[0].receipt, Duration::ZERO).await.unwrap();
        assert_eq!(receive(&*consumer, 1).await[0].attempt, 2);
        consumer.ack(&receipts(&first)).await.unwrap();
        assert_eq!(receive(&*consumer, 1).await[0].attempt, 3, "it was acknowledged by a void receipt");
    });
}

#[test]
fn a_message_in_progress_is_not_redelivered_while_its_wait_is_extended() {
    on_each(BACKENDS, |bus| async move {
        let consumer = bus.consumer("log").await.unwrap();
        publish(&*bus, &[message(1, 1)]).await;
        let received = receive(&*consumer, 1).await;
        for _ in 0..6 {
            assert_quiet(&*consumer).await;
            consumer.extend(&receipts(&received)).await.unwrap();
        }
        consumer.ack(&receipts(&received)).await.unwrap();
        sleep(ACK_WAIT).await;
        assert_quiet(&*consumer).await;
    });
}

#[test]
fn a_recreated_consumer_continues_after_the_acknowledged_messages() {
    on_each(BACKENDS, |bus| async move {
        let former = bus.consumer("log").await.unwrap();
        publish(&*bus, &[message(1, 1), message(1, 2), message(1, 3)]).await;
        let received = receive(&*former, 2).await;
        former.ack(&[received[0].receipt]).await.unwrap();
        drop(former);
        let consumer = bus.consumer("log").await.unwrap();
        let started = Instant::now();
        assert_eq!(ids(&receive_and_ack(&*consumer, 2).await), ["1-2", "1-3"]);
        assert!(started.elapsed() < ACK_WAIT, "messages held by the previous one must come at once");
        assert_quiet(&*consumer).await;
    });
}

#[test]
fn a_new_consumer_of_a_name_replaces_the_live_one() {
    on_each(BACKENDS, |bus| async move {
        let former = bus.consumer("log").await.unwrap();
        publish(&*bus, &[message(1, 1)]).await;
        let held = receive(&*former, 1).await;
        let consumer = bus.consumer("log").await.unwrap();
        assert_eq!(former.next_batch(1).await.err(), Some(BusError::Replaced));
        let _ = former.ack(&receipts(&held)).await;
        assert_eq!(ids(&receive(&*consumer, 1).await), ["1-1"]);
    });
}

#[test]
fn a_retried_message_is_redelivered_after_its_delay_while_other_keys_proceed() {
    on_each(BACKENDS, |bus| async move {
        let consumer = bus.consumer("log").await.unwrap();
        publish(&*bus, &[message(1, 1), message(2, 1)]).await;
        let received = receive(&*consumer, 2).await;
        let started = Instant::now();
        consumer.retry(received[0].receipt, QUIET).await.unwrap();
        consumer.ack(&[received[1].receipt]).await.unwrap();
        publish(&*bus, &[message(3, 1)]).await;
        assert_eq!(ids(&receive_and_ack(&*consumer, 1).await), ["3-1"]);
        let again = receive_and_ack(&*consumer, 1).await;
        assert!((QUIET..ACK_WAIT).contains(&started.elapsed()), "{:?}", started.elapsed());
        assert_eq!((ids(&again)[0].as_str(), again[0].attempt), ("1-1", 2));
    });
}

#[test]
fn later_messages_of_a_key_wait_behind_the_one_that_is_retried() {
    on_each(BACKENDS, |bus| async move {
        let consumer = bus.consumer("log").await.unwrap();
        publish(&*bus, &[message(1, 1), message(1, 2), message(2, 1)]).await;
        let mut received = receive(&*consumer, 3).await;
        // The order of those of different keys is not guaranteed.
        received.sort_by_key(|delivery| delivery.message.key);
        assert_eq!(ids(&received), ["1-1", "1-2", "2-1"]);
        consumer.retry(received[0].receipt, QUIET).await.unwrap();
        consumer.ack(&[received[1].receipt, received[2].receipt]).await.unwrap();
        publish(&*bus, &[message(1, 3), message(2, 2)]).await;
        assert_eq!(ids(&receive_and_ack(&*consumer, 1).await), ["2-2"]);
        let again = receive_and_ack(&*consumer, 3).await;
        assert_eq!(ids(&again), ["1-1", "1-2", "1-3"]);
        let attempts: Vec<_> = again.iter().map(|delivery| delivery.attempt).collect();
        assert_eq!(attempts, [2, 1, 1], "what was only taken back has not been tried");
        assert_quiet(&*consumer).await;
    });
}

#[test]
fn a_dead_letter_is_listed_with_its_reason_and_its_key_proceeds() {
    on_each(BACKENDS, |bus| async move {
        let consumer = bus.consumer("log").await.unwrap();
        let other = bus.consumer("other").await.unwrap();
        publish(&*bus, &[message(1, 1), message(1, 2)]).await;
        let received = receive(&*consumer, 2).await;
        consumer.dead_letter(&received[0], &"é".repeat(MAX_REASON_BYTES)).await.unwrap();
        consumer.ack(&[received[1].receipt]).await.unwrap();
        let letters = bus.dead_letters("log", 10).await.unwrap();
        assert_eq!(letters.len(), 1);
        assert_eq!((&letters[0].message, letters[0].attempts), (&message(1, 1), 1));
        assert_eq!(letters[0].reason, "é".repeat(MAX_REASON_BYTES / 2));
        assert!(letters[0].at.elapsed().unwrap() < Duration::from_secs(600));
        assert!(bus.dead_letters("other", 10).await.unwrap().is_empty());
        assert!(bus.dead_letters("unknown", 10).await.unwrap().is_empty());
        sleep(ACK_WAIT).await;
        assert_quiet(&*consumer).await;
        assert_eq!(ids(&receive(&*other, 2).await), ["1-1", "1-2"]);
    });
}

#[test]
fn a_replayed_dead_letter_is_delivered_once_more_and_marked() {
    on_each(BACKENDS, |bus| async move {
        let consumer = bus.consumer("log").await.unwrap();
        publish(&*bus, &[message(1, 1), message(2, 1), message(3, 1)]).await;
        for delivery in receive(&*consumer, 3).await {
            consumer.dead_letter(&delivery, "no luck").await.unwrap();
        }
        let wanted = [EventId { key: 2, sequence: 1 }, EventId { key: 9, sequence: 9 }];
        assert_eq!(bus.replay("log", &wanted).await, Ok(1));
        let replayed = receive(&*consumer, 1).await;
        assert_eq!((replayed[0].message.clone(), replayed[0].attempt, replayed[0].replayed), (message(2, 1), 1, true));
        assert_eq!(bus.replay("log", &wanted).await, Ok(0));
        consumer.dead_letter(&replayed[0], "again").await.unwrap();
        assert_eq!(bus.discard("log", &[EventId { key: 1, sequence: 1 }]).await, Ok(1));
        let letters = bus.dead_letters("log", 10).await.unwrap();
        let left: Vec<_> = letters.iter().map(|letter| (letter.message.key, letter.reason.as_str())).collect();
        assert_eq!(left, [(3, "no luck"), (2, "again")]);
        assert_eq!(bus.dead_letters("log", 1).await.unwrap().len(), 1);
        assert_eq!(bus.replay("unknown", &wanted).await, Err(BusError::UnknownConsumer));
    });
}

#[test]
fn a_requeued_message_does_not_become_a_dead_letter() {
    on_each(BACKENDS, |bus| async move {
        let consumer = bus.consumer("log").await.unwrap();
        publish(&*bus, &[message(1, 1)]).await;
        let received = receive(&*consumer, 1).await;
        consumer.retry(received[0].receipt, Duration::ZERO).await.unwrap();
        consumer.dead_letter(&received[0], "no luck").await.unwrap();
        assert!(bus.dead_letters("log", 10).await.unwrap().is_empty());
        assert_eq!(ids(&receive(&*consumer, 1).await), ["1-1"]);
    });
}

#[test]
fn when_the_dead_letters_are_full_nothing_is_lost() {
    on_each(BACKENDS, |bus| async move {
        let consumer = bus.consumer("log").await.unwrap();
        let sent: Vec<_> = (0..=DEAD_LETTERS as u64).map(|key| message(key, 1)).collect();
        publish(&*bus, &sent).await;
        let received = receive(&*consumer, sent.len()).await;
        let (last, others) = received.split_last().unwrap();
        for delivery in others {
            consumer.dead_letter(delivery, "no luck").await.unwrap();
        }
        let refused = consumer.dead_letter(last, "no luck").await;
        assert_eq!(refused, Err(BusError::DeadLettersFull { capacity: DEAD_LETTERS }));
        assert_eq!(ids(&receive(&*consumer, 1).await), ids(std::slice::from_ref(last)), "it comes again");
        bus.discard("log", &[others[0].message.event_id()]).await.unwrap();
        let again = bus.consumer("log").await.unwrap();
        again.dead_letter(&receive(&*again, 1).await[0], "no luck").await.unwrap();
        assert_eq!(bus.dead_letters("log", 100).await.unwrap().len(), DEAD_LETTERS);
    });
}

#[test]
fn a_removed_consumer_ends_and_its_dead_letters_stay() {
    on_each(BACKENDS, |bus| async move {
        let consumer = bus.consumer("log").await.unwrap();
        publish(&*bus, &[message(1, 1)]).await;
        consumer.dead_letter(&receive(&*consumer, 1).await[0], "no luck").await.unwrap();
        bus.remove_consumer("log").await.unwrap();
        bus.remove_consumer("log").await.expect("removing what is not there is harmless");
        assert_eq!(consumer.next_batch(1).await.err(), Some(BusError::Replaced));
        assert_eq!(bus.dead_letters("log", 10).await.unwrap().len(), 1);
    });
}

#[test]
fn a_consumers_name_is_bounded() {
    on_each(BACKENDS, |bus| async move {
        for name in ["", "a b", "a.b", "a>", "é", &"x".repeat(129)] {
            assert_eq!(bus.consumer(name).await.err(), Some(BusError::InvalidName), "{name:?}");
        }
        bus.consumer(&"x".repeat(128)).await.unwrap();
    });
}

#[test]
fn a_dropped_wait_for_a_batch_loses_nothing() {
    on_each(BACKENDS, |bus| async move {
        let consumer = bus.consumer("log").await.unwrap();
        let mut received = HashSet::new();
        for sequence in 1..=30 {
            publish(&*bus, &[message(1, sequence)]).await;
            // Polled once and dropped: either it is ready or nothing was delivered.
            if let Some(batch) = consumer.next_batch(10).now_or_never() {
                let batch = batch.unwrap();
                consumer.ack(&receipts(&batch)).await.unwrap();
                received.extend(ids(&batch));
            }
        }
        while received.len() < 30 {
            received.extend(ids(&receive_and_ack(&*consumer, 1).await));
        }
    });
}

#[test]
fn a_slow_consumer_loses_nothing_and_the_fast_one_is_not_delayed() {
    on_each(BACKENDS, |bus| async move {
        let (fast, slow) = (bus.consumer("fast").await.unwrap(), bus.consumer("slow").await.unwrap());
        let publisher = tokio::spawn(async move {
            for sequence in 1..=1_000 {
                publish(&*bus, &[message(sequence % 7, sequence)]).await;
            }
        });
        let fast = tokio::spawn(async move { receive_in_order(&*fast, 1_000, Duration::ZERO).await });
        let slow = tokio::spawn(async move { receive_in_order(&*slow, 1_000, Duration::from_millis(5)).await });
        // All at once: if one fails, another may wait for it forever.
        tokio::try_join!(publisher, fast, slow).unwrap();
    });
}

#[test]
fn publishers_that_race_lose_nothing_and_keep_the_order_of_each_key() {
    race_on_each(BACKENDS, |bus| async move {
        const PUBLISHERS: u64 = 8;
        const EACH: u64 = 500;
        let seed = fastrand::u64(..);
        println!("seed: {seed}");
        let consumers = [bus.consumer("a").await.unwrap(), bus.consumer("b").await.unwrap()];
        let mut tasks: Vec<_> = consumers
            .into_iter()
            .map(|consumer| {
                tokio::spawn(async move {
                    receive_in_order(&*consumer, (PUBLISHERS * EACH) as usize, Duration::ZERO).await;
                })
            })
            .collect();
        for key in 0..PUBLISHERS {
            let (bus, mut random) = (bus.clone(), fastrand::Rng::with_seed(seed ^ key));
            tasks.push(tokio::spawn(async move {
                let mut next = 1;
                while next <= EACH {
                    let end = (next + random.u64(1..100)).min(EACH + 1);
                    let batch: Vec<_> = (next..end).map(|sequence| message(key, sequence)).collect();
                    publish(&*bus, &batch).await;
                    next = end;
                }
            }));
        }
        // All at once: if one fails, another may wait for it forever.
        try_join_all(tasks).await.unwrap();
    });
}

/// Receives `count` messages, each published once, in order for each key. What a busy machine acknowledges too late, or cannot, comes again.
async fn receive_in_order(consumer: &dyn Consumer, count: usize, pause: Duration) {
    let (mut last, mut seen) = (HashMap::new(), HashSet::new());
    while seen.len() < count {
        let Some(batch) = unless_unavailable(consumer.next_batch(16).await) else { continue };
        for delivery in &batch {
            let message = &delivery.message;
            let before = last.entry(message.key).or_insert(0);
            let is_new = seen.insert((message.key, message.sequence));
            assert_eq!(is_new, message.sequence > *before, "{} after {before}", message.event_id());
            *before = message.sequence.max(*before);
        }
        sleep(pause).await;
        unless_unavailable(consumer.ack(&receipts(&batch)).await);
    }
    assert_eq!(seen.len(), count);
}

fn unless_unavailable<T>(outcome: Result<T, BusError>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(BusError::Unavailable(_)) => None,
        Err(error) => panic!("{error}"),
    }
}
