//! gRPC health: every component that can fail does, and every caller and watcher sees it.

use std::sync::Arc;

use ordersystem::ports::clock::SystemClock;
use tonic::{Code, Streaming, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    faulty::{FaultyBus, FaultyStore, Mode, Switch},
    support::{TestServer, code_and_reason, soon, until},
};

/// All names that follow readiness.
const READY_NAMES: [&str; 7] = [
    "",
    "readiness",
    "catga.ids.v1.IdService",
    "catga.orders.v1.OrderCommandService",
    "catga.orders.v1.OrderHistoryService",
    "catga.orders.v1.OrderQueryService",
    "catga.system.v1.SystemService",
];

async fn check(client: &HealthClient<Channel>, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.to_owned() };
    client.clone().check(request).await.expect("a known service").into_inner().status()
}

async fn watch(client: &HealthClient<Channel>, service: &str) -> Streaming<HealthCheckResponse> {
    let request = HealthCheckRequest { service: service.to_owned() };
    client.clone().watch(request).await.expect("opens").into_inner()
}

async fn next(watch: &mut Streaming<HealthCheckResponse>) -> ServingStatus {
    soon("a change", watch.message()).await.expect("no error").expect("not the end").status()
}

async fn until_all(client: &HealthClient<Channel>, status: ServingStatus) {
    for name in READY_NAMES {
        until(&format!("{name:?} is {status:?}"), async || (check(client, name).await == status).then_some(())).await;
    }
}

/// Breaks a component, repairs it, and checks the reported health at every step.
async fn break_and_mend(server: TestServer, switch: &Switch, fault: Mode) {
    let client = HealthClient::new(server.channel().await);
    let mut watch = watch(&client, "catga.orders.v1.OrderCommandService").await;
    assert_eq!(next(&mut watch).await, ServingStatus::Serving);
    switch.set(fault);
    assert_eq!(next(&mut watch).await, ServingStatus::NotServing, "{fault:?}");
    until_all(&client, ServingStatus::NotServing).await;
    assert_eq!(check(&client, "liveness").await, ServingStatus::Serving, "an outage must not get the process killed");
    switch.set(Mode::Works);
    assert_eq!(next(&mut watch).await, ServingStatus::Serving);
    until_all(&client, ServingStatus::Serving).await;
}

#[tokio::test]
async fn everything_is_serving_when_all_is_well() {
    let server = TestServer::start().await;
    let client = HealthClient::new(server.channel().await);
    for name in READY_NAMES.into_iter().chain(["liveness"]) {
        assert_eq!(check(&client, name).await, ServingStatus::Serving, "{name:?}");
    }
}

#[tokio::test]
async fn a_node_is_not_serving_while_its_store_fails() {
    let (backends, store) = FaultyStore::backends();
    let server = TestServer::start_on(&[], backends, Arc::new(SystemClock)).await;
    break_and_mend(server, &store.log, Mode::Unavailable).await;
}

#[tokio::test]
async fn a_node_is_not_serving_while_its_store_does_not_answer() {
    let (backends, store) = FaultyStore::backends();
    let server = TestServer::start_on(&[], backends, Arc::new(SystemClock)).await;
    break_and_mend(server, &store.log, Mode::Hangs).await;
}

#[tokio::test]
async fn a_node_is_not_serving_while_its_transport_fails() {
    let (backends, bus) = FaultyBus::backends();
    let server = TestServer::start_on(&[], backends, Arc::new(SystemClock)).await;
    break_and_mend(server, &bus.check, Mode::Unavailable).await;
}

#[tokio::test]
async fn a_node_stops_in_time_while_its_store_does_not_answer() {
    let (backends, store) = FaultyStore::backends();
    let mut server = TestServer::start_on(&[("shutdown-grace-ms", "3000")], backends, Arc::new(SystemClock)).await;
    store.log.set(Mode::Hangs);
    // The outbox cannot flush: that is reported, but nothing hangs.
    let _ = soon("the end", server.stop()).await;
}

#[tokio::test]
async fn an_unknown_service_is_not_found() {
    let server = TestServer::start().await;
    let mut client = HealthClient::new(server.channel().await);
    let request = HealthCheckRequest { service: "no.such.Service".to_owned() };
    let refusals =
        [client.check(request.clone()).await.expect_err("unknown"), client.watch(request).await.expect_err("unknown")];
    for refusal in refusals {
        assert_eq!(code_and_reason(&refusal), (Code::NotFound, "SERVICE_NOT_FOUND".to_owned()));
    }
}

#[tokio::test]
async fn a_health_watch_reports_the_shutdown_and_ends() {
    let mut server = TestServer::start().await;
    let client = HealthClient::new(server.channel().await);
    let mut watch = watch(&client, "").await;
    assert_eq!(next(&mut watch).await, ServingStatus::Serving);
    let told = async {
        assert_eq!(next(&mut watch).await, ServingStatus::NotServing);
        assert!(soon("the end of the watch", watch.message()).await.expect("no error").is_none());
    };
    let ((), stopped) = tokio::join!(told, server.stop());
    stopped.expect("within the grace period");
}
