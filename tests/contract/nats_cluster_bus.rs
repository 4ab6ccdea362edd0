//! The message bus on three servers with replicas: leader changes, crashed servers, and refused publishes.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use ordersystem::{
    backends::nats::{
        connection::Nats,
        lease::NatsLeaseStore,
        message_bus::{NatsBusOptions, NatsMessageBus},
    },
    ports::{
        event_store::{EventStore, Position},
        lease_store::LeaseStore,
        message_bus::{BusError, Message, MessageBus},
    },
};
use tokio::time::{Instant, sleep};

use crate::{
    nats_bus::{message, receive, under_load},
    nats_cluster::{self, NatsCluster, SERVERS},
    nats_server::fresh_prefix,
};

/// Publishes as the relay does.
async fn publish(bus: &NatsMessageBus, messages: &[Message]) {
    let deadline = Instant::now() + Duration::from_secs(90);
    while let Err(error) = bus.publish(messages).await {
        assert!(matches!(error, BusError::Unavailable(_)) && Instant::now() < deadline, "{error}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_cut_by_a_change_of_leader_are_whole_and_in_order_and_publishing_continues() {
    let cluster = NatsCluster::start("");
    let prefix = fresh_prefix();
    let nodes = [cluster.connect_to(&prefix).await, cluster.connect_to(&prefix).await];
    under_load(nodes, async |load| {
        for _ in 0..6 {
            load.go_on_for(500).await;
            cluster.step_down(&format!("{prefix}-events")).await;
        }
        load.go_on_for(500).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_crashes_or_is_cut_off_under_a_batch_loses_no_event_and_no_order() {
    let mut cluster = NatsCluster::start("");
    let prefix = fresh_prefix();
    let nodes = [cluster.connect_to(&prefix).await, cluster.connect_to(&prefix).await];
    let stream = format!("{prefix}-events");
    under_load(nodes, async |load| {
        load.go_on_for(500).await;
        let leader = cluster.leader(&stream).await;
        cluster.kill(leader);
        load.go_on_for(500).await;
        cluster.start_again(leader);
        load.go_on_for(500).await;
        let leader = cluster.leader(&stream).await;
        cluster.isolate(leader);
        // Clients connected to it may continue only when it steps down.
        sleep(Duration::from_secs(6)).await;
        cluster.heal();
        load.go_on_for(500).await;
    })
    .await;
}

/// A server of a cluster that takes no part in the creation of a stream hears of it a moment later.
#[tokio::test(flavor = "multi_thread")]
async fn new_streams_and_buckets_can_be_used_at_every_server_as_soon_as_they_exist() {
    let cluster = NatsCluster::start("");
    for round in 0..4 {
        for server in 0..SERVERS {
            let prefix = fresh_prefix();
            let store = cluster.store_at(server, &prefix).await;
            let nats = Nats::start(cluster.options_at(server, &prefix)).await.unwrap();
            nats.connected().await.unwrap();
            let leases = NatsLeaseStore::new(nats.clone());
            let lease = leases.acquire("outbox", "node-1", Duration::from_secs(10)).await;
            assert!(matches!(lease, Ok(Some(_))), "round {round}, server {server}: {lease:?}");
            assert_eq!(store.head().await, Ok(Position(0)), "round {round}, server {server}");
            let bus = NatsMessageBus::new(nats, NatsBusOptions::default());
            let published = bus.publish(&[message(1, 1)]).await;
            assert_eq!(published, Ok(()), "round {round}, server {server}");
            for name in ["mail", "billing", "search"] {
                let consumer = bus.consumer(name).await.unwrap();
                let delivery = consumer.next_batch(1).await.unwrap().remove(0);
                let given_up = consumer.dead_letter(&delivery, "no").await;
                assert_eq!(given_up, Ok(()), "round {round}, server {server}, the first letter of {name}");
            }
        }
    }
}

/// Every condition sent here can fail, and the stream continues on every server.
#[tokio::test(flavor = "multi_thread")]
async fn a_publish_that_is_refused_does_not_stop_a_stream_with_replicas() {
    let cluster = nats_cluster::shared();
    let prefix = fresh_prefix();
    let bus = NatsMessageBus::new(cluster.connect_to(&prefix).await, NatsBusOptions::default());
    publish(&bus, &[message(1, 1)]).await;
    for server in 0..SERVERS {
        let raw = cluster.raw(server).await;
        for refused in [
            PublishMessage::build().expected_last_sequence(4_711),
            PublishMessage::build().expected_last_subject_sequence(4_711),
        ] {
            let sent = raw.send_publish(format!("{prefix}.events.1"), refused.payload("no".into())).await.unwrap();
            sent.await.expect_err("its condition does not hold");
        }
    }
    // The same by the bus itself: large events of two publishers, whose parts interleave.
    let others = NatsMessageBus::new(cluster.connect_to(&prefix).await, NatsBusOptions::default());
    let large = |key, sequence| Message { payload: Bytes::from(vec![7; 2_500_000]), ..message(key, sequence) };
    let (one, two) = ([large(2, 1), large(2, 2)], [large(3, 1), large(3, 2)]);
    tokio::join!(publish(&bus, &one), publish(&others, &two));
    publish(&bus, &[message(1, 2)]).await;
    let consumer = bus.consumer("log").await.unwrap();
    let mut received = receive(&*consumer, 6).await;
    received.sort_by_key(|delivery| delivery.message.event_id());
    let messages: Vec<_> = received.into_iter().map(|delivery| delivery.message).collect();
    assert!(messages == [&[message(1, 1), message(1, 2)], &one[..], &two].concat(), "all came, whole");
}

/// The remains of a crashed node: its reader. While the server of the reader is unavailable, its state is unknown; it retains nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_is_emptied_while_the_server_of_a_reader_is_away() {
    const CAPACITY: u64 = 100;
    let mut cluster = NatsCluster::start("");
    let prefix = fresh_prefix();
    let nats = cluster.connect_to(&prefix).await;
    let options = NatsBusOptions { capacity_messages: CAPACITY as usize, ..NatsBusOptions::default() };
    let bus = Arc::new(NatsMessageBus::new(nats, options));
    let consumer = bus.consumer("log").await.unwrap();
    publish(&bus, &[message(1, 1)]).await;
    let first = receive(&*consumer, 1).await;
    consumer.ack(&[first[0].receipt]).await.unwrap();
    let config = async_nats::jetstream::consumer::pull::Config {
        name: Some("ordersystem-reader-of-a-node-that-is-no-more".to_owned()),
        ack_policy: async_nats::jetstream::consumer::AckPolicy::None,
        memory_storage: true,
        num_replicas: 1,
        inactive_threshold: Duration::from_secs(3_600),
        ..Default::default()
    };
    let left = cluster.raw(0).await.create_consumer_on_stream(config, format!("{prefix}-events")).await.unwrap();
    let server = left.cached_info().cluster.as_ref().and_then(|cluster| cluster.leader.clone()).unwrap();
    cluster.kill(server.strip_prefix('s').unwrap().parse().unwrap());
    let publishing = tokio::spawn(async move {
        for round in 0..5 {
            let all: Vec<_> = (2..CAPACITY).map(|at| message(1, round * CAPACITY + at)).collect();
            publish(&bus, &all).await;
        }
    });
    let mut received = 0;
    while received < 5 * (CAPACITY - 2) {
        let batch = receive(&*consumer, 1).await;
        received += batch.len() as u64;
        let receipts: Vec<_> = batch.iter().map(|delivery| delivery.receipt).collect();
        while consumer.ack(&receipts).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    }
    publishing.await.unwrap();
}
