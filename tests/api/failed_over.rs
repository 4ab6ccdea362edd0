//! A store that fails over, between two of a command's calls, to a server that lacks the last writes: contradictory reads are UNAVAILABLE.
//! They are neither reported as damage nor answered with data of another log.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use ordersystem::{
    backends::memory::event_store::MemoryEventStore,
    node::Backends,
    ports::{
        clock::SystemClock,
        event_store::{
            AppendError, Appended, Commit, Direction, EventStore, LogId, Position, RequestKey, Revision, StoreError,
            StoredEvent, StreamId, TokenKey,
        },
    },
    proto::catga::orders::v1::{
        ConsistencyLevel, CreateOrderRequest, GetOrderRequest, ListOrdersRequest, ReadConsistency,
    },
};
use tokio::sync::watch;
use tonic::Code;

use crate::support::{
    Meta, Step, TestServer, code_and_reason, give,
    intercepted::{Intercepted, StoreHooks},
    new_order,
};

/// Two servers; the second one has only the replicated writes.
#[derive(Debug)]
struct TwoServers {
    first: MemoryEventStore,
    second: MemoryEventStore,
    connections: watch::Sender<u64>,
    /// The first one has failed.
    has_failed: AtomicBool,
    /// It fails after it has found a request.
    fails_next: AtomicBool,
    /// It fails after it has returned an order.
    fails_after_read: AtomicBool,
    /// Not a fail-over: requests are read from one server and events from the other, which is damage.
    is_damaged: AtomicBool,
}

impl TwoServers {
    async fn start() -> (TestServer, Arc<Intercepted<Self>>) {
        let store = Arc::new(Intercepted(Self {
            first: MemoryEventStore::default(),
            second: MemoryEventStore::default(),
            connections: watch::channel(1).0,
            has_failed: AtomicBool::new(false),
            fails_next: AtomicBool::new(false),
            fails_after_read: AtomicBool::new(false),
            is_damaged: AtomicBool::new(false),
        }));
        let mut backends = Backends::memory();
        backends.store = Arc::<Intercepted<Self>>::clone(&store);
        (TestServer::start_on(&[], backends, Arc::new(SystemClock)).await, store)
    }

    async fn replicate(&self) {
        let commits = self.first.read_commits(Position(0), 1_000).await.expect("in memory");
        for commit in commits {
            self.second.append(commit.to_commit()).await.expect("in memory");
        }
    }

    fn fail_after_the_next_request(&self) {
        self.fails_next.store(true, Ordering::SeqCst);
    }

    fn is_found(&self) {
        if self.fails_next.swap(false, Ordering::SeqCst) {
            self.fail_over();
        }
    }

    fn fail_over(&self) {
        self.has_failed.store(true, Ordering::SeqCst);
        self.connections.send_modify(|made| *made += 1);
    }

    fn server(&self) -> &MemoryEventStore {
        if self.has_failed.load(Ordering::SeqCst) { &self.second } else { &self.first }
    }

    fn server_of_orders(&self) -> &MemoryEventStore {
        if self.is_damaged.load(Ordering::SeqCst) { &self.second } else { self.server() }
    }
}

#[async_trait]
impl StoreHooks for TwoServers {
    fn inner(&self) -> &dyn EventStore {
        self.server()
    }

    fn log_id(&self) -> Option<LogId> {
        self.first.log_id()
    }

    fn token_key(&self) -> Option<TokenKey> {
        self.first.token_key()
    }

    fn connections(&self) -> watch::Receiver<u64> {
        self.connections.subscribe()
    }

    async fn append(&self, commit: Commit) -> Result<Appended, AppendError> {
        let appended = self.server().append(commit).await;
        if appended.as_ref().is_ok_and(|appended| appended.replayed) {
            self.is_found();
        }
        appended
    }

    async fn find_request(&self, stream: StreamId, request: &RequestKey) -> Result<Option<Appended>, AppendError> {
        let found = self.server().find_request(stream, request).await;
        if matches!(found, Ok(Some(_))) {
            self.is_found();
        }
        found
    }

    async fn read_stream(
        &self,
        stream: StreamId,
        from: Revision,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let events = self.server_of_orders().read_stream(stream, from, direction, max_events).await;
        if self.fails_after_read.swap(false, Ordering::SeqCst) {
            self.fail_over();
        }
        events
    }

    /// Like a store with several servers, one of which is the primary at a time.
    async fn confirm_connection(&self, connection: u64) -> Result<(), StoreError> {
        if *self.connections.borrow() == connection {
            return Ok(());
        }
        Err(StoreError::Unavailable("another server has replaced it".to_owned()))
    }
}

fn order_with(request_id: &str) -> CreateOrderRequest {
    CreateOrderRequest { request_id: request_id.to_owned(), ..new_order("customer-1") }
}

