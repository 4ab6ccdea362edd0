//! Orders, their events, and a log of them.

use std::{future::Future, hint::black_box, sync::Arc};

use bytes::Bytes;
use futures_util::FutureExt as _;
use ordersystem::{
    application::{
        AppError, Scope,
        byte_budget::{ByteBudget, HeldBytes},
        event_streams::{Batches, OrderHistory, Step},
        fan_out::FanOut,
        turns::Turns,
    },
    backends::memory::event_store::MemoryEventStore,
    codec::{self, Record},
    domain::{
        ids::OrderId,
        money::{Currency, Money},
        order::{Action, Item, Items, Order, OrderCommand, OrderEvent, Quantity, decide, evolve},
        text::Text,
        timestamp::Timestamp,
    },
    id_generator::{IdGenerator, NodeIdentity},
    ports::{
        clock::ManualClock,
        event_store::{
            Commit, CommitId, Direction, EventStore, ExpectedRevision, MAX_READ_EVENTS, Position, StoredEvent, StreamId,
        },
    },
};
use tokio_util::sync::CancellationToken;

/// How often each bench repeats its operation: what happens only now and then, such as the growth of a map, is then spread over all.
pub const OPERATIONS: usize = 100;
/// The orders that there are before.
pub const EARLIER_ORDERS: usize = 400;
/// 2026-01-01, in microseconds.
pub const NOW_MICROS: i64 = 1_767_225_600_000_000;
/// A new generator begins some milliseconds after its clock.
const GENERATOR_LEAD_MS: i64 = 1_000;

/// The result of a future that does not wait, as nothing does on the memory backend.
pub fn polled<T>(work: impl Future<Output = T>) -> T {
    work.now_or_never().expect("ready at once")
}

/// An order from its creation to its delivery.
pub struct Life {
    pub commands: Vec<OrderCommand>,
    /// Before each command.
    pub states: Vec<Option<Order>>,
    pub events: Vec<OrderEvent>,
}

impl Life {
    pub fn new() -> Self {
        Self::of(order_id(0))
    }

    fn of(order_id: OrderId) -> Self {
        let commands: Vec<_> = actions().map(|action| OrderCommand { order_id, at: now(), action }).into();
        let (mut states, mut events) = (vec![None], Vec::new());
        for command in &commands {
            let before = states.last().expect("a state").as_ref();
            let event = decide(before, command).expect("allowed").remove(0);
            states.push(Some(evolve(before, &event).expect("follows")));
            events.push(event);
        }
        states.pop();
        Self { commands, states, events }
    }

    fn payloads(&self) -> Vec<Bytes> {
        self.events.iter().zip(1..).map(|(event, revision)| codec::encode(event, record(revision))).collect()
    }
}

fn actions() -> [Action; 4] {
    let items = vec![item("prod-1", "Laptop", 1, 99_999), item("prod-2", "Mouse", 2, 2_999)];
    [
        Action::Create {
            customer_id: Text::parse("customer-123").expect("valid"),
            items: Items::new(items).expect("valid"),
            shipping_address: None,
        },
        Action::Pay { method: Text::parse("card").expect("valid"), reference: None },
        Action::Ship { tracking_number: Text::parse("TRACK-1").expect("valid"), carrier: None },
        Action::Deliver,
    ]
}

fn item(product_id: &str, name: &str, quantity: i64, minor: i64) -> Item {
    let currency = Currency::parse("USD").expect("valid");
    Item {
        product_id: Text::parse(product_id).expect("valid"),
        name: Some(Text::parse(name).expect("valid")),
        quantity: Quantity::new(quantity).expect("valid"),
        unit_price: Money::from_minor(minor, currency).expect("valid"),
    }
}

fn now() -> Timestamp {
    Timestamp::from_micros(NOW_MICROS)
}

/// As far apart as Snowflake ids of consecutive milliseconds.
fn order_id(number: usize) -> OrderId {
    OrderId::new((1 << 60) + ((number as u64) << 22)).expect("valid")
}

pub fn record(revision: u64) -> Record<'static> {
    Record { revision, request_id: None, actor: None, on_behalf_of: None, traceparent: None }
}

/// The event of a new order.
pub fn encoded() -> Bytes {
    Life::new().payloads().remove(0)
}

/// A clock that stands still, and a generator that has ids by it.
pub fn clock_and_ids() -> (Arc<ManualClock>, IdGenerator) {
    let clock = Arc::new(ManualClock::new(NOW_MICROS));
    let node = NodeIdentity::new(1, 1).expect("valid");
    let ids = IdGenerator::new(node, Arc::clone(&clock) as _).expect("a clock");
    clock.advance_ms(GENERATOR_LEAD_MS);
    ids.next().expect("an id");
    (clock, ids)
}

pub fn ids() -> IdGenerator {
    clock_and_ids().1
}

/// The store with earlier orders of one event each, and commits of as many new orders as there are operations.
pub struct Appending {
    pub store: MemoryEventStore,
    pub commits: Vec<Commit>,
}

impl Appending {
    pub fn new() -> Self {
        let store = MemoryEventStore::default();
        let created = |number| {
            let id = order_id(number);
            commit(id, ExpectedRevision::NoStream, vec![Life::of(id).payloads().remove(0)])
        };
        for number in 0..EARLIER_ORDERS {
            polled(store.append(created(number))).expect("appended");
        }
        let commits = (EARLIER_ORDERS..EARLIER_ORDERS + OPERATIONS).map(created).collect();
        Self { store, commits }
    }
}

fn commit(id: OrderId, expected: ExpectedRevision, events: Vec<Bytes>) -> Commit {
    Commit { id: CommitId(id.get().into()), stream: StreamId(id.get()), expected, request: None, events }
}

/// A store with orders, each with all four events, a commit each.
fn store_of_lives(orders: usize) -> MemoryEventStore {
    let store = MemoryEventStore::default();
    for id in (0..orders).map(order_id) {
        for (payload, before) in Life::of(id).payloads().into_iter().zip(0..) {
            let commit = commit(id, ExpectedRevision::Exactly(before), vec![payload]);
            polled(store.append(commit)).expect("appended");
        }
    }
    store
}

/// The log of as many orders as there are operations.
pub fn stored_lives() -> (MemoryEventStore, Vec<StoredEvent>) {
    let store = store_of_lives(OPERATIONS);
    let events = polled(store.read_log(Position(0), Direction::Forward, MAX_READ_EVENTS)).expect("readable");
    (store, events)
}

/// Orders with their histories.
pub struct Histories {
    fan_out: FanOut,
    held: ByteBudget,
    turns: Turns,
    draining: CancellationToken,
    orders: Vec<OrderId>,
}

impl Histories {
    pub fn new() -> Self {
        let store = Arc::new(store_of_lives(OPERATIONS));
        Self {
            fan_out: FanOut::new(store),
            held: ByteBudget::unbounded(),
            turns: Turns::new(3, 1),
            draining: CancellationToken::new(),
            orders: (0..OPERATIONS).map(order_id).collect(),
        }
    }

    /// Each to its end.
    pub fn read(&self) {
        for id in &self.orders {
            let mut history = polled(self.open(*id)).expect("an order");
            while let Step::Events(events) = polled(history.next()).expect("readable") {
                black_box(events);
            }
        }
    }

    async fn open(&self, id: OrderId) -> Result<OrderHistory, AppError> {
        let batches = Batches::new(HeldBytes::none(self.held.clone()), self.turns.clone());
        OrderHistory::open(self.fan_out.clone(), id, 1, &Scope::ALL, false, batches, self.draining.clone()).await
    }
}
