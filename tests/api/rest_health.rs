//! Every health check can fail; the consequences for the node.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU8, Ordering},
};

use async_trait::async_trait;
use ordersystem::{
    node::Backends,
    ports::{
        clock::{Clock, ManualClock, SystemClock},
        event_store::{EventStore, StoreError},
        message_bus::{BusError, MessageBus},
        read_model::{ListQuery, LogCheckpoint, Page, ReadModel, ReadModelError, RowChange, ShadowReadModel, Totals},
    },
    proto::catga::orders::v1::GetOrderStatsRequest,
};
use serde_json::{Value, json};

use crate::{
    faulty::FaultyStore,
    rest::Rest,
    support::{
        TestServer,
        intercepted::{BusCall, BusHooks, Intercepted, StoreCall, StoreHooks},
        new_order, until,
    },
};

/// Whether the backend that shares it is down.
type Outage = Arc<AtomicU8>;

const WELL: u8 = 0;
const OUT: u8 = 1;
const SILENT: u8 = 2;

#[derive(Debug)]
struct Fragile<T: ?Sized> {
    outage: Outage,
    inner: Arc<T>,
}

impl<T: ?Sized> Fragile<T> {
    async fn down<E>(&self, error: impl FnOnce(String) -> E) -> Result<(), E> {
        match self.outage.load(Ordering::SeqCst) {
            WELL => Ok(()),
            SILENT => std::future::pending().await,
            _ => Err(error("pulled the plug".to_owned())),
        }
    }
}

#[async_trait]
impl StoreHooks for Fragile<dyn EventStore> {
    fn inner(&self) -> &dyn EventStore {
        &*self.inner
    }

    async fn before(&self, _: StoreCall) -> Result<(), StoreError> {
        self.down(StoreError::Unavailable).await
    }
}

#[async_trait]
impl BusHooks for Fragile<dyn MessageBus> {
    fn inner(&self) -> &dyn MessageBus {
        &*self.inner
    }

    async fn before(&self, _: BusCall) -> Result<(), BusError> {
        self.down(BusError::Unavailable).await
    }
}

#[async_trait]
impl ReadModel for Fragile<dyn ReadModel> {
    async fn apply(&self, changes: Vec<RowChange>, checkpoint: LogCheckpoint) -> Result<(), ReadModelError> {
        self.down(ReadModelError::Unavailable).await?;
        self.inner.apply(changes, checkpoint).await
    }
    async fn checkpoint(&self) -> Result<Option<LogCheckpoint>, ReadModelError> {
        self.inner.checkpoint().await
    }
    async fn list(&self, query: &ListQuery) -> Result<Page, ReadModelError> {
        self.down(ReadModelError::Unavailable).await?;
        self.inner.list(query).await
    }
    async fn totals(&self) -> Result<Vec<Totals>, ReadModelError> {
        self.inner.totals().await
    }
    async fn customer_totals(&self, customer: &str) -> Result<Vec<Totals>, ReadModelError> {
        self.inner.customer_totals(customer).await
    }
    async fn clear(&self) -> Result<(), ReadModelError> {
        self.inner.clear().await
    }
    async fn begin_rebuild(&self) -> Result<Box<dyn ShadowReadModel>, ReadModelError> {
        self.down(ReadModelError::Unavailable).await?;
        self.inner.begin_rebuild().await
    }
    async fn check(&self) -> Result<(), ReadModelError> {
        self.down(ReadModelError::Unavailable).await?;
        self.inner.check().await
    }
}

fn pull(outage: &Outage) {
    outage.store(OUT, Ordering::SeqCst);
}

