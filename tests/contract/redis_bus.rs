//! A bus in Redis whose keys vanish while consumers live: what is published after that is handed out, all of it.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use ordersystem::{
    backends::redis::message_bus::{RedisBusOptions, RedisMessageBus},
    message_bus::{Consumer, Message, MessageBus},
};
use tokio::time::{Instant, timeout};

use crate::redis_server::{fresh_prefix, shared};

const PATIENCE: Duration = Duration::from_secs(30);

fn message(sequence: u64) -> Message {
    Message { key: sequence % 7, sequence, position: sequence, kind: "order.paid".into(), payload: Bytes::new() }
}

/// Takes and acknowledges until all of `wanted` have come. A consumer that fails is made again, as a node does.
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
async fn a_stream_that_was_deleted_and_made_again_is_handled_from_its_beginning() {
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
