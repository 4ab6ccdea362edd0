//! Dead letters: bounded, listed, replayed and discarded.

use std::time::Duration;

use ordersystem::ports::message_bus::{BusError, EventId, MAX_REASON_BYTES};
use tokio::time::sleep;

use super::{ACK_WAIT, BACKENDS, DEAD_LETTERS, assert_quiet, ids, message, publish, receive};
use crate::backend::on_each;

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
