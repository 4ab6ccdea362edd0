//! Commands through the mediator, on the memory backend.

use std::{sync::Arc, time::Duration};

use ordersystem::{
    application::{
        Mediator, OrderRequest,
        command_handler::CommandHandler,
        ids::IdHandler,
        order_cache::OrderCacheBounds,
        order_repository::OrderRepository,
        permits::Permits,
        pipeline::Pipeline,
        queries::QueryHandler,
        requests::{self, ActionDraft, CommandDraft, ItemDraft, MetaDraft, OrderDraft, Target, Violations},
    },
    backends::memory::{event_store::MemoryEventStore, read_model::MemoryReadModel},
    domain::{
        ids::OrderId,
        money::{Currency, Money},
    },
    identity::Principal,
    ports::{event_store::EventStore, read_model::ReadModel},
    processors::projections::OrderProjection,
    telemetry::metrics::Metrics,
};
use tokio_util::sync::CancellationToken;

use crate::orders::{EARLIER_ORDERS, OPERATIONS, clock_and_ids, polled};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_IN_FLIGHT: usize = 1_024;
/// As a node has by default.
const CACHE: OrderCacheBounds = OrderCacheBounds { orders: 100_000, bytes: 128 << 20 };

/// The pipeline alone.
pub struct Dispatch {
    pub pipeline: Pipeline,
}

impl Dispatch {
    pub fn new() -> Self {
        Self { pipeline: metrics::with_local_recorder(&Metrics::new(), || pipeline(&permits())) }
    }
}

fn permits() -> Arc<Permits> {
    Arc::new(Permits::new(MAX_IN_FLIGHT, CancellationToken::new()))
}

fn pipeline(permits: &Arc<Permits>) -> Pipeline {
    Pipeline::new(REQUEST_TIMEOUT, Arc::clone(permits))
}

/// A mediator, and a request for each operation.
pub struct Commands {
    pub mediator: Mediator,
    pub requests: Vec<OrderRequest>,
}

impl Commands {
    pub fn create() -> Self {
        let mediator = mediator();
        created(&mediator, EARLIER_ORDERS);
        Self { mediator, requests: (0..OPERATIONS).map(|_| create_request()).collect() }
    }

    pub fn pay() -> Self {
        let mediator = mediator();
        let orders = created(&mediator, EARLIER_ORDERS);
        let (paid, pending) = orders.split_at(EARLIER_ORDERS - OPERATIONS);
        for id in paid {
            polled(mediator.execute(pay_request(*id))).expect("paid");
        }
        Self { mediator, requests: pending.iter().map(|id| pay_request(*id)).collect() }
    }
}

/// As a node has it, with metrics that count.
fn mediator() -> Mediator {
    metrics::with_local_recorder(&Metrics::new(), || {
        let store: Arc<dyn EventStore> = Arc::new(MemoryEventStore::default());
        let read_model: Arc<dyn ReadModel> = Arc::new(MemoryReadModel::new());
        let (clock, ids) = clock_and_ids();
        let (ids, permits) = (Arc::new(ids), permits());
        let orders = Arc::new(OrderRepository::new(Arc::clone(&store), CACHE));
        let progress = OrderProjection::new(Arc::clone(&store), Arc::clone(&read_model)).progress();
        let commands = CommandHandler::new(Arc::clone(&store), Arc::clone(&orders), Arc::clone(&ids), clock);
        let queries = QueryHandler::new(store, orders, read_model, progress, Arc::clone(&permits));
        let ids = IdHandler::new(ids, Arc::clone(&permits));
        Mediator::new(commands, queries, ids, pipeline(&permits))
    })
}

/// New orders.
fn created(mediator: &Mediator, count: usize) -> Vec<OrderId> {
    (0..count).map(|_| polled(mediator.execute(create_request())).expect("created").order.id).collect()
}

fn create_request() -> OrderRequest {
    let price = |minor| Some(Money::from_minor(minor, Currency::parse("USD").expect("valid")).map_err(Into::into));
    let item = |product_id, name, quantity, minor| ItemDraft {
        product_id: Some(product_id),
        name: Some(name),
        quantity: Some(quantity),
        unit_price: price(minor),
    };
    request(
        Target::New,
        ActionDraft::Create(OrderDraft {
            customer_id: Some("customer-123"),
            items: Some(vec![item("prod-1", "Laptop", 1, 99_999), item("prod-2", "Mouse", 2, 2_999)]),
            shipping_address: Some(""),
        }),
    )
}

fn pay_request(id: OrderId) -> OrderRequest {
    let pay = ActionDraft::Pay { method: Some("card"), reference: Some("") };
    request(Target::Existing(Some(&id.to_string())), pay)
}

fn request(target: Target<Option<&str>>, action: ActionDraft<'_>) -> OrderRequest {
    let draft = CommandDraft { meta: MetaDraft::default(), target, action };
    requests::command(Violations::default(), draft, Principal::anonymous()).expect("valid")
}
