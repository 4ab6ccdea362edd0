//! A consumer that acts at random.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use ordersystem::ports::message_bus::{BusError, Consumer, Delivery, EventId, MessageBus};
use tokio::time::{sleep, timeout};

use super::{ACK_WAIT, BACKENDS, DEAD_LETTERS, assert_quiet, message, publish};
use crate::backend::{Time, on_each, only_on};

const KEYS: u64 = 5;
/// The number of messages of a key.
const EACH: u64 = 40;
/// The number of messages of a key where waiting takes real time.
const EACH_IN_REAL_TIME: u64 = 12;
const ROUNDS: usize = 10;

/// The guarantees that a consumer relies on, checked on every delivery.
#[derive(Default)]
struct Model {
    /// The first sequence of each key that is not acknowledged.
    next: HashMap<u64, u64>,
    dead: HashSet<EventId>,
}

impl Model {
    fn next(&mut self, key: u64) -> &mut u64 {
        self.next.entry(key).or_insert(1)
    }

    /// Processes a delivery in a random way.
    async fn process(&mut self, consumer: &dyn Consumer, delivery: &Delivery, random: &mut fastrand::Rng) {
        let event = delivery.message.event_id();
        let next = self.next(event.key);
        assert!(event.sequence >= *next, "{event} is redelivered although it was acknowledged");
        if event.sequence > *next {
            // It follows one that is still in flight or was just returned: it must be redelivered, after that one.
            return;
        }
        match random.u8(..10) {
            0 => return,
            1 | 2 => {
                return consumer.retry(delivery.receipt, Duration::from_secs(2).mul_f64(random.f64())).await.unwrap();
            }
            3 => match consumer.dead_letter(delivery, "random").await {
                Ok(()) => drop(self.dead.insert(event)),
                Err(error) => return assert_eq!(error, BusError::DeadLettersFull { capacity: DEAD_LETTERS }),
            },
            _ => consumer.ack(&[delivery.receipt]).await.unwrap(),
        }
        *self.next(event.key) += 1;
    }
}

#[test]
fn whatever_a_consumer_does_every_message_is_processed_in_the_order_of_its_key() {
    for round in 0..ROUNDS {
        let seed = fastrand::u64(..);
        println!("seed: {seed}");
        let test = |bus: Arc<dyn MessageBus>| async move {
            let each = if bus.kind() == "memory" { EACH } else { EACH_IN_REAL_TIME };
            let mut random = fastrand::Rng::with_seed(seed);
            let mut model = Model::default();
            let mut consumer = bus.consumer("log").await.unwrap();
            let publisher = tokio::spawn({
                let bus = bus.clone();
                async move {
                    for sequence in 1..=each {
                        let batch: Vec<_> = (1..=KEYS).map(|key| message(key, sequence)).collect();
                        publish(&*bus, &batch).await;
                        sleep(Duration::from_millis(50)).await;
                    }
                }
            });
            while (1..=KEYS).any(|key| *model.next(key) <= each) {
                let batch = timeout(ACK_WAIT * 5, consumer.next_batch(random.usize(1..20))).await;
                for delivery in batch.expect("a message is lost").unwrap() {
                    model.process(&*consumer, &delivery, &mut random).await;
                }
                if random.u8(..20) == 0 {
                    consumer = bus.consumer("log").await.unwrap();
                }
            }
            publisher.await.unwrap();
            sleep(ACK_WAIT).await;
            assert_quiet(&*consumer).await;
            let letters = bus.dead_letters("log", 100).await.unwrap();
            assert_eq!(letters.iter().map(|letter| letter.message.event_id()).collect::<HashSet<_>>(), model.dead);
        };
        match round {
            0 => on_each(BACKENDS, test),
            _ => only_on(BACKENDS.iter().filter(|backend| backend.time == Time::Simulated), test),
        }
    }
}
