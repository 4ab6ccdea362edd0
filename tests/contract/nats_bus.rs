//! The bus, the leases and the checkpoints in NATS when the server crashes, stalls, or responds late.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt as _;
use ordersystem::{
    backends::nats::{
        checkpoint_store::NatsCheckpointStore,
        connection::Nats,
        lease::NatsLeaseStore,
        message_bus::{NatsBusOptions, NatsMessageBus},
    },
    ports::{
        checkpoint_store::{Checkpoint, CheckpointStore},
        event_store::Position,
        lease_store::{LeaseError, LeaseStore},
        message_bus::{BusError, Consumer, Delivery, Description, Message, MessageBus, Receipt},
    },
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::{
    nats_server::{NatsServer, fresh_prefix, shared},
    support::until,
};

pub fn message(key: u64, sequence: u64) -> Message {
    let payload = Bytes::from(format!("payload of {key}-{sequence}"));
    Message { key, sequence, position: sequence, kind: "OrderPaid".into(), payload }
}

fn receipts(batch: &[Delivery]) -> Vec<Receipt> {
    batch.iter().map(|delivery| delivery.receipt).collect()
}

fn ids(batch: &[Delivery]) -> Vec<String> {
    batch.iter().map(|delivery| delivery.message.event_id().to_string()).collect()
}

pub async fn receive(consumer: &dyn Consumer, count: usize) -> Vec<Delivery> {
    let mut received = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    while received.len() < count {
        assert!(Instant::now() < deadline, "only {:?} of {count} came", ids(&received));
        match timeout(Duration::from_secs(1), consumer.next_batch(count - received.len())).await {
            Ok(Ok(batch)) => received.extend(batch),
            // The server is unavailable for a moment.
            Ok(Err(BusError::Unavailable(_))) | Err(_) => {}
            Ok(Err(other)) => panic!("{other}"),
        }
    }
    received
}

/// The number of orders under load.
const KEYS: u64 = 20;

/// The state shared by the two ends of a test under load.
#[derive(Default)]
pub struct Load {
    is_over: AtomicBool,
    /// The number of events published so far.
    published: AtomicU64,
    /// The error of the last publish.
    failure: std::sync::Mutex<String>,
    /// The number of events published for each key; 0 before all are.
    each: AtomicU64,
}

impl Load {
    /// Waits until this many more events are published.
    pub async fn go_on_for(&self, events: u64) {
        let enough = self.published.load(Ordering::Acquire) + events;
        let deadline = Instant::now() + Duration::from_secs(180);
        while self.published.load(Ordering::Acquire) < enough {
            let failure = || self.failure.lock().unwrap().clone();
            assert!(Instant::now() < deadline, "publishing does not go on: {}", failure());
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Publishes as the relay does, until the load is over: a failed batch is published again, as a whole, before the next one. Returns the
/// number of failures.
async fn publish_on(bus: Arc<NatsMessageBus>, load: Arc<Load>) -> usize {
    let (mut failures, mut each) = (0, 0);
    while !load.is_over.load(Ordering::Acquire) {
        let batch: Vec<_> = (each + 1..=each + 5).flat_map(|at| (1..=KEYS).map(move |key| message(key, at))).collect();
        while let Err(error) = bus.publish(&batch).await {
            assert!(matches!(error, BusError::Unavailable(_)), "{error}");
            failures += 1;
            *load.failure.lock().unwrap() = error.to_string();
            sleep(Duration::from_millis(50)).await;
        }
        each += 5;
        load.published.store(each * KEYS, Ordering::Release);
    }
    load.each.store(each, Ordering::Release);
    failures
}

/// The consumer; servers that have just started may not have found each other yet.
async fn the_consumer(bus: &NatsMessageBus) -> Box<dyn Consumer> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match bus.consumer("log").await {
            Ok(consumer) => return consumer,
            Err(error) => assert!(error.is_transient() && Instant::now() < deadline, "{error}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Consumes until everything published has arrived. Panics if a first delivery is out of order. Returns the number of redeliveries.
async fn consume_all(bus: Arc<NatsMessageBus>, load: Arc<Load>) -> usize {
    let mut last: HashMap<u64, u64> = HashMap::new();
    let mut repeats = 0;
    let consumer = the_consumer(&bus).await;
    let is_all = |last: &HashMap<u64, u64>| {
        let each = load.each.load(Ordering::Acquire);
        each > 0 && (1..=KEYS).all(|key| last.get(&key) == Some(&each))
    };
    while !is_all(&last) {
        let batch = match timeout(Duration::from_millis(200), consumer.next_batch(64)).await {
            Ok(Ok(batch)) => batch,
            Ok(Err(error)) => {
                assert!(error.is_transient(), "{error}");
                continue;
            }
            Err(_) => continue,
        };
        for Delivery { message: Message { key, sequence, payload, .. }, .. } in &batch {
            assert_eq!(*payload, format!("payload of {key}-{sequence}"));
            let before = last.entry(*key).or_default();
            if *sequence <= *before {
                repeats += 1;
                continue;
            }
            assert_eq!(*sequence, *before + 1, "key {key}: {sequence} came after {before}");
            *before = *sequence;
        }
        // Acknowledgements missed while the server is unavailable are sent with the next one.
        if let Err(error) = consumer.ack(&receipts(&batch)).await {
            assert!(error.is_transient(), "{error}");
        }
    }
    repeats
}

/// Publishes and consumes while `harm` is done to the server. Returns the number of failed publishes.
async fn under_harm(server: &mut NatsServer, harm: impl AsyncFnOnce(&mut NatsServer, &Load)) -> usize {
    let prefix = fresh_prefix();
    let nodes = [server.connect_to(&prefix).await, server.connect_to(&prefix).await];
    under_load(nodes, async |load| harm(server, load).await).await
}

/// The same with a node that publishes and one that consumes.
pub async fn under_load([publishing, consuming]: [Nats; 2], harm: impl AsyncFnOnce(&Load)) -> usize {
    let load = Arc::new(Load::default());
    let options = NatsBusOptions { capacity_messages: 1_000, ..NatsBusOptions::default() };
    let publishing = Arc::new(NatsMessageBus::new(publishing, options));
    let consuming = Arc::new(NatsMessageBus::new(consuming, options));
    // From the beginning, so that the bounded stream keeps all of it.
    drop(the_consumer(&consuming).await);
    let publisher = tokio::spawn(publish_on(publishing, Arc::clone(&load)));
    let consumer = tokio::spawn(consume_all(consuming, Arc::clone(&load)));
    harm(&load).await;
    load.go_on_for(1_000).await;
    load.is_over.store(true, Ordering::Release);
    let failures = timeout(Duration::from_secs(180), publisher).await.expect("publishing goes on").unwrap();
    let repeats = timeout(Duration::from_secs(180), consumer).await.expect("consuming goes on").unwrap();
    let events = load.each.load(Ordering::Acquire) * KEYS;
    println!("events: {events}, publishes that failed: {failures}, events that came again: {repeats}");
    failures
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_crashes_under_load_loses_no_event_and_no_order() {
    let mut server = NatsServer::start("");
    under_harm(&mut server, async |server, load| {
        for _ in 0..4 {
            load.go_on_for(1_000).await;
            server.kill();
            sleep(Duration::from_millis(200)).await;
            server.start_again();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_for_seconds_loses_no_event_and_no_order() {
    let mut server = NatsServer::start("");
    let failures = under_harm(&mut server, async |server, load| {
        load.go_on_for(1_000).await;
        server.signal("STOP");
        // Longer than the longest timeout: six seconds for the list of consumers.
        sleep(Duration::from_secs(9)).await;
        server.signal("CONT");
    })
    .await;
    assert!(failures > 0, "publishing into a server that stands still does not wait for ever");
}

#[tokio::test]
async fn what_a_consumer_has_dealt_with_stays_so_over_a_crash_of_both() {
    let mut server = NatsServer::start("");
    let prefix = fresh_prefix();
    {
        let bus = NatsMessageBus::new(server.connect_to(&prefix).await, NatsBusOptions::default());
        let consumer = bus.consumer("log").await.unwrap();
        bus.publish(&[message(1, 1), message(2, 1), message(3, 1), message(4, 1)]).await.unwrap();
        let received = receive(&*consumer, 4).await;
        // Not the first one: those above it must be recorded one by one.
        consumer.ack(&[received[1].receipt]).await.unwrap();
        consumer.dead_letter(&received[2], "no luck,\r\nat all").await.unwrap();
        // The test continues as another process would: nothing is released in order.
        std::mem::forget(consumer);
    }
    server.kill();
    server.start_again();
    let bus = NatsMessageBus::new(server.connect_to(&prefix).await, NatsBusOptions::default());
    let consumer = bus.consumer("log").await.unwrap();
    assert_eq!(ids(&receive(&*consumer, 2).await), ["1-1", "4-1"]);
    assert!(timeout(Duration::from_millis(500), consumer.next_batch(1)).await.is_err(), "there is nothing more");
    let letters = bus.dead_letters("log", 10).await.unwrap();
    assert_eq!((&letters[0].message, letters[0].reason.as_str()), (&message(3, 1), "no luck,\r\nat all"));
    assert_eq!(bus.replay("log", &[letters[0].message.event_id()]).await, Ok(1));
    assert_eq!(ids(&receive(&*consumer, 1).await), ["3-1"]);
    drop(consumer);
    let again = bus.consumer("log").await.unwrap();
    let received = receive(&*again, 3).await;
    assert!(ids(&received).contains(&"3-1".to_owned()), "a replayed one that was not dealt with comes again");
    again.ack(&receipts(&received)).await.unwrap();
    assert!(bus.dead_letters("log", 10).await.unwrap().is_empty());
    drop(again);
    let last = bus.consumer("log").await.unwrap();
    assert!(timeout(Duration::from_millis(500), last.next_batch(1)).await.is_err(), "all is dealt with");
}

#[tokio::test]
async fn a_plain_subscriber_and_a_durable_consumer_of_others_see_every_event_as_a_cloud_event() {
    let prefix = fresh_prefix();
    let nats = shared().connect_to(&prefix).await;
    let other = async_nats::connect(shared().url()).await.unwrap();
    let mut plain = other.subscribe(format!("{prefix}.events.>")).await.unwrap();
    other.flush().await.unwrap();
    let describe = |_: &Message| Description {
        time: "2026-11-21T00:00:00Z".to_owned(),
        data: Some(("application/json", Bytes::from_static(b"{}"))),
    };
    let options = NatsBusOptions { capacity_messages: 64, describe, ..NatsBusOptions::default() };
    let bus = NatsMessageBus::new(nats, options);
    bus.publish(&[message(9, 5)]).await.unwrap();
    let heard = timeout(Duration::from_secs(60), plain.next()).await.unwrap().unwrap();
    assert_eq!((heard.subject.as_str(), &heard.payload[..]), (format!("{prefix}.events.9").as_str(), &b"{}"[..]));
    let headers = heard.headers.unwrap();
    let source = format!("/{prefix}/orders");
    let expected = BTreeMap::from([
        ("ce-specversion", "1.0"),
        ("ce-id", "9-5"),
        ("ce-source", source.as_str()),
        ("ce-type", "OrderPaid"),
        ("ce-subject", "9"),
        ("ce-time", "2026-11-21T00:00:00Z"),
        ("ce-datacontenttype", "application/json"),
        ("ce-position", "5"),
    ]);
    for (name, value) in expected {
        assert_eq!(headers.get(name).map(|found| found.as_str()), Some(value), "{name}");
    }
    assert!(headers.get("Nats-Msg-Id").unwrap().as_str().starts_with("9-5-"), "{headers:?}");

    // The owner of a durable consumer does not lose the messages that it has not acknowledged.
    let jetstream = async_nats::jetstream::new(other);
    let stream = jetstream.get_stream(format!("{prefix}-events")).await.unwrap();
    let config = async_nats::jetstream::consumer::pull::Config {
        durable_name: Some("billing".to_owned()),
        ..Default::default()
    };
    let durable = stream.create_consumer(config).await.unwrap();
    // Nor does one that waits for nothing retain anything.
    let config = async_nats::jetstream::consumer::pull::Config {
        durable_name: Some("one-order".to_owned()),
        filter_subject: format!("{prefix}.events.424242"),
        ..Default::default()
    };
    let _: async_nats::jetstream::consumer::PullConsumer = stream.create_consumer(config).await.unwrap();
    let sent: Vec<_> = (1..=63).map(|sequence| message(7, sequence)).collect();
    bus.publish(&sent).await.unwrap();
    assert!(timeout(Duration::from_secs(1), bus.publish(&[message(7, 64)])).await.is_err(), "it waits for room");
    let why = bus.check().await.unwrap_err().to_string();
    assert!(why.contains("billing"), "{why}");
    let mut messages = durable.fetch().max_messages(64).messages().await.unwrap();
    let mut seen = Vec::new();
    while let Some(Ok(message)) = messages.next().await {
        seen.push(message.headers.as_ref().unwrap().get("ce-id").unwrap().to_string());
        message.double_ack().await.unwrap();
    }
    let expected = std::iter::once("9-5".to_owned()).chain((1..=63).map(|sequence| format!("7-{sequence}")));
    assert_eq!(seen, expected.collect::<Vec<_>>());
    timeout(Duration::from_secs(60), bus.publish(&[message(7, 64)])).await.unwrap().unwrap();
    bus.check().await.unwrap();
    // Our own consumers get the stored messages, whatever others get.
    let consumer = bus.consumer("late").await.unwrap();
    let oldest = receive(&*consumer, 1).await[0].message.clone();
    assert!(oldest == message(7, oldest.sequence) && oldest.sequence > 1, "{oldest:?}");
}

#[tokio::test]
async fn an_event_that_is_larger_than_the_server_takes_comes_whole_and_once() {
    let prefix = fresh_prefix();
    let describe = |message: &Message| Description {
        data: (message.sequence != 3).then(|| ("application/json", Bytes::from(vec![b'x'; message.payload.len() / 2]))),
        ..Description::default()
    };
    let options = NatsBusOptions { describe, ..NatsBusOptions::default() };
    let bus = NatsMessageBus::new(shared().connect_to(&prefix).await, options);
    let large = |sequence, bytes: usize| {
        let payload = Bytes::from((0..bytes).map(|at| (at as u64 * sequence) as u8).collect::<Vec<_>>());
        Message { payload, ..message(1, sequence) }
    };
    let sent = [large(1, 100), large(2, 100_000), large(3, 2_500_000), large(4, 2_500_000), large(5, 100)];
    let other = async_nats::connect(shared().url()).await.unwrap();
    let mut plain = other.subscribe(format!("{prefix}.events.>")).await.unwrap();
    other.flush().await.unwrap();
    let former = bus.consumer("log").await.unwrap();
    bus.publish(&sent[..2]).await.unwrap();
    let received = receive(&*former, 2).await;
    former.ack(&[received[0].receipt]).await.unwrap();
    // A publisher that ended halfway, and left parts that no event follows.
    let parts = async_nats::HeaderMap::from_iter([("Ordersystem-Part".parse().unwrap(), "1".parse().unwrap())]);
    let jetstream = async_nats::jetstream::new(other);
    jetstream.publish_with_headers(format!("{prefix}.parts.1"), parts, "lost".into()).await.unwrap().await.unwrap();
    bus.publish(&sent[1..]).await.unwrap();
    bus.publish(&sent).await.unwrap();
    bus.publish(&[message(2, 1)]).await.unwrap();
    assert_eq!(receive(&*former, 4).await.len(), 4);
    let consumer = bus.consumer("log").await.unwrap();
    let received = receive(&*consumer, 5).await;
    let messages: Vec<_> = received.iter().map(|delivery| delivery.message.clone()).collect();
    assert!(messages[..4] == sent[1..] && messages[4] == message(2, 1), "{:?}", ids(&received));
    consumer.ack(&receipts(&received)).await.unwrap();
    let again = bus.consumer("log").await.unwrap();
    assert!(timeout(Duration::from_millis(500), again.next_batch(1)).await.is_err(), "all is dealt with, parts too");
    let mut heard = Vec::new();
    while heard.len() < 5 {
        let message = timeout(Duration::from_secs(60), plain.next()).await.unwrap().unwrap();
        let id = message.headers.unwrap().get("ce-id").unwrap().to_string();
        // Events that are published again reach plain subscribers again: only the stream can tell that it has them.
        if !heard.iter().any(|(known, _)| *known == id) {
            heard.push((id, message.payload.len()));
        }
    }
    let expected = [("1-1", 50), ("1-2", 50_000), ("1-3", 0), ("1-4", 0), ("1-5", 50)];
    assert_eq!(heard, expected.map(|(id, length)| (id.to_owned(), length)));
}

/// nats-server 2.11 and later check `Nats-Expected-Last-Msg-Id` in a stream with replicas only when a message is applied, and one whose
/// condition fails stops the stream forever.
#[tokio::test]
async fn no_condition_is_sent_that_a_stream_with_replicas_can_refuse_only_when_it_is_applied() {
    let prefix = fresh_prefix();
    let other = async_nats::connect(shared().url()).await.unwrap();
    let mut heard = other.subscribe(format!("{prefix}.>")).await.unwrap();
    other.flush().await.unwrap();
    let bus = NatsMessageBus::new(shared().connect_to(&prefix).await, NatsBusOptions::default());
    let large = Message { payload: Bytes::from(vec![7; 2_500_000]), ..message(1, 9) };
    let mut sent: Vec<_> = (1..=8).flat_map(|sequence| [message(1, sequence), message(2, sequence)]).collect();
    sent.push(large);
    bus.publish(&sent).await.unwrap();
    let mut seen = 0;
    while seen < sent.len() {
        let message = timeout(Duration::from_secs(30), heard.next()).await.unwrap().unwrap();
        let headers = message.headers.unwrap();
        assert!(headers.get("Nats-Expected-Last-Msg-Id").is_none(), "{}: {headers:?}", message.subject);
        seen += usize::from(headers.get("ce-id").is_some());
    }
}

#[tokio::test]
async fn events_of_one_key_are_stored_in_order_while_those_of_others_do_not_wait_for_them() {
    let prefix = fresh_prefix();
    let bus = NatsMessageBus::new(shared().connect_to(&prefix).await, NatsBusOptions::default());
    let hot = (1..=300).map(|sequence| message(1, sequence));
    let cold = (2..=300).map(|key| message(key, 1));
    let sent: Vec<_> = hot.chain(cold).collect();
    bus.publish(&sent).await.unwrap();
    let consumer = bus.consumer("log").await.unwrap();
    let received = receive(&*consumer, sent.len()).await;
    let of_hot = received.iter().map(|delivery| &delivery.message).filter(|message| message.key == 1);
    assert_eq!(of_hot.map(|message| message.sequence).collect::<Vec<_>>(), (1..=300).collect::<Vec<_>>());
    let first_cold = received.iter().position(|delivery| delivery.message.key != 1).unwrap();
    assert!(first_cold < 100, "the first of the other keys was stored behind {first_cold} of the key before it");
}

#[tokio::test]
async fn with_no_consumer_the_oldest_give_way_and_a_new_one_misses_nothing_of_the_rest() {
    let options = NatsBusOptions { capacity_messages: 64, ..NatsBusOptions::default() };
    let bus = NatsMessageBus::new(shared().connect_to(&fresh_prefix()).await, options);
    for sequence in 1..=300 {
        bus.publish(&[message(1, sequence)]).await.unwrap();
    }
    let consumer = bus.consumer("late").await.unwrap();
    let first = receive(&*consumer, 1).await[0].message.sequence;
    assert!((237..=260).contains(&first), "{first}");
    let rest: Vec<_> = receive(&*consumer, (300 - first) as usize).await;
    let sequences: Vec<_> = rest.iter().map(|delivery| delivery.message.sequence).collect();
    assert_eq!(sequences, (first + 1..=300).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_event_published_again_is_stored_once() {
    let bus = NatsMessageBus::new(shared().connect_to(&fresh_prefix()).await, NatsBusOptions::default());
    let sent: Vec<_> = (1..=10).map(|sequence| message(1, sequence)).collect();
    bus.publish(&sent[..6]).await.unwrap();
    // As after a missing reply: all of it again, and more.
    bus.publish(&sent).await.unwrap();
    bus.publish(&sent).await.unwrap();
    let consumer = bus.consumer("log").await.unwrap();
    let expected: Vec<_> = sent.iter().map(|message| message.event_id().to_string()).collect();
    assert_eq!(ids(&receive(&*consumer, 10).await), expected);
    assert!(timeout(Duration::from_millis(500), consumer.next_batch(1)).await.is_err(), "there is nothing more");
}

#[tokio::test]
async fn another_event_at_a_revision_that_was_published_is_no_duplicate() {
    let bus = NatsMessageBus::new(shared().connect_to(&fresh_prefix()).await, NatsBusOptions::default());
    let lost = message(1, 1);
    // The log has lost its end, and has another event there.
    let other = Message { payload: Bytes::from_static(b"another"), ..lost.clone() };
    bus.publish(std::slice::from_ref(&lost)).await.unwrap();
    for _ in 0..2 {
        bus.publish(std::slice::from_ref(&other)).await.unwrap();
    }
    let consumer = bus.consumer("log").await.unwrap();
    let came: Vec<_> = receive(&*consumer, 2).await.into_iter().map(|delivery| delivery.message.payload).collect();
    assert_eq!(came, [lost.payload, other.payload]);
    assert!(timeout(Duration::from_millis(500), consumer.next_batch(1)).await.is_err(), "there is nothing more");
}

#[tokio::test]
async fn of_two_nodes_that_publish_the_same_events_neither_brings_them_out_of_order() {
    let seed = fastrand::u64(..);
    println!("seed: {seed}");
    let prefix = fresh_prefix();
    // The deduplication window is empty: the order must not depend on it.
    let options = NatsBusOptions { duplicate_window: Duration::from_millis(100), ..NatsBusOptions::default() };
    let mut publishers = Vec::new();
    for node in 0..2 {
        let bus = NatsMessageBus::new(shared().connect_to(&prefix).await, options);
        let mut random = fastrand::Rng::with_seed(seed ^ node);
        publishers.push(tokio::spawn(async move {
            let mut next = 1;
            while next <= 400 {
                let end = (next + random.u64(1..60)).min(401);
                let batch: Vec<_> = (next..end).map(|sequence| message(1, sequence)).collect();
                bus.publish(&batch).await.unwrap();
                next = end;
            }
        }));
    }
    for publisher in publishers {
        publisher.await.unwrap();
    }
    let bus = NatsMessageBus::new(shared().connect_to(&prefix).await, options);
    let consumer = bus.consumer("log").await.unwrap();
    let mut last = 0;
    while last < 400 {
        for delivery in receive(&*consumer, 1).await {
            let sequence = delivery.message.sequence;
            assert!(sequence <= last + 1, "{sequence} came after {last}");
            last = last.max(sequence);
            consumer.ack(&[delivery.receipt]).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_consumer_that_is_replaced_by_another_node_hears_of_it_and_its_acknowledgement_does_not_count() {
    let prefix = fresh_prefix();
    let here = NatsMessageBus::new(shared().connect_to(&prefix).await, NatsBusOptions::default());
    let there = NatsMessageBus::new(shared().connect_to(&prefix).await, NatsBusOptions::default());
    let former = here.consumer("log").await.unwrap();
    here.publish(&[message(1, 1), message(1, 2)]).await.unwrap();
    let held = receive(&*former, 2).await;
    let consumer = there.consumer("log").await.unwrap();
    assert_eq!(former.ack(&[held[0].receipt]).await, Err(BusError::Replaced));
    assert_eq!(ids(&receive(&*consumer, 2).await), ["1-1", "1-2"]);
    assert_eq!(former.next_batch(1).await.err(), Some(BusError::Replaced));
    // Without a call as well.
    let waiting = tokio::spawn(async move { consumer.next_batch(1).await.err() });
    let _third = here.consumer("log").await.unwrap();
    assert_eq!(timeout(Duration::from_secs(60), waiting).await.unwrap().unwrap(), Some(BusError::Replaced));
}

#[tokio::test]
async fn a_dead_or_paused_server_is_told_at_once_and_all_goes_on_when_it_is_back() {
    let mut server = NatsServer::start("");
    server.kill();
    let nats = Nats::start(server.options(&fresh_prefix())).await.unwrap();
    let bus = NatsMessageBus::new(nats.clone(), NatsBusOptions::default());
    let (leases, checkpoints) = (NatsLeaseStore::new(nats.clone()), NatsCheckpointStore::new(nats));
    let checkpoint = Checkpoint { position: Position(7), fingerprint: Some(9), fencing_token: 1 };
    let lease = Duration::from_secs(60);
    let asked_at = Instant::now();
    assert!(matches!(bus.check().await, Err(BusError::Unavailable(_))));
    assert!(asked_at.elapsed() < Duration::from_secs(20), "{:?}", asked_at.elapsed());
    assert!(matches!(bus.publish(&[message(1, 1)]).await, Err(BusError::Unavailable(_))));
    assert!(matches!(leases.acquire("outbox", "node-1", lease).await, Err(LeaseError::Unavailable(_))));
    assert!(checkpoints.save("outbox", checkpoint).await.is_err());
    server.start_again();
    until("the bus works", async || bus.check().await).await;
    until("it answers", async || bus.publish(&[message(1, 1)]).await).await;
    assert!(until("it answers", async || leases.acquire("outbox", "node-1", lease).await).await.is_some());
    until("it answers", async || checkpoints.save("outbox", checkpoint).await).await;
    server.signal("STOP");
    // It may answer once more before the signal has reached it.
    let asked_at = Instant::now();
    while bus.check().await.is_ok() {
        assert!(asked_at.elapsed() < Duration::from_secs(60), "it answers although it is paused");
    }
    server.signal("CONT");
    until("the bus works", async || bus.check().await).await;
    assert_eq!(until("it answers", async || checkpoints.load("outbox").await).await, Some(checkpoint));
    let consumer = until("it answers", async || bus.consumer("log").await).await;
    assert_eq!(ids(&receive(&*consumer, 1).await), ["1-1"]);
}

/// Holds the lease whenever it can, and reports when it relied on it: from and until, with the token.
fn contender(leases: NatsLeaseStore, holder: u64, seed: u64, stop: watch::Receiver<bool>) -> JoinHandle<Vec<Held>> {
    tokio::spawn(async move {
        let mut random = fastrand::Rng::with_seed(seed ^ holder);
        let mut held = Vec::new();
        while !*stop.borrow() {
            let ttl = Duration::from_millis(random.u64(10..60));
            let Ok(Some(mut lease)) = leases.acquire("outbox", &format!("node-{holder}"), ttl).await else {
                sleep(Duration::from_millis(random.u64(0..5))).await;
                continue;
            };
            let from = Instant::now();
            let mut until = lease.expires_at;
            for _ in 0..random.u8(0..4) {
                sleep(ttl.mul_f64(random.f64() * 1.2)).await;
                let now = Instant::now();
                // Never shorter: an owner whose renewal got no reply relies on the former end.
                let Ok(renewed) = leases.renew(&lease, ttl).await else { break };
                assert!(now < lease.expires_at, "an expired lease was renewed");
                (until, lease) = (renewed.expires_at, renewed);
            }
            match random.u8(..3) {
                // It crashes, and returns after its time.
                0 => sleep(ttl * 2).await,
                _ => {
                    let released_at = Instant::now();
                    if leases.release(&lease).await.is_ok() {
                        until = until.min(released_at);
                    }
                }
            }
            held.push(Held { from, until, token: lease.fencing_token, holder });
        }
        held
    })
}

#[derive(Debug)]
struct Held {
    from: Instant,
    until: Instant,
    token: u64,
    holder: u64,
}

#[tokio::test(flavor = "multi_thread")]
async fn no_two_owners_count_on_a_lease_at_the_same_time_however_short_it_is() {
    let seed = fastrand::u64(..);
    println!("seed: {seed}");
    let prefix = fresh_prefix();
    let (stop, stopped) = watch::channel(false);
    let mut contenders = Vec::new();
    for holder in 0..5 {
        // Each as on its own node.
        let leases = NatsLeaseStore::new(shared().connect_to(&prefix).await);
        contenders.push(contender(leases, holder, seed, stopped.clone()));
    }
    sleep(Duration::from_secs(5)).await;
    stop.send_replace(true);
    let mut held = Vec::new();
    for contender in contenders {
        held.extend(contender.await.unwrap());
    }
    held.sort_by_key(|held| held.token);
    assert!(held.len() > 30, "only {} ownerships", held.len());
    assert!(held.iter().map(|held| held.holder).collect::<std::collections::HashSet<_>>().len() > 1);
    for pair in held.windows(2) {
        assert!(pair[0].token < pair[1].token, "{pair:?}");
        let is_apart = pair[0].holder == pair[1].holder || pair[0].until <= pair[1].from;
        assert!(is_apart, "two owners at once: {pair:?}");
    }
}

#[tokio::test]
async fn a_lease_outlives_a_crash_of_the_server_and_tokens_go_on_from_where_they_were() {
    let mut server = NatsServer::start("");
    let prefix = fresh_prefix();
    let leases = NatsLeaseStore::new(server.connect_to(&prefix).await);
    let long = Duration::from_secs(60);
    let first = leases.acquire("outbox", "node-1", long).await.unwrap().unwrap();
    server.kill();
    assert!(matches!(leases.renew(&first, long).await, Err(LeaseError::Unavailable(_))));
    server.start_again();
    let other = NatsLeaseStore::new(server.connect_to(&prefix).await);
    assert_eq!(other.acquire("outbox", "node-2", long).await, Ok(None));
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Err(error) = leases.renew(&first, long).await {
        assert!(matches!(error, LeaseError::Unavailable(_)) && Instant::now() < deadline, "{error}");
        // While there is no connection it is refused at once, and this thread has to establish another one.
        sleep(Duration::from_millis(20)).await;
    }
    leases.release(&first).await.unwrap();
    let second = other.acquire("outbox", "node-2", long).await.unwrap().unwrap();
    assert!(second.fencing_token > first.fencing_token);
}
