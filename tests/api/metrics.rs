//! The metrics: every call counts, whatever becomes of it, and the table of them is complete.

use std::collections::{BTreeMap, BTreeSet};

use ordersystem::{
    proto::catga::{
        ids::v1::StreamIdsRequest,
        orders::v1::{ExecuteCommandsRequest, StreamEventsRequest, execute_commands_request},
    },
    telemetry::metrics::METRICS,
};
use prost::Message as _;
use reqwest::Client;

use crate::{
    support::{Callers, TestServer, authorization, collector::Collector, new_order, order_after, pay, until},
    wire::frame,
};

/// The metrics that need a special set-up: a certificate, and a cache that nodes share.
const ABSENT: [&str; 2] = ["ordersystem_certificate_expiry_seconds", "ordersystem_shared_cache_lookups_total"];

async fn scrape(server: &TestServer) -> String {
    let scraped = Client::new().get(server.url("/metrics")).header("authorization", authorization("operator"));
    scraped.send().await.expect("answers").text().await.expect("text")
}

/// The value of a series, whose text is everything before the value; 0 if there is none.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().expect("a number"))
}

fn rpc(name: &str, service: &str, method: &str) -> String {
    format!("{name}{{rpc_service=\"{service}\",rpc_method=\"{method}\"}}")
}

fn ended(service: &str, method: &str, code: u8) -> String {
    format!(
        "rpc_server_requests_total{{rpc_service=\"{service}\",rpc_method=\"{method}\",rpc_grpc_status_code=\"{code}\"}}"
    )
}

fn answered(route: &str, method: &str, status: u16) -> String {
    format!(
        "http_server_requests_total{{http_route=\"{route}\",http_request_method=\"{method}\",http_response_status_code=\"{status}\"}}"
    )
}

/// Waits until a series has a value.
async fn until_counted(server: &TestServer, series: &str, expected: f64) {
    let about = format!("{series} is {expected}");
    until(&about, async || (value(&scrape(server).await, series) == expected).then_some(())).await;
}

const COMMANDS: &str = "catga.orders.v1.OrderCommandService";
const HISTORY: &str = "catga.orders.v1.OrderHistoryService";
const IDS: &str = "catga.ids.v1.IdService";

#[tokio::test]
async fn every_metric_is_in_the_table_and_the_node_has_every_one_of_it() {
    let (collector, callers) = (Collector::start().await, Callers::new(&[("operator", "operator")]));
    let settings = [("otlp-endpoint", collector.endpoint.as_str()), ("identities", callers.path())];
    let server = TestServer::start_with(&settings).await;
    // Durations exist from the first call on, which over REST is a scrape.
    let has_first = |text: &String| text.contains("http_server_request_duration_seconds_count");
    let text = until("a request over REST has ended", async || Some(scrape(&server).await).filter(has_first)).await;
    let mut found: BTreeMap<&str, (&str, BTreeSet<String>)> = BTreeMap::new();
    let mut names = Vec::new();
    for line in text.lines() {
        if let Some(about) = line.strip_prefix("# TYPE ") {
            let (name, kind) = about.split_once(' ').expect("a type");
            found.insert(name, (kind, BTreeSet::new()));
            names.push(name);
        } else if !line.starts_with('#') {
            let name = *names.last().expect("a type goes before its series");
            assert!(line.starts_with(name), "{line} is below {name}");
            let (series, _) = line.rsplit_once(' ').expect("a value");
            let labels = series.split_once('{').map_or("", |(_, labels)| labels.trim_end_matches('}'));
            let keys = labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
            found.get_mut(name).expect("known").1.extend(keys.filter(|key| key != "le"));
        }
    }
    let expected: BTreeMap<&str, (&str, BTreeSet<String>)> = METRICS
        .iter()
        .filter(|metric| !ABSENT.contains(&metric.name))
        .map(|metric| {
            let labels = metric.labels.iter().map(|label| (*label).to_owned()).collect();
            (metric.name, (metric.kind.name(), labels))
        })
        .collect();
    assert_eq!(found, expected);
    assert!(names.is_sorted(), "{names:?}");
    let heads = |text: &str| -> Vec<_> {
        text.lines().map(|line| line.rsplit_once(' ').map(|(head, _)| head.to_owned())).collect()
    };
    let again = heads(&scrape(&server).await);
    let mut later = again.iter();
    assert!(heads(&text).iter().all(|head| later.any(|found| found == head)), "the order of series is stable");
}

