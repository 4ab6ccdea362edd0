//! Reads that wait for the node to catch up: they have their own bounded capacity, and delay no other calls.

use std::{sync::Arc, time::Duration};

use ordersystem::{
    application::{
        permits::MAX_WAITING_READS,
        tokens::{Signer, encode_token},
    },
    ports::{clock::SystemClock, event_store::Position},
    proto::catga::orders::v1::{
        BatchGetOrdersRequest, ConsistencyLevel, GetOrderRequest, GetOrderStatsRequest, ListOrdersRequest,
        ReadConsistency, order_query_service_client::OrderQueryServiceClient,
    },
};
use tokio::{task::JoinSet, time::Instant};
use tonic::{Code, transport::Channel};

use crate::{
    faulty::{FaultyStore, Mode},
    support::{PATIENCE, TestServer, assert_retry_info, code_and_reason, new_order, soon, until},
};

fn as_fresh_as(level: ConsistencyLevel, token: &str) -> Option<ReadConsistency> {
    Some(ReadConsistency { level: level.into(), token: token.to_owned() })
}

fn stats(level: ConsistencyLevel, token: &str) -> GetOrderStatsRequest {
    GetOrderStatsRequest { consistency: as_fresh_as(level, token) }
}

async fn is_served(server: &TestServer) {
    server.commands().await.create_order(new_order("customer-2")).await.expect("commands are served");
    // Many calls at once may exceed the permits for a moment; waiting reads would hold them for long.
    until("other reads are served", async || {
        match server.queries().await.list_orders(ListOrdersRequest::default()).await {
            Err(refusal) if refusal.code() == Code::ResourceExhausted => None,
            answer => Some(answer.expect("other reads are served")),
        }
    })
    .await;
}

#[tokio::test]
async fn reads_that_wait_leave_their_permits_to_others_are_bounded_and_end_with_the_node() {
    let (backends, store) = FaultyStore::backends();
    let most = MAX_WAITING_READS.to_string();
    let mut server = TestServer::start_on(&[("max-in-flight", &most)], backends, Arc::new(SystemClock)).await;
    // The read model is stalled, and the end of the log is known.
    store.batches.set(Mode::Hangs);
    let placed = server.commands().await.create_order(new_order("customer-1")).await.expect("accepted").into_inner();
    let mut waiting = JoinSet::new();
    for level in [ConsistencyLevel::AtLeast, ConsistencyLevel::Strong] {
        for _ in 0..2 {
            let queries = server.queries().await;
            let token =
                if level == ConsistencyLevel::AtLeast { placed.consistency_token.clone() } else { String::new() };
            for _ in 0..MAX_WAITING_READS / 4 {
                let (mut queries, token) = (queries.clone(), token.clone());
                waiting.spawn(async move { queries.get_order_stats(stats(level, &token)).await });
            }
        }
    }
    let gauge = format!("ordersystem_reads_waiting {MAX_WAITING_READS}");
    until("all of them wait", async || {
        let metrics = reqwest::get(server.url("/metrics")).await.expect("answered").text().await.expect("text");
        metrics.contains(&gauge).then_some(())
    })
    .await;
    is_served(&server).await;
    let one_more = server.queries().await.get_order_stats(stats(ConsistencyLevel::Strong, "")).await;
    let one_more = one_more.expect_err("refused");
    assert_eq!(code_and_reason(&one_more), (Code::ResourceExhausted, "OVERLOADED".to_owned()));
    assert_retry_info(&one_more);
    let ended = async {
        while let Some(outcome) = soon("an answer", waiting.join_next()).await {
            let refusal = outcome.expect("no panic").expect_err("refused");
            assert_eq!(code_and_reason(&refusal), (Code::Unavailable, "SHUTTING_DOWN".to_owned()));
        }
        store.batches.set(Mode::Works);
    };
    let (stopped, ()) = tokio::join!(server.stop(), ended);
    stopped.expect("within the grace period");
}

/// Reads of every kind with `token`.
async fn read_all(queries: &OrderQueryServiceClient<Channel>, token: &str) -> Vec<(Code, String)> {
    let consistency = as_fresh_as(ConsistencyLevel::AtLeast, token);
    let mut queries = queries.clone();
    let get = GetOrderRequest { order_id: "42".to_owned(), at: None, consistency: consistency.clone() };
    let batch = BatchGetOrdersRequest { order_ids: vec!["42".to_owned()], consistency: consistency.clone() };
    let list = ListOrdersRequest { consistency: consistency.clone(), ..Default::default() };
    let refusals = [
        queries.get_order(get).await.expect_err("refused"),
        queries.batch_get_orders(batch).await.expect_err("refused"),
        queries.list_orders(list).await.expect_err("refused"),
        queries.get_order_stats(GetOrderStatsRequest { consistency }).await.expect_err("refused"),
    ];
    refusals.iter().map(code_and_reason).collect()
}

#[tokio::test]
async fn reads_with_an_invented_future_position_are_refused_at_once_and_others_are_served() {
    let server = TestServer::start_with(&[("max-in-flight", "100")]).await;
    server.place_order("customer-1").await;
    let signer = Signer::of(server.store()).expect("a log");
    let token = encode_token(&signer, Position(1 << 50));
    let mut made_up = JoinSet::new();
    for _ in 0..10 {
        let queries = server.queries().await;
        for _ in 0..25 {
            let (queries, token) = (queries.clone(), token.clone());
            // Four reads each.
            made_up.spawn(async move { read_all(&queries, &token).await });
        }
    }
    is_served(&server).await;
    for outcome in made_up.join_all().await.into_iter().flatten() {
        let is_refused = outcome == (Code::InvalidArgument, "CURSOR_OF_ANOTHER_LOG".to_owned());
        assert!(is_refused || outcome == (Code::ResourceExhausted, "OVERLOADED".to_owned()), "{outcome:?}");
    }
}

#[tokio::test]
async fn while_the_end_of_the_log_is_not_known_a_wait_for_a_token_is_short() {
    let (backends, store) = FaultyStore::backends();
    let server = TestServer::start_on(&[], backends, Arc::new(SystemClock)).await;
    server.place_order("customer-1").await;
    let token = encode_token(&Signer::of(&*store.real()).expect("a log"), Position(1 << 50));
    store.log.set(Mode::Unavailable);
    let began = Instant::now();
    let mut queries = server.queries().await;
    let late = soon("an answer", queries.get_order_stats(stats(ConsistencyLevel::AtLeast, &token))).await;
    assert_eq!(code_and_reason(&late.expect_err("refused")), (Code::DeadlineExceeded, "NOT_FRESH_IN_TIME".to_owned()));
    assert!(began.elapsed() < Duration::from_secs(15).min(PATIENCE), "{:?}", began.elapsed());
}
