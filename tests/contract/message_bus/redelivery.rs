//! Redelivery: after the ack-wait, and after a requested delay.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{ACK_WAIT, BACKENDS, QUIET, assert_quiet, ids, message, publish, receipts, receive, receive_and_ack};
use crate::backend::on_each;

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
