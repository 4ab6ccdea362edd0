//! The limits of the node: beyond each one a clear refusal, while all other clients are served.

use std::{sync::Arc, time::Duration};

use ordersystem::{
    ports::clock::SystemClock,
    proto::catga::{
        ids::v1::GenerateIdRequest,
        orders::v1::{GetOrderRequest, StreamEventsRequest},
        system::v1::GetServerInfoRequest,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    faulty::{FaultyStore, Mode},
    support::{PATIENCE, TestServer, assert_retry_info, code_and_reason, new_order, soon, until},
};

#[tokio::test]
async fn one_request_more_than_may_be_in_flight_is_shed_at_once() {
    let (backends, store) = FaultyStore::backends();
    let server = TestServer::start_on(&[("max-in-flight", "3")], backends, Arc::new(SystemClock)).await;
    let client = server.commands().await;
    store.appends.set(Mode::Hangs);
    let mut waiting = JoinSet::new();
    for _ in 0..3 {
        let mut client = client.clone();
        waiting.spawn(async move { client.create_order(new_order("customer-1")).await });
    }
    until("three appends hang", async || (*store.appending.borrow() == 3).then_some(())).await;
    let command = soon("a refusal", client.clone().create_order(new_order("customer-1"))).await.expect_err("shed");
    let request = GetOrderRequest { order_id: "42".to_owned(), ..Default::default() };
    let query = soon("a refusal", server.queries().await.get_order(request)).await.expect_err("shed");
    for refusal in [command, query] {
        assert_eq!(code_and_reason(&refusal), (Code::ResourceExhausted, "OVERLOADED".to_owned()));
        assert_retry_info(&refusal);
    }
    // Requests that cost nothing are answered all the same.
    server.system().await.get_server_info(GetServerInfoRequest {}).await.expect("answered");
    store.appends.set(Mode::Works);
    for outcome in waiting.join_all().await {
        outcome.expect("what was in flight finishes");
    }
    client.clone().create_order(new_order("customer-1")).await.expect("there is room again");
}

#[tokio::test]
async fn a_client_that_cancels_frees_its_permit() {
    let (backends, store) = FaultyStore::backends();
    let server = TestServer::start_on(&[("max-in-flight", "1")], backends, Arc::new(SystemClock)).await;
    let mut client = server.commands().await;
    store.appends.set(Mode::Hangs);
    let gives_up = tokio::time::timeout(Duration::from_millis(200), client.create_order(new_order("customer-1")));
    assert!(gives_up.await.is_err());
    until("the append is dropped", async || (*store.appending.borrow() == 0).then_some(())).await;
    store.appends.set(Mode::Works);
    client.create_order(new_order("customer-1")).await.expect("there is room again");
}

#[tokio::test]
async fn one_call_more_than_a_connection_may_have_waits_for_a_permit() {
    let server = TestServer::start_with(&[("max-concurrent-streams", "2")]).await;
    let channel = server.channel().await;
    let mut history =
        ordersystem::proto::catga::orders::v1::order_history_service_client::OrderHistoryServiceClient::new(
            channel.clone(),
        );
    let mut ids = ordersystem::proto::catga::ids::v1::id_service_client::IdServiceClient::new(channel);
    let follow = || StreamEventsRequest { follow: true, ..Default::default() };
    let mut followers = Vec::new();
    for _ in 0..2 {
        let mut stream = history.stream_events(follow()).await.expect("opens").into_inner();
        stream.message().await.expect("no error").expect("caught up");
        followers.push(stream);
    }
    let third = tokio::time::timeout(Duration::from_millis(300), ids.generate_id(GenerateIdRequest {}));
    assert!(third.await.is_err(), "the third call waits");
    server.ids().await.generate_id(GenerateIdRequest {}).await.expect("another connection is free");
    followers.pop();
    soon("the third call", ids.generate_id(GenerateIdRequest {})).await.expect("issued");
}

#[tokio::test]
async fn one_connection_more_than_allowed_waits_until_another_closes() {
    let server = TestServer::start_with(&[("max-connections", "3")]).await;
    // The probe of the harness may still be closing.
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(soon("a connection", server.ids()).await);
        open.last_mut().expect("one").generate_id(GenerateIdRequest {}).await.expect("issued");
    }
    let endpoint = server.endpoint();
    let mut fourth =
        ordersystem::proto::catga::ids::v1::id_service_client::IdServiceClient::new(endpoint.connect_lazy());
    let waits = tokio::time::timeout(Duration::from_millis(300), fourth.generate_id(GenerateIdRequest {}));
    assert!(waits.await.is_err(), "the fourth waits");
    open.pop();
    soon("the fourth", fourth.generate_id(GenerateIdRequest {})).await.expect("issued");
}