#[tokio::test]
async fn the_retry_of_a_new_order_that_is_lost_in_between_is_unavailable_and_then_done() {
    let (server, store) = TwoServers::start().await;
    let mut commands = server.commands().await;
    commands.create_order(order_with("place-1")).await.expect("accepted");
    store.fail_after_the_next_request();
    let refused = commands.create_order(order_with("place-1")).await.expect_err("nothing is known of it");
    assert_eq!(code_and_reason(&refused), (Code::Unavailable, "UNAVAILABLE".to_owned()), "{refused:?}");
    let placed = commands.create_order(order_with("place-1")).await.expect("new to this log").into_inner();
    assert_eq!(placed.order.expect("order").revision, 1);
    assert_eq!(store.second.head().await, Ok(Position(1)));
}

#[tokio::test]
async fn the_retry_of_a_command_that_is_lost_in_between_is_not_answered_with_an_earlier_state() {
    let (server, store) = TwoServers::start().await;
    let commands = server.commands().await;
    let order = server.place_order("customer-1").await.order_id;
    store.replicate().await;
    give(&commands, Step::Pay, &order, Meta::request("pay-1")).await.expect("accepted");
    store.fail_after_the_next_request();
    let refused = give(&commands, Step::Pay, &order, Meta::request("pay-1")).await.expect_err("nothing is known of it");
    assert_eq!(code_and_reason(&refused), (Code::Unavailable, "UNAVAILABLE".to_owned()), "{refused:?}");
    let paid = give(&commands, Step::Pay, &order, Meta::request("pay-1")).await.expect("not paid in this log");
    assert_eq!(paid.revision, 2);
}

#[tokio::test]
async fn a_request_whose_order_exists_on_both_servers_gets_its_answer() {
    let (server, store) = TwoServers::start().await;
    let mut commands = server.commands().await;
    let first = commands.create_order(order_with("place-1")).await.expect("accepted").into_inner();
    store.replicate().await;
    store.fail_after_the_next_request();
    let again = commands.create_order(order_with("place-1")).await.expect("it is there").into_inner();
    assert_eq!(again.order, first.order);
}

#[tokio::test]
async fn a_request_whose_order_is_gone_is_damage_where_one_connection_shows_both() {
    let (server, store) = TwoServers::start().await;
    let mut commands = server.commands().await;
    commands.create_order(order_with("place-1")).await.expect("accepted");
    store.is_damaged.store(true, Ordering::SeqCst);
    let refused = commands.create_order(order_with("place-1")).await.expect_err("damaged");
    assert_eq!(code_and_reason(&refused), (Code::DataLoss, "DATA_CORRUPT".to_owned()), "{refused:?}");
}

#[tokio::test]
async fn a_strong_read_or_a_refusal_that_meets_a_fail_over_is_of_the_new_server() {
    let (server, store) = TwoServers::start().await;
    let (commands, mut queries) = (server.commands().await, server.queries().await);
    let order = server.place_order("customer-1").await.order_id;
    store.replicate().await;
    let only_there = server.place_order("customer-1").await.order_id;
    let consistency = Some(ReadConsistency { level: ConsistencyLevel::Strong.into(), token: String::new() });
    let get =
        |order_id: &str| GetOrderRequest { order_id: order_id.to_owned(), at: None, consistency: consistency.clone() };
    store.fails_after_read.store(true, Ordering::SeqCst);
    let found = queries.get_order(get(&order)).await.expect("both have it").into_inner();
    assert_eq!(found.order.expect("order").revision, 1);
    let lost = queries.get_order(get(&only_there)).await.expect_err("the new one never had it");
    assert_eq!(code_and_reason(&lost), (Code::NotFound, "ORDER_NOT_FOUND".to_owned()), "{lost:?}");
    store.fails_after_read.store(true, Ordering::SeqCst);
    let refused = give(&commands, Step::Deliver, &order, Meta::default()).await.expect_err("not shipped");
    assert_eq!(code_and_reason(&refused), (Code::FailedPrecondition, "ILLEGAL_TRANSITION".to_owned()), "{refused:?}");
}

#[tokio::test]
async fn a_strong_list_after_a_fail_over_has_nothing_that_was_lost() {
    let (server, store) = TwoServers::start().await;
    let mut queries = server.queries().await;
    let kept = server.place_order("customer-1").await.order_id;
    store.replicate().await;
    server.place_order("customer-1").await;
    server.place_order("customer-1").await;
    let consistency = Some(ReadConsistency { level: ConsistencyLevel::Strong.into(), token: String::new() });
    let list = ListOrdersRequest { consistency, ..Default::default() };
    assert_eq!(queries.list_orders(list.clone()).await.expect("a list").into_inner().orders.len(), 3);
    store.fail_over();
    let left = queries.list_orders(list).await.expect("a list").into_inner();
    assert_eq!(left.orders.iter().map(|order| &order.order_id).collect::<Vec<_>>(), [&kept]);
}
