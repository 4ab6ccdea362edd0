//! A node that has not reached its event store yet: it does not know which log the cursors and tokens of clients belong to, and reports that.

use std::sync::{Arc, atomic::Ordering};

use ordersystem::{
    ports::clock::SystemClock,
    proto::catga::orders::v1::{
        BatchGetOrdersRequest, ConsistencyLevel, GetOrderRequest, GetOrderStatsRequest, ListOrdersRequest,
        ReadConsistency, StreamEventsRequest, StreamOrderHistoryRequest, StreamStart,
    },
};
use reqwest::Method;
use tonic::{Code, Status};

use crate::{
    faulty::{FaultyStore, Mode},
    rest::{Reply, Rest},
    support::{TestServer, assert_retry_info, code_and_reason, new_order, until},
};

/// Tokens that clients have kept from before.
pub struct Kept {
    pub order_id: String,
    pub cursor: String,
    pub token: String,
    pub page_token: String,
}

pub async fn keep(rest: &Rest) -> Kept {
    let server = &rest.server;
    let placed = server.commands().await.create_order(new_order("c")).await.expect("accepted").into_inner();
    server.place_order("c").await;
    let events = rest.get("/events").await;
    let consistency = at_least(&placed.consistency_token);
    let list = ListOrdersRequest { page_size: 1, consistency, ..Default::default() };
    let page_token = until("two orders in the list", async || {
        let page = server.queries().await.list_orders(list.clone()).await.expect("a page").into_inner();
        Some(page.next_page_token).filter(|token| !token.is_empty())
    })
    .await;
    Kept {
        order_id: placed.order.expect("an order").order_id,
        cursor: events.json()[0]["cursor"].as_str().expect("a cursor").to_owned(),
        token: placed.consistency_token,
        page_token,
    }
}

fn at_least(token: &str) -> Option<ReadConsistency> {
    Some(ReadConsistency { level: ConsistencyLevel::AtLeast.into(), token: token.to_owned() })
}

#[track_caller]
fn assert_unavailable(what: &str, refusal: &Status) {
    assert_eq!(code_and_reason(refusal), (Code::Unavailable, "UNAVAILABLE".to_owned()), "{what}");
    assert_retry_info(refusal);
}

/// Every gRPC call that takes or returns a cursor or token.
pub async fn ask_by_grpc(server: &TestServer, kept: &Kept) -> Vec<(&'static str, Result<(), Status>)> {
    let (mut queries, mut history) = (server.queries().await, server.history().await);
    let after =
        StreamEventsRequest { start: StreamStart::After.into(), cursor: kept.cursor.clone(), ..Default::default() };
    let of_order = StreamOrderHistoryRequest { order_id: kept.order_id.clone(), ..Default::default() };
    let get = |token: &str| GetOrderRequest {
        order_id: kept.order_id.clone(),
        consistency: (!token.is_empty()).then(|| at_least(token)).flatten(),
        at: None,
    };
    let batch = BatchGetOrdersRequest { order_ids: vec![kept.order_id.clone()], consistency: at_least(&kept.token) };
    let page = ListOrdersRequest { page_size: 1, page_token: kept.page_token.clone(), ..Default::default() };
    let list = ListOrdersRequest { consistency: at_least(&kept.token), ..Default::default() };
    let stats = GetOrderStatsRequest { consistency: at_least(&kept.token) };
    vec![
        ("a stream after a cursor", history.stream_events(after).await.map(drop)),
        ("the history of an order", history.stream_order_history(of_order).await.map(drop)),
        ("an order by token", queries.get_order(get(&kept.token)).await.map(drop)),
        ("an order, whose reply has a token", queries.get_order(get("")).await.map(drop)),
        ("orders by token", queries.batch_get_orders(batch).await.map(drop)),
        ("a page", queries.list_orders(page).await.map(drop)),
        ("a list by token", queries.list_orders(list).await.map(drop)),
        ("counts by token", queries.get_order_stats(stats).await.map(drop)),
        ("a new order, whose reply has a token", server.commands().await.create_order(new_order("c")).await.map(drop)),
    ]
}

/// The same for REST.
pub async fn ask_by_rest(rest: &Rest, kept: &Kept) -> Vec<(&'static str, Reply)> {
    let get = |path: &str| rest.request(Method::GET, path);
    let by_token = |path: &str| get(path).header("X-Consistency-Token", &kept.token);
    let order = format!("/orders/{}", kept.order_id);
    let stream = get("/events").header("Accept", "text/event-stream").header("Last-Event-ID", &kept.cursor);
    vec![
        ("events after a cursor", Reply::of(get(&format!("/events?cursor={}", kept.cursor))).await),
        ("a stream after its last event", Reply::of(stream).await),
        ("a history", Reply::of(get(&format!("{order}/history"))).await),
        ("an order by token", Reply::of(by_token(&order)).await),
        ("an order, whose reply has a token", Reply::of(get(&order)).await),
        ("a list by token", Reply::of(by_token("/orders")).await),
        ("a page", Reply::of(get(&format!("/orders?pageSize=1&pageToken={}", kept.page_token))).await),
        ("counts by token", Reply::of(by_token("/stats")).await),
    ]
}

#[tokio::test]
async fn cursors_and_tokens_are_unavailable_until_the_log_is_known_and_good_then() {
    let (backends, store) = FaultyStore::backends();
    let rest = Rest::of(TestServer::start_on(&[], backends, Arc::new(SystemClock)).await);
    let kept = keep(&rest).await;
    // Like a node that was started while its broker is away: nothing can be read, and the log is not known.
    store.is_known.store(false, Ordering::SeqCst);
    for switch in [&store.appends, &store.reads, &store.log] {
        switch.set(Mode::Unavailable);
    }
    for (what, answer) in ask_by_grpc(&rest.server, &kept).await {
        assert_unavailable(what, &answer.expect_err(what));
    }
    for (what, reply) in ask_by_rest(&rest, &kept).await {
        assert_eq!(reply.status, 503, "{what}: {reply:?}");
        reply.problem(503, "UNAVAILABLE");
        assert!(reply.headers.contains_key("retry-after"), "{what}: {reply:?}");
    }
    // A token that no service has issued is bad input, whatever the log.
    let malformed =
        StreamEventsRequest { start: StreamStart::After.into(), cursor: "x".to_owned(), ..Default::default() };
    let refusal = rest.server.history().await.stream_events(malformed).await.expect_err("malformed");
    assert_eq!(code_and_reason(&refusal), (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned()));

    store.is_known.store(true, Ordering::SeqCst);
    for switch in [&store.appends, &store.reads, &store.log] {
        switch.set(Mode::Works);
    }
    // The circuit breaker has to notice first.
    until("all is answered again", async || {
        let answers = ask_by_grpc(&rest.server, &kept).await;
        answers.iter().all(|(_, answer)| answer.is_ok()).then_some(())
    })
    .await;
}
