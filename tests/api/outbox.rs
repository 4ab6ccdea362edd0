//! The outbox relay: its guarantees wherever it is stopped, and the state that it reports.

mod doubles;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, atomic::Ordering::SeqCst},
    time::Duration,
};

use async_trait::async_trait;
use ordersystem::{
    backends::memory::{
        checkpoint_store::MemoryCheckpointStore, lease::MemoryLeaseStore, message_bus::MemoryMessageBus,
    },
    node::Backends,
    ports::{
        backoff::Backoff,
        clock::{Clock, ManualClock, SystemClock},
        event_store::{Direction, EventStore, Position, StoreError, StoredEvent},
        message_bus::{EventId, Message, MessageBus},
    },
    processors::{
        handlers::{EventHandler, HandlerError, ReceivedEvent, Subscription, SubscriptionDeps, SubscriptionOptions},
        outbox::{OutboxDeps, OutboxOptions, OutboxRelay},
        owners::Owners,
    },
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::doubles::{POINTS, Point, Recorder, Trap, Trapped};

use crate::{
    faulty::{FaultyBus, FaultyStore, Mode},
    support::{
        Meta, PATIENCE, Step, TestServer, give,
        intercepted::{Intercepted, StoreHooks},
        until,
    },
};

/// A log of `orders` orders with three events each, written by the service; returns its last position.
async fn log_of(orders: usize) -> (Arc<dyn EventStore>, Position) {
    let backends = Backends::memory();
    let mut server = TestServer::start_on(&[], backends.clone(), Arc::new(SystemClock)).await;
    let client = server.commands().await;
    let mut ids = Vec::new();
    for _ in 0..orders {
        ids.push(server.place_order("customer-1").await.order_id);
    }
    for step in [Step::Pay, Step::Ship] {
        for id in &ids {
            give(&client, step, id, Meta::default()).await.expect("accepted");
        }
    }
    server.stop().await.expect("in time");
    let head = backends.store.head().await.expect("in memory");
    (backends.store, head)
}

/// Checks that `told` has every event in the order of its stream; repetitions start at an earlier point, and nothing is skipped.
fn assert_at_least_once_in_order(told: impl IntoIterator<Item = EventId>, orders: usize, context: &str) {
    let mut last: HashMap<u64, u64> = HashMap::new();
    for EventId { key, sequence } in told {
        let last = last.entry(key).or_default();
        assert!(sequence <= *last + 1, "{context}: {key}-{sequence} comes after {last}");
        *last = sequence.max(*last);
    }
    assert_eq!(last.len(), orders, "{context}");
    assert!(last.values().all(|&revision| revision == 3), "{context}: {last:?}");
}

fn parts(store: &Arc<dyn EventStore>, bus: &Arc<dyn MessageBus>, consumers: &[&str]) -> OutboxDeps {
    OutboxDeps {
        store: Arc::clone(store),
        bus: Arc::clone(bus),
        consumers: consumers.iter().map(|&name| name.to_owned()).collect(),
        checkpoints: Arc::new(MemoryCheckpointStore::new()),
        leases: Arc::new(MemoryLeaseStore::new()),
        node: "node-1".to_owned(),
        owners: Arc::new(Owners::new(Arc::new(SystemClock))),
    }
}

fn with_trap(parts: &OutboxDeps, trap: &Arc<Trap>) -> OutboxDeps {
    OutboxDeps {
        store: Arc::new(Intercepted(Trapped { trap: Arc::clone(trap), inner: Arc::clone(&parts.store) })),
        bus: Arc::new(Intercepted(Trapped { trap: Arc::clone(trap), inner: Arc::clone(&parts.bus) })),
        checkpoints: Arc::new(Trapped { trap: Arc::clone(trap), inner: Arc::clone(&parts.checkpoints) }),
        ..parts.clone()
    }
}

fn in_batches_of(batch_size: usize) -> OutboxOptions {
    OutboxOptions { batch_size, scan_interval: Duration::from_millis(20) }
}

async fn saved(parts: &OutboxDeps) -> u64 {
    parts.checkpoints.load("outbox").await.expect("in memory").map_or(0, |checkpoint| checkpoint.position.0)
}

/// Relays to the end of the log and stops in order.
async fn finish(parts: &OutboxDeps) {
    let flush = CancellationToken::new();
    flush.cancel();
    let relay = OutboxRelay::new(parts.clone(), in_batches_of(4));
    tokio::time::timeout(PATIENCE, relay.run(flush)).await.expect("flushed");
}

#[tokio::test]
async fn a_relay_that_ends_at_any_step_loses_nothing_and_keeps_the_order_of_every_order() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    const ORDERS: usize = 12;
    let (store, head) = log_of(ORDERS).await;
    for point in POINTS {
        for _ in 0..3 {
            let recorder = Arc::new(Recorder::default());
            let parts = parts(&store, &(Arc::clone(&recorder) as Arc<dyn MessageBus>), &[]);
            let mut ends = 0;
            for _ in 0..4 {
                let trap = Trap::new(point, random.usize(..4));
                let relay = OutboxRelay::new(with_trap(&parts, &trap), in_batches_of(random.usize(1..8)));
                tokio::select! {
                    () = relay.run(CancellationToken::new()) => unreachable!("it was not asked to end"),
                    () = trap.sprung.notified() => ends += 1,
                    // Everything is published, and the point is not passed any more.
                    () = tokio::time::sleep(Duration::from_millis(300)) => {}
                }
                let published = recorder.accepted.lock().unwrap().iter().map(|message| message.position).max();
                assert!(
                    saved(&parts).await <= published.unwrap_or(0),
                    "seed {seed}: the checkpoint is ahead of the bus"
                );
            }
            assert!(ends > 0, "seed {seed}: {point:?} was never passed");
            finish(&parts).await;
            assert_eq!(saved(&parts).await, head.0);
            let accepted = recorder.accepted.lock().unwrap().clone();
            let context = format!("seed {seed}, {point:?}");
            assert_at_least_once_in_order(accepted.iter().map(Message::event_id), ORDERS, &context);
        }
    }
}

