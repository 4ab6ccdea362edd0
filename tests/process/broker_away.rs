//! A node whose broker is unreachable: it reports that, makes no false claim, and stops at once when it is asked to.

use std::time::Duration;

use ordersystem::proto::catga::system::v1::{GetServerInfoRequest, system_service_client::SystemServiceClient};
use tempfile::TempDir;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    nats_server::NatsServer,
    redis_server::{DURABLE, RedisServer, free_port},
    support::{Outcome, Process, new_order, program, run, until},
};

/// Far longer than any test may take: a shutdown that waits for the grace period would fail the test.
const GRACE: [&str; 2] = ["--shutdown-grace-ms", "600000"];

/// Longer than a shutdown with an unavailable broker takes, on a busy machine too.
const ENDS_WITHIN: Duration = Duration::from_secs(90);

pub enum Broker {
    Redis(RedisServer),
    Nats(NatsServer),
}

#[derive(Clone, Copy, Debug)]
pub enum Away {
    Paused,
    Gone,
}

impl Broker {
    pub fn settings(&self, what: &[&str]) -> Vec<String> {
        let (name, url) = match self {
            Self::Redis(server) => ("redis", server.url()),
            Self::Nats(server) => ("nats", server.url()),
        };
        let used = what.iter().flat_map(|what| [(*what).to_owned(), name.to_owned()]);
        used.chain([format!("--{name}"), url]).collect()
    }

    pub fn go(&mut self, away: Away) {
        match (self, away) {
            (Self::Redis(server), Away::Paused) => server.signal("STOP"),
            (Self::Redis(server), Away::Gone) => server.kill(),
            (Self::Nats(server), Away::Paused) => server.signal("STOP"),
            (Self::Nats(server), Away::Gone) => server.kill(),
        }
    }
}

pub async fn start(settings: &[String], more: &[&str]) -> Process {
    let args: Vec<&str> = settings.iter().map(String::as_str).chain(GRACE).chain(more.iter().copied()).collect();
    Process::start(&args).await
}

/// The shutdown of `node`, requested by `signal`, with its output meanwhile.
async fn ended_by(signal: &str, mut node: Process) -> Outcome {
    node.signal(signal);
    let (code, stderr) =
        tokio::join!(tokio::time::timeout(ENDS_WITHIN, node.child.wait()), node.log.rest_within(ENDS_WITHIN));
    let code = code.expect("it ends long before its grace period").expect("it ran").code();
    Outcome { code, stdout: String::new(), stderr }
}

/// The time at which a line of the log was written, in milliseconds of its day.
fn written_at(log: &str, text: &str) -> i64 {
    let line = log.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("no {text:?} in {log}"));
    let time = line.split_once('T').and_then(|(_, rest)| rest.split_once('Z')).expect("a time").0;
    // In the format 10:20:26.878097
    let number = |from: usize, to: usize| time[from..to].parse::<i64>().expect("a number");
    ((number(0, 2) * 60 + number(3, 5)) * 60 + number(6, 8)) * 1_000 + number(9, 12)
}

/// The time that the node itself took from the signal to its end.
fn end_took(end: &Outcome) -> Duration {
    let took = written_at(&end.stderr, " stopped") - written_at(&end.stderr, "shutting down");
    Duration::from_millis(took.rem_euclid(86_400_000).unsigned_abs())
}

#[track_caller]
fn assert_ended_at_once(end: &Outcome, what: &str) {
    assert_eq!(end.code, Some(0), "{what}: {}", end.stderr);
    let lines: Vec<_> = end.stderr.lines().filter(|line| line.contains("cannot flush the outbox")).collect();
    assert_eq!(lines.len(), 1, "{what}: one line says what stays for the next start: {}", end.stderr);
    assert!(end.stderr.contains("stopped"), "{what}: {}", end.stderr);
    // The outbox's grace period, which was waited for in the past, is 25 s; on a busy machine immediate steps may take several seconds.
    assert!(end_took(end) < Duration::from_secs(15), "{what}: {}", end.stderr);
}

/// An address on which nothing listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

#[tokio::test]
async fn a_node_whose_broker_was_never_there_ends_at_once() {
    for (broker, signal) in [("redis", "INT"), ("nats", "TERM")] {
        let settings =
            ["--persistence", broker, "--transport", broker, &format!("--{broker}"), &nobody()].map(str::to_owned);
        let node = start(&settings, &[]).await;
        assert!(node.banner.contains("durability=\"unknown\""), "{}", node.banner);
        let end = ended_by(signal, node).await;
        assert_ended_at_once(&end, broker);
        assert!(end.stderr.contains("its log was never reached"), "{}", end.stderr);
    }
}

#[tokio::test]
async fn a_node_on_a_broker_that_is_paused_or_gone_ends_at_once() {
    for away in [Away::Paused, Away::Gone] {
        for mut broker in [Broker::Redis(RedisServer::start(DURABLE)), Broker::Nats(NatsServer::start(""))] {
            let settings = broker.settings(&["--persistence", "--transport"]);
            let node = start(&settings, &[]).await;
            node.places_an_order().await;
            broker.go(away);
            assert_ended_at_once(&ended_by("TERM", node).await, &format!("{settings:?} {away:?}"));
        }
    }
}

