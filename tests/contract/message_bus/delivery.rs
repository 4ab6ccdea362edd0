//! Delivery: every consumer gets every message, in order for each key, and its name survives it.

use std::collections::HashSet;

use futures_util::FutureExt as _;
use ordersystem::ports::message_bus::{BusError, Message};
use tokio::time::Instant;

use super::{ACK_WAIT, BACKENDS, assert_quiet, ids, message, publish, receipts, receive, receive_and_ack};
use crate::backend::on_each;

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
fn a_consumers_name_is_bounded() {
    on_each(BACKENDS, |bus| async move {
        for name in ["", "a b", "a.b", "a>", "é", &"x".repeat(129)] {
            assert_eq!(bus.consumer(name).await.err(), Some(BusError::InvalidName), "{name:?}");
        }
        bus.consumer(&"x".repeat(128)).await.unwrap();
    });
}
