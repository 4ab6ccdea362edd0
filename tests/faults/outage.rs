//! The broker is killed and restarted, and paused, under load: no answer is wrong, no acknowledged command is lost, health and breaker
//! report the truth, and the node recovers by itself.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::{
    audit::{assert_list_and_stats, assert_log, assert_published},
    durable::Durable,
    load::{self, Known},
    redis_server::{DURABLE, RedisServer},
    support::{Process, until},
};

const CLIENTS: usize = 16;
const BREAKER: &str = "ordersystem_circuit_breaker_state{breaker=\"store\"}";
const OPEN: f64 = 2.0;
const CLOSED: f64 = 0.0;

async fn assert_commands_continue(known: &Known) {
    let before = known.acknowledged();
    until("commands are acknowledged", async || known.acknowledged() > before + 20).await;
}

/// The broker does not answer: health reports it within seconds, the breaker opens, the process stays alive.
async fn assert_it_tells(service: &Process) {
    until("not ready", async || !service.is_ready().await).await;
    until("the breaker opens", async || service.metric(BREAKER).await == OPEN).await;
    assert!(service.get("/health/live").await.contains("\"Live\""));
    let health = service.get("/health").await;
    assert!(health.contains("\"status\":\"Unhealthy\""), "{health}");
}

async fn assert_it_recovers(service: &Process, known: &Known) {
    until("ready", async || service.is_ready().await).await;
    assert_commands_continue(known).await;
    until("the breaker closes", async || service.metric(BREAKER).await == CLOSED).await;
}

async fn through_outages(mut backend: Durable) {
    let service = Process::serve(&backend.settings()).await;
    let (known, stop) = (Known::default(), CancellationToken::new());
    let clients = load::through_all(&service, CLIENTS, &known, &stop).await;
    assert_commands_continue(&known).await;

    backend.broker().signal("STOP");
    let paused_at = Instant::now();
    assert_it_tells(&service).await;
    tokio::time::sleep(Duration::from_secs(10).saturating_sub(paused_at.elapsed())).await;
    backend.broker().signal("CONT");
    assert_it_recovers(&service, &known).await;

    backend.broker().kill();
    assert_it_tells(&service).await;
    backend.broker().start_again();
    assert_it_recovers(&service, &known).await;

    stop.cancel();
    clients.join_all().await;
    assert!(known.refusals("UNAVAILABLE") > 0, "refused at once while the breaker was open");
    let orders = known.orders();
    println!("{} orders", orders.len());
    assert_list_and_stats(&service, &orders).await;
    assert_published(backend.bus().await, &orders).await;
    service.kill().await;
    assert_log(&*backend.log().await, &orders).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_reports_a_paused_or_killed_redis_under_load_and_recovers() {
    through_outages(Durable::redis()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_reports_a_paused_or_killed_nats_under_load_and_recovers() {
    through_outages(Durable::nats()).await;
}

/// A node that starts before its broker reports that it is not ready, and becomes ready when the broker is available.
async fn started_before_its_broker(mut backend: Durable) {
    backend.broker().kill();
    // Also one that must be durable: that is checked later.
    let service = Process::listening(&backend.settings()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!service.is_ready().await);
    assert!(service.get("/health/live").await.contains("\"Live\""));
    backend.broker().start_again();
    until("ready", async || service.is_ready().await).await;
    let mut client = service.commands().await;
    let order =
        client.create_order(load::new_order("c", "first")).await.expect("it serves").into_inner().order.unwrap();
    assert_published(backend.bus().await, &[(order.order_id, 1)].into()).await;
}

#[tokio::test]
async fn a_node_that_starts_before_redis_serves_when_it_comes() {
    started_before_its_broker(Durable::redis()).await;
}

#[tokio::test]
async fn a_node_that_starts_before_nats_serves_when_it_comes() {
    started_before_its_broker(Durable::nats()).await;
}

/// The shared cache only improves speed: without it the node serves, and reports that it is missing.
#[tokio::test]
async fn a_node_without_its_shared_cache_serves_and_reports_it() {
    let mut server = RedisServer::start(DURABLE);
    let folder = tempfile::tempdir().unwrap();
    let url = server.url();
    let dir = folder.path().to_str().unwrap();
    let settings =
        ["--persistence", "embedded", "--data-dir", dir, "--redis-cache", "--redis", &url, "--cached-orders", "1"];
    let service = Process::serve(&settings.map(str::to_owned)).await;
    assert!(service.get("/health").await.contains("\"cache\":{\"status\":\"Healthy\""));
    server.kill();
    until("the cache is reported", async || {
        service.get("/health").await.contains("\"cache\":{\"status\":\"Unhealthy\"")
    })
    .await;
    assert!(service.is_ready().await, "it can do without");
    let mut client = service.commands().await;
    for number in 0..20 {
        let request_id = format!("order-{number}");
        let order = client.create_order(load::new_order("c", &request_id)).await.unwrap().into_inner().order.unwrap();
        client.create_order(load::new_order("c", &format!("other-{number}"))).await.unwrap();
        // Not in the node's own cache, which holds one order.
        client.pay_order(load::payment(&order.order_id, &request_id)).await.expect("served from the log");
    }
    server.start_again();
    until("the cache is back", async || service.get("/health").await.contains("\"cache\":{\"status\":\"Healthy\""))
        .await;
}