/// Records the events that it has handled outside the process that ends; some attempts fail.
struct Durable {
    handled: Mutex<Vec<EventId>>,
    random: Mutex<fastrand::Rng>,
}

#[async_trait]
impl EventHandler for Durable {
    fn name(&self) -> &str {
        "durable"
    }

    async fn handle(&self, event: &ReceivedEvent) -> Result<(), HandlerError> {
        let luck = self.random.lock().unwrap().u8(..);
        tokio::time::sleep(Duration::from_micros(u64::from(luck) * 4)).await;
        if luck < 40 {
            return Err(HandlerError::Retry("no luck".to_owned()));
        }
        self.handled.lock().unwrap().push(event.event_id());
        Ok(())
    }
}

/// A bus that ends with its process, with the handler on it.
fn process(handler: &Arc<Durable>) -> (Arc<dyn MessageBus>, tokio::task::JoinHandle<()>) {
    let bus: Arc<dyn MessageBus> = Arc::new(MemoryMessageBus::default());
    let leases = Arc::new(MemoryLeaseStore::new());
    let parts = SubscriptionDeps {
        bus: Arc::clone(&bus),
        leases,
        node: "node-1".to_owned(),
        owners: Arc::new(Owners::new(Arc::new(SystemClock))),
    };
    let options = SubscriptionOptions {
        batch_size: 3,
        max_attempts: u32::MAX,
        backoff: Backoff::new(Duration::from_millis(2), Duration::from_secs(30)),
        ..SubscriptionOptions::default()
    };
    let subscription = Subscription::new(parts, Arc::clone(handler) as Arc<dyn EventHandler>, options);
    (bus, tokio::spawn(async move { subscription.run(CancellationToken::new()).await }))
}

#[tokio::test]
async fn a_process_that_ends_at_any_moment_loses_no_event_for_the_handlers_of_its_own_bus() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    const ORDERS: usize = 12;
    let (store, head) = log_of(ORDERS).await;
    for round in 0..8 {
        let handler =
            Arc::new(Durable { handled: Mutex::default(), random: Mutex::new(fastrand::Rng::with_seed(seed ^ round)) });
        let nothing: Arc<dyn MessageBus> = Arc::new(Recorder::default());
        let lasting = parts(&store, &nothing, &["durable"]);
        for _ in 0..6 {
            let (bus, subscription) = process(&handler);
            let relay = OutboxRelay::new(OutboxDeps { bus, ..lasting.clone() }, in_batches_of(random.usize(1..8)));
            let life = Duration::from_micros(random.u64(..15_000));
            let _ = tokio::time::timeout(life, relay.run(CancellationToken::new())).await;
            subscription.abort();
            let _ = subscription.await;
        }
        let (bus, subscription) = process(&handler);
        let relay = OutboxRelay::new(OutboxDeps { bus, ..lasting.clone() }, in_batches_of(5));
        let relay = tokio::spawn(async move { relay.run(CancellationToken::new()).await });
        until("everything is acknowledged", async || (saved(&lasting).await == head.0).then_some(())).await;
        relay.abort();
        subscription.abort();
        let handled = handler.handled.lock().unwrap().clone();
        assert_at_least_once_in_order(handled, ORDERS, &format!("seed {seed}, round {round}"));
    }
}

