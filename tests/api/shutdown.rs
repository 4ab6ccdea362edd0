//! A shutdown as clients see it: refusals that say so, requests in flight finish, and no client can delay it.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ordersystem::{
    ports::clock::SystemClock,
    proto::catga::{
        ids::v1::{GenerateIdRequest, StreamIdsRequest},
        orders::v1::{CreateOrderRequest, GetOrderRequest, ListOrdersRequest, StreamEventsRequest},
    },
};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    faulty::{FaultyStore, Mode},
    support::{TestServer, assert_retry_info, code_and_reason, new_order, pay, soon, until},
};

async fn readiness(client: &mut HealthClient<Channel>) -> ServingStatus {
    let request = HealthCheckRequest { service: "readiness".to_owned() };
    client.check(request).await.expect("answered").into_inner().status()
}

#[tokio::test]
async fn new_work_is_refused_with_shutting_down_and_work_in_flight_finishes() {
    let (backends, store) = FaultyStore::backends();
    let mut server = TestServer::start_on(&[], backends, Arc::new(SystemClock)).await;
    let (mut client, mut queries, mut ids) = (server.commands().await, server.queries().await, server.ids().await);
    let mut health = HealthClient::new(server.channel().await);
    store.appends.set(Mode::Hangs);
    let in_flight = {
        let mut client = client.clone();
        tokio::spawn(async move { client.create_order(new_order("customer-1")).await })
    };
    until("an append hangs", async || (*store.appending.borrow() == 1).then_some(())).await;
    let outside = async {
        until("the node is not ready", async || {
            (readiness(&mut health.clone()).await == ServingStatus::NotServing).then_some(())
        })
        .await;
        assert_eq!(readiness(&mut health).await, ServingStatus::NotServing);
        let refusals = [
            client.create_order(new_order("customer-1")).await.expect_err("refused"),
            queries.list_orders(ListOrdersRequest::default()).await.expect_err("refused"),
            ids.generate_id(GenerateIdRequest {}).await.expect_err("refused"),
            ids.stream_ids(StreamIdsRequest::default()).await.expect_err("refused"),
        ];
        for refusal in refusals {
            assert_eq!(code_and_reason(&refusal), (Code::Unavailable, "SHUTTING_DOWN".to_owned()));
            assert_retry_info(&refusal);
        }
        // At least twice the time after which a silent store would end it.
        let checked = || store.checks.load(Ordering::SeqCst);
        let before = checked();
        until("the store has answered many checks", async || (checked() >= before + 12).then_some(())).await;
        store.appends.set(Mode::Works);
        in_flight.await.expect("no panic").expect("what was in flight finishes");
    };
    let (stopped, ()) = tokio::join!(server.stop(), outside);
    stopped.expect("within the grace period");
    assert_eq!(server.head().await, 1);
}

/// Each answer is true: a command that may have taken effect does not end like one that has not.
#[tokio::test]
async fn requests_in_flight_end_long_before_the_grace_period_if_the_store_does_not_answer() {
    for away in [Mode::Hangs, Mode::Unavailable] {
        let (backends, store) = FaultyStore::backends();
        let longer = "86400000";
        let settings = [("shutdown-grace-ms", longer), ("request-timeout-ms", longer)];
        let known = CreateOrderRequest { request_id: "known".to_owned(), ..new_order("customer-1") };
        let mut earlier = TestServer::start_on(&[], backends.clone(), Arc::new(SystemClock)).await;
        let first = earlier.commands().await.create_order(known.clone()).await.expect("placed").into_inner();
        let order_id = first.order.expect("an order").order_id;
        earlier.stop().await.expect("within the grace period");
        // It has not cached the order.
        let mut server = TestServer::start_on(&settings, backends, Arc::new(SystemClock)).await;
        store.reads.set(Mode::Hangs);
        let (mut queries, mut paying) = (server.queries().await, server.commands().await);
        let (mut retrying, mut creating) = (paying.clone(), paying.clone());
        let unread = order_id.clone();
        let paid = tokio::spawn(async move { paying.pay_order(pay(&order_id)).await.map(drop) });
        let got = tokio::spawn(async move {
            queries.get_order(GetOrderRequest { order_id: unread, ..Default::default() }).await.map(drop)
        });
        // Its first try is found in the log, and its reply has to be read.
        let retried = tokio::spawn(async move { retrying.create_order(known).await.map(drop) });
        until("three reads hang", async || {
            let waiting = store.reads.waiting();
            if waiting == 3 { Ok(()) } else { Err(waiting) }
        })
        .await;
        store.appends.set(Mode::Hangs);
        let created = tokio::spawn(async move { creating.create_order(new_order("customer-3")).await.map(drop) });
        until("an append hangs", async || (*store.appending.borrow() == 1).then_some(())).await;
        store.log.set(away);
        soon("the end", server.stop()).await.expect("within the grace period");
        for (call, reason) in [
            (paid, "SHUTTING_DOWN"),
            (got, "SHUTTING_DOWN"),
            (retried, "OUTCOME_UNKNOWN"),
            (created, "OUTCOME_UNKNOWN"),
        ] {
            let refusal = call.await.expect("no panic").expect_err("it has no result");
            assert_eq!(code_and_reason(&refusal), (Code::Unavailable, reason.to_owned()), "{away:?}");
        }
    }
}

