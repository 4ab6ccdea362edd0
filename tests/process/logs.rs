//! The log: its levels while the node runs, and its lines.

use std::fs;

use futures_util::stream;
use ordersystem::proto::catga::{
    orders::v1::{ExecuteCommandsRequest, StreamEventsRequest, execute_commands_request::Command},
    system::v1::{SetLogLevelRequest, admin_service_client::AdminServiceClient},
};
use serde_json::{Value, json};
use tonic::Request;

use crate::{
    access::{add_key, node_with},
    support::{Process, new_order, pay, reason, run, soon, until, violated_fields},
};

/// Places an order, and returns what the node has logged since `seen` lines, up to its answer: the node logs before it answers.
async fn logged_for_an_order(node: &Process, seen: usize) -> Vec<String> {
    node.commands().await.create_order(new_order("customer-1")).await.expect("accepted");
    // The log is read by another task: a line that is logged later tells that all before have arrived.
    let address = node.address.to_string();
    let shown = run(&["log-level", "--address", &address]).await;
    assert_eq!(shown.code, Some(0), "{shown:?}");
    let is_audited = |lines: &[String]| lines.iter().any(|line| line.contains("/GetLogLevel"));
    until("the log has arrived", async || is_audited(&node.said()[seen..])).await;
    node.said()[seen..].to_vec()
}

fn has_debug_lines(lines: &[String]) -> bool {
    lines.iter().any(|line| line.contains("DEBUG ordersystem::application::pipeline") && line.contains("CreateOrder"))
}