#[tokio::test]
async fn events_not_acknowledged_by_a_handler_are_published_again_by_the_next_process() {
    let (store, head) = log_of(2).await;
    let nothing: Arc<dyn MessageBus> = Arc::new(Recorder::default());
    let lasting = parts(&store, &nothing, &["slow"]);
    let bus: Arc<dyn MessageBus> = Arc::new(MemoryMessageBus::default());
    let consumer = bus.consumer("slow").await.expect("in memory");
    let relay = OutboxRelay::new(OutboxDeps { bus, ..lasting.clone() }, in_batches_of(10));
    let status = relay.status();
    let running = tokio::spawn(async move { relay.run(CancellationToken::new()).await });
    until("published", async || (status.published_to() == Some(head)).then_some(())).await;
    assert_eq!(saved(&lasting).await, 0);
    let batch = consumer.next_batch(2).await.expect("two");
    consumer.ack(&[batch[0].receipt, batch[1].receipt]).await.expect("in memory");
    until("two are safe", async || (saved(&lasting).await == batch[1].message.position).then_some(())).await;
    running.abort();
    let next: Arc<dyn MessageBus> = Arc::new(MemoryMessageBus::default());
    let consumer = next.consumer("slow").await.expect("in memory");
    let relay = OutboxRelay::new(OutboxDeps { bus: next, ..lasting.clone() }, in_batches_of(10));
    let running = tokio::spawn(async move { relay.run(CancellationToken::new()).await });
    assert_eq!(consumer.next_batch(1).await.expect("the third")[0].message.position, batch[1].message.position + 1);
    running.abort();
}

#[tokio::test]
async fn a_relay_publishes_no_more_at_once_than_the_batch_size() {
    let (store, _) = log_of(10).await;
    for (batch_size, largest) in [(1, 1), (7, 7), (100_000, 30)] {
        let recorder = Arc::new(Recorder::default());
        let parts = parts(&store, &(Arc::clone(&recorder) as Arc<dyn MessageBus>), &[]);
        let flush = CancellationToken::new();
        flush.cancel();
        OutboxRelay::new(parts, in_batches_of(batch_size)).run(flush).await;
        assert_eq!(recorder.largest_publish.load(SeqCst), largest);
        assert_eq!(recorder.accepted.lock().unwrap().len(), 30);
    }
}

/// A log whose wake-ups never arrive, as if the appends of other nodes were not announced.
#[derive(Debug)]
struct Silent {
    inner: Arc<dyn EventStore>,
    wake: watch::Sender<Position>,
    end: watch::Sender<Position>,
}

#[async_trait]
impl StoreHooks for Silent {
    fn inner(&self) -> &dyn EventStore {
        &*self.inner
    }

    fn wake(&self) -> watch::Receiver<Position> {
        self.wake.subscribe()
    }

    async fn read_log(
        &self,
        from: Position,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let end = *self.end.borrow();
        let mut read = self.inner.read_log(from, direction, max_events).await?;
        read.retain(|event| event.position <= end);
        Ok(read)
    }

    async fn head(&self) -> Result<Position, StoreError> {
        Ok(*self.end.borrow())
    }
}

