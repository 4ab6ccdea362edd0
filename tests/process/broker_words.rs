//! The words about a broker that does not answer: each line and each detail of health has its address and the cause, in plain words.

use serde_json::Value;

use crate::{
    broker_away::{Away, Broker, start},
    nats_server::NatsServer,
    redis_server::{DURABLE, RedisServer},
    support::until,
};

/// Words of libraries and of the system.
const NOT_PLAIN: [&str; 7] =
    ["os error", "transport error", "deadline has elapsed", "timed out", "error code", "driver unexpectedly", "Dial"];

/// The components whose details are about the broker.
const CONCERNED: [&str; 6] = ["store", "transport", "outbox", "projections", "subscriptions", "circuit_breakers"];

#[track_caller]
fn assert_plain(text: &str, address: &str) {
    assert!(text.contains(address), "without {address}: {text}");
    for words in NOT_PLAIN {
        assert!(!text.contains(words), "{words:?}: {text}");
    }
}

fn address(broker: &Broker) -> String {
    let port = match broker {
        Broker::Redis(server) => server.port,
        Broker::Nats(server) => server.port,
    };
    format!("127.0.0.1:{port}")
}

fn comes_back(broker: &mut Broker, away: Away) {
    match (broker, away) {
        (Broker::Redis(server), Away::Paused) => server.signal("CONT"),
        (Broker::Redis(server), Away::Gone) => server.start_again(),
        (Broker::Nats(server), Away::Paused) => server.signal("CONT"),
        (Broker::Nats(server), Away::Gone) => server.start_again(),
    }
}

async fn through_an_outage(mut broker: Broker, away: Away) {
    let settings = broker.settings(&["--persistence", "--transport"]);
    let mut node = start(&settings, &["--breaker-failures", "1", "--breaker-open-ms", "600000"]).await;
    node.places_an_order().await;
    node.log.line_with("the node is ready").await;
    let address = address(&broker);
    broker.go(away);
    until("all that need the broker have failed, and the breaker is open", async || {
        let health: Value = serde_json::from_str(&node.get("/health").await).expect("JSON");
        let mut failed = 0;
        for name in CONCERNED {
            let check = &health["checks"][name];
            let detail = check["detail"].as_str().expect("a detail");
            if check["status"] != "Healthy" {
                assert_plain(detail, &address);
                failed += 1;
            }
        }
        let breakers = health["checks"]["circuit_breakers"]["detail"].as_str().expect("a detail");
        failed == CONCERNED.len() && breakers.contains("store: open (") && breakers.contains("; next try in ")
    })
    .await;
    let (_, worker) = node.health("worker_number").await;
    until("the node has lost its number", async || node.health("worker_number").await.0 == "Unhealthy").await;
    let (_, lost) = node.health("worker_number").await;
    assert_plain(&lost, &address);
    comes_back(&mut broker, away);
    until("it is ready again", async || node.is_ready().await && node.health("worker_number").await.1 == worker).await;
    node.signal("TERM");
    let said = format!("{}\n{}", node.said().join("\n"), node.rest_of_log().await);
    let loud: Vec<_> = said.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).collect();
    assert!(!loud.is_empty(), "{said}");
    for line in loud {
        assert_plain(line, &address);
    }
}

#[tokio::test]
async fn everything_about_a_redis_that_is_away_has_its_address_and_is_in_plain_words() {
    for away in [Away::Paused, Away::Gone] {
        through_an_outage(Broker::Redis(RedisServer::start(DURABLE)), away).await;
    }
}

#[tokio::test]
async fn everything_about_a_nats_that_is_away_has_its_address_and_is_in_plain_words() {
    for away in [Away::Paused, Away::Gone] {
        through_an_outage(Broker::Nats(NatsServer::start("")), away).await;
    }
}
