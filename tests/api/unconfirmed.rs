//! A node whose store answers, while it is not certain that all nodes write to that store: reads may lack writes that were acknowledged
//! elsewhere.

use std::sync::Arc;

use ordersystem::{
    ports::clock::SystemClock,
    proto::catga::orders::v1::{
        BatchGetOrdersRequest, ConsistencyLevel, CreateOrderRequest, GetOrderRequest, GetOrderStatsRequest,
        ListOrdersRequest, ReadConsistency, StreamOrderHistoryRequest, get_order_request::At,
    },
};
use tonic::{Code, Status};

use crate::{
    faulty::{FaultyStore, Mode},
    support::{Meta, Step, TestServer, assert_retry_info, code_and_reason, give, new_order},
};

const UNKNOWN: &str = "7";

fn as_fresh_as(level: ConsistencyLevel, token: &str) -> Option<ReadConsistency> {
    Some(ReadConsistency { level: level.into(), token: token.to_owned() })
}

fn placed_with(request_id: &str, customer: &str) -> CreateOrderRequest {
    CreateOrderRequest { request_id: request_id.to_owned(), ..new_order(customer) }
}

/// Every read with this consistency.
async fn read(
    server: &TestServer,
    order: &str,
    consistency: Option<ReadConsistency>,
) -> Vec<(&'static str, Result<(), Status>)> {
    let mut queries = server.queries().await;
    let get = |order: &str, at| GetOrderRequest { order_id: order.to_owned(), at, consistency: consistency.clone() };
    let batch = BatchGetOrdersRequest { order_ids: vec![order.to_owned()], consistency: consistency.clone() };
    let list = ListOrdersRequest { consistency: consistency.clone(), ..Default::default() };
    let stats = GetOrderStatsRequest { consistency: consistency.clone() };
    vec![
        ("an order", queries.get_order(get(order, None)).await.map(drop)),
        ("an order at a revision", queries.get_order(get(order, Some(At::Revision(1)))).await.map(drop)),
        ("orders", queries.batch_get_orders(batch).await.map(drop)),
        ("a list", queries.list_orders(list).await.map(drop)),
        ("totals", queries.get_order_stats(stats).await.map(drop)),
    ]
}

/// Every refusal that depends on the content of the log.
async fn refusals(server: &TestServer, order: &str) -> Vec<(&'static str, Status)> {
    let (commands, mut queries, mut history) =
        (server.commands().await, server.queries().await, server.history().await);
    let of_unknown = StreamOrderHistoryRequest { order_id: UNKNOWN.to_owned(), ..Default::default() };
    let from_behind = StreamOrderHistoryRequest { order_id: order.to_owned(), from_revision: 9, ..Default::default() };
    let strong = as_fresh_as(ConsistencyLevel::Strong, "");
    let get = |order_id: &str, at| GetOrderRequest { order_id: order_id.to_owned(), at, consistency: strong.clone() };
    let refused = |what, answer: Result<(), Status>| (what, answer.expect_err(what));
    vec![
        refused("ORDER_NOT_FOUND", give(&commands, Step::Pay, UNKNOWN, Meta::default()).await.map(drop)),
        refused("ILLEGAL_TRANSITION", give(&commands, Step::Deliver, order, Meta::default()).await.map(drop)),
        refused("REVISION_CONFLICT", give(&commands, Step::Pay, order, Meta::expecting(9)).await.map(drop)),
        refused(
            "REQUEST_ID_REUSED",
            commands.clone().create_order(placed_with("place-1", "another customer")).await.map(drop),
        ),
        refused("ORDER_NOT_FOUND", queries.get_order(get(UNKNOWN, None)).await.map(drop)),
        refused("NOT_YET_THEN", queries.get_order(get(order, Some(At::Revision(9)))).await.map(drop)),
        refused("ORDER_NOT_FOUND", history.stream_order_history(of_unknown).await.map(drop)),
        refused("NOT_YET_THEN", history.stream_order_history(from_behind).await.map(drop)),
    ]
}

#[tokio::test]
async fn nothing_is_refused_or_read_strongly_before_it_is_confirmed_and_plain_commands_are_done() {
    let (backends, store) = FaultyStore::backends();
    let server = TestServer::start_on(&[], backends, Arc::new(SystemClock)).await;
    let mut commands = server.commands().await;
    let placed = commands.create_order(placed_with("place-1", "customer-1")).await.expect("accepted").into_inner();
    let (order, token) = (placed.order.expect("order").order_id, placed.consistency_token);
    let demanding = [as_fresh_as(ConsistencyLevel::Strong, ""), as_fresh_as(ConsistencyLevel::AtLeast, &token)];

    store.confirms.set(Mode::Unavailable);
    let mut answers = Vec::new();
    for consistency in demanding.clone() {
        answers.extend(
            read(&server, &order, consistency).await.into_iter().map(|(what, read)| (what, read.expect_err(what))),
        );
    }
    answers.extend(refusals(&server, &order).await);
    for (what, answer) in answers {
        assert_eq!(code_and_reason(&answer), (Code::Unavailable, "UNAVAILABLE".to_owned()), "{what}: {answer:?}");
        assert_retry_info(&answer);
    }
    for (what, answer) in read(&server, &order, None).await {
        answer.expect(what);
    }
    give(&commands, Step::Pay, &order, Meta::request("pay-1")).await.expect("accepted");
    give(&commands, Step::Pay, &order, Meta::request("pay-1")).await.expect("the first answer again");

    store.confirms.set(Mode::Works);
    for consistency in demanding {
        for (what, answer) in read(&server, &order, consistency).await {
            answer.expect(what);
        }
    }
    for (reason, refusal) in refusals(&server, &order).await {
        assert_eq!(code_and_reason(&refusal).1, reason, "{refusal:?}");
    }
}
