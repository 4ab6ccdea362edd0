//! The bus, the leases and the checkpoints when their streams and buckets vanish while nodes run: a server returns without its data, or an
//! operator deletes a stream. On the oldest supported server and on a current one.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use ordersystem::{
    backends::nats::{
        checkpoint_store::NatsCheckpointStore,
        lease::NatsLeaseStore,
        message_bus::{NatsBusOptions, NatsMessageBus},
    },
    ports::{
        checkpoint_store::{Checkpoint, CheckpointError, CheckpointStore},
        event_store::Position,
        lease_store::{LeaseError, LeaseStore},
        message_bus::{BusError, Consumer, Delivery, Message, MessageBus},
    },
};
use tokio::time::{sleep, timeout};

use crate::nats_server::{NatsServer, fresh_prefix};

const WITHIN: Duration = Duration::from_secs(90);

/// One of each kind.
fn servers() -> [NatsServer; 2] {
    [NatsServer::start(""), NatsServer::start_current("")]
}

/// Deletes all streams of `prefix` whose names contain one of `what`.
async fn delete(server: &NatsServer, prefix: &str, what: &[&str]) {
    let raw = server.raw().await;
    let names: Vec<String> = raw.stream_names().try_collect().await.unwrap();
    let mut deleted = 0;
    for name in names.iter().filter(|name| name.contains(prefix) && what.iter().any(|what| name.contains(what))) {
        raw.delete_stream(name).await.unwrap();
        deleted += 1;
    }
    assert!(deleted > 0, "there is something to lose: {names:?}");
}

/// A log and the position up to which it has been published, as in the relay.
struct Relay<'a> {
    bus: &'a NatsMessageBus,
    log: Vec<Message>,
    published: usize,
}

impl Relay<'_> {
    /// Appends `count` events, of seven orders, to the log and publishes them; events that the bus has lost come before them.
    async fn publish(&mut self, count: u64) {
        let start = self.log.len() as u64;
        self.log.extend((start + 1..=start + count).map(|position| {
            let (key, sequence) = (position % 7 + 1, position.div_ceil(7));
            Message { key, sequence, position, kind: "order.paid".into(), payload: Bytes::from(position.to_string()) }
        }));
        let give_up_at = Instant::now() + WITHIN;
        loop {
            match self.publish_again().await {
                Ok(()) if self.published == self.log.len() => return,
                Ok(()) => {}
                Err(BusError::Unavailable(why)) => {
                    assert!(Instant::now() < give_up_at, "{why}");
                    sleep(Duration::from_millis(100)).await;
                }
                Err(other) => panic!("{other}"),
            }
        }
    }

    async fn publish_again(&mut self) -> Result<(), BusError> {
        if let Some(first) = self.bus.lost_from(&["log".to_owned()], 7, self.published as u64).await? {
            self.published = self.published.min(usize::try_from(first - 1).unwrap());
            self.bus.resume();
        }
        self.bus.publish(&self.log[self.published..]).await?;
        self.published = self.log.len();
        Ok(())
    }
}

/// Handles messages like an event handler, which reopens its consumer after an error, until all of `wanted` have arrived.
async fn handle(bus: &NatsMessageBus, wanted: &BTreeSet<u64>) -> BTreeSet<u64> {
    let mut handled = BTreeSet::new();
    let give_up_at = Instant::now() + WITHIN;
    while !wanted.is_subset(&handled) {
        let missing: Vec<_> = wanted.difference(&handled).collect();
        assert!(Instant::now() < give_up_at, "{} of {} never come: {missing:?}", missing.len(), wanted.len());
        let Ok(consumer) = bus.consumer("log").await else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        while !wanted.is_subset(&handled)
            && let Ok(Ok(batch)) = timeout(Duration::from_secs(5), consumer.next_batch(10)).await
            && acknowledge(&*consumer, &batch).await
        {
            handled.extend(batch.iter().map(|delivery| delivery.message.position));
        }
    }
    handled
}

async fn acknowledge(consumer: &dyn Consumer, batch: &[Delivery]) -> bool {
    let receipts: Vec<_> = batch.iter().map(|delivery| delivery.receipt).collect();
    consumer.ack(&receipts).await.is_ok()
}

fn positions(range: std::ops::RangeInclusive<u64>) -> BTreeSet<u64> {
    range.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_published_after_the_stream_was_deleted_are_all_handled() {
    for server in servers() {
        for (before, after) in [(5, 5), (20, 30), (50, 60), (60, 50)] {
            let prefix = fresh_prefix();
            let bus = NatsMessageBus::new(server.connect_to(&prefix).await, NatsBusOptions::default());
            let mut relay = Relay { bus: &bus, log: Vec::new(), published: 0 };
            relay.publish(before).await;
            handle(&bus, &positions(1..=before)).await;
            delete(&server, &prefix, &["events"]).await;
            relay.publish(after).await;
            let handled = handle(&bus, &positions(before + 1..=before + after)).await;
            println!("{before}, {after}: {} came", handled.len());
        }
    }
}

/// A consumer that stays open notices by itself, and the relay of another node publishes.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_stays_open_reads_a_recreated_stream_from_its_beginning() {
    for server in servers() {
        let prefix = fresh_prefix();
        let here = NatsMessageBus::new(server.connect_to(&prefix).await, NatsBusOptions::default());
        let there = NatsMessageBus::new(server.connect_to(&prefix).await, NatsBusOptions::default());
        let mut relay = Relay { bus: &there, log: Vec::new(), published: 0 };
        let consumer = here.consumer("log").await.unwrap();
        relay.publish(50).await;
        let mut handled = BTreeSet::new();
        consume(&*consumer, &positions(1..=50), &mut handled).await;
        delete(&server, &prefix, &["events", "consumers"]).await;
        relay.publish(60).await;
        consume(&*consumer, &positions(51..=110), &mut handled).await;
    }
}

