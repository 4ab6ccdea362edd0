//! The errors that clients get when something behind the service fails: the right code, the remedy, and no internals.

use std::{sync::Arc, time::Duration};

use ordersystem::{
    ports::clock::SystemClock,
    proto::catga::{
        ids::v1::{StreamIdsRequest, id_service_client::IdServiceClient},
        orders::v1::{
            GetOrderRequest, ListOrdersRequest, ReadConsistency, StreamEventsRequest,
            order_command_service_client::OrderCommandServiceClient,
            order_history_service_client::OrderHistoryServiceClient,
            order_query_service_client::OrderQueryServiceClient,
        },
    },
};
use tonic::{Code, Status};

use crate::{
    faulty::{AppendAnswer, FaultyStore, Mode},
    outbox::metric,
    support::{
        Meta, PlainConnection, Step, TestServer, assert_retry_info, code_and_reason, give, new_order, order_after,
        soon, until, within,
    },
};

async fn faulty_server(settings: &[(&'static str, &str)]) -> (TestServer, Arc<FaultyStore>) {
    let (backends, store) = FaultyStore::backends();
    (TestServer::start_on(settings, backends, Arc::new(SystemClock)).await, store)
}

#[track_caller]
fn assert_is(status: &Status, code: Code, reason: &str) {
    assert_eq!(code_and_reason(status), (code, reason.to_owned()));
    assert!(!format!("{status:?}").contains("secret"), "internals leak: {status:?}");
}

#[tokio::test]
async fn a_store_that_is_down_is_unavailable_with_a_retry_delay() {
    let (server, store) = faulty_server(&[]).await;
    let id = server.place_order("customer-1").await.order_id;
    store.appends.set(Mode::Unavailable);
    store.reads.set(Mode::Unavailable);
    let refusal = server.commands().await.create_order(new_order("customer-1")).await.expect_err("out");
    assert_is(&refusal, Code::Unavailable, "UNAVAILABLE");
    assert_retry_info(&refusal);
    let strong = ReadConsistency { level: 3, token: String::new() };
    let request = GetOrderRequest { order_id: id, at: None, consistency: Some(strong) };
    let refusal = server.queries().await.get_order(request).await.expect_err("out");
    assert_is(&refusal, Code::Unavailable, "UNAVAILABLE");
    assert_retry_info(&refusal);
}

#[tokio::test]
async fn a_damaged_store_is_data_loss_and_a_full_one_is_exhausted() {
    let (server, store) = faulty_server(&[]).await;
    let mut client = server.commands().await;
    store.appends.set(Mode::Corrupt);
    let refusal = client.create_order(new_order("customer-1")).await.expect_err("damaged");
    assert_is(&refusal, Code::DataLoss, "DATA_CORRUPT");
    store.appends.set(Mode::Works);
    store.answer.send_replace(AppendAnswer::Full);
    let refusal = client.create_order(new_order("customer-1")).await.expect_err("full");
    assert_is(&refusal, Code::ResourceExhausted, "STORE_FULL");
    assert_retry_info(&refusal);
}

#[tokio::test]
async fn lists_are_refused_while_they_end_before_damage_of_the_log() {
    let (server, store) = faulty_server(&[]).await;
    server.place_order("customer-1").await;
    let list = async |level| {
        let consistency = Some(ReadConsistency { level, token: String::new() });
        let request = ListOrdersRequest { consistency, ..Default::default() };
        server.queries().await.list_orders(request).await.map(|reply| reply.into_inner().orders.len())
    };
    let (eventual, strong) = (1, 3);
    assert_eq!(list(strong).await.expect("intact"), 1);
    store.batches.set(Mode::Corrupt);
    server.place_order("customer-1").await;
    // It waits for the new order, and does not wait on when the damage is found.
    let refusal = soon("the answer", list(strong)).await.expect_err("damaged");
    assert_is(&refusal, Code::DataLoss, "DATA_CORRUPT");
    for level in [eventual, strong] {
        let refusal = list(level).await.expect_err("the list lacks an order, and it is known why");
        assert_is(&refusal, Code::DataLoss, "DATA_CORRUPT");
    }
    store.batches.set(Mode::Works);
    until("the list is whole", async || list(eventual).await.ok().filter(|count| *count == 2)).await;
    let (status, detail) = server.health("projections").await;
    assert!(status == "Degraded" && detail.contains("the log is damaged"), "it is remembered: {status} {detail}");
}

#[tokio::test]
async fn an_unknown_outcome_is_reported_and_the_retry_finds_the_effect() {
    let (server, store) = faulty_server(&[]).await;
    let client = server.commands().await;
    let id = server.place_order("customer-1").await.order_id;
    store.answer.send_replace(AppendAnswer::OutcomeUnknown);
    let refusal = give(&client, Step::Pay, &id, Meta::request("pay-1")).await.expect_err("unknown");
    assert_is(&refusal, Code::Unavailable, "OUTCOME_UNKNOWN");
    assert_retry_info(&refusal);
    store.answer.send_replace(AppendAnswer::Honest);
    assert_eq!(give(&client, Step::Pay, &id, Meta::request("pay-1")).await.expect("a retry").revision, 2);
    assert_eq!(server.head().await, 2);
}

#[tokio::test]
async fn if_every_new_id_is_in_use_a_create_is_unavailable_and_no_damage_is_reported() {
    let (server, store) = faulty_server(&[]).await;
    let mut client = server.commands().await;
    store.answer.send_replace(AppendAnswer::Taken);
    let refusal = client.create_order(new_order("customer-1")).await.expect_err("taken");
    assert_is(&refusal, Code::Unavailable, "UNAVAILABLE");
    assert_retry_info(&refusal);
    let taken = metric(&server, "ordersystem_taken_order_ids_total").await.expect("counted");
    assert!((2.0..100.0).contains(&taken), "several ids were tried, and an end was made: {taken}");
    store.answer.send_replace(AppendAnswer::Honest);
    client.create_order(new_order("customer-1")).await.expect("another id is free");
}

#[tokio::test]
async fn a_panic_is_internal_and_the_same_connection_still_works() {
    let (server, store) = faulty_server(&[]).await;
    let mut client = server.commands().await;
    store.appends.set(Mode::Panics);
    for _ in 0..3 {
        let refusal = client.create_order(new_order("customer-1")).await.expect_err("a panic");
        assert_is(&refusal, Code::Internal, "INTERNAL");
    }
    store.appends.set(Mode::Works);
    client.create_order(new_order("customer-1")).await.expect("the same connection works");
}

#[tokio::test]
async fn a_panic_in_a_stream_is_internal_and_the_same_connection_still_works() {
    let (server, store) = faulty_server(&[]).await;
    let mut history = server.history().await;
    let mut stream = history
        .stream_events(StreamEventsRequest { follow: true, ..Default::default() })
        .await
        .expect("opens")
        .into_inner();
    stream.message().await.expect("no error").expect("caught up");
    // The projection and the relay read the log as well: they must survive the errors meant for this stream.
    store.log.set(Mode::Panics);
    server.commands().await.create_order(new_order("customer-1")).await.expect("accepted");
    let status = soon("the end of the stream", stream.message()).await.expect_err("a panic");
    assert_is(&status, Code::Internal, "INTERNAL");
    store.log.set(Mode::Works);
    let mut stream = history.stream_events(StreamEventsRequest::default()).await.expect("opens").into_inner();
    assert!(soon("an event", stream.message()).await.expect("no error").is_some());
}

#[tokio::test]
async fn an_expired_deadline_is_deadline_exceeded_from_the_server() {
    let (server, store) = faulty_server(&[]).await;
    let mut client = OrderCommandServiceClient::new(PlainConnection::to(&server).await);
    store.appends.set(Mode::Hangs);
    let started = std::time::Instant::now();
    let outcome = soon("an answer", client.create_order(within("100m", new_order("customer-1")))).await;
    let refusal = outcome.expect_err("too late");
    assert_is(&refusal, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    assert!(started.elapsed() >= Duration::from_millis(100));
    // Nothing is left behind: waiting work has been abandoned.
    until("the append is given up", async || (*store.appending.borrow() == 0).then_some(())).await;
    store.appends.set(Mode::Works);
    assert_eq!(server.head().await, 0);
}

#[tokio::test]
async fn the_time_limit_of_the_node_is_deadline_exceeded_as_well() {
    let (server, store) = faulty_server(&[("request-timeout-ms", "100")]).await;
    store.appends.set(Mode::Hangs);
    let outcome = soon("an answer", server.commands().await.create_order(new_order("customer-1"))).await;
    assert_is(&outcome.expect_err("too late"), Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn a_deadline_ends_a_follower() {
    let server = TestServer::start().await;
    let request = within("200m", StreamEventsRequest { follow: true, ..Default::default() });
    let mut history = OrderHistoryServiceClient::new(PlainConnection::to(&server).await);
    let mut stream = history.stream_events(request).await.expect("opens").into_inner();
    stream.message().await.expect("no error").expect("caught up");
    let status = soon("the end of the stream", stream.message()).await.expect_err("too late");
    assert_is(&status, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn a_deadline_ends_a_stream_that_always_has_more() {
    let server = TestServer::start().await;
    let request = within("200m", StreamIdsRequest { count: 0, batch_size: 10 });
    let mut ids = IdServiceClient::new(PlainConnection::to(&server).await);
    let mut stream = ids.stream_ids(request).await.expect("opens").into_inner();
    let status = soon("the end of the stream", async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended without a word"),
                Err(status) => return status,
            }
        }
    })
    .await;
    assert_is(&status, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn a_token_that_is_not_reached_in_time_is_deadline_exceeded() {
    let (server, store) = faulty_server(&[]).await;
    store.log.set(Mode::Unavailable);
    let client = server.commands().await;
    let placed = client.clone().create_order(new_order("customer-1")).await.expect("accepted").into_inner();
    let consistency = Some(ReadConsistency { level: 2, token: placed.consistency_token });
    let list = ListOrdersRequest { consistency, ..Default::default() };
    let mut queries = OrderQueryServiceClient::new(PlainConnection::to(&server).await);
    let refusal = soon("an answer", queries.list_orders(within("300m", list.clone()))).await.expect_err("not fresh");
    assert_is(&refusal, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    // A reply that is fresh enough is sent at once, and the list catches up when it can.
    queries.list_orders(ListOrdersRequest::default()).await.expect("answered");
    store.log.set(Mode::Works);
    soon("the fresh list", queries.list_orders(list)).await.expect("answered");
}

#[tokio::test]
async fn commands_are_accepted_while_the_read_model_and_the_outbox_cannot_follow() {
    let (server, store) = faulty_server(&[]).await;
    store.log.set(Mode::Unavailable);
    order_after(&server.commands().await, "customer-1", &[Step::Pay, Step::Ship, Step::Deliver]).await;
    store.log.set(Mode::Works);
    assert_eq!(server.head().await, 4);
}

/// The state of the store's circuit breaker, according to the metrics: 0 closed, 1 half-open, 2 open.
async fn breaker_state(server: &TestServer) -> String {
    let text = reqwest::get(server.url("/metrics")).await.expect("answers").text().await.expect("text");
    let line = text.lines().find(|line| line.starts_with("ordersystem_circuit_breaker_state{breaker=\"store\"}"));
    line.expect("the metric").rsplit(' ').next().expect("a value").to_owned()
}

#[tokio::test]
async fn the_circuit_breaker_opens_when_the_store_is_down_and_closes_when_it_is_back() {
    let (server, store) = faulty_server(&[]).await;
    let mut client = server.commands().await;
    let id = server.place_order("customer-1").await.order_id;
    // Domain rejections are not failures of the store, however many there are.
    for _ in 0..20 {
        let deliver =
            ordersystem::proto::catga::orders::v1::DeliverOrderRequest { order_id: id.clone(), ..Default::default() };
        assert_eq!(client.deliver_order(deliver).await.expect_err("pending").code(), Code::FailedPrecondition);
    }
    assert_eq!(breaker_state(&server).await, "0");
    store.appends.set(Mode::Unavailable);
    store.log.set(Mode::Unavailable);
    for _ in 0..10 {
        client.create_order(new_order("customer-1")).await.expect_err("out");
    }
    assert_eq!(breaker_state(&server).await, "2");
    // A store behind an open breaker is not called: a call that would hang fails at once.
    store.appends.set(Mode::Hangs);
    let refusal = soon("a refusal", client.create_order(new_order("customer-1"))).await.expect_err("open");
    assert_is(&refusal, Code::Unavailable, "UNAVAILABLE");
    assert_retry_info(&refusal);
    store.appends.set(Mode::Works);
    store.log.set(Mode::Works);
    for _ in 0..200 {
        let _ = client.create_order(new_order("customer-1")).await;
        if breaker_state(&server).await == "0" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the breaker has not closed after 10 s");
}
