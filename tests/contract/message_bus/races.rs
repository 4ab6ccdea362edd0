//! Races of publishers and consumers.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use futures_util::future::try_join_all;
use ordersystem::ports::message_bus::{BusError, Consumer};
use tokio::time::sleep;

use super::{BACKENDS, message, publish, receipts};
use crate::backend::{on_each, race_on_each};

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
