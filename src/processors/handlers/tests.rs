//! Tests of subscriptions over the memory bus, in simulated time.

use std::{
    collections::HashMap,
    io,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::{task::JoinHandle, time::Instant};

use super::*;
use crate::{
    backends::memory::{
        lease::MemoryLeaseStore,
        message_bus::{MemoryBusOptions, MemoryMessageBus},
    },
    ports::{
        lease_store::{LeaseError, LeaseOwner, WORK_TTL},
        message_bus::{Consumer, DeadLetter, EventId, Message, Receipt, VolatileMessages},
    },
    proto::catga::events::v1::OrderEvent,
};

type Seen = (String, u32, bool);

/// Runs a test's script for each event, and records the event.
struct Scripted<F> {
    script: F,
    seen: Mutex<Vec<Seen>>,
}

#[async_trait]
impl<F: Fn(&ReceivedEvent) -> Result<(), HandlerError> + Send + Sync + 'static> EventHandler for Scripted<F> {
    fn name(&self) -> &str {
        "scripted"
    }

    async fn handle(&self, event: &ReceivedEvent) -> Result<(), HandlerError> {
        let seen = (event.event_id().to_string(), event.attempt(), event.replayed());
        self.seen.lock().push(seen);
        (self.script)(event)
    }
}

impl<F> Scripted<F> {
    fn new(script: F) -> Arc<Self> {
        Arc::new(Self { script, seen: Mutex::default() })
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    fn seen_ids(&self) -> Vec<String> {
        self.seen().into_iter().map(|(id, ..)| id).collect()
    }
}

struct Running {
    status: Arc<SubscriptionStatus>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(bus: &Arc<dyn MessageBus>, handler: Arc<dyn EventHandler>, options: SubscriptionOptions) -> Self {
        Self::start_as("node-1", bus, &(Arc::new(MemoryLeaseStore::new()) as Arc<dyn LeaseStore>), handler, options)
    }

    fn start_as(
        node: &str,
        bus: &Arc<dyn MessageBus>,
        leases: &Arc<dyn LeaseStore>,
        handler: Arc<dyn EventHandler>,
        options: SubscriptionOptions,
    ) -> Self {
        let parts = SubscriptionDeps { bus: bus.clone(), leases: leases.clone(), node: node.to_owned() };
        let subscription = Subscription::new(parts, handler, options);
        let (status, stop) = (subscription.status(), CancellationToken::new());
        let own_stop = stop.clone();
        let task = tokio::spawn(async move { subscription.run(own_stop).await });
        Self { status, stop, task }
    }