#[tokio::test]
async fn requests_that_outlast_the_grace_period_are_cut_off_and_reported() {
    let (backends, store) = FaultyStore::backends();
    let mut server = TestServer::start_on(&[("shutdown-grace-ms", "1000")], backends, Arc::new(SystemClock)).await;
    store.appends.set(Mode::Hangs);
    let mut client = server.commands().await;
    let in_flight = tokio::spawn(async move { client.create_order(new_order("customer-1")).await });
    until("an append hangs", async || (*store.appending.borrow() == 1).then_some(())).await;
    let exceeded = soon("the end", server.stop()).await.expect_err("not within the grace period");
    assert!(exceeded.to_string().contains("requests in flight"), "{exceeded}");
    soon("the cut", in_flight).await.expect("no panic").expect_err("cut off");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_hold_up_neither_the_outbox_nor_the_end() {
    let mut server = TestServer::start_with(&[("shutdown-grace-ms", "10000")]).await;
    let mut ids = {
        let endpoint = server.endpoint().initial_stream_window_size(65_535).initial_connection_window_size(65_535);
        let channel = endpoint.connect().await.expect("connects");
        ordersystem::proto::catga::ids::v1::id_service_client::IdServiceClient::new(channel)
    };
    let mut stalled = ids.stream_ids(StreamIdsRequest::default()).await.expect("opens").into_inner();
    stalled.message().await.expect("no error").expect("a batch");
    // An idle connection, one in the middle of its headers, and one that has sent nothing.
    let idle = server.ids().await;
    let silent = TcpStream::connect(server.address).await.expect("connects");
    let mut slow = TcpStream::connect(server.address).await.expect("connects");
    slow.write_all(b"GET / HTTP/1.1\r\nHost:").await.expect("sent");
    tokio::time::sleep(Duration::from_millis(100)).await;
    soon("the end", server.stop()).await.expect("within the grace period");
    drop((stalled, idle, silent, slow));
}

#[tokio::test]
async fn an_open_reflection_call_does_not_hold_up_the_end() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    let mut server = TestServer::start_with(&[("shutdown-grace-ms", "8000")]).await;
    let mut client = ServerReflectionClient::new(server.channel().await);
    let call = client.server_reflection_info(futures_util::stream::pending()).await.expect("opens");
    soon("the end", server.stop()).await.expect("within the grace period");
    drop(call);
}

#[tokio::test]
async fn every_event_is_published_before_the_end() {
    let (backends, bus) = crate::faulty::FaultyBus::backends();
    let bus_inside = Arc::clone(&backends.bus);
    let mut server = TestServer::start_on(&[], backends, Arc::new(SystemClock)).await;
    // Receives everything that the bus accepts from now on.
    let consumer = bus_inside.consumer("test").await.expect("a consumer");
    bus.publishing.set(Mode::Hangs);
    let mut unseen = HashSet::new();
    for _ in 0..50 {
        let order = server.place_order("customer-1").await;
        unseen.insert(format!("{}-1", order.order_id));
    }
    let address = server.address;
    let mend = async {
        // The listener is closed already, and the outbox still has most of it to publish.
        until("the port is closed", async || TcpStream::connect(address).await.is_err().then_some(())).await;
        bus.publishing.set(Mode::Works);
    };
    let (stopped, ()) = tokio::join!(server.stop(), mend);
    stopped.expect("within the grace period");
    // Each by its id: an event that comes twice must not stand in for one that never comes.
    while !unseen.is_empty() {
        let batch = soon("a message", consumer.next_batch(100)).await.expect("messages");
        for delivery in &batch {
            unseen.remove(&delivery.message.event_id().to_string());
        }
        let receipts: Vec<_> = batch.iter().map(|delivery| delivery.receipt).collect();
        consumer.ack(&receipts).await.expect("acknowledged");
    }
}

#[tokio::test]
async fn a_stream_opened_while_the_node_drains_ends_with_shutting_down() {
    let mut server = TestServer::start().await;
    let history = server.history().await;
    let outside = async {
        let status = until("a refusal", async || {
            let request = StreamEventsRequest { follow: true, ..Default::default() };
            let mut history = history.clone();
            let mut stream = match history.stream_events(request).await {
                Ok(reply) => reply.into_inner(),
                Err(status) => return Some(status),
            };
            loop {
                match stream.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return None,
                    Err(status) => return Some(status),
                }
            }
        })
        .await;
        assert_eq!(code_and_reason(&status), (Code::Unavailable, "SHUTTING_DOWN".to_owned()));
    };
    let (stopped, ()) = tokio::join!(server.stop(), outside);
    stopped.expect("within the grace period");
}