/// Whether its commands have taken effect would only be known to be unknown many seconds later.
#[tokio::test]
async fn a_node_with_commands_in_flight_on_a_paused_broker_ends_at_once() {
    let mut broker = Broker::Nats(NatsServer::start(""));
    let node = start(&broker.settings(&["--persistence", "--transport"]), &[]).await;
    node.places_an_order().await;
    let mut commands = node.commands().await;
    broker.go(Away::Paused);
    let command = tokio::spawn(async move { commands.create_order(new_order("customer-1")).await });
    until("it is in flight", async || node.metric("ordersystem_requests_in_flight").await == 1.0).await;
    let end = ended_by("TERM", node).await;
    assert_ended_at_once(&end, "commands in flight");
    let abandoned: Vec<_> = end.stderr.lines().filter(|line| line.contains("ending the requests in flight")).collect();
    assert_eq!(abandoned.len(), 1, "{}", end.stderr);
    assert!(abandoned[0].contains("requests=1") && abandoned[0].contains("NATS at "), "{}", abandoned[0]);
    let unknown = command.await.expect("no panic").expect_err("it has no result");
    let reason = unknown.get_details_error_info().expect("a reason").reason;
    assert_eq!((unknown.code(), reason.as_str()), (Code::Unavailable, "OUTCOME_UNKNOWN"), "{unknown:?}");
}

#[tokio::test]
async fn a_node_whose_log_is_reachable_ends_at_once_when_its_bus_is_paused_or_gone() {
    for away in [Away::Paused, Away::Gone] {
        for mut broker in [Broker::Redis(RedisServer::start(DURABLE)), Broker::Nats(NatsServer::start(""))] {
            let folder: TempDir = tempfile::tempdir().expect("a folder");
            let dir = folder.path().to_str().expect("text");
            let settings = broker.settings(&["--transport"]);
            let node = start(&settings, &["--persistence", "embedded", "--data-dir", dir]).await;
            broker.go(away);
            // Acknowledged, since the log has it; there is something to flush.
            node.places_an_order().await;
            assert_ended_at_once(&ended_by("INT", node).await, &format!("{settings:?} {away:?}"));
        }
    }
}

#[tokio::test]
async fn events_of_a_log_in_memory_that_an_absent_bus_did_not_get_are_lost_and_reported() {
    let settings = ["--transport", "redis", "--redis", &nobody()].map(str::to_owned);
    let node = start(&settings, &[]).await;
    node.commands().await.create_order(new_order("customer-1")).await.expect("placed");
    let end = ended_by("TERM", node).await;
    assert_ended_at_once(&end, "inmemory");
    assert!(end.stderr.contains("lost with the log"), "{}", end.stderr);
}

#[tokio::test]
async fn two_signals_end_a_node_at_once_even_while_its_broker_is_paused() {
    let mut broker = Broker::Redis(RedisServer::start(DURABLE));
    let node = start(&broker.settings(&["--persistence", "--transport"]), &[]).await;
    node.places_an_order().await;
    broker.go(Away::Paused);
    node.signal("TERM");
    let end = ended_by("INT", node).await;
    assert_eq!(end.code, Some(130), "{}", end.stderr);
}

/// `--require-durable` depends on the store's real settings: until they have been read it is neither satisfied nor violated.
#[tokio::test]
async fn a_node_that_requires_durability_waits_for_its_store_and_refuses_one_that_is_not_durable() {
    for (settings, is_durable) in [(DURABLE, true), (&[][..], false)] {
        let mut server = RedisServer::start(settings);
        server.kill();
        let own = ["--persistence", "redis", "--redis", &server.url(), "--require-durable"].map(str::to_owned);
        let mut node = start(&own, &[]).await;
        assert!(node.get("/").await.contains("\"durability\":\"unknown\""));
        assert!(node.get("/metrics").await.contains("ordersystem_durability -1"));
        server.start_again();
        if is_durable {
            node.places_an_order().await;
            let shown: serde_json::Value = serde_json::from_str(&node.get("/").await).expect("JSON");
            assert_eq!(shown["durability"], "machine");
            let info = SystemServiceClient::new(node.channel().await).get_server_info(GetServerInfoRequest {}).await;
            let detail = info.expect("answered").into_inner().durability_detail;
            assert!(detail.contains("appendfsync always"), "{detail}");
            assert_eq!(shown["durabilityDetail"], detail.as_str(), "both APIs say what was found");
            continue;
        }
        let code =
            tokio::time::timeout(ENDS_WITHIN, node.child.wait()).await.expect("it ends by itself").expect("it ran");
        let said = node.log.rest_within(ENDS_WITHIN).await;
        assert_eq!(code.code(), Some(1), "{said}");
        assert!(said.contains("error: --require-durable: the durability of persistence redis is process"), "{said}");
        for what in [&server.url(), "appendonly no", "machine is required", "set appendonly yes, appendfsync always"] {
            assert!(said.contains(what), "{what}: {said}");
        }
    }
}