/// Reads from a consumer that stays open, whatever a single read says, until all of `wanted` have arrived.
async fn consume(consumer: &dyn Consumer, wanted: &BTreeSet<u64>, handled: &mut BTreeSet<u64>) {
    let give_up_at = Instant::now() + WITHIN;
    while !wanted.is_subset(handled) {
        assert!(Instant::now() < give_up_at, "only {} came", handled.len());
        if let Ok(Ok(batch)) = timeout(Duration::from_secs(1), consumer.next_batch(50)).await
            && acknowledge(consumer, &batch).await
        {
            handled.extend(batch.iter().map(|delivery| delivery.message.position));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unprocessed_messages_of_a_deleted_stream_are_published_again() {
    for server in servers() {
        for gone in [&["events"][..], &["consumers"], &["events", "consumers"]] {
            let prefix = fresh_prefix();
            let bus = NatsMessageBus::new(server.connect_to(&prefix).await, NatsBusOptions::default());
            let mut relay = Relay { bus: &bus, log: Vec::new(), published: 0 };
            // Several batches, so that the position of each can be known.
            for _ in 0..10 {
                relay.publish(20).await;
            }
            {
                let consumer = bus.consumer("log").await.unwrap();
                let (mut handled, give_up_at) = (0, Instant::now() + WITHIN);
                while handled < 100 {
                    assert!(Instant::now() < give_up_at, "only {handled} came");
                    let read = timeout(WITHIN, consumer.next_batch(100 - handled)).await.expect("a reply");
                    // A single read may fail on a busy machine.
                    let Ok(batch) = read else { continue };
                    assert!(acknowledge(&*consumer, &batch).await);
                    handled += batch.len();
                }
            }
            delete(&server, &prefix, gone).await;
            relay.publish(20).await;
            let handled = handle(&bus, &positions(101..=220)).await;
            let again = handled.range(..=100).count();
            println!("{gone:?}: {again} came again");
            assert!(again <= 40, "{gone:?}: {again} that had been handled long ago came again");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_leases_grow_across_a_recreated_bucket_and_fence_out_earlier_owners() {
    for server in servers() {
        let prefix = fresh_prefix();
        let nats = server.connect_to(&prefix).await;
        let (leases, others) = (NatsLeaseStore::new(nats.clone()), NatsLeaseStore::new(nats.clone()));
        let checkpoints = NatsCheckpointStore::new(nats);
        let long = Duration::from_secs(60);
        let mut last = 0;
        for round in 1..=3 {
            // More writes than the next bucket will have.
            for _ in 0..20 {
                let lease = leases.acquire("outbox", "node-1", long).await.unwrap().unwrap();
                assert!(lease.fencing_token > last, "{} after {last}", lease.fencing_token);
                last = lease.fencing_token;
            }
            let former = leases.acquire("outbox", "node-1", long).await.unwrap().unwrap();
            let at = |position, fencing_token| Checkpoint::at(Position(position).into(), fencing_token);
            checkpoints.save("outbox", at(round, former.fencing_token)).await.unwrap();
            delete(&server, &prefix, &["leases"]).await;
            // Whichever node is first.
            let (name, store) = if round % 2 == 0 { ("node-1", &leases) } else { ("node-2", &others) };
            let next = store.acquire("outbox", name, long).await.unwrap().expect("a lease that is gone is free");
            assert!(next.fencing_token > former.fencing_token);
            assert_eq!(others.holder("outbox").await.unwrap().unwrap().fencing_token, next.fencing_token);
            assert_eq!(leases.renew(&former, long).await, Err(LeaseError::Lost));
            let renewed = store.renew(&next, long).await.unwrap();
            assert_eq!(renewed.fencing_token, next.fencing_token);
            checkpoints.save("outbox", at(round, next.fencing_token)).await.unwrap();
            let refused = checkpoints.save("outbox", at(round, former.fencing_token)).await;
            assert_eq!(refused, Err(CheckpointError::Fenced { current_token: next.fencing_token }));
            last = next.fencing_token;
            store.release(&next).await.unwrap();
        }
        // A lost bucket of checkpoints is empty, and is created again.
        delete(&server, &prefix, &["checkpoints"]).await;
        assert_eq!(checkpoints.load("outbox").await, Ok(None));
        delete(&server, &prefix, &["checkpoints"]).await;
        checkpoints.save("outbox", Checkpoint::at(Position(3).into(), last)).await.unwrap();
        assert_eq!(checkpoints.load("outbox").await.unwrap().unwrap().position, Position(3));
    }
}