#[tokio::test]
async fn events_without_a_wake_up_are_found_within_the_scan_interval() {
    let (inner, head) = log_of(1).await;
    let silent = Silent { inner, wake: watch::Sender::default(), end: watch::Sender::default() };
    let silent = Arc::new(Intercepted(silent));
    let store: Arc<dyn EventStore> = Arc::clone(&silent) as Arc<dyn EventStore>;
    tokio::time::pause();
    for seconds in [1, 60] {
        silent.end.send_replace(Position(0));
        let recorder = Arc::new(Recorder::default());
        let parts = parts(&store, &(Arc::clone(&recorder) as Arc<dyn MessageBus>), &[]);
        let options = OutboxOptions { batch_size: 10, scan_interval: Duration::from_secs(seconds) };
        let running = tokio::spawn(async move { OutboxRelay::new(parts, options).run(CancellationToken::new()).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        silent.end.send_replace(head);
        tokio::time::sleep(Duration::from_millis(seconds * 1_000 - 200)).await;
        assert_eq!(recorder.accepted.lock().unwrap().len(), 0, "{seconds} s are not over");
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(recorder.accepted.lock().unwrap().len(), 3, "{seconds} s are over");
        running.abort();
    }
}

#[tokio::test]
async fn a_bus_that_keeps_a_publish_waiting_does_not_cost_the_relay_its_lease() {
    let (store, _) = log_of(1).await;
    tokio::time::pause();
    let trap = Trap::new(Point::BeforePublish, 0);
    let recorder: Arc<dyn MessageBus> = Arc::new(Recorder::default());
    let parts = parts(&store, &recorder, &[]);
    let relay = OutboxRelay::new(with_trap(&parts, &trap), in_batches_of(10));
    let running = tokio::spawn(async move { relay.run(CancellationToken::new()).await });
    tokio::time::sleep(Duration::from_secs(600)).await;
    let owner = parts.leases.holder("outbox").await.expect("in memory").expect("owned");
    assert_eq!((owner.holder.as_str(), owner.fencing_token), ("node-1", 1));
    running.abort();
}

/// The value of a metric of a node, given its line without the value.
pub async fn metric(server: &TestServer, name: &str) -> Option<f64> {
    let text = reqwest::get(server.url("/metrics")).await.expect("answers").text().await.expect("text");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(|value| value.parse().expect("a number"))
}

const AGE: &str = "ordersystem_outbox_oldest_pending_seconds";
const LAG: &str = "ordersystem_outbox_lag_positions";

#[tokio::test]
async fn the_age_of_the_oldest_pending_event_grows_on_every_node_while_the_relay_is_stalled() {
    let (mut backends, bus) = FaultyBus::backends();
    backends.is_shared = true;
    let owner = TestServer::start_on(&[("node-id", "owner")], backends.clone(), Arc::new(SystemClock)).await;
    until("relayed", async || backends.leases.holder("outbox").await.expect("in memory").map(|_| ())).await;
    let other = TestServer::start_on(&[("worker-id", "1")], backends.clone(), Arc::new(SystemClock)).await;
    owner.place_order("customer-1").await;
    for server in [&owner, &other] {
        until("nothing is pending", async || (metric(server, AGE).await == Some(0.0)).then_some(())).await;
        until("no lag", async || (metric(server, LAG).await == Some(0.0)).then_some(())).await;
    }
    for mode in [Mode::Hangs, Mode::Unavailable] {
        bus.publishing.set(mode);
        other.place_order("customer-1").await;
        other.place_order("customer-1").await;
        for server in [&owner, &other] {
            let before = until("pending", async || metric(server, AGE).await.filter(|age| *age > 0.0)).await;
            until("older", async || metric(server, AGE).await.filter(|age| *age > before + 0.9)).await;
            until("lag", async || (metric(server, LAG).await == Some(2.0)).then_some(())).await;
        }
        // A node that the machine keeps from renewing its lease hands the work over: either node may be the owner by now.
        for server in [&owner, &other] {
            until("told", async || {
                let detail = server.health("outbox").await.1;
                detail.contains("lag: 2, oldest pending: ").then_some(())
            })
            .await;
        }
        if mode == Mode::Hangs {
            until("one stands by", async || {
                let details = [owner.health("outbox").await.1, other.health("outbox").await.1];
                details.iter().any(|detail| detail.starts_with("standing by: ")).then_some(())
            })
            .await;
        }
        bus.publishing.set(Mode::Works);
        for server in [&owner, &other] {
            until("published", async || (metric(server, AGE).await == Some(0.0)).then_some(())).await;
            until("no lag", async || (metric(server, LAG).await == Some(0.0)).then_some(())).await;
        }
        until("told", async || owner.health("outbox").await.1.ends_with("lag: 0, oldest pending: 0.0 s").then_some(()))
            .await;
    }
}

#[tokio::test]
async fn the_age_of_the_oldest_pending_event_grows_while_the_log_cannot_be_read() {
    let (mut backends, store) = FaultyStore::backends();
    let (with_bus, bus) = FaultyBus::backends();
    backends.bus = with_bus.bus;
    let server = TestServer::start_on(&[], backends, Arc::new(SystemClock)).await;
    bus.publishing.set(Mode::Hangs);
    server.place_order("customer-1").await;
    let before = until("pending", async || metric(&server, AGE).await.filter(|age| *age > 0.0)).await;
    store.log.set(Mode::Unavailable);
    until("older", async || metric(&server, AGE).await.filter(|age| *age > before + 2.5)).await;
    store.log.set(Mode::Hangs);
    until("older", async || metric(&server, AGE).await.filter(|age| *age > before + 5.5)).await;
}

#[tokio::test]
async fn the_backlog_is_measured_from_the_recorded_time_of_the_oldest_event() {
    let (store, _) = log_of(1).await;
    let recorder: Arc<dyn MessageBus> = Arc::new(Recorder::default());
    let clock = Arc::new(ManualClock::new(SystemClock.now_micros() + 100_000_000));
    let relay = OutboxRelay::new(parts(&store, &recorder, &[]), in_batches_of(1));
    let meter = relay.meter(Arc::clone(&clock) as Arc<dyn Clock>);
    let backlog = meter.measure().await.expect("in memory");
    assert_eq!(backlog.positions, 3);
    assert!((100.0..110.0).contains(&backlog.oldest_seconds), "{backlog:?}");
    clock.advance_ms(10_000);
    let older = meter.measure().await.expect("in memory").oldest_seconds;
    assert!((older - backlog.oldest_seconds - 10.0).abs() < 0.001, "{older}");
    // A clock that is behind does not produce a negative age.
    clock.advance_ms(-1_000_000);
    assert_eq!(meter.measure().await.expect("in memory").oldest_seconds, 0.0);
}