#[tokio::test]
async fn a_node_that_is_no_longer_ready_logs_why() {
    let mut broker = Broker::Redis(RedisServer::start(DURABLE));
    let mut node = start(&broker.settings(&["--persistence"]), &[]).await;
    node.log.line_with("the node is ready").await;
    broker.go(Away::Gone);
    let line = node.log.line_with("the node is no longer ready").await;
    assert!(line.contains("store: ") && line.contains("Redis"), "{line}");
}

/// Accepts connections, and sends nothing.
struct Silent {
    _listener: std::net::TcpListener,
    address: String,
}

impl Silent {
    fn listen() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        Self { _listener: listener, address }
    }
}

#[tokio::test]
async fn a_node_that_waits_for_its_broker_reports_that_it_is_live_and_ends_at_once() {
    for broker in ["redis", "nats"] {
        let silent = Silent::listen();
        let port = free_port().to_string();
        let args = ["--port", &port, "--persistence", broker, "--transport", broker];
        let broker_at = format!("--{broker}");
        let node = program().args(args).args([&broker_at, &silent.address]).spawn().expect("it starts");
        let give_up_at = tokio::time::Instant::now() + Duration::from_secs(60);
        let live = format!("http://127.0.0.1:{port}/health/live");
        while !reqwest::get(&live).await.is_ok_and(|answer| answer.status() == 200) {
            assert!(tokio::time::Instant::now() < give_up_at, "{broker}: it does not say that it lives");
        }
        let id = node.id().expect("it runs").to_string();
        assert!(std::process::Command::new("kill").args(["-INT", &id]).status().expect("a kill").success());
        let end = tokio::time::timeout(ENDS_WITHIN, node.wait_with_output()).await.expect("it ends").expect("it ran");
        let said = String::from_utf8(end.stderr).expect("text");
        assert_eq!(end.status.code(), Some(0), "{broker}: {said}");
        assert!(said.contains("stopped before it had started"), "{broker}: {said}");
        assert!(!said.contains("is listening on") && !said.contains("WARN"), "{broker}: {said}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_reported_before_waiting_for_a_broker() {
    for broker in ["redis", "nats"] {
        let (silent, taken) = (Silent::listen(), Silent::listen());
        let port = taken.address.rsplit_once(':').expect("a port").1;
        let end = run(&["--port", port, "--persistence", broker, &format!("--{broker}"), &silent.address]).await;
        assert_eq!(end.code, Some(1), "{end:?}");
        assert!(end.stderr.starts_with("error: cannot listen on"), "{end:?}");
        assert_eq!(end.stderr.lines().count(), 1, "{end:?}");
    }
}

#[tokio::test]
async fn a_command_never_sent_to_an_absent_broker_is_unavailable_and_not_unknown() {
    for mut broker in [Broker::Redis(RedisServer::start(DURABLE)), Broker::Nats(NatsServer::start(""))] {
        let mut node = start(&broker.settings(&["--persistence"]), &[]).await;
        node.places_an_order().await;
        let mut commands = node.commands().await;
        broker.go(Away::Gone);
        node.log.line_with("connection refused").await;
        for _ in 0..3 {
            let refused = commands.create_order(new_order("customer-1")).await.expect_err("there is no broker");
            let reason = refused.get_details_error_info().expect("a reason").reason;
            assert_eq!((refused.code(), reason.as_str()), (Code::Unavailable, "UNAVAILABLE"), "{refused:?}");
        }
        node.signal("TERM");
        let said = node.rest_of_log().await;
        assert!(!said.contains("is open: calls are refused") && !said.contains("requests fail"), "{said}");
    }
}

#[tokio::test]
async fn an_absent_broker_is_logged_in_one_line() {
    for mut broker in [Broker::Redis(RedisServer::start(DURABLE)), Broker::Nats(NatsServer::start(""))] {
        let mut node = start(&broker.settings(&["--persistence", "--transport"]), &[]).await;
        node.places_an_order().await;
        node.log.line_with("the node is ready").await;
        broker.go(Away::Gone);
        let give_up_at = tokio::time::Instant::now() + Duration::from_secs(60);
        // Each has tried to connect to it.
        loop {
            let health: serde_json::Value = serde_json::from_str(&node.get("/health").await).expect("JSON");
            let is_well = |name: &str| health["checks"][name]["status"] == "Healthy";
            if !["store", "transport", "outbox", "projections", "subscriptions"].iter().any(|name| is_well(name)) {
                break;
            }
            assert!(tokio::time::Instant::now() < give_up_at, "{health}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let end = ended_by("TERM", node).await;
        assert_eq!(end.code, Some(0), "{}", end.stderr);
        let loud = end.stderr.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR "));
        let loud: Vec<_> = loud.filter(|line| !line.contains("cannot flush the outbox")).collect();
        assert_eq!(loud.len(), 1, "{loud:#?}");
        // Its last answer to a connection attempt may be a reset.
        let has_cause = ["connection refused", "connection reset"].iter().any(|cause| loud[0].contains(cause));
        assert!(loud[0].contains("127.0.0.1:") && has_cause, "{loud:#?}");
    }
}