#[tokio::test]
async fn calls_of_grpc_count_by_method_and_code() {
    let server = TestServer::start().await;
    let commands = server.commands().await;
    let order = order_after(&commands, "c", &[]).await;
    commands.clone().pay_order(pay("7")).await.expect_err("there is no such order");
    let command = execute_commands_request::Command::PayOrder(pay(&order.order_id));
    let sent = ExecuteCommandsRequest { command: Some(command), ..Default::default() };
    let sent = tokio_stream::iter([sent.clone(), sent]);
    let mut replies = commands.clone().execute_commands(sent).await.expect("opens").into_inner();
    while replies.message().await.expect("no failure").is_some() {}
    let body = frame(0, &new_order("c").encode_to_vec());
    let web = Client::new().post(server.url(&format!("/{COMMANDS}/CreateOrder"))).body(body);
    web.header("content-type", "application/grpc-web-text").send().await.expect("answers");
    let web = Client::new().post(server.url(&format!("/{COMMANDS}/CreateOrder"))).body(frame(0, &[]));
    let web = web.header("content-type", "application/grpc-web").send().await.expect("answers");
    web.bytes().await.expect("a body");
    for (series, expected) in [
        (ended(COMMANDS, "CreateOrder", 0), 1.0),
        // One has text that is no base64, one has no customer.
        (ended(COMMANDS, "CreateOrder", 3), 2.0),
        (ended(COMMANDS, "PayOrder", 5), 1.0),
        (ended(COMMANDS, "ExecuteCommands", 0), 1.0),
        (ended(COMMANDS, "CancelOrder", 13), 0.0),
        (rpc("rpc_server_stream_messages_received_total", COMMANDS, "ExecuteCommands"), 2.0),
        (rpc("rpc_server_stream_messages_sent_total", COMMANDS, "ExecuteCommands"), 2.0),
        (rpc("rpc_server_active_requests", COMMANDS, "CreateOrder"), 0.0),
        (ended("_OTHER", "_OTHER", 12), 0.0),
    ] {
        until_counted(&server, &series, expected).await;
    }
    let text = scrape(&server).await;
    for name in ["rpc_server_request_bytes_total", "rpc_server_response_bytes_total"] {
        assert!(value(&text, &rpc(name, COMMANDS, "CreateOrder")) > 20.0, "{name}");
    }
    let took = "rpc_server_duration_seconds_count{rpc_service=\"catga.orders.v1.OrderCommandService\",rpc_method=\"CreateOrder\",rpc_grpc_status_code=\"3\"}";
    assert_eq!(value(&text, took), 2.0);
    assert!(
        value(&text, "ordersystem_commit_events_count") >= 2.0 && value(&text, "ordersystem_commit_bytes_sum") > 50.0
    );
    let append = "db_client_operation_duration_seconds_count{db_system_name=\"inmemory\",db_operation_name=\"append\"}";
    assert_eq!(value(&text, append), value(&text, "ordersystem_commit_events_count"));
}

#[tokio::test]
async fn an_open_stream_is_active_until_its_client_goes() {
    let server = TestServer::start().await;
    let open = rpc("rpc_server_active_requests", HISTORY, "StreamEvents");
    let following = StreamEventsRequest { follow: true, ..Default::default() };
    let mut history = server.history().await;
    let stream = history.stream_events(following).await.expect("opens").into_inner();
    until_counted(&server, &open, 1.0).await;
    drop(stream);
    until_counted(&server, &open, 0.0).await;
    until_counted(&server, &ended(HISTORY, "StreamEvents", 1), 1.0).await;
    let mut ids = server
        .ids()
        .await
        .stream_ids(StreamIdsRequest { count: 5_000, ..Default::default() })
        .await
        .expect("opens")
        .into_inner();
    let mut messages = 0.0;
    while ids.message().await.expect("no failure").is_some() {
        messages += 1.0;
    }
    until_counted(&server, &rpc("rpc_server_stream_messages_sent_total", IDS, "StreamIds"), messages).await;
    assert!(messages > 0.0);
}

#[tokio::test]
async fn connections_count_while_they_are_open() {
    let server = TestServer::start().await;
    const OPEN: &str = "ordersystem_connections{port=\"main\"}";
    // That of the scrape itself.
    until_counted(&server, OPEN, 1.0).await;
    let connect = || std::net::TcpStream::connect(server.address).expect("connects");
    let connections = [connect(), connect()];
    until_counted(&server, OPEN, 3.0).await;
    drop(connections);
    until_counted(&server, OPEN, 1.0).await;
    assert!(value(&scrape(&server).await, "ordersystem_connections_accepted_total{port=\"main\"}") >= 4.0);
}

#[tokio::test]
async fn refused_and_unknown_calls_count_without_labels_from_the_client() {
    let callers = Callers::new(&[("operator", "operator")]);
    let server = TestServer::start_with(&[("identities", callers.path())]).await;
    let client = Client::new();
    server.commands().await.create_order(new_order("c")).await.expect_err("without credentials");
    for (path, key) in [("/orders/1234567", None), ("/orders/1234567", Some("operator")), ("/made/up/1234567", None)] {
        let request = key
            .into_iter()
            .fold(client.get(server.url(path)), |request, key| request.header("authorization", authorization(key)));
        request.send().await.expect("answers");
    }
    let put = client.request("PURGE".parse().expect("a method"), server.url("/orders/1234567"));
    put.header("authorization", authorization("operator")).send().await.expect("answers");
    let made_up = client.post(server.url("/catga.orders.v1.MadeUp/Call1234567")).body(frame(0, &[]));
    made_up.header("content-type", "application/grpc-web").send().await.expect("answers");
    for series in [
        ended(COMMANDS, "CreateOrder", 16),
        ended("_OTHER", "_OTHER", 12),
        answered("/orders/{id}", "GET", 401),
        answered("/orders/{id}", "GET", 403),
        answered("/orders/{id}", "_OTHER", 405),
        answered("_OTHER", "GET", 404),
    ] {
        until_counted(&server, &series, 1.0).await;
    }
    let text = scrape(&server).await;
    assert!(!text.contains("1234567") && !text.contains("PURGE"), "{text}");
}