#[tokio::test]
async fn an_operator_changes_the_filter_temporarily_and_restores_it() {
    let node = Process::start(&[]).await;
    node.until_ready().await;
    let address = node.address.to_string();
    let level = async |args: &[&str]| run(&[&["log-level", "--address", &address][..], args].concat()).await;
    assert_eq!(level(&[]).await.stdout, "info\n");
    assert!(!has_debug_lines(&logged_for_an_order(&node, node.said().len()).await));
    let set = level(&["info,ordersystem::application=debug", "--for-seconds", "3600"]).await;
    assert!(set.stdout.starts_with("info,ordersystem::application=debug (until 2"), "{set:?}");
    assert!(set.stdout.ends_with("Z, then as configured: info)\n"), "{set:?}");
    assert!(has_debug_lines(&logged_for_an_order(&node, node.said().len()).await));
    assert_eq!(level(&["--configured"]).await.stdout, "info\n");
    assert!(!has_debug_lines(&logged_for_an_order(&node, node.said().len()).await));
    assert_eq!(level(&["warn,ordersystem=info"]).await.stdout, "warn,ordersystem=info (configured: info)\n");
    line_with(&node, &["an operator has set the log filter", r#"filter="warn,ordersystem=info" before="info""#]).await;
}

#[tokio::test]
async fn a_wrong_filter_is_refused_and_changes_nothing() {
    let node = Process::start(&[]).await;
    node.until_ready().await;
    let mut admin = AdminServiceClient::new(node.channel().await);
    let mut refused = async |filter: &str, seconds: Option<i64>| {
        let duration = seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
        let request = SetLogLevelRequest { filter: filter.to_owned(), duration };
        let status = admin.set_log_level(request).await.expect_err("refused");
        assert_eq!(reason(&status), "INVALID_ARGUMENT");
        (violated_fields(&status), status.message().to_owned())
    };
    let (fields, message) = refused("inof", None).await;
    assert_eq!(fields, ["filter"]);
    assert!(
        message.contains("'inof' is not a level (off, error, warn, info, debug, trace) nor target=level"),
        "{message}"
    );
    assert_eq!(refused("info,hyper=wran", None).await.0, ["filter"]);
    assert_eq!(refused(&"x=info,".repeat(200), None).await.0, ["filter"]);
    for seconds in [0, -1, 86_401] {
        assert_eq!(refused("debug", Some(seconds)).await.0, ["duration"]);
    }
    assert_eq!(refused("", Some(60)).await.0, ["duration"]);
    let address = node.address.to_string();
    assert_eq!(run(&["log-level", "--address", &address]).await.stdout, "info\n");
    let wrong = run(&["log-level", "loud", "--address", &address]).await;
    assert_eq!((wrong.code, wrong.stderr.contains("'loud' is not a level")), (Some(2), true), "{wrong:?}");
}

#[tokio::test]
async fn an_operator_cannot_act_unseen_by_silencing_the_log() {
    let node = Process::start(&[]).await;
    node.until_ready().await;
    let address = node.address.to_string();
    let audited =
        |path: &str| node.said().iter().filter(|line| line.contains(" audit: ") && line.contains(path)).count();
    for (index, filter) in ["off", "error", "warn,[{who}]=off"].into_iter().enumerate() {
        set_level(&node, filter).await;
        run(&["projections", "rebuild", "--address", &address]).await;
        until("both are audited", async || {
            audited("/SetLogLevel") == index + 1 && audited("/RebuildProjections") == index + 1
        })
        .await;
    }
    assert!(!node.said().iter().any(|line| line.contains("an operator has set the log filter")), "the rest is silent");
    let refused = run(&["log-level", "info,audit=off", "--address", &address]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("the audit of a running node cannot be silenced"), "{refused:?}");
    assert_eq!(run(&["log-level", "--address", &address]).await.stdout, "warn,[{who}]=off (configured: info)\n");
    let silent = Process::start(&["--log-level", "info,audit=off"]).await;
    silent.until_ready().await;
    for filter in ["info,audit=off,h2=warn", "debug,audit=off"] {
        set_level(&silent, filter).await;
        line_with(&silent, &["an operator has set the log filter", filter]).await;
    }
    assert!(!silent.said().iter().any(|line| line.contains(" audit: ")), "as configured");
}

#[tokio::test]
async fn on_sighup_the_node_reads_its_configuration_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    fs::write(&file, "log_level = 'info'\n").unwrap();
    let mut node = Process::start(&["--config", file.to_str().unwrap()]).await;
    node.until_ready().await;
    let address = node.address.to_string();
    fs::write(&file, "log_level = 'info,ordersystem=debug'\nmax_in_flight = 77\n").unwrap();
    node.signal("HUP");
    let line = node.log.line_with("the configuration was read again").await;
    assert!(line.contains(r#"filter="info,ordersystem=debug""#), "{line}");
    assert!(node.log.line_with("need a restart").await.contains(r#"settings="max-in-flight""#));
    assert!(has_debug_lines(&logged_for_an_order(&node, node.said().len()).await));
    fs::write(&file, "log_level = 'loud'\n").unwrap();
    node.signal("HUP");
    let line = node.log.line_with("the previous log level stays").await;
    assert!(line.contains("ERROR") && line.contains("'loud' is not a level") && line.contains("node.toml"), "{line}");
    let set = run(&["log-level", "warn", "--address", &address]).await;
    assert_eq!(set.stdout, "warn (configured: info,ordersystem=debug)\n");
    fs::write(&file, "log_level = 'info'\n").unwrap();
    node.signal("HUP");
    node.log.line_with("the configuration was read again").await;
    assert_eq!(run(&["log-level", "--address", &address]).await.stdout, "info\n", "it ends what was set");
}

#[tokio::test]
async fn a_log_level_that_a_flag_sets_is_stronger_than_the_changed_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    fs::write(&file, "log_level = 'info'\n").unwrap();
    let mut node = Process::start(&["--config", file.to_str().unwrap(), "--log-level", "info,h2=warn"]).await;
    fs::write(&file, "log_level = 'debug'\n").unwrap();
    node.signal("HUP");
    let line = node.log.line_with("the configuration was read again").await;
    assert!(line.contains(r#"filter="info,h2=warn""#), "{line}");
}

#[tokio::test]
async fn a_filter_that_names_only_targets_leaves_the_service_its_level() {
    let node = Process::start(&["--log-level", "access=info"]).await;
    node.until_ready().await;
    line_with(&node, &["the node is ready"]).await;
    get(&node, "/stats", "call-1").await;
    line_with(&node, &[" access: call ", "call_id=call-1"]).await;
    assert!(!node.said().iter().any(|line| line.contains("the log filter names")), "{:?}", node.said());
}

#[tokio::test]
async fn a_target_that_nothing_has_is_named_at_the_start_and_when_it_is_set() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    fs::write(&file, "log_level = 'acess=info'\n").unwrap();
    let node = Process::start(&["--config", file.to_str().unwrap()]).await;
    node.until_ready().await;
    let told =
        |target: &str| format!("the log filter names targets that the service does not have targets=\"{target}\"");
    assert!(line_with(&node, &[&told("acess")]).await.contains(" WARN "));
    line_with(&node, &["the node is ready"]).await;
    let set = run(&["log-level", "odrer_events=info,info", "--address", &node.address.to_string()]).await;
    assert_eq!((set.code, &*set.stderr), (Some(0), "warning: the service has no target 'odrer_events'\n"), "{set:?}");
    line_with(&node, &[&told("odrer_events")]).await;
    fs::write(&file, "log_level = 'ordersytem=debug'\n").unwrap();
    node.signal("HUP");
    line_with(&node, &[&told("ordersytem")]).await;
}

/// A call with this id, by the caller with this key.
pub fn call<T>(message: T, id: &str, key: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-request-id", id.parse().expect("ASCII"));
    if let Some(key) = key {
        request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().expect("ASCII"));
    }
    request
}

/// The first line of the log with all of these texts.
pub async fn line_with(node: &Process, texts: &[&str]) -> String {
    let has_all = |line: &String| texts.iter().all(|text| line.contains(text));
    until(&format!("a line has {texts:?}"), async || node.said().into_iter().find(has_all)).await
}

/// Logs each command and query.
const EACH: [&str; 2] = ["--log-level", "info,ordersystem::application=debug"];

#[tokio::test]
async fn a_line_within_a_call_names_the_call_and_its_verified_caller() {
    let folder = tempfile::tempdir().unwrap();
    let file = add_key(folder.path(), "shop", &["--role", "writer"]).await;
    let key = fs::read_to_string(file).unwrap();
    let node = node_with(&folder, &EACH).await;
    let mut commands = node.commands().await;
    commands.create_order(call(new_order("customer-1"), "call-1", Some(key.trim()))).await.expect("accepted");
    let line = line_with(&node, &["answered", "CreateOrder", "call_id=call-1"]).await;
    assert!(line.contains(" call_id=call-1 caller=\"shop\" order_id="), "{line}");
    // Its commands are executed by another task.
    let command = Some(Command::CreateOrder(new_order("customer-1")));
    let many = stream::iter([ExecuteCommandsRequest { correlation_id: String::new(), command }]);
    let mut replies =
        commands.execute_commands(call(many, "call-2", Some(key.trim()))).await.expect("opens").into_inner();
    assert!(replies.message().await.expect("no error").is_some());
    let line = line_with(&node, &["answered", "CreateOrder", "call_id=call-2"]).await;
    assert!(line.contains(" call_id=call-2 caller=\"shop\" order_id="), "{line}");
    let line = line_with(&node, &["is listening on"]).await;
    assert!(!line.contains("call_id="), "outside of a call: {line}");
    drop(node);
    let node = node_with(&folder, &[&EACH[..], &["--log-format", "json"]].concat()).await;
    let mut commands = node.commands().await;
    let hostile = "call-3\"},{\\";
    commands.create_order(call(new_order("customer-1"), hostile, Some(key.trim()))).await.expect("accepted");
    let line: Value = serde_json::from_str(&line_with(&node, &["answered", "call-3"]).await).expect("JSON");
    assert_eq!((line["call_id"].as_str(), line["caller"].as_str()), (Some(hostile), Some("shop")), "{line}");
}

#[tokio::test]
async fn a_line_within_a_call_names_no_caller_where_none_is_identified() {
    let node = Process::start(&EACH).await;
    node.until_ready().await;
    let order = json!({ "customerId": "c", "items": [{ "productId": "p", "quantity": 1, "price": 1 }] });
    let request = reqwest::Client::new().post(format!("http://{}/orders", node.address)).json(&order);
    let reply = request.header("x-request-id", "call-1").send().await.expect("answers");
    assert_eq!(reply.status(), 201);
    let line = line_with(&node, &["answered", "CreateOrder", "call_id=call-1"]).await;
    assert!(!line.contains("caller="), "{line}");
}

/// GETs `path` in a call with this id.
async fn get(node: &Process, path: &str, id: &str) -> reqwest::Response {
    let request = reqwest::Client::new().get(format!("http://{}{path}", node.address)).header("x-request-id", id);
    request.send().await.expect("answers")
}

async fn set_level(node: &Process, filter: &str) {
    let set = run(&["log-level", filter, "--address", &node.address.to_string()]).await;
    assert_eq!(set.code, Some(0), "{set:?}");
}

#[tokio::test]
async fn the_access_log_has_a_line_for_each_call_once_it_is_on() {
    let node = Process::start(&["--log-level", "debug"]).await;
    node.until_ready().await;
    let mut commands = node.commands().await;
    commands.create_order(call(new_order("customer-1"), "before", None)).await.expect("accepted");
    set_level(&node, "info,access=info").await;
    commands.create_order(call(new_order("customer-1"), "call-1", None)).await.expect("accepted");
    let line = line_with(&node, &[" access: call ", "call_id=call-1"]).await;
    assert!(line.contains(" INFO ") && line.contains("grpc_status=0") && !line.contains(" status="), "{line}");
    assert!(line.contains("path=\"/catga.orders.v1.OrderCommandService/CreateOrder\""), "{line}");
    let number = |name: &str| {
        let value = line.split_once(&format!(" {name}=")).and_then(|(_, rest)| rest.split(' ').next());
        value.and_then(|value| value.parse::<f64>().ok()).unwrap_or_else(|| panic!("no {name}: {line}"))
    };
    assert!(number("took_ms") > 0.0 && number("received_bytes") > 5.0 && number("sent_bytes") > 5.0, "{line}");
    assert!(line.contains(&format!("peer=\"{}:", node.address.ip())), "{line}");
    // What names customers and orders is no part of a line.
    let length = get(&node, "/orders/7?x=secret", "call-2").await.text().await.expect("text").len();
    let line = line_with(&node, &[" access: call ", "call_id=call-2"]).await;
    assert!(line.contains(" WARN ") && line.contains(" status=4"), "{line}");
    assert!(line.contains(&format!("sent_bytes={length} ")), "{line}");
    assert!(line.contains("method=\"GET\" path=\"/orders/{id}\"") && !line.contains("secret"), "{line}");
    set_level(&node, "info,access=warn").await;
    get(&node, "/stats", "call-3").await;
    commands.pay_order(call(pay("7"), "call-4", None)).await.expect_err("there is no such order");
    let line = line_with(&node, &[" access: call ", "call_id=call-4"]).await;
    assert!(line.contains(" WARN ") && line.contains("grpc_status=5"), "{line}");
    for id in ["before", "call-3"] {
        let has_it = |line: &String| line.contains(" access: ") && line.contains(&format!("call_id={id}"));
        assert!(!node.said().iter().any(has_it), "{id}");
    }
}

#[tokio::test]
async fn the_access_log_has_the_line_of_a_stream_at_its_end() {
    let node = Process::start(&["--log-level", "info,access=info"]).await;
    node.until_ready().await;
    let request = StreamEventsRequest { follow: true, ..Default::default() };
    let stream = node.history().await.stream_events(call(request, "call-1", None)).await.expect("opens");
    let http = reqwest::Client::new().get(format!("http://{}/events", node.address));
    let http = http.header("accept", "text/event-stream").header("x-request-id", "call-2");
    let mut events = http.send().await.expect("answers");
    node.places_an_order().await;
    let event = soon("an event", events.chunk()).await.expect("no error").expect("not the end");
    let line = line_with(&node, &[" access: call ", "/CreateOrder"]).await;
    assert!(line.contains("grpc_status=0"), "{line}");
    let said = node.said().join("\n");
    assert!(!said.contains("call_id=call-1") && !said.contains("call_id=call-2"), "they are open: {said}");
    drop((stream, events));
    let line = line_with(&node, &[" access: call ", "call_id=call-1"]).await;
    assert!(line.contains(" INFO ") && line.contains("/StreamEvents\" grpc_status=1 "), "{line}");
    let line = line_with(&node, &[" access: call ", "call_id=call-2"]).await;
    assert!(line.contains("method=\"GET\" path=\"/events\" status=200 "), "{line}");
    let sent = line.split_once("sent_bytes=").and_then(|(_, rest)| rest.split(' ').next()?.parse::<usize>().ok());
    assert!(sent.is_some_and(|sent| sent >= event.len()), "{line}");
}
