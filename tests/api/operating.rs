//! What operators are told of a node: its settings in use, and its circuit breakers.

use std::time::Duration;

use ordersystem::{
    node::Backends,
    ports::clock::SystemClock,
    proto::catga::system::v1::{
        CircuitBreaker, CircuitBreakerState, GetConfigurationRequest, ListCircuitBreakersRequest, Setting,
    },
};

use crate::{
    faulty::{FaultyStore, Mode},
    support::{TestServer, new_order, until},
};

async fn breakers(server: &TestServer) -> Vec<CircuitBreaker> {
    let reply = server.system().await.list_circuit_breakers(ListCircuitBreakersRequest {}).await;
    reply.expect("answered").into_inner().circuit_breakers
}

#[tokio::test]
async fn an_open_circuit_breaker_reports_when_it_lets_a_call_pass() {
    let (backends, store) = FaultyStore::backends();
    let settings = [("breaker-failures", "3"), ("breaker-open-ms", "600000"), ("recovery-interval-ms", "86400000")];
    let server = TestServer::start_on(&settings, backends, std::sync::Arc::new(SystemClock)).await;
    let found = breakers(&server).await;
    let names: Vec<_> = found.iter().map(|breaker| breaker.name.as_str()).collect();
    assert_eq!(names, ["store", "transport"], "there is no shared cache");
    let closed = &found[0];
    assert_eq!((closed.state(), closed.failures, closed.retry_after), (CircuitBreakerState::Closed, 0, None));
    assert_eq!((closed.failures_to_open, closed.successes_to_close), (3, 2));
    assert_eq!(closed.open_for.map(|time| time.seconds), Some(600));
    store.appends.set(Mode::Unavailable);
    let open = until("the breaker opens", async || {
        let _refused = server.commands().await.create_order(new_order("customer-1")).await;
        breakers(&server).await.into_iter().find(|breaker| breaker.state() == CircuitBreakerState::Open)
    })
    .await;
    assert_eq!(open.name, "store");
    let left = Duration::try_from(open.retry_after.expect("a time")).expect("positive");
    assert!(left > Duration::from_secs(500) && left <= Duration::from_secs(600), "{left:?}");
    let transport = &breakers(&server).await[1];
    assert_eq!((transport.name.as_str(), transport.state()), ("transport", CircuitBreakerState::Closed));
}

#[tokio::test]
async fn the_settings_in_use_are_reported_with_their_sources_and_without_passwords() {
    let settings = [("persistence", "redis"), ("redis", "redis://app:hunter2@127.0.0.1:1"), ("node-id", "the-node")];
    let server = TestServer::start_on(&settings, Backends::memory(), std::sync::Arc::new(SystemClock)).await;
    let reply = server.admin().await.get_configuration(GetConfigurationRequest {}).await.expect("answered");
    let found = reply.into_inner().settings;
    let one = |name: &str| -> &Setting { found.iter().find(|setting| setting.name == name).expect(name) };
    let name = one("node-id");
    assert_eq!((&*name.value, &*name.source, name.is_default), ("\"the-node\"", "--node-id", false));
    assert_eq!(name.section, "Node and cluster");
    let default = one("breaker-failures");
    assert_eq!((&*default.value, &*default.source, default.is_default), ("5", "default", true));
    assert_eq!(one("data-dir").value, "", "it is not set");
    assert_eq!(one("redis").value, "\"redis://app:***@127.0.0.1:1\"");
    assert!(!format!("{found:?}").contains("hunter2"));
}
