//! A log in memory that counts reads, and delays or fails readers on demand.

use std::{
    collections::BTreeMap,
    ops::Deref,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use ordersystem::{
    backends::memory::event_store::MemoryEventStore,
    codec::{self, Record},
    domain::{
        ids::OrderId,
        money::{Currency, Money},
        order::{Change, Item, Items, OrderEvent, Quantity},
        text::Text,
        timestamp::Timestamp,
    },
    ports::event_store::{
        Commit, CommitId, Direction, EventStore, ExpectedRevision, LogId, Position, StoreError, StoredEvent, StreamId,
        TokenKey,
    },
};
use tokio::sync::watch;

use crate::support::intercepted::{Intercepted, StoreHooks};

pub type WatchedLog = Intercepted<Watched>;

#[derive(Debug)]
pub struct Watched {
    inner: MemoryEventStore,
    id: LogId,
    read: AtomicU64,
    /// Reads that begin before this position wait while it is set.
    held_before: watch::Sender<Option<Position>>,
    is_held: watch::Sender<bool>,
    damaged_at: Mutex<Option<Position>>,
    orders: Mutex<BTreeMap<u64, u8>>,
}

impl WatchedLog {
    pub fn new(id: u32) -> Self {
        Intercepted(Watched {
            inner: MemoryEventStore::default(),
            id: LogId(id),
            read: AtomicU64::new(0),
            held_before: watch::Sender::new(None),
            is_held: watch::Sender::new(false),
            damaged_at: Mutex::default(),
            orders: Mutex::default(),
        })
    }
}

impl Watched {
    /// The number of events that have been read from the log.
    pub fn events_read(&self) -> u64 {
        self.read.load(Ordering::SeqCst)
    }

    /// Delays readers of events before `position`, except of the first one.
    pub fn hold_at(&self, position: Position) {
        self.held_before.send_replace(Some(position));
    }

    pub async fn is_held(&self) {
        self.is_held.subscribe().wait_for(|held| *held).await.unwrap();
    }

    pub fn let_go(&self) {
        self.held_before.send_replace(None);
    }

    /// Reads that reach this position fail.
    pub fn damage_at(&self, position: Option<Position>) {
        *self.damaged_at.lock().unwrap() = position;
    }

    /// The status code of each order.
    pub fn orders(&self) -> BTreeMap<u64, u8> {
        self.orders.lock().unwrap().clone()
    }

    pub async fn place_and_pay(&self, orders: impl IntoIterator<Item = u64>) {
        for order in orders {
            self.place(order).await;
            self.pay(order).await;
        }
    }

    pub async fn place(&self, order: u64) {
        let item = Item {
            product_id: Text::parse("p").unwrap(),
            name: None,
            quantity: Quantity::new(1).unwrap(),
            unit_price: Money::from_minor(100, Currency::parse("USD").unwrap()).unwrap(),
        };
        let items = Items::new(vec![item]).unwrap();
        self.add(order, 1, Change::Created { items, shipping_address: None }).await;
    }

    pub async fn pay(&self, order: u64) {
        self.add(order, 2, Change::Paid { method: Text::parse("card").unwrap(), reference: None }).await;
    }

    /// Both events of an order have as revision the code of the status that they lead to.
    async fn add(&self, order: u64, revision: u64, change: Change) {
        let event = OrderEvent {
            order_id: OrderId::new(order).unwrap(),
            customer_id: Text::parse(&format!("c-{}", order % 50)).unwrap(),
            at: Timestamp::from_micros(order as i64 * 1_000),
            change,
        };
        let payload = codec::encode(
            &event,
            Record { revision, request_id: None, actor: None, on_behalf_of: None, traceparent: None },
        );
        let commit = Commit {
            id: CommitId::random(),
            stream: StreamId(order),
            expected: ExpectedRevision::Exactly(revision - 1),
            request: None,
            events: vec![payload],
        };
        self.inner.append(commit).await.unwrap();
        self.orders.lock().unwrap().insert(order, revision as u8);
    }

    pub async fn read_all(&self) -> Vec<StoredEvent> {
        self.inner.read_log(Position(0), Direction::Forward, usize::MAX).await.unwrap()
    }
}

#[async_trait]
impl StoreHooks for Watched {
    fn inner(&self) -> &dyn EventStore {
        &self.inner
    }

    fn log_id(&self) -> Option<LogId> {
        Some(self.id)
    }

    fn token_key(&self) -> Option<TokenKey> {
        None
    }

    async fn read_log(
        &self,
        from: Position,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let is_let_through = |held: &Option<Position>| held.is_none_or(|held| from >= held || from == Position(0));
        let mut held = self.held_before.subscribe();
        if !is_let_through(held.borrow_and_update().deref()) {
            self.is_held.send_replace(true);
        }
        held.wait_for(is_let_through).await.unwrap();
        let events = self.inner.read_log(from, direction, max_events).await?;
        if let Some(damaged) = *self.damaged_at.lock().unwrap()
            && events.iter().any(|event| event.position == damaged)
        {
            return Err(StoreError::Corrupt("damaged for this test".to_owned()));
        }
        self.read.fetch_add(events.len() as u64, Ordering::SeqCst);
        Ok(events)
    }
}
