//! Two nodes on one log: writes on one are read on the other, as fresh as requested, while its read model lags on purpose.

use std::{sync::Arc, time::Duration};

use ordersystem::{
    backends::memory::read_model::MemoryReadModel,
    node::Backends,
    ports::clock::SystemClock,
    proto::catga::orders::v1::{
        ConsistencyLevel, GetOrderRequest, GetOrderStatsRequest, ListOrdersRequest, PayOrderRequest, ReadConsistency,
    },
};
use tonic::{Code, Request};

use crate::{
    faulty::{FaultyStore, Mode},
    rest::Rest,
    support::{TestServer, new_order, soon},
};

/// A node to write on, one to read on, and the switch that delays the read model of the latter.
async fn two_nodes() -> (TestServer, TestServer, Arc<FaultyStore>) {
    let (reading, log) = FaultyStore::backends();
    let reading = Backends { is_shared: true, ..reading };
    let writing = Backends { store: log.real(), read_model: Arc::new(MemoryReadModel::default()), ..reading.clone() };
    let clock = || Arc::new(SystemClock);
    let writer = TestServer::start_on(&[("worker-id", "1"), ("node-id", "writer")], writing, clock()).await;
    let reader = TestServer::start_on(&[("worker-id", "2"), ("node-id", "reader")], reading, clock()).await;
    (writer, reader, log)
}

fn as_fresh_as(level: ConsistencyLevel, token: &str) -> Option<ReadConsistency> {
    Some(ReadConsistency { level: level.into(), token: token.to_owned() })
}

fn list(consistency: Option<ReadConsistency>) -> ListOrdersRequest {
    ListOrdersRequest { consistency, ..Default::default() }
}

#[tokio::test]
async fn a_list_on_another_node_is_as_fresh_as_the_token_or_fails_with_deadline_exceeded() {
    let (writer, reader, log) = two_nodes().await;
    let mut queries = reader.queries().await;
    log.log.set(Mode::Hangs);
    let placed = writer.commands().await.create_order(new_order("customer-1")).await.expect("accepted");
    let token = placed.into_inner().consistency_token;

    let stale = queries.list_orders(list(None)).await.expect("at once").into_inner();
    assert!(stale.orders.is_empty(), "eventual reads do not wait for a read model that lags");
    let mut hurried = Request::new(list(as_fresh_as(ConsistencyLevel::AtLeast, &token)));
    hurried.set_timeout(Duration::from_millis(300));
    let late = queries.list_orders(hurried).await.expect_err("not fresh in time");
    assert!(matches!(late.code(), Code::DeadlineExceeded | Code::Cancelled), "{late:?}");

    let waiting = [as_fresh_as(ConsistencyLevel::AtLeast, &token), as_fresh_as(ConsistencyLevel::Strong, "")].map(
        |consistency| {
            let mut queries = queries.clone();
            tokio::spawn(async move { queries.list_orders(list(consistency)).await.expect("answered").into_inner() })
        },
    );
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(waiting.iter().all(|waiting| !waiting.is_finished()), "they wait for the read model");
    log.log.set(Mode::Works);
    for waiting in waiting {
        assert_eq!(soon("the fresh list", waiting).await.expect("no panic").orders.len(), 1);
    }
    let stats = GetOrderStatsRequest { consistency: as_fresh_as(ConsistencyLevel::AtLeast, &token) };
    assert_eq!(queries.get_order_stats(stats).await.expect("fresh").into_inner().total_orders, 1);
}

#[tokio::test]
async fn an_order_on_another_node_is_as_fresh_as_the_token_though_its_read_model_lags() {
    let (writer, reader, log) = two_nodes().await;
    let (mut commands, mut queries) = (writer.commands().await, reader.queries().await);
    let id = writer.place_order("customer-1").await.order_id;
    let get = |consistency| GetOrderRequest { order_id: id.clone(), at: None, consistency };
    let seen = queries.get_order(get(None)).await.expect("found").into_inner().order.expect("order");
    assert_eq!(seen.revision, 1, "and the reader keeps it in memory");

    // The read model is stalled; the end of the log and single orders can be read.
    log.batches.set(Mode::Hangs);
    let pay = PayOrderRequest { order_id: id.clone(), payment_method: "card".to_owned(), ..Default::default() };
    let token = commands.pay_order(pay).await.expect("accepted").into_inner().consistency_token;
    for consistency in [as_fresh_as(ConsistencyLevel::AtLeast, &token), as_fresh_as(ConsistencyLevel::Strong, "")] {
        let fresh = soon("a fresh order", queries.get_order(get(consistency))).await.expect("found");
        assert_eq!(fresh.into_inner().order.expect("order").revision, 2);
    }
}

#[tokio::test]
async fn over_rest_the_token_is_in_a_header() {
    let (writer, reader, log) = two_nodes().await;
    let (writer, reader) = (Rest::of(writer), Rest::of(reader));
    log.log.set(Mode::Hangs);
    let body = serde_json::json!({ "customerId": "c", "items": [{ "productId": "p", "quantity": 1, "price": 10 }] });
    let placed = writer.post("/orders", &body).await;
    let token = placed.header("x-consistency-token").to_owned();
    assert_eq!(reader.get("/stats").await.json()["totalOrders"], 0, "eventual");

    let request = reader.request(reqwest::Method::GET, "/stats").header("X-Consistency-Token", &token);
    let waiting = tokio::spawn(crate::rest::Reply::of(request));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    log.log.set(Mode::Works);
    let fresh = soon("fresh totals", waiting).await.expect("no panic");
    assert_eq!(fresh.json()["totalOrders"], 1);
    let of_another_log = reader.request(reqwest::Method::GET, "/stats").header("X-Consistency-Token", "AAAA");
    let refused = crate::rest::Reply::of(of_another_log).await;
    refused.problem(400, "INVALID_ARGUMENT");
}
