//! A log of arbitrarily many orders that needs no memory: each event is generated when it is read.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use ordersystem::{
    backends::embedded::event_store::EmbeddedEventStore,
    codec::{self, Record},
    domain::{
        ids::OrderId,
        money::{Currency, Money},
        order::{Change, Item, Items, OrderEvent, Quantity},
        text::Text,
        timestamp::Timestamp,
    },
    ports::event_store::{
        AppendError, Appended, Commit, CommitId, Direction, Durability, EventStore, ExpectedRevision, LogId,
        MAX_READ_EVENTS, Position, RecordedCommit, RequestKey, Revision, StoreError, StoredEvent, StreamId, TokenKey,
    },
};
use tokio::sync::watch;

/// The number of orders between the events of one.
const APART: u64 = 1_000;
const ORDERS_A_CUSTOMER: u64 = 50;
/// 2026-01-01, in microseconds.
const START_MICROS: i64 = 1_767_225_600_000_000;
const MICROS_APART: i64 = 10_000;

#[derive(Debug)]
pub struct GeneratedLog {
    orders: u64,
    /// An event of each kind, to be completed with its time and its customer: of a repeated field the last value counts.
    templates: [Bytes; 4],
    wake: watch::Sender<Position>,
    /// The number of events that have been read.
    pub read: AtomicU64,
}

impl GeneratedLog {
    pub fn new(orders: u64) -> Self {
        let item = |price| Item {
            product_id: Text::parse("SKU-0001").unwrap(),
            name: None,
            quantity: Quantity::new(2).unwrap(),
            unit_price: Money::from_minor(price, Currency::parse("USD").unwrap()).unwrap(),
        };
        let changes = [
            Change::Created { items: Items::new(vec![item(1_999), item(500)]).unwrap(), shipping_address: None },
            Change::Paid { method: Text::parse("card").unwrap(), reference: None },
            Change::Shipped { tracking_number: Text::parse("TRACK-1").unwrap(), carrier: None },
            Change::Cancelled { reason: None },
        ];
        let templates = changes.map(|change| {
            let event = OrderEvent {
                order_id: OrderId::new(1 << 60).unwrap(),
                customer_id: Text::parse("c").unwrap(),
                at: Timestamp::from_micros(START_MICROS),
                change,
            };
            codec::encode(
                &event,
                Record { revision: 1, request_id: None, actor: None, on_behalf_of: None, traceparent: None },
            )
        });
        Self { orders, templates, wake: watch::Sender::new(Position(0)), read: AtomicU64::new(0) }
    }

    pub fn events(&self) -> u64 {
        let (orders, apart) = (self.orders, APART.min(self.orders));
        // All are created; of those that are old enough, each is paid or cancelled, and the paid ones are shipped.
        let shipped = (2 * apart..orders).filter(|k| !is_cancelled(k - 2 * apart)).count() as u64;
        orders + (orders - apart) + shipped
    }

    /// The event at `position`, if there is one: of three consecutive positions one is for the new order, and the others are for earlier
    /// orders.
    fn event(&self, position: u64) -> Option<StoredEvent> {
        let (turn, step) = ((position - 1) / 3, (position - 1) % 3);
        let order = turn.checked_sub(step * APART)?;
        let (template, revision) = match step {
            0 => (&self.templates[0], 1),
            1 if is_cancelled(order) => (&self.templates[3], 2),
            1 => (&self.templates[1], 2),
            _ if is_cancelled(order) => return None,
            _ => (&self.templates[2], 3),
        };
        let at = START_MICROS + turn as i64 * MICROS_APART;
        let mut payload = Vec::with_capacity(template.len() + 40);
        payload.extend_from_slice(template);
        let at = codec::timestamp_to_proto(Timestamp::from_micros(at));
        prost::encoding::message::encode(4, &at, &mut payload);
        let customer = order.wrapping_mul(0x9E37_79B9_7F4A_7C15) % (self.orders / ORDERS_A_CUSTOMER).max(1);
        prost::encoding::string::encode(7, &format!("customer-{customer:07}"), &mut payload);
        // As far apart as Snowflake ids.
        let stream = StreamId((1 << 60) + order * 4_194_304);
        Some(StoredEvent { stream, revision, position: Position(position), payload: payload.into() })
    }

    /// Appends all of it to `store`, in this order.
    pub async fn copy_to(&self, store: &EmbeddedEventStore) {
        let events = (1..=self.orders * 3).filter_map(|position| self.event(position));
        let commits = events.map(|event| {
            store.append(Commit {
                id: CommitId::random(),
                stream: event.stream,
                expected: ExpectedRevision::Any,
                request: None,
                events: vec![event.payload],
            })
        });
        stream::iter(commits)
            .buffered(512)
            .for_each(|appended| async move { assert!(appended.is_ok(), "{appended:?}") })
            .await;
    }
}

const fn is_cancelled(order: u64) -> bool {
    order.is_multiple_of(10)
}

#[async_trait]
impl EventStore for GeneratedLog {
    fn log_id(&self) -> Option<LogId> {
        Some(LogId(1))
    }

    fn token_key(&self) -> Option<TokenKey> {
        None
    }

    fn connections(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
    fn durability(&self) -> Durability {
        Durability::None
    }
    async fn append(&self, _: Commit) -> Result<Appended, AppendError> {
        Err(AppendError::Full("it is what it is".to_owned()))
    }
    async fn find_request(&self, _: StreamId, _: &RequestKey) -> Result<Option<Appended>, AppendError> {
        Ok(None)
    }
    async fn read_stream(
        &self,
        _: StreamId,
        _: Revision,
        _: Direction,
        _: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        Err(StoreError::Unavailable("only the whole log is there".to_owned()))
    }
    async fn read_log(&self, from: Position, _: Direction, max: usize) -> Result<Vec<StoredEvent>, StoreError> {
        let events: Vec<_> = (from.0 + 1..=self.orders * 3)
            .filter_map(|position| self.event(position))
            .take(max.min(MAX_READ_EVENTS))
            .collect();
        self.read.fetch_add(events.len() as u64, Ordering::Relaxed);
        Ok(events)
    }
    async fn read_commits(&self, _: Position, _: usize) -> Result<Vec<RecordedCommit>, StoreError> {
        Err(StoreError::Unavailable("only single events are there".to_owned()))
    }
    async fn head(&self) -> Result<Position, StoreError> {
        let last = (1..=self.orders * 3).rev().find(|position| self.event(*position).is_some());
        Ok(Position(last.unwrap_or(0)))
    }
    fn wake(&self) -> watch::Receiver<Position> {
        self.wake.subscribe()
    }
    async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
