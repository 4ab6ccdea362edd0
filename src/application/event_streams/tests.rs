use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    application::{
        AppError, Scope,
        byte_budget::{ByteBudget, HeldBytes},
        event_filter::EventFilter,
        fan_out::FanOut,
        turns::Turns,
    },
    backends::memory::event_store::MemoryEventStore,
    codec::{self, Record},
    domain::order::EventKind,
    domain::{
        ids::OrderId,
        money::{Currency, Money},
        order::{Change, Item, Items, OrderEvent, Quantity},
        text::Text,
        timestamp::Timestamp,
    },
    ports::event_store::{
        AppendError, Appended, Commit, CommitId, Direction, Durability, EventStore, ExpectedRevision, LogId, LogPoint,
        Position, RecordedCommit, RequestKey, Revision, StoreError, StreamId, TokenKey,
    },
};

/// Either kind of event stream.
trait EventSource: Send + 'static {
    fn next(&mut self) -> impl Future<Output = Result<Step, AppError>> + Send;
}

impl EventSource for EventFeed {
    fn next(&mut self) -> impl Future<Output = Result<Step, AppError>> + Send {
        self.next()
    }
}

impl EventSource for OrderHistory {
    fn next(&mut self) -> impl Future<Output = Result<Step, AppError>> + Send {
        self.next()
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
const HEARTBEAT: Duration = Duration::from_secs(3_600);

/// A store in memory that counts its reads, and that can simulate a reconnect, also to another log.
#[derive(Debug)]
struct Store {
    log: Mutex<Arc<MemoryEventStore>>,
    reads: AtomicUsize,
    /// The reads of the log at this moment, and the most there have been.
    reading: AtomicUsize,
    most_reading: AtomicUsize,
    /// Whether each read of the log is overtaken by one more event.
    grows: AtomicBool,
    connections: watch::Sender<u64>,
}

impl Store {
    fn new() -> Arc<Self> {
        let log = Mutex::new(Arc::new(MemoryEventStore::default()));
        let (reads, reading, most_reading) = Default::default();
        let grows = AtomicBool::new(false);
        Arc::new(Self { log, reads, reading, most_reading, grows, connections: watch::Sender::new(1) })
    }

    fn log(&self) -> Arc<MemoryEventStore> {
        Arc::clone(&self.log.lock().unwrap())
    }

    async fn add(&self, order: u64, revision: Revision, customer: &str) {
        let price = Money::from_minor(100, Currency::parse("USD").unwrap()).unwrap();
        let (product_id, quantity) = (Text::parse("p").unwrap(), Quantity::new(1).unwrap());
        let items = Items::new(vec![Item { product_id, name: None, quantity, unit_price: price }]).unwrap();
        let change = match revision {
            1 => Change::Created { items, shipping_address: None },
            _ => Change::Cancelled { reason: None },
        };
        let event = OrderEvent {
            order_id: OrderId::new(order).unwrap(),
            customer_id: Text::parse(customer).unwrap(),
            at: Timestamp::from_micros(0),
            change,
        };
        let payload = codec::encode(
            &event,
            Record { revision, request_id: None, actor: None, on_behalf_of: None, traceparent: None },
        );
        let commit = Commit {
            id: CommitId::random(),
            stream: StreamId(order),
            expected: ExpectedRevision::Any,
            request: None,
            events: vec![payload],
        };
        self.log().append(commit).await.unwrap();
    }
}

#[async_trait]
impl EventStore for Store {
    fn log_id(&self) -> Option<LogId> {
        self.log().log_id()
    }

    fn token_key(&self) -> Option<TokenKey> {
        self.log().token_key()
    }

    fn connections(&self) -> watch::Receiver<u64> {
        self.connections.subscribe()
    }

    fn durability(&self) -> Durability {
        Durability::None
    }

    async fn append(&self, commit: Commit) -> Result<Appended, AppendError> {
        self.log().append(commit).await
    }

    async fn find_request(&self, stream: StreamId, request: &RequestKey) -> Result<Option<Appended>, AppendError> {
        self.log().find_request(stream, request).await
    }

    async fn read_stream(
        &self,
        stream: StreamId,
        from: Revision,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.log().read_stream(stream, from, direction, max_events).await
    }

    async fn read_log(
        &self,
        from: Position,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let reads = self.reads.fetch_add(1, Ordering::Relaxed);
        let reading = self.reading.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_reading.fetch_max(reading, Ordering::Relaxed);
        tokio::task::yield_now().await;
        let read = self.log().read_log(from, direction, max_events).await;
        self.reading.fetch_sub(1, Ordering::Relaxed);
        if self.grows.load(Ordering::Relaxed) {
            self.add(1_000_000 + reads as u64, 1, "c").await;
        }
        read
    }

    async fn read_commits(&self, from: Position, max_events: usize) -> Result<Vec<RecordedCommit>, StoreError> {
        self.log().read_commits(from, max_events).await
    }

    async fn head(&self) -> Result<Position, StoreError> {
        self.log().head().await
    }

    fn wake(&self) -> watch::Receiver<Position> {
        self.log().wake()
    }

    async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn batches() -> Batches {
    Batches::new(HeldBytes::none(ByteBudget::new(usize::MAX)), Turns::new(3, 1))
}

fn started(store: &Arc<Store>) -> FanOut {
    let fan_out = FanOut::new(Arc::clone(store) as Arc<dyn EventStore>);
    tokio::spawn(fan_out.clone().run(CancellationToken::new()));
    fan_out
}

async fn feed(fan_out: &FanOut, after: Option<LogPoint>, filter: EventFilter) -> EventFeed {
    EventFeed::open(fan_out.clone(), after, filter, Some(HEARTBEAT), batches(), CancellationToken::new()).await.unwrap()
}

async fn history(fan_out: &FanOut, order: u64) -> OrderHistory {
    let id = OrderId::new(order).unwrap();
    OrderHistory::open(fan_out.clone(), id, 1, &Scope::ALL, true, batches(), CancellationToken::new()).await.unwrap()
}

async fn step(source: &mut impl EventSource) -> Result<Step, AppError> {
    tokio::time::timeout(PATIENCE, source.next()).await.expect("in time")
}

/// The next `count` events. With `until`, the follower takes a few and then pauses until that holds, so that its queue overflows.
async fn take(mut source: impl EventSource, count: usize, until: Option<watch::Receiver<bool>>) -> Vec<StoredEvent> {
    let (mut events, mut until) = (Vec::new(), until);
    while events.len() < count {
        if events.len() > 5
            && let Some(mut until) = until.take()
        {
            until.wait_for(|holds| *holds).await.unwrap();
        }
        if let Step::Events(more) = step(&mut source).await.unwrap() {
            events.extend(more);
        }
    }
    events
}

/// Waits until there are no more reads; returns how often the log has been read by then.
async fn until_quiet(store: &Store) -> usize {
    let mut before = 0;
    for _ in 0..200 {
        let reads = store.reads.load(Ordering::Relaxed);
        if reads == before {
            return reads;
        }
        before = reads;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    panic!("the log is read forever");
}

fn some_filter() -> EventFilter {
    let mut filter = EventFilter::default();
    if fastrand::bool() {
        filter.order_ids = (0..fastrand::u64(0..3)).map(|_| fastrand::u64(1..20)).collect();
    }
    if fastrand::bool() {
        filter.customer_ids = (0..fastrand::u64(0..3)).map(|_| format!("customer-{}", fastrand::u64(0..4))).collect();
    }
    if fastrand::u8(0..3) == 0 {
        filter.kinds = vec![if fastrand::bool() { EventKind::Created } else { EventKind::Cancelled }];
    }
    filter
}

const ORDERS: u64 = 20;
const EVENTS: u64 = 3_000;

/// Event `n` of the log: its order and its revision.
async fn add(store: &Store, n: u64) {
    let (order, revision) = (n % ORDERS + 1, n / ORDERS + 1);
    store.add(order, revision, &format!("customer-{}", order % 4)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_follower_receives_its_matching_events_once_and_in_order() {
    let store = Store::new();
    let fan_out = started(&store);
    for n in 0..ORDERS {
        add(&store, n).await;
    }
    let (end, ended) = watch::channel(false);
    let writer = Arc::clone(&store);
    let writing = tokio::spawn(async move {
        for n in ORDERS..EVENTS {
            add(&writer, n).await;
            if n.is_multiple_of(7) {
                tokio::time::sleep(Duration::from_micros(fastrand::u64(0..1_500))).await;
            }
            if n.is_multiple_of(500) {
                // Simulates a reconnect to the same log.
                writer.connections.send_modify(|connection| *connection += 1);
            }
        }
        end.send_replace(true);
    });
    let mut followers = JoinSet::new();
    for n in 0..60 {
        followers.spawn(follow(n, fan_out.clone(), ended.clone()));
    }
    let seen = followers.join_all().await;
    writing.await.unwrap();
    let all = store.log().read_log(Position(0), Direction::Forward, 4_000).await.unwrap();
    assert_eq!(all.len() as u64, EVENTS);
    for (filter, seen) in seen {
        let wanted: Vec<_> = all.iter().filter(|event| filter.passes(event).unwrap()).cloned().collect();
        assert_eq!(seen, wanted, "{filter:?}");
    }
}

/// The events that follower `n` receives: those of one order, or those that match its filter.
async fn follow(n: u64, fan_out: FanOut, ended: watch::Receiver<bool>) -> (EventFilter, Vec<StoredEvent>) {
    tokio::time::sleep(Duration::from_millis(fastrand::u64(0..200))).await;
    let until = n.is_multiple_of(4).then_some(ended);
    if n.is_multiple_of(5) {
        let order = n / 5 % ORDERS + 1;
        let count = (EVENTS / ORDERS) as usize;
        return (EventFilter::order(order), take(history(&fan_out, order).await, count, until).await);
    }
    let filter = some_filter();
    // Their number is known beforehand.
    let passes = |n: u64| {
        let order = n % ORDERS + 1;
        let kind = if n < ORDERS { EventKind::Created } else { EventKind::Cancelled };
        let customer = format!("customer-{}", order % 4);
        (filter.order_ids.is_empty() || filter.order_ids.contains(&order))
            && (filter.customer_ids.is_empty() || filter.customer_ids.contains(&customer))
            && (filter.kinds.is_empty() || filter.kinds.contains(&kind))
    };
    let count = (0..EVENTS).filter(|n| passes(*n)).count();
    let seen = take(feed(&fan_out, Some(LogPoint::START), filter.clone()).await, count, until).await;
    (filter, seen)
}

#[tokio::test]
async fn followers_without_matching_events_do_not_read_the_log() {
    let store = Store::new();
    let fan_out = started(&store);
    add(&store, 0).await;
    let mut feeds = JoinSet::new();
    for _ in 0..100 {
        let filter = EventFilter { customer_ids: [String::from("nobody")].into(), ..EventFilter::default() };
        let mut feed = feed(&fan_out, None, filter).await;
        feeds.spawn(async move {
            loop {
                assert!(!matches!(feed.next().await.unwrap(), Step::Events(_)), "no event matches its filter");
            }
        });
    }
    let before = until_quiet(&store).await;
    for n in ORDERS..ORDERS + 50 {
        store.add(n, 1, "customer-1").await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let reads = until_quiet(&store).await - before;
    assert!((1..=200).contains(&reads), "{reads} reads for 50 events and 100 followers");
}

#[tokio::test]
async fn a_heartbeat_advances_the_cursor_past_filtered_events() {
    let store = Store::new();
    let fan_out = started(&store);
    add(&store, 0).await;
    let filter = EventFilter::order(77);
    let every = Some(Duration::from_millis(100));
    let draining = CancellationToken::new();
    let mut feed = EventFeed::open(fan_out, None, filter, every, batches(), draining).await.unwrap();
    assert_eq!(step(&mut feed).await.unwrap(), Step::CaughtUp);
    for n in 1..ORDERS {
        add(&store, n).await;
    }
    let head = store.head().await.unwrap();
    for _ in 0..100 {
        assert_eq!(step(&mut feed).await.unwrap(), Step::Heartbeat);
        if feed.point().position == head {
            return;
        }
    }
    panic!("the cursor stays at {}, and the log ends at {head}", feed.point());
}

#[tokio::test]
async fn a_live_follower_gets_an_error_when_the_log_returns_shorter() {
    let store = Store::new();
    let fan_out = started(&store);
    add(&store, 0).await;
    let mut all = feed(&fan_out, Some(LogPoint::START), EventFilter::default()).await;
    let mut one = history(&fan_out, 1).await;
    for source in [0, 1] {
        loop {
            let step = if source == 0 { step(&mut all).await } else { step(&mut one).await };
            if step.unwrap() == Step::CaughtUp {
                break;
            }
        }
    }
    add(&store, ORDERS).await;
    let mut seen = 0;
    while seen < 1 {
        seen += usize::from(matches!(step(&mut all).await.unwrap(), Step::Events(_)));
    }
    assert!(matches!(step(&mut one).await.unwrap(), Step::Events(_)));
    let (all, one) =
        (tokio::spawn(async move { step(&mut all).await }), tokio::spawn(async move { step(&mut one).await }));
    // Both wait; the other log has only one event.
    let shorter = Store::new();
    add(&shorter, 0).await;
    *store.log.lock().unwrap() = shorter.log();
    store.connections.send_modify(|connection| *connection += 1);
    for follower in [all, one] {
        let error = follower.await.unwrap().expect_err("the log has been replaced");
        assert!(matches!(error, AppError::LogReplaced(_)), "{error}");
    }
}

#[tokio::test]
async fn a_feed_that_does_not_follow_ends_although_the_log_grows_with_each_read() {
    let store = Store::new();
    for order in 1..=100 {
        store.add(order, 1, "c").await;
    }
    store.grows.store(true, Ordering::Relaxed);
    let fan_out = FanOut::new(Arc::clone(&store) as Arc<dyn EventStore>);
    let (start, all, draining) = (Some(LogPoint::START), EventFilter::default(), CancellationToken::new());
    let mut feed = EventFeed::open(fan_out, start, all, None, batches(), draining).await.unwrap();
    let mut seen = 0;
    loop {
        match step(&mut feed).await.unwrap() {
            Step::Events(events) => seen += events.len(),
            Step::End => break,
            other => panic!("{other:?}"),
        }
        assert!(seen < 1_000, "it never ends");
    }
    assert!(seen >= 100, "{seen}");
}

#[tokio::test]
async fn streams_that_catch_up_read_a_few_at_a_time_and_a_follower_at_the_end_does_not_wait_for_them() {
    let store = Store::new();
    for order in 1..=1_000 {
        store.add(order, 1, "c").await;
    }
    let (fan_out, turns) = (started(&store), Turns::new(3, 1));
    let open = async |after, filter, turns: &Turns, follow| {
        let batches = Batches::new(HeldBytes::none(ByteBudget::new(usize::MAX)), turns.clone());
        EventFeed::open(fan_out.clone(), after, filter, follow, batches, CancellationToken::new()).await.unwrap()
    };
    let nobody = || EventFilter { customer_ids: [String::from("nobody")].into(), ..EventFilter::default() };
    let mut scans = JoinSet::new();
    for _ in 0..10 {
        let of_connection = turns.of_connection();
        for _ in 0..20 {
            let mut scan = open(Some(LogPoint::START), nobody(), &of_connection, None).await;
            scans.spawn(async move { step(&mut scan).await });
        }
    }
    let mut follower = open(None, EventFilter::default(), &turns.of_connection(), Some(HEARTBEAT)).await;
    assert_eq!(step(&mut follower).await, Ok(Step::CaughtUp));
    while let Some(ended) = scans.join_next().await {
        assert_eq!(ended.unwrap(), Ok(Step::End));
    }
    // The fan-out reads the log as well.
    let most = store.most_reading.load(Ordering::Relaxed);
    assert!(most <= 4, "{most} at once");
}