/// The health of the node once `check` is no longer healthy.
async fn health_once_failed(rest: &Rest, check: &str) -> (u16, Value) {
    for _ in 0..100 {
        let reply = rest.get("/health").await;
        if reply.json()["checks"][check]["status"] != "Healthy" {
            return (reply.status.as_u16(), reply.json());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{check} stays healthy");
}

#[tokio::test]
async fn an_unreachable_store_makes_the_node_unhealthy_and_not_ready_but_live() {
    let outage = Outage::default();
    let memory = Backends::memory();
    let store = Fragile { outage: Arc::clone(&outage), inner: Arc::clone(&memory.store) };
    let store = Arc::new(Intercepted(store));
    let rest = Rest::start_on(Backends { store, ..memory }).await;
    let id = rest.order("c").await;
    pull(&outage);
    let (status, health) = health_once_failed(&rest, "store").await;
    assert_eq!(
        (status, &health["status"], &health["checks"]["store"]["status"]),
        (503, &json!("Unhealthy"), &json!("Unhealthy"))
    );
    assert!(health["checks"]["store"]["detail"].as_str().is_some_and(|detail| detail.contains("pulled the plug")));
    assert_eq!(rest.get("/health/ready").await.status, 503);
    assert_eq!(rest.get("/health/live").await.status, 200);
    let reply = rest.get(&format!("/orders/{id}/history")).await;
    let problem = reply.problem(503, "UNAVAILABLE");
    assert_eq!(reply.header("retry-after"), "1");
    assert!(!problem["detail"].as_str().expect("text").contains("plug"), "internals stay inside: {problem}");
    rest.post(&format!("/orders/{id}/pay"), &json!({ "paymentMethod": "card" })).await.problem(503, "UNAVAILABLE");
}

#[tokio::test]
async fn an_unreachable_bus_makes_the_node_and_its_outbox_unhealthy() {
    let outage = Outage::default();
    let memory = Backends::memory();
    let bus = Fragile { outage: Arc::clone(&outage), inner: Arc::clone(&memory.bus) };
    let bus = Arc::new(Intercepted(bus));
    let rest = Rest::start_on(Backends { bus, ..memory }).await;
    pull(&outage);
    let (status, health) = health_once_failed(&rest, "transport").await;
    assert_eq!((status, &health["checks"]["transport"]["status"]), (503, &json!("Unhealthy")));
    assert_eq!(rest.get("/health/ready").await.status, 503);
    // The command is stored all the same; publishing it fails.
    rest.order("c").await;
    let (_, health) = health_once_failed(&rest, "outbox").await;
    assert_eq!(health["checks"]["outbox"]["status"], "Unhealthy");
}

#[tokio::test]
async fn a_read_model_that_fails_makes_the_projections_unhealthy() {
    let outage = Outage::default();
    let memory = Backends::memory();
    let read_model = Arc::new(Fragile { outage: Arc::clone(&outage), inner: Arc::clone(&memory.read_model) });
    let rest = Rest::start_on(Backends { read_model, ..memory }).await;
    pull(&outage);
    let (status, health) = health_once_failed(&rest, "projections").await;
    assert_eq!((status, &health["checks"]["projections"]["status"]), (503, &json!("Unhealthy")));
    rest.get("/orders").await.problem(503, "UNAVAILABLE");
}

#[tokio::test]
async fn a_handler_that_cannot_receive_degrades_the_node() {
    let memory = Backends::memory();
    // Only the event handler needs a consumer: the bus as a whole is healthy.
    let bus = Arc::new(Intercepted(NoConsumers(Arc::clone(&memory.bus))));
    let rest = Rest::start_on(Backends { bus, ..memory }).await;
    let (status, health) = health_once_failed(&rest, "subscriptions").await;
    assert_eq!((status, &health["status"]), (200, &json!("Degraded")));
    let check = &health["checks"]["subscriptions"];
    assert_eq!(check["status"], "Unhealthy");
    assert!(check["detail"].as_str().is_some_and(|detail| detail.contains("no consumers today")), "{check}");
    assert_eq!(rest.get("/health/ready").await.status, 200);
}

#[derive(Debug)]
struct NoConsumers(Arc<dyn MessageBus>);

#[async_trait]
impl BusHooks for NoConsumers {
    fn inner(&self) -> &dyn MessageBus {
        &*self.0
    }

    async fn before(&self, call: BusCall) -> Result<(), BusError> {
        match call {
            BusCall::Consumer => Err(BusError::Unavailable("no consumers today".to_owned())),
            BusCall::Publish | BusCall::Check => Ok(()),
        }
    }
}

#[tokio::test]
async fn a_clock_far_behind_the_issued_ids_delays_only_new_ids_and_the_wait_is_reported() {
    let clock = Arc::new(ManualClock::new(SystemClock.now_micros()));
    let settings = [("worker-id", "0")];
    let server = TestServer::start_on(&settings, Backends::memory(), Arc::clone(&clock) as Arc<dyn Clock>).await;
    let rest = Rest::of(server);
    clock.advance_ms(10);
    let order = json!({ "customerId": "c", "items": [{ "productId": "p", "quantity": 1, "price": 1 }] });
    let created = rest.post("/orders", &order).await;
    clock.advance_ms(-3_600_000);
    let (status, health) = health_once_failed(&rest, "ids").await;
    assert_eq!((status, &health["checks"]["ids"]["status"]), (200, &json!("Degraded")));
    let detail = health["checks"]["ids"]["detail"].as_str().unwrap();
    assert!(detail.starts_with("new ids wait 59 m 5"), "{detail}");
    assert_eq!(rest.get("/health/ready").await.status, 200);
    let refused = rest.get("/api/id").await;
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    refused.problem(503, "UNAVAILABLE");
    assert!((3_540..=3_600).contains(&wait), "{wait}");
    rest.post("/orders", &order).await.problem(503, "UNAVAILABLE");
    let id = created.string("orderId");
    assert_eq!(rest.get(&format!("/orders/{id}")).await.status, 200);
    let payment = json!({ "paymentMethod": "card" });
    assert_eq!(rest.post(&format!("/orders/{id}/pay"), &payment).await.status, 200);
}

#[tokio::test]
async fn a_node_without_a_pinned_worker_number_leaves_one_that_is_ahead_of_its_clock() {
    let clock = Arc::new(ManualClock::new(SystemClock.now_micros()));
    let server = TestServer::start_on(&[], Backends::memory(), Arc::clone(&clock) as Arc<dyn Clock>).await;
    let rest = Rest::of(server);
    clock.advance_ms(10);
    assert_eq!(rest.get("/api/id").await.status, 200);
    clock.advance_ms(-3_600_000);
    until("ids again", async || {
        clock.advance_ms(1);
        (rest.get("/api/id").await.status == 200).then_some(())
    })
    .await;
    assert_eq!(rest.get("/health").await.string("status"), "Healthy");
}

#[tokio::test]
async fn a_silent_store_is_answered_with_504_and_one_request_too_many_with_429() {
    let outage = Outage::default();
    let memory = Backends::memory();
    let store = Fragile { outage: Arc::clone(&outage), inner: Arc::clone(&memory.store) };
    let store = Arc::new(Intercepted(store));
    let backends = Backends { store, ..memory };
    let settings = [("max-in-flight", "1"), ("request-timeout-ms", "1000")];
    let rest = Rest::of(TestServer::start_on(&settings, backends, Arc::new(SystemClock)).await);
    outage.store(SILENT, Ordering::SeqCst);
    let order = json!({ "customerId": "c", "items": [{ "productId": "p", "quantity": 1, "price": 1 }] });
    let (silent, refused) = tokio::join!(rest.post("/orders", &order), async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        rest.get("/orders/1").await
    });
    silent.problem(504, "DEADLINE_EXCEEDED");
    refused.problem(429, "OVERLOADED");
    assert_eq!(refused.header("retry-after"), "1");
    outage.store(WELL, Ordering::SeqCst);
    assert_eq!(rest.post("/orders", &order).await.status, 201);
}

#[tokio::test]
async fn a_log_that_grows_while_its_end_is_read_is_not_mistaken_for_a_shorter_one() {
    let (backends, store) = FaultyStore::backends();
    let rest = Rest::of(TestServer::start_on(&[], backends, Arc::new(SystemClock)).await);
    until("ready", async || (rest.get("/health/ready").await.status == 200).then_some(())).await;
    let (commands, queries) = (rest.server.commands().await, rest.server.queries().await);
    let placed = Arc::new(AtomicI64::new(0));
    store.while_head_is_read.set(move || {
        let (mut commands, mut queries, placed) = (commands.clone(), queries.clone(), Arc::clone(&placed));
        Box::pin(async move {
            commands.create_order(new_order("c")).await.expect("accepted");
            let placed = placed.fetch_add(1, Ordering::SeqCst) + 1;
            // Until the read model has it.
            while queries
                .get_order_stats(GetOrderStatsRequest::default())
                .await
                .expect("totals")
                .into_inner()
                .total_orders
                < placed
            {
                tokio::task::yield_now().await;
            }
        })
    });
    for _ in 0..10 {
        let health = rest.get("/health").await.json();
        assert_eq!(health["checks"]["projections"]["status"], "Healthy", "{health}");
    }
}
