use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    backends::memory::{event_store::MemoryEventStore, read_model::MemoryReadModel},
    codec::{self, Record},
    domain::{
        ids::OrderId,
        money::{Currency, Money},
        order::{Change, Item, Items, OrderEvent, Quantity},
        text::Text,
        timestamp::Timestamp,
    },
    ports::event_store::{Commit, CommitId, ExpectedRevision, StreamId},
    processors::projections::OrderProjection,
};

fn created(order: u64) -> Bytes {
    let unit_price = Money::from_minor(100, Currency::parse("USD").unwrap()).unwrap();
    let (product_id, quantity) = (Text::parse("p").unwrap(), Quantity::new(1).unwrap());
    let items = Items::new(vec![Item { product_id, name: None, quantity, unit_price }]).unwrap();
    let event = OrderEvent {
        order_id: OrderId::new(order).unwrap(),
        customer_id: Text::parse("c").unwrap(),
        at: Timestamp::from_micros(0),
        change: Change::Created { items, shipping_address: None },
    };
    codec::encode(&event, Record { revision: 1, request_id: None, actor: None, on_behalf_of: None, traceparent: None })
}

async fn append(store: &dyn EventStore, order: u64, payload: Bytes) {
    let commit = Commit {
        id: CommitId::random(),
        stream: StreamId(order),
        expected: ExpectedRevision::NoStream,
        request: None,
        events: vec![payload],
    };
    store.append(commit).await.unwrap();
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if holds() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}");
}

#[tokio::test]
async fn a_projection_advances_while_its_position_does_and_not_while_it_fails() {
    let store: Arc<dyn EventStore> = Arc::new(MemoryEventStore::default());
    let read_model: Arc<dyn ReadModel> = Arc::new(MemoryReadModel::default());
    let projection = OrderProjection::new(Arc::clone(&store), Arc::clone(&read_model));
    let progress = projection.progress();
    let check = ProjectionCheck {
        progress: progress.clone(),
        read_model,
        store: Arc::clone(&store),
        start_head: AtomicU64::new(0),
        last_seen: Mutex::default(),
        work: Arc::new(Supervised::new("projection", Arc::default())),
    };
    assert!(check.is_advancing(), "nothing is known before the first call");
    assert!(!check.is_advancing(), "it does not run");
    let running = tokio::spawn(async move { projection.run(CancellationToken::new()).await });
    append(&*store, 1, created(1)).await;
    until("the first order is projected", || progress.position() == Position(1)).await;
    assert!(check.is_advancing());
    assert!(!check.is_advancing(), "once for each change");
    append(&*store, 2, created(2)).await;
    append(&*store, 3, Bytes::from_static(b"no event")).await;
    until("the damaged event is reported", || progress.failure().is_some()).await;
    assert!(!check.is_advancing(), "even though its position has changed");
    running.abort();
}