    async fn until(&self, reached: impl Fn(&SubscriptionStatus) -> bool) {
        for _ in 0..100_000 {
            if reached(&self.status) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("not reached: {:?}", self.status);
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn memory() -> Arc<dyn MessageBus> {
    Arc::new(MemoryMessageBus::default())
}

fn options() -> SubscriptionOptions {
    SubscriptionOptions { max_attempts: 3, ..SubscriptionOptions::default() }
}

fn message(key: u64, sequence: u64) -> Message {
    let event =
        OrderEvent { event_id: format!("{key}-{sequence}"), customer_id: "c-1".to_owned(), ..Default::default() };
    let payload = event.encode_to_vec().into();
    Message { key, sequence, position: 100 + sequence, kind: "OrderPaid".into(), payload }
}

fn retry() -> Result<(), HandlerError> {
    Err(HandlerError::Retry("not now".to_owned()))
}

#[tokio::test(start_paused = true)]
async fn a_handler_gets_every_event_once_in_the_order_of_its_order() {
    let bus = memory();
    let decoded_right = |event: &ReceivedEvent| {
        assert_eq!(event.decode()?.event_id, event.event_id().to_string());
        assert_eq!((event.kind(), event.position()), ("OrderPaid", 100 + event.revision()));
        assert_eq!(event.payload(), &message(event.order_number(), event.revision()).payload);
        Ok(())
    };
    let handler = Scripted::new(decoded_right);
    let running = Running::start(&bus, handler.clone(), options());
    let sent: Vec<_> = (1..=300).flat_map(|sequence| [message(1, sequence), message(2, sequence)]).collect();
    bus.publish(&sent).await.unwrap();
    running.until(|status| status.handled() == 600).await;
    assert_eq!(handler.seen_ids(), sent.iter().map(|message| message.event_id().to_string()).collect::<Vec<_>>());
    assert!(running.status.last_error().is_none());
    running.stop().await;
    let rest = bus.consumer("scripted").await.unwrap();
    timeout(Duration::from_secs(60), rest.next_batch(1)).await.expect_err("everything was acknowledged");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_published_again_is_handled_once() {
    let bus = memory();
    let handler = Scripted::new(|_: &ReceivedEvent| Ok(()));
    let running = Running::start(&bus, handler.clone(), options());
    bus.publish(&[message(1, 1), message(1, 2), message(1, 1), message(1, 2), message(2, 1)]).await.unwrap();
    running.until(|status| status.received() == 5).await;
    running.until(|status| status.handled() == 3).await;
    bus.publish(&[message(1, 1), message(1, 3)]).await.unwrap();
    running.until(|status| status.handled() == 4).await;
    assert_eq!(handler.seen_ids(), ["1-1", "1-2", "2-1", "1-3"]);
    assert_eq!(running.status.deduplicated(), 3);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_event_is_retried_with_growing_delays_while_other_orders_go_on() {
    let bus = memory();
    let handler = Scripted::new(
        |event: &ReceivedEvent| if event.order_number() == 1 && event.attempt() < 4 { retry() } else { Ok(()) },
    );
    let options = SubscriptionOptions { max_attempts: 10, ..options() };
    let started = Instant::now();
    let running = Running::start(&bus, handler.clone(), options);
    bus.publish(&[message(1, 1), message(2, 1), message(1, 2), message(2, 2)]).await.unwrap();
    running.until(|status| status.handled() == 4).await;
    let seen: Vec<_> = handler.seen().into_iter().map(|(id, attempt, _)| format!("{id} {attempt}")).collect();
    assert_eq!(seen, ["1-1 1", "2-1 1", "2-2 1", "1-1 2", "1-1 3", "1-1 4", "1-2 1", "1-2 2", "1-2 3", "1-2 4"]);
    // 100 + 200 + 400 ms for each of two events; at least half of it.
    let (least, most) = (Duration::from_millis(700), Duration::from_millis(1_450));
    assert!((least..=most).contains(&started.elapsed()), "{:?}", started.elapsed());
    assert_eq!((running.status.retried(), running.status.dead_lettered()), (6, 0));
    assert!(running.status.last_error().unwrap().reason.contains("not now"));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_the_last_attempt_an_event_is_a_dead_letter_and_its_order_goes_on() {
    let bus = memory();
    let handler = Scripted::new(|event: &ReceivedEvent| if event.revision() == 1 { retry() } else { Ok(()) });
    let running = Running::start(&bus, handler.clone(), options());
    bus.publish(&[message(1, 1), message(1, 2)]).await.unwrap();
    running.until(|status| status.handled() == 1).await;
    bus.publish(&[message(2, 1)]).await.unwrap();
    running.until(|status| status.dead_lettered() == 2).await;
    assert_eq!(handler.seen_ids(), ["1-1", "1-1", "1-1", "1-2", "2-1", "2-1", "2-1"]);
    assert_eq!(running.status.retried(), 4);
    let letters = bus.dead_letters("scripted", 10).await.unwrap();
    assert_eq!((letters[0].message.event_id().to_string().as_str(), letters[0].attempts), ("1-1", 3));
    assert_eq!(letters[0].reason, "not now");
    // When published again, they are recognised as processed.
    bus.publish(&[message(1, 1), message(2, 1)]).await.unwrap();
    running.until(|status| status.deduplicated() == 2).await;
    assert_eq!(handler.seen().len(), 7);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rejected_event_is_a_dead_letter_at_once_and_can_be_replayed() {
    let bus = memory();
    let mended = Arc::new(AtomicBool::new(false));
    let handler = Scripted::new({
        let mended = mended.clone();
        move |event: &ReceivedEvent| match event.revision() {
            1 if !mended.load(SeqCst) => Err(HandlerError::Reject("never".to_owned())),
            _ => Ok(()),
        }
    });
    let running = Running::start(&bus, handler.clone(), options());
    bus.publish(&[message(1, 1), message(1, 2)]).await.unwrap();
    running.until(|status| status.handled() == 1 && status.dead_lettered() == 1).await;
    mended.store(true, SeqCst);
    assert_eq!(bus.replay("scripted", &[EventId { key: 1, sequence: 1 }]).await, Ok(1));
    running.until(|status| status.handled() == 2).await;
    let seen: Vec<Seen> = handler.seen();
    assert_eq!(seen[2], ("1-1".to_owned(), 1, true), "a replayed event is not taken for a repeated one");
    bus.publish(&[message(1, 2)]).await.unwrap();
    running.until(|status| status.deduplicated() == 1).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_decoded_is_rejected_by_a_handler_that_decodes() {
    let bus = memory();
    let running = Running::start(
        &bus,
        Scripted::new(|event: &ReceivedEvent| event.decode().map(drop).map_err(HandlerError::from)),
        options(),
    );
    bus.publish(&[Message { payload: Bytes::from_static(&[0xff]), ..message(1, 1) }]).await.unwrap();
    running.until(|status| status.dead_lettered() == 1).await;
    assert!(bus.dead_letters("scripted", 1).await.unwrap()[0].reason.contains("cannot be decoded"));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_of_one_event_only() {
    let bus = memory();
    let handler = Scripted::new(|event: &ReceivedEvent| match event.order_number() {
        1 => panic!("handler bug {}", event.event_id()),
        _ => Ok(()),
    });
    let running = Running::start(&bus, handler.clone(), options());
    bus.publish(&[message(1, 1), message(2, 1)]).await.unwrap();
    running.until(|status| status.dead_lettered() == 1).await;
    assert_eq!(handler.seen_ids(), ["1-1", "2-1", "1-1", "1-1"]);
    assert_eq!(bus.dead_letters("scripted", 1).await.unwrap()[0].reason, "the handler panicked: handler bug 1-1");
    running.stop().await;
}

/// A slow handler.
struct Slow {
    pause: Duration,
    handled: Mutex<Vec<String>>,
}

#[async_trait]
impl EventHandler for Slow {
    fn name(&self) -> &str {
        "slow"
    }

    async fn handle(&self, event: &ReceivedEvent) -> Result<(), HandlerError> {
        sleep(self.pause).await;
        self.handled.lock().push(format!("{} {}", event.event_id(), event.attempt()));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_hangs_is_given_up_in_time() {
    let bus = memory();
    let slow = Arc::new(Slow { pause: Duration::from_secs(3_600), handled: Mutex::default() });
    let running = Running::start(&bus, slow.clone(), options());
    bus.publish(&[message(1, 1)]).await.unwrap();
    running.until(|status| status.dead_lettered() == 1).await;
    assert_eq!(bus.dead_letters("slow", 1).await.unwrap()[0].reason, "the handler took longer than 10s");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_gets_each_event_once_however_long_the_batch_takes() {
    let (bus, luck) = flaky(None);
    let slow = Arc::new(Slow { pause: Duration::from_secs(5), handled: Mutex::default() });
    let running = Running::start(&bus, slow.clone(), options());
    let sent: Vec<_> = (1..=50).map(|key| message(key, 1)).collect();
    bus.publish(&sent).await.unwrap();
    running.until(|status| status.handled() == 50).await;
    assert_eq!(*slow.handled.lock(), (1..=50).map(|key| format!("{key}-1 1")).collect::<Vec<_>>());
    assert_eq!((running.status.received(), running.status.deduplicated()), (50, 0));
    // The ack-wait is 30 s: in 250 s it would have ended many times.
    assert!((15..=50).contains(&luck.extended.load(SeqCst)), "{luck:?}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_the_event_in_hand_finish_and_leaves_the_rest_to_the_next_run() {
    let bus = memory();
    let slow = Arc::new(Slow { pause: Duration::from_secs(5), handled: Mutex::default() });
    let running = Running::start(&bus, slow.clone(), options());
    bus.publish(&[message(1, 1), message(1, 2), message(2, 1)]).await.unwrap();
    running.until(|status| status.received() == 3).await;
    running.stop().await;
    assert_eq!(*slow.handled.lock(), ["1-1 1"]);
    let again = Running::start(&bus, slow.clone(), options());
    again.until(|status| status.handled() == 2).await;
    assert_eq!(*slow.handled.lock(), ["1-1 1", "1-2 2", "2-1 2"]);
    again.stop().await;
}

#[tokio::test(start_paused = true)]
async fn full_dead_letters_hold_the_subscription_up_until_there_is_room() {
    let bus_options = MemoryBusOptions { max_dead_letters: 1, ..MemoryBusOptions::default() };
    let bus: Arc<dyn MessageBus> = Arc::new(MemoryMessageBus::new(bus_options));
    let handler = Scripted::new(|event: &ReceivedEvent| match event.order_number() {
        1 | 2 => Err(HandlerError::Reject("never".to_owned())),
        _ => Ok(()),
    });
    let running = Running::start(&bus, handler.clone(), options());
    bus.publish(&[message(1, 1), message(2, 1), message(3, 1)]).await.unwrap();
    sleep(Duration::from_secs(600)).await;
    assert_eq!(handler.seen_ids(), ["1-1", "2-1"]);
    assert!(running.status.last_error().unwrap().reason.contains("1 dead letters"));
    bus.discard("scripted", &[EventId { key: 1, sequence: 1 }]).await.unwrap();
    running.until(|status| status.handled() == 1 && status.dead_lettered() == 2).await;
    assert_eq!(handler.seen_ids(), ["1-1", "2-1", "3-1"]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_subscription_whose_consumer_is_taken_over_says_so_and_comes_back() {
    let bus = memory();
    let handler = Scripted::new(|_: &ReceivedEvent| Ok(()));
    let running = Running::start(&bus, handler.clone(), options());
    sleep(Duration::from_secs(1)).await;
    let other = bus.consumer("scripted").await.unwrap();
    running.until(|status| matches!(status.role(), Role::Failing(reason) if reason.contains("taken over"))).await;
    running.until(|status| status.role() == Role::Active).await;
    assert_eq!(other.next_batch(1).await.unwrap_err(), BusError::Replaced);
    bus.publish(&[message(1, 1)]).await.unwrap();
    running.until(|status| status.handled() == 1).await;
    running.stop().await;
}

fn leases() -> (Arc<MemoryLeaseStore>, Arc<dyn LeaseStore>) {
    let leases = Arc::new(MemoryLeaseStore::new());
    (leases.clone(), leases)
}

#[tokio::test(start_paused = true)]
async fn one_node_handles_and_the_others_stand_by_until_it_stops() {
    let (bus, (_, leases)) = (memory(), leases());
    let handler = Scripted::new(|_: &ReceivedEvent| Ok(()));
    let first = Running::start_as("node-1", &bus, &leases, handler.clone(), options());
    first.until(|status| status.role() == Role::Active).await;
    let second = Running::start_as("node-2", &bus, &leases, handler.clone(), options());
    second.until(|status| status.role() == Role::StandingBy(Some("node-1".to_owned()))).await;
    for sequence in 1..=100 {
        bus.publish(&[message(1, sequence)]).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!((first.status.handled(), second.status.received()), (100, 0));
    assert_eq!(second.status.role(), Role::StandingBy(Some("node-1".to_owned())));
    assert!(first.status.last_error().is_none() && second.status.last_error().is_none());
    let stopped = Instant::now();
    first.stop().await;
    second.until(|status| status.role() == Role::Active).await;
    assert!(stopped.elapsed() <= STANDBY_POLL_INTERVAL + Duration::from_millis(100), "{:?}", stopped.elapsed());
    bus.publish(&[message(1, 101)]).await.unwrap();
    second.until(|status| status.handled() == 1).await;
    second.stop().await;
    assert_eq!(leases.holder(&lease_name("scripted")).await, Ok(None), "the lease is released");
}

#[tokio::test(start_paused = true)]
async fn when_the_node_that_handles_dies_another_goes_on_within_seconds() {
    let (bus, (_, leases)) = (memory(), leases());
    let handler = Scripted::new(|_: &ReceivedEvent| Ok(()));
    let first = Running::start_as("node-1", &bus, &leases, handler.clone(), options());
    first.until(|status| status.role() == Role::Active).await;
    let second = Running::start_as("node-2", &bus, &leases, handler.clone(), options());
    second.until(|status| matches!(status.role(), Role::StandingBy(_))).await;
    // Aborted without a chance to release anything, as by kill -9.
    first.task.abort();
    let died = Instant::now();
    bus.publish(&[message(1, 1)]).await.unwrap();
    second.until(|status| status.handled() == 1).await;
    assert!(died.elapsed() <= WORK_TTL + STANDBY_POLL_INTERVAL + Duration::from_millis(100), "{:?}", died.elapsed());
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_lost_the_lease_stops_handling() {
    let (bus, (store, leases)) = (memory(), leases());
    let handler = Scripted::new(|_: &ReceivedEvent| Ok(()));
    let first = Running::start_as("node-1", &bus, &leases, handler.clone(), options());
    first.until(|status| status.role() == Role::Active).await;
    let held_for = Duration::from_secs(3_600);
    let stolen = store.acquire(&lease_name("scripted"), "node-1", held_for).await.unwrap().unwrap();
    first.until(|status| matches!(status.role(), Role::Failing(reason) if reason.contains("same name"))).await;
    bus.publish(&[message(1, 1), message(2, 1)]).await.unwrap();
    sleep(held_for / 2).await;
    assert_eq!(handler.seen_ids(), Vec::<String>::new(), "handled without the lease");
    assert_eq!(first.status.received(), 0);
    store.release(&stolen).await.unwrap();
    first.until(|status| status.handled() == 2).await;
    assert_eq!((first.status.role(), handler.seen_ids()), (Role::Active, vec!["1-1".to_owned(), "2-1".to_owned()]));
    first.stop().await;
}

/// A lease store that tests can make unreachable.
#[derive(Debug)]
struct Outage {
    inner: MemoryLeaseStore,
    is_out: AtomicBool,
}

impl Outage {
    fn pass(&self) -> Result<(), LeaseError> {
        if self.is_out.load(SeqCst) { Err(LeaseError::Unavailable("out".to_owned())) } else { Ok(()) }
    }
}

#[async_trait]
impl LeaseStore for Outage {
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Option<Lease>, LeaseError> {
        self.pass()?;
        self.inner.acquire(name, holder, ttl).await
    }
    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LeaseError> {
        self.pass()?;
        self.inner.renew(lease, ttl).await
    }
    async fn release(&self, lease: &Lease) -> Result<(), LeaseError> {
        self.pass()?;
        self.inner.release(lease).await
    }
    async fn holder(&self, name: &str) -> Result<Option<LeaseOwner>, LeaseError> {
        self.pass()?;
        self.inner.holder(name).await
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_lease_store_is_waited_out_however_long_it_lasts() {
    let bus = memory();
    let outage = Arc::new(Outage { inner: MemoryLeaseStore::new(), is_out: AtomicBool::new(true) });
    let leases: Arc<dyn LeaseStore> = outage.clone();
    let handler = Scripted::new(|_: &ReceivedEvent| Ok(()));
    let running = Running::start_as("node-1", &bus, &leases, handler, options());
    sleep(Duration::from_secs(3_600)).await;
    assert!(matches!(running.status.role(), Role::Failing(reason) if reason.contains("out")));
    outage.is_out.store(false, SeqCst);
    sleep(MAX_RECONNECT_PAUSE).await;
    running.until(|status| status.role() == Role::Active).await;
    // A short outage does not even interrupt the work.
    outage.is_out.store(true, SeqCst);
    sleep(Duration::from_secs(3)).await;
    outage.is_out.store(false, SeqCst);
    sleep(WORK_TTL).await;
    assert_eq!(running.status.role(), Role::Active);
    assert!(running.status.last_error().is_some_and(|error| error.reason.contains("out")));
    // A longer one does.
    outage.is_out.store(true, SeqCst);
    sleep(WORK_TTL * 2).await;
    assert!(matches!(running.status.role(), Role::Failing(_)));
    running.stop().await;
}

/// A bus and its consumers that fail according to `luck` and count extensions.
#[derive(Debug)]
struct Flaky<T: ?Sized> {
    luck: Arc<Luck>,
    inner: Box<T>,
}

#[derive(Debug)]
struct Luck {
    /// One call in three fails, by a seed; `None`: no call does.
    random: Option<Mutex<fastrand::Rng>>,
    extended: AtomicUsize,
}

fn flaky(seed: Option<u64>) -> (Arc<dyn MessageBus>, Arc<Luck>) {
    let random = seed.map(|seed| Mutex::new(fastrand::Rng::with_seed(seed)));
    let luck = Arc::new(Luck { random, extended: AtomicUsize::new(0) });
    (Arc::new(Flaky { luck: luck.clone(), inner: Box::new(MemoryMessageBus::default()) }), luck)
}

impl<T: ?Sized> Flaky<T> {
    fn luck(&self) -> Result<(), BusError> {
        match &self.luck.random {
            Some(random) if random.lock().u8(..3) == 0 => Err(BusError::Unavailable("no luck".to_owned())),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl MessageBus for Flaky<MemoryMessageBus> {
    fn kind(&self) -> &'static str {
        "flaky"
    }
    async fn publish(&self, messages: &[Message]) -> Result<(), BusError> {
        self.inner.publish(messages).await
    }
    fn oldest_unpersisted(&self, consumers: &[String]) -> VolatileMessages {
        self.inner.oldest_unpersisted(consumers)
    }
    async fn consumer(&self, name: &str) -> Result<Box<dyn Consumer>, BusError> {
        self.luck()?;
        Ok(Box::new(Flaky { luck: self.luck.clone(), inner: self.inner.consumer(name).await? }))
    }
    async fn remove_consumer(&self, name: &str) -> Result<(), BusError> {
        self.inner.remove_consumer(name).await
    }
    async fn dead_letters(&self, name: &str, max: usize) -> Result<Vec<DeadLetter>, BusError> {
        self.inner.dead_letters(name, max).await
    }
    async fn replay(&self, name: &str, events: &[EventId]) -> Result<usize, BusError> {
        self.inner.replay(name, events).await
    }
    async fn discard(&self, name: &str, events: &[EventId]) -> Result<usize, BusError> {
        self.inner.discard(name, events).await
    }
    async fn check(&self) -> Result<(), BusError> {
        self.inner.check().await
    }
}

#[async_trait]
impl Consumer for Flaky<dyn Consumer> {
    fn ack_wait(&self) -> Duration {
        self.inner.ack_wait()
    }
    async fn next_batch(&self, max: usize) -> Result<Vec<Delivery>, BusError> {
        self.luck()?;
        self.inner.next_batch(max).await
    }
    async fn ack(&self, receipts: &[Receipt]) -> Result<(), BusError> {
        self.luck()?;
        self.inner.ack(receipts).await?;
        self.luck()
    }
    async fn extend(&self, receipts: &[Receipt]) -> Result<(), BusError> {
        self.luck.extended.fetch_add(1, SeqCst);
        self.inner.extend(receipts).await
    }
    async fn retry(&self, receipt: Receipt, after: Duration) -> Result<(), BusError> {
        self.luck()?;
        self.inner.retry(receipt, after).await
    }
    async fn dead_letter(&self, delivery: &Delivery, reason: &str) -> Result<(), BusError> {
        self.inner.dead_letter(delivery, reason).await
    }
}

#[tokio::test(start_paused = true)]
async fn bus_errors_are_waited_out_and_no_event_is_lost_repeated_or_out_of_order() {
    for _ in 0..20 {
        let seed = fastrand::u64(..);
        println!("seed: {seed}");
        let (bus, _) = flaky(Some(seed));
        let ok = Mutex::new(HashMap::<u64, u64>::new());
        let handler = Scripted::new(move |event: &ReceivedEvent| {
            if event.revision().is_multiple_of(5) && event.attempt() == 1 {
                return retry();
            }
            let last = ok.lock().insert(event.order_number(), event.revision()).unwrap_or(0);
            assert_eq!(event.revision(), last + 1, "out of order");
            Ok(())
        });
        let running =
            Running::start(&bus, handler, SubscriptionOptions { batch_size: 7, max_attempts: u32::MAX, ..options() });
        let sent: Vec<_> = (1..=40).flat_map(|sequence| [1, 2, 3].map(|key| message(key, sequence))).collect();
        bus.publish(&sent).await.unwrap();
        running.until(|status| status.handled() == 120).await;
        assert_eq!(running.status.dead_lettered(), 0);
        running.stop().await;
    }
}

#[test]
fn delays_double_up_to_the_bound_and_are_spread() {
    let options = SubscriptionOptions::default();
    for (failures, full_ms) in
        [(1, 100), (2, 200), (5, 1_600), (9, 25_600), (10, 30_000), (40, 30_000), (u32::MAX, 30_000)]
    {
        let delays: Vec<_> = (0..200).map(|_| options.backoff.after(failures)).collect();
        let full = Duration::from_millis(full_ms);
        assert!(delays.iter().all(|delay| (full / 2..=full).contains(delay)), "{failures}");
        assert!(delays.iter().max() > delays.iter().min(), "{failures}: no jitter");
    }
}

/// The log output of a subscriber.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Logs three events, one of them damaged, with `filter`; returns the logger and its output.
async fn log_with(filter: &str) -> (OrderEventLogger, String) {
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let logger = OrderEventLogger::new();
    let odd = Message { kind: "order.returned".into(), ..message(7, 2) };
    let damaged = Message { payload: Bytes::from_static(&[0xff]), ..message(7, 3) };
    for message in [message(7, 1), odd, damaged] {
        logger.handle(&ReceivedEvent { message, attempt: 1, replayed: false }).await.unwrap();
    }
    let text = String::from_utf8(written.0.lock().clone()).unwrap();
    (logger, text)
}

#[tokio::test]
async fn the_order_event_logger_counts_by_type_and_logs_at_debug() {
    let (logger, text) = log_with("order_events=debug").await;
    let counts: HashMap<_, _> = logger.counts().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counts, HashMap::from([("OrderPaid", 2), ("other", 1)]));
    assert!(text.contains("DEBUG order_events") && text.contains("event_id=7-1"), "{text}");
    assert!(text.contains(r#"customer_id="c-1""#) && text.contains("damaged order event"), "{text}");
    assert_eq!(logger.undecodable(), 1);
}

#[tokio::test]
async fn the_order_event_logger_decodes_nothing_when_its_target_is_off() {
    let (logger, text) = log_with("order_events=info").await;
    assert_eq!(text, "");
    assert_eq!(logger.undecodable(), 0, "it decoded");
    assert_eq!(logger.counts().map(|(_, count)| count).sum::<u64>(), 3);
}
