//! The lines of the log: those of a call with a trace context, of an event, and the last one of a start.

use std::fs;

use ordersystem::proto::catga::orders::v1::StreamEventsRequest;
use serde_json::Value;
use tonic::Request;

use crate::{
    access::{add_key, node_with},
    logs::{call, line_with},
    support::{Process, collector::Collector, embedded, new_order, run, until},
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn context() -> String {
    format!("00-{TRACE}-b7ad6b7169203331-01")
}

fn traced<T>(mut request: Request<T>) -> Request<T> {
    request.metadata_mut().insert("traceparent", context().parse().expect("ASCII"));
    request
}

/// The value of a fact in a line of this format.
fn fact(line: &str, format: &str, name: &str) -> Option<String> {
    if format == "json" {
        let line: Value = serde_json::from_str(line).expect("JSON");
        return line[name].as_str().map(str::to_owned);
    }
    let (_, rest) = line.split_once(&format!(" {name}="))?;
    rest.split(' ').next().map(str::to_owned)
}

#[tokio::test]
async fn every_line_of_a_call_with_a_context_has_its_trace() {
    let folder = tempfile::tempdir().unwrap();
    let file = add_key(folder.path(), "shop", &["--role", "writer", "--role", "events"]).await;
    let key = fs::read_to_string(file).unwrap();
    let key = Some(key.trim());
    for format in ["text", "json"] {
        let filter = "info,access=debug,ordersystem::application=debug";
        let node = node_with(&folder, &["--log-format", format, "--log-level", filter]).await;
        let mut commands = node.commands().await;
        commands.create_order(traced(call(new_order("customer-1"), "call-1", key))).await.expect("accepted");
        commands.create_order(traced(call(new_order("customer-1"), "call-2", None))).await.expect_err("no key");
        let request = StreamEventsRequest { follow: true, ..Default::default() };
        let stream = node.history().await.stream_events(traced(call(request, "call-3", key))).await.expect("opens");
        drop(stream);
        for (path, id) in [("/orders/7", "call-4"), ("/health/live", "call-5")] {
            let request = reqwest::Client::new().get(format!("http://{}{path}", node.address));
            let request = request.header("x-request-id", id).header("traceparent", context());
            request.send().await.expect("answers");
        }
        for texts in [
            ["answered", "call-1"],
            ["access", "call-1"],
            ["audit", "call-2"],
            ["access", "call-2"],
            ["access", "call-3"],
            ["access", "call-4"],
            ["access", "call-5"],
        ] {
            let line = line_with(&node, &texts).await;
            assert_eq!(fact(&line, format, "trace_id").as_deref(), Some(TRACE), "{line}");
        }
        commands.create_order(call(new_order("customer-1"), "call-6", key)).await.expect("accepted");
        let line = line_with(&node, &["access", "call-6"]).await;
        assert_eq!(fact(&line, format, "trace_id"), None, "it has no context: {line}");
    }
}

#[tokio::test]
async fn the_line_of_an_event_has_its_order_and_the_trace_of_its_command() {
    let collector = Collector::start().await;
    // With a collector the handler has a trace of its own.
    for (format, otlp) in [("text", None), ("json", None), ("text", Some(&collector)), ("json", Some(&collector))] {
        let own = ["--log-level", "order_events=info", "--log-format", format];
        let otlp = otlp.map(|collector| ["--otlp-endpoint", &collector.endpoint]).unwrap_or_default();
        let settings: Vec<_> = own.into_iter().chain(otlp).filter(|setting| !setting.is_empty()).collect();
        let node = Process::start(&settings).await;
        node.until_ready().await;
        let placed = node.commands().await.create_order(traced(call(new_order("customer-1"), "call-1", None))).await;
        let order = placed.expect("accepted").into_inner().order.expect("an order").order_id;
        let line = line_with(&node, &["order event", "OrderCreated"]).await;
        assert_eq!(fact(&line, format, "trace_id").as_deref(), Some(TRACE), "{line}");
        assert_eq!(fact(&line, format, "order_id"), Some(order), "{line}");
        assert!(line.contains("customer-1"), "{line}");
    }
}

#[tokio::test]
async fn the_banner_is_the_last_line_of_a_start() {
    for number in 0..6 {
        let folder = tempfile::tempdir().unwrap();
        let settings = if number % 2 == 0 { Vec::new() } else { embedded(folder.path()).to_vec() };
        let node = Process::serve(&settings).await;
        let handler = async || node.health("subscriptions").await.1.contains("handled").then_some(());
        until("the handler runs", handler).await;
        line_with(&node, &["the node is ready: it serves"]).await;
        // A call of an operator has a line: everything before it has been written.
        run(&["log-level", "--address", &node.address.to_string()]).await;
        line_with(&node, &["/GetLogLevel"]).await;
        let said = node.said();
        let at = |text: &str| said.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("no {text}"));
        let banner = at("the node is ready: it serves");
        assert!(at("the subscription is active") < banner, "{said:#?}");
        assert!(said[banner + 1].contains("/GetLogLevel"), "{said:#?}");
    }
}