#[tokio::test]
async fn an_old_connection_is_closed_gracefully_and_its_client_reconnects() {
    let settings = [("max-connection-age-ms", "300"), ("max-connection-age-grace-ms", "60000")];
    let server = TestServer::start_with(&settings).await;
    let mut history = server.history().await;
    let mut ids = server.ids().await;
    let request = StreamEventsRequest { follow: true, ..Default::default() };
    let mut stream = history.stream_events(request).await.expect("opens").into_inner();
    stream.message().await.expect("no error").expect("caught up");
    let deadline = tokio::time::Instant::now() + Duration::from_millis(1_500);
    while tokio::time::Instant::now() < deadline {
        // A call may coincide with the closing of its connection. It has then not left the client, which may send it again.
        if let Err(status) = ids.generate_id(GenerateIdRequest {}).await {
            assert!(format!("{status:?}").contains("connection closed"), "{status:?}");
            ids.generate_id(GenerateIdRequest {}).await.expect("a new connection");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The call that was open throughout is still open.
    server.place_order("customer-1").await;
    assert!(soon("an event", stream.message()).await.expect("no error").is_some());
}

#[tokio::test]
async fn after_the_grace_an_old_connection_is_closed_with_its_calls() {
    let settings = [("max-connection-age-ms", "200"), ("max-connection-age-grace-ms", "200")];
    let server = TestServer::start_with(&settings).await;
    let request = StreamEventsRequest { follow: true, ..Default::default() };
    let mut stream = server.history().await.stream_events(request).await.expect("opens").into_inner();
    stream.message().await.expect("no error").expect("caught up");
    soon("the end of the connection", stream.message()).await.expect_err("closed");
}

/// How a server treats a client that sends `bytes` and then nothing.
async fn closes_on(server: &TestServer, bytes: &[u8]) -> bool {
    let mut stream = TcpStream::connect(server.address).await.expect("connects");
    stream.write_all(bytes).await.expect("sent");
    let mut answer = Vec::new();
    // A reset is an end as well.
    tokio::time::timeout(PATIENCE + Duration::from_secs(5), stream.read_to_end(&mut answer)).await.is_ok()
}

#[tokio::test]
async fn a_client_that_sends_nothing_or_half_a_request_is_disconnected() {
    let server = TestServer::start().await;
    let (silent, preface, head, hello) = tokio::join!(
        closes_on(&server, b""),
        closes_on(&server, b"PRI * HT"),
        closes_on(&server, b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: "),
        closes_on(&server, b"\x16\x03\x01"),
    );
    assert_eq!([silent, preface, head, hello], [true; 4]);
}

#[tokio::test]
async fn every_call_that_stays_open_for_as_long_as_its_client_likes_takes_a_place_of_the_streams() {
    let settings = [("max-event-streams", "4"), ("max-event-streams-per-connection", "2")];
    let server = TestServer::start_with(&settings).await;
    let connect = async || {
        let endpoint = tonic::transport::Endpoint::from_shared(server.url("")).expect("an address");
        HealthClient::new(endpoint.connect().await.expect("a connection"))
    };
    let watch = HealthCheckRequest { service: String::new() };
    // Commands that never come.
    let mut commands = server.commands().await;
    let mut silent = Vec::new();
    for _ in 0..2 {
        let (sender, requests) = tokio::sync::mpsc::channel(1);
        let replies = commands.execute_commands(ReceiverStream::new(requests)).await.expect("a place").into_inner();
        silent.push((sender, replies));
    }
    let third = commands.execute_commands(tokio_stream::pending()).await.expect_err("the share is used up");
    let mut health = connect().await;
    let mut watching = Vec::new();
    for _ in 0..2 {
        watching.push(health.watch(watch.clone()).await.expect("a place").into_inner());
    }
    let watcher = health.watch(watch.clone()).await.expect_err("the share is used up");
    let mut elsewhere = connect().await;
    let of_node = elsewhere.watch(watch.clone()).await.expect_err("the node has four");
    for refusal in [third, watcher, of_node] {
        assert_eq!(code_and_reason(&refusal), (Code::ResourceExhausted, "OVERLOADED".to_owned()));
        assert_retry_info(&refusal);
    }
    elsewhere.check(watch.clone()).await.expect("a single check needs no place");
    drop(silent);
    until("a place is free again", async || elsewhere.watch(watch.clone()).await.ok()).await;
}

#[tokio::test]
async fn a_connection_has_its_share_of_the_event_streams_and_pages_take_none() {
    let settings = [("max-event-streams", "3"), ("max-event-streams-per-connection", "2")];
    let server = TestServer::start_with(&settings).await;
    let order = server.place_order("customer-1").await;
    let (mut first, mut second) = (server.history().await, server.history().await);
    let follow = || StreamEventsRequest { follow: true, ..Default::default() };
    let mut open = Vec::new();
    for _ in 0..2 {
        open.push(first.stream_events(follow()).await.expect("a place").into_inner());
    }
    let of_connection = first.stream_events(follow()).await.expect_err("the share of the connection is used up");
    open.push(second.stream_events(follow()).await.expect("another connection has a share of its own").into_inner());
    let of_node = second.stream_events(follow()).await.expect_err("all places of the node are taken");
    for refusal in [of_connection, of_node] {
        assert_eq!(code_and_reason(&refusal), (Code::ResourceExhausted, "OVERLOADED".to_owned()));
        assert_retry_info(&refusal);
    }
    for path in ["/events".to_owned(), format!("/orders/{}/history", order.order_id)] {
        let page = reqwest::get(server.url(&path)).await.expect("an answer");
        assert_eq!(page.status(), 200, "{path}");
    }
    open.truncate(1);
    until("a place is free again", async || first.stream_events(follow()).await.ok()).await;
}
