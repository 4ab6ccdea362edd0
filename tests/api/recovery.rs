//! Background work that ends unexpectedly is reported, restarted, and resumes where it was.

use std::sync::Arc;

use ordersystem::ports::clock::SystemClock;
use serde_json::Value;

use crate::{
    faulty::{FaultyBus, FaultyStore, Mode},
    rest::Rest,
    support::{TestServer, until},
};

async fn check(rest: &Rest, component: &str) -> Value {
    rest.get("/health").await.json()["checks"][component].clone()
}

async fn until_detail(rest: &Rest, component: &str, wanted: &str) {
    let what = format!("{component}: {wanted}");
    until(&what, async || {
        let found = check(rest, component).await;
        found["detail"].as_str().expect("text").contains(wanted).then_some(())
    })
    .await;
}

async fn until_healthy(rest: &Rest, component: &str) {
    until(component, async || (check(rest, component).await["status"] == "Healthy").then_some(())).await;
}

async fn metric(rest: &Rest, name: &str) -> f64 {
    let text = rest.get("/metrics").await.text;
    let line = text.lines().find(|line| line.starts_with(name));
    line.map_or(0.0, |line| line.rsplit(' ').next().expect("a value").parse().expect("a number"))
}

#[tokio::test]
async fn an_outbox_that_panicked_is_restarted_and_publishes_the_missed_events() {
    let (backends, bus) = FaultyBus::backends();
    let rest = Rest::of(TestServer::start_on(&[], backends, Arc::new(SystemClock)).await);
    bus.publishing.set(Mode::Panics);
    rest.order("c").await;
    until_detail(&rest, "outbox", "ended by a panic").await;
    assert_eq!(rest.get("/health/live").await.status, 200);
    bus.publishing.set(Mode::Works);
    until_healthy(&rest, "outbox").await;
    until_detail(&rest, "subscriptions", "handled: 1").await;
    assert!(metric(&rest, "ordersystem_recovery_attempts_total{component=\"outbox\"}").await >= 1.0);
    let recoveries = "ordersystem_recoveries_total{component=\"outbox\"}";
    until(recoveries, async || (metric(&rest, recoveries).await >= 1.0).then_some(())).await;
}

#[tokio::test]
async fn a_projection_that_panicked_is_restarted_and_skips_nothing() {
    let (backends, store) = FaultyStore::backends();
    let rest = Rest::of(TestServer::start_on(&[], backends, Arc::new(SystemClock)).await);
    store.log.set(Mode::Panics);
    rest.order("c").await;
    until_detail(&rest, "projections", "ended by a panic").await;
    assert_eq!(check(&rest, "store").await["detail"], "the check panicked");
    assert_eq!(rest.get("/health/ready").await.status, 503);
    store.log.set(Mode::Works);
    until_healthy(&rest, "projections").await;
    until_detail(&rest, "projections", "lag: 0").await;
    assert_eq!(rest.get("/stats").await.json()["totalOrders"], 1);
    assert_eq!(rest.get("/health/ready").await.status, 200);
}

#[tokio::test]
async fn open_circuit_breakers_are_in_health_and_do_not_stop_the_node() {
    let (backends, bus) = FaultyBus::backends();
    let settings = [("breaker-failures", "2"), ("breaker-successes", "1")];
    let rest = Rest::of(TestServer::start_on(&settings, backends, Arc::new(SystemClock)).await);
    bus.publishing.set(Mode::Unavailable);
    bus.check.set(Mode::Unavailable);
    rest.order("c").await;
    until_detail(&rest, "circuit_breakers", "store: closed, transport: open").await;
    assert_eq!(check(&rest, "circuit_breakers").await["status"], "Degraded");
    assert_eq!(check(&rest, "outbox").await["status"], "Unhealthy");
    bus.publishing.set(Mode::Works);
    bus.check.set(Mode::Works);
    until_healthy(&rest, "circuit_breakers").await;
    until_healthy(&rest, "outbox").await;
}
