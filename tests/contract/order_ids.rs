//! New orders whose ids another generator issues as well: two nodes with one worker number, or a clock that was set back.

use std::{collections::HashSet, sync::Arc};

use futures_util::{FutureExt as _, future::join_all};
use ordersystem::{
    application::{
        AppError, Mediator, OrderRequest, command_handler::CommandHandler, ids::IdHandler,
        order_cache::OrderCacheBounds, order_repository::OrderRepository, permits::Permits, pipeline::Pipeline,
        queries::QueryHandler, requests::Target,
    },
    backends::{
        embedded::event_store::EmbeddedEventStore,
        memory::{event_store::MemoryEventStore, read_model::MemoryReadModel},
        redis::event_store::RedisEventStore,
    },
    domain::{
        ids::OrderId,
        money::{Currency, Money},
        order::{Action, Item, Items, Quantity},
        text::{CustomerId, ProductId, RequestId},
    },
    id_generator::{EPOCH_UNIX_MS, IdGenerator, NodeIdentity},
    identity::Principal,
    ports::{
        clock::{Clock, ManualClock},
        event_store::{Direction, EventStore, Position},
        read_model::ReadModel,
    },
    processors::projections::OrderProjection,
};
use tokio_util::sync::CancellationToken;

use crate::{
    backend::{Backend, Time, race_on_each},
    embedded::scratch,
    nats_server, redis_server,
};

pub type Store = Arc<dyn EventStore>;

pub const BACKENDS: &[Backend<dyn EventStore>] = &[
    Backend {
        name: "inmemory",
        time: Time::Real,
        open: || async { Arc::new(MemoryEventStore::default()) as Store }.boxed(),
    },
    Backend {
        name: "embedded",
        time: Time::Real,
        open: || async { Arc::new(EmbeddedEventStore::new(scratch())) as Store }.boxed(),
    },
    Backend {
        name: "redis",
        time: Time::Real,
        open: || async { Arc::new(RedisEventStore::new(redis_server::shared().connect().await)) as Store }.boxed(),
    },
    Backend {
        name: "nats",
        time: Time::Real,
        open: || async { Arc::new(nats_server::shared().store().await) as Store }.boxed(),
    },
];

/// Each node creates this many orders at the same time, this many times.
const AT_ONCE: usize = 64;
const ROUNDS: usize = 16;

/// A node that issues the ids of worker 0, by its own clock.
pub fn node(store: &Store, clock: &Arc<ManualClock>) -> Mediator {
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    let ids = Arc::new(IdGenerator::new(NodeIdentity::new(0, 0).unwrap(), Arc::clone(&clock)).unwrap());
    let orders = Arc::new(OrderRepository::new(Arc::clone(store), OrderCacheBounds { orders: 100, bytes: 1 << 24 }));
    let read_model: Arc<dyn ReadModel> = Arc::new(MemoryReadModel::default());
    let progress = OrderProjection::new(Arc::clone(store), Arc::clone(&read_model)).progress();
    let permits = Arc::new(Permits::new(1_000, CancellationToken::new()));
    let commands = CommandHandler::new(Arc::clone(store), Arc::clone(&orders), Arc::clone(&ids), clock);
    let queries = QueryHandler::new(Arc::clone(store), orders, read_model, progress, Arc::clone(&permits));
    let id_handler = IdHandler::new(Arc::clone(&ids), Arc::clone(&permits));
    let pipeline = Pipeline::new(std::time::Duration::from_secs(50), permits);
    Mediator::new(commands, queries, id_handler, pipeline)
}

/// A new order of the customer "c".
pub fn new_order(request_id: Option<&str>) -> OrderRequest {
    let item = Item {
        product_id: ProductId::parse("p").unwrap(),
        name: None,
        quantity: Quantity::new(1).unwrap(),
        unit_price: Money::from_minor(100, Currency::parse("USD").unwrap()).unwrap(),
    };
    OrderRequest {
        request_id: request_id.map(|id| RequestId::parse(id).unwrap()),
        expected_revision: None,
        actor: None,
        target: Target::New,
        action: Action::Create {
            customer_id: CustomerId::parse("c").unwrap(),
            items: Items::new(vec![item]).unwrap(),
            shipping_address: None,
        },
        caller: Principal::anonymous().clone(),
    }
}

async fn create(node: &Mediator, request_id: Option<&str>) -> Result<OrderId, AppError> {
    Ok(node.execute(new_order(request_id)).await?.order.id)
}

/// Creates orders on both nodes at the same times of their clocks, so that both generate most ids.
async fn each_order_is_made_once(store: Store, with_request_ids: bool) {
    let start = i64::try_from(EPOCH_UNIX_MS).unwrap() * 1_000 + 1_000_000_000;
    let clocks = [Arc::new(ManualClock::new(start)), Arc::new(ManualClock::new(start))];
    let nodes = [node(&store, &clocks[0]), node(&store, &clocks[1])];
    let mut orders = HashSet::new();
    for round in 0..ROUNDS {
        clocks.iter().for_each(|clock| clock.advance_ms(10));
        let requests: Vec<_> = (0..2 * AT_ONCE)
            .map(|number| (number % 2, with_request_ids.then(|| format!("{round}-{number}"))))
            .collect();
        let creates = || join_all(requests.iter().map(|(node, id)| create(&nodes[*node], id.as_deref())));
        let created: Vec<_> = creates().await.into_iter().map(|created| created.expect("made under some id")).collect();
        for id in &created {
            assert!(orders.insert(id.get()), "two orders have the id {id}");
        }
        if with_request_ids {
            let again: Vec<_> = creates().await.into_iter().map(|created| created.expect("a retry")).collect();
            assert_eq!(again, created, "a retry gets the first order");
        }
    }
    let mut in_log = HashSet::new();
    let mut from = Position(0);
    loop {
        let batch = store.read_log(from, Direction::Forward, 1_000).await.unwrap();
        let Some(last) = batch.last() else { break };
        from = last.position;
        for event in batch {
            assert!(in_log.insert(event.stream.0), "order {} was made twice", event.stream.0);
        }
    }
    assert_eq!(in_log, orders, "each acknowledged order is in the log, and no other");
}

#[test]
fn an_order_id_in_use_is_replaced() {
    race_on_each(BACKENDS, |store| each_order_is_made_once(store, false));
}

#[test]
fn an_order_id_in_use_is_replaced_and_a_retry_gets_the_created_order() {
    race_on_each(BACKENDS, |store| each_order_is_made_once(store, true));
}
