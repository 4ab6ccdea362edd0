//! Tests the bounds of the memory bus; the rest is in the contract suite.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::*;

fn bus(capacity_messages: usize, capacity_bytes: usize, max_unacked: usize) -> MemoryMessageBus {
    MemoryMessageBus::new(MemoryBusOptions { capacity_messages, capacity_bytes, max_unacked, ..Default::default() })
}

fn messages(sequences: std::ops::RangeInclusive<u64>) -> Vec<Message> {
    let payload = Bytes::from_static(&[0; 100]);
    sequences
        .map(|sequence| Message {
            key: 1,
            sequence,
            position: sequence,
            kind: "OrderPaid".into(),
            payload: payload.clone(),
        })
        .collect()
}

async fn take(consumer: &dyn Consumer, max: usize) -> Vec<u64> {
    let batch = consumer.next_batch(max).await.unwrap();
    let receipts: Vec<_> = batch.iter().map(|delivery| delivery.receipt).collect();
    consumer.ack(&receipts).await.unwrap();
    batch.iter().map(|delivery| delivery.message.sequence).collect()
}

#[tokio::test(start_paused = true)]
async fn publishing_waits_for_the_slowest_consumer_and_the_check_names_it() {
    let bus = Arc::new(bus(4, usize::MAX, 8));
    let (fast, slow) = (bus.consumer("fast").await.unwrap(), bus.consumer("slow").await.unwrap());
    bus.publish(&messages(1..=3)).await.unwrap();
    bus.check().await.unwrap();
    let publisher = tokio::spawn({
        let bus = bus.clone();
        async move { bus.publish(&messages(4..=9)).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(take(&*fast, 100).await, [1, 2, 3, 4]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!publisher.is_finished(), "the slow consumer has received nothing yet");
    let stuck = BusError::Unavailable("the queue is full and waits for the consumer slow".to_owned());
    assert_eq!(bus.check().await, Err(stuck));
    assert_eq!(take(&*slow, 4).await, [1, 2, 3, 4]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(take(&*fast, 100).await, [5, 6, 7, 8]);
    assert_eq!(take(&*slow, 100).await, [5, 6, 7, 8]);
    publisher.await.unwrap().unwrap();
    assert_eq!(take(&*slow, 100).await, [9]);
    assert_eq!(take(&*fast, 100).await, [9]);
    assert!(bus.shared.with(|state| state.queue.is_empty()), "messages that every consumer has are freed");
    assert_eq!(bus.shared.with(|state| state.queue_bytes), 0);
}

#[tokio::test(start_paused = true)]
async fn removing_the_slowest_consumer_lets_publishers_continue() {
    let bus = Arc::new(bus(2, usize::MAX, 8));
    bus.consumer("gone").await.unwrap();
    let publisher = tokio::spawn({
        let bus = bus.clone();
        async move { bus.publish(&messages(1..=5)).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!publisher.is_finished());
    bus.remove_consumer("gone").await.unwrap();
    publisher.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_publish_can_be_repeated() {
    let bus = bus(2, usize::MAX, 8);
    let consumer = bus.consumer("log").await.unwrap();
    timeout(Duration::from_secs(1), bus.publish(&messages(1..=5))).await.unwrap_err();
    assert_eq!(take(&*consumer, 100).await, [1, 2]);
    timeout(Duration::from_secs(1), bus.publish(&messages(1..=5))).await.unwrap_err();
    assert_eq!(take(&*consumer, 100).await, [1, 2]);
    bus.publish(&messages(3..=4)).await.unwrap();
    assert_eq!(take(&*consumer, 100).await, [3, 4]);
}

#[tokio::test(start_paused = true)]
async fn without_consumers_the_oldest_messages_are_dropped() {
    let by_count = bus(3, usize::MAX, 8);
    by_count.publish(&messages(1..=10)).await.unwrap();
    by_count.check().await.unwrap();
    assert_eq!(take(&*by_count.consumer("log").await.unwrap(), 100).await, [8, 9, 10]);

    let by_bytes = bus(100, 250, 8);
    by_bytes.publish(&messages(1..=10)).await.unwrap();
    assert_eq!(take(&*by_bytes.consumer("log").await.unwrap(), 100).await, [9, 10]);
}

#[tokio::test(start_paused = true)]
async fn payload_bytes_are_bounded_as_well() {
    let bus = bus(100, 250, 8);
    let consumer = bus.consumer("log").await.unwrap();
    timeout(Duration::from_secs(1), bus.publish(&messages(1..=10))).await.unwrap_err();
    assert_eq!(take(&*consumer, 100).await, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_acknowledges_nothing_gets_no_more_than_its_window() {
    let bus = bus(100, usize::MAX, 5);
    let consumer = bus.consumer("log").await.unwrap();
    bus.publish(&messages(1..=10)).await.unwrap();
    let held = consumer.next_batch(100).await.unwrap();
    assert_eq!(held.len(), 5);
    timeout(Duration::from_secs(1), consumer.next_batch(100)).await.unwrap_err();
    consumer.ack(&[held[0].receipt, held[1].receipt]).await.unwrap();
    assert_eq!(take(&*consumer, 100).await, [6, 7]);
}

#[tokio::test(start_paused = true)]
async fn a_handle_from_before_a_removal_stays_invalid() {
    let bus = bus(100, usize::MAX, 5);
    let former = bus.consumer("log").await.unwrap();
    bus.remove_consumer("log").await.unwrap();
    let _consumer = bus.consumer("log").await.unwrap();
    assert_eq!(former.next_batch(1).await.err(), Some(BusError::Replaced));
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn unacknowledged_messages_are_volatile_wherever_they_wait() {
    let bus = bus(100, usize::MAX, 2);
    let both = names(&["a", "b"]);
    assert_eq!(bus.oldest_unpersisted(&names(&[])), VolatileMessages::Nothing);
    let a = bus.consumer("a").await.unwrap();
    assert_eq!(bus.oldest_unpersisted(&both), VolatileMessages::NoConsumer, "there is no b yet");
    let b = bus.consumer("b").await.unwrap();
    assert_eq!(bus.oldest_unpersisted(&both), VolatileMessages::Nothing);
    bus.publish(&messages(1..=4)).await.unwrap();
    assert_eq!(bus.oldest_unpersisted(&both), VolatileMessages::From(1), "in the queue");
    let batch = a.next_batch(2).await.unwrap();
    assert_eq!(bus.oldest_unpersisted(&both), VolatileMessages::From(1), "in flight");
    a.ack(&[batch[0].receipt]).await.unwrap();
    assert_eq!(bus.oldest_unpersisted(&names(&["a"])), VolatileMessages::From(2));
    assert_eq!(bus.oldest_unpersisted(&both), VolatileMessages::From(1), "b has received nothing");
    assert_eq!(take(&*b, 2).await, [1, 2]);
    assert_eq!(bus.oldest_unpersisted(&both), VolatileMessages::From(2), "a has not acknowledged it");
    a.retry(batch[1].receipt, Duration::from_secs(600)).await.unwrap();
    assert_eq!(bus.oldest_unpersisted(&both), VolatileMessages::From(2), "returned for a retry");
    drop(a);
    assert_eq!(bus.oldest_unpersisted(&both), VolatileMessages::From(2), "the name outlives its consumer");
    let a = bus.consumer("a").await.unwrap();
    assert_eq!(take(&*a, 1).await, [2]);
    assert_eq!((take(&*a, 2).await, take(&*b, 2).await), (vec![3, 4], vec![3, 4]));
    assert_eq!(bus.oldest_unpersisted(&both), VolatileMessages::Nothing);
    bus.remove_consumer("b").await.unwrap();
    assert_eq!(bus.oldest_unpersisted(&both), VolatileMessages::NoConsumer);
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_counts_as_processed_and_its_redelivery_does_not_move_the_volatile_mark_back() {
    let bus = bus(100, usize::MAX, 10);
    let (name, consumer) = (names(&["a"]), bus.consumer("a").await.unwrap());
    bus.publish(&messages(1..=2)).await.unwrap();
    let batch = consumer.next_batch(2).await.unwrap();
    consumer.dead_letter(&batch[0], "no").await.unwrap();
    assert_eq!(bus.oldest_unpersisted(&name), VolatileMessages::From(2));
    consumer.ack(&[batch[1].receipt]).await.unwrap();
    assert_eq!(bus.replay("a", &[EventId { key: 1, sequence: 1 }]).await, Ok(1));
    assert_eq!(bus.oldest_unpersisted(&name), VolatileMessages::Nothing);
}
