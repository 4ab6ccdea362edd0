//! The variables of OpenTelemetry.

use ordersystem::proto::catga::orders::v1::order_command_service_client::OrderCommandServiceClient;

use crate::{
    logs::line_with,
    support::{Process, collector::Collector, new_order, outcome, program, until},
};

/// A node that sends spans to `collector`, with these variables.
async fn node_with(collector: &Collector, variables: &[(&str, &str)]) -> Process {
    let mut command = program();
    command.args(["--port", "0", "--node-id", "a", "--otlp-endpoint", &collector.endpoint]);
    let node = Process::spawn(command.envs(variables.iter().copied())).await;
    node.until_ready().await;
    node
}

async fn place_order(node: &Process) {
    OrderCommandServiceClient::new(node.channel().await).create_order(new_order("c")).await.expect("accepted");
}

#[tokio::test]
async fn attributes_in_the_environment_are_decoded_and_malformed_ones_are_named() {
    let collector = Collector::start().await;
    let variables = [("OTEL_RESOURCE_ATTRIBUTES", "team=a%20b,=x"), ("OTEL_SERVICE_NAME", "shop")];
    let node = node_with(&collector, &variables).await;
    let line = line_with(&node, &["OTEL_RESOURCE_ATTRIBUTES"]).await;
    assert!(line.contains(" WARN ") && line.contains("'=x'"), "{line}");
    place_order(&node).await;
    collector.span("an append", |span| span.name == "append").await;
    for (name, value) in [("team", "a b"), ("service.name", "shop"), ("service.instance.id", "a")] {
        assert_eq!(collector.resource(name).as_deref(), Some(value));
    }
    assert_eq!(collector.resource(""), None);
}

#[tokio::test]
async fn spans_are_switched_off_by_the_environment() {
    let collector = Collector::start().await;
    for variable in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
        let node = node_with(&collector, &[variable]).await;
        let line = line_with(&node, &["no spans are made"]).await;
        assert!(line.contains(&format!("{}={}", variable.0, variable.1)), "{line}");
        place_order(&node).await;
        let metrics = node.get("/metrics").await;
        assert!(!metrics.contains("ordersystem_trace_spans_exported_total"), "{metrics}");
        // A node that ends sends the rest.
        node.stop().await;
        assert!(collector.spans().is_empty());
    }
}

#[tokio::test]
async fn malformed_headers_are_refused_and_not_shown() {
    let collector = Collector::start().await;
    let mut command = program();
    command.args(["--port", "0", "--otlp-endpoint", &collector.endpoint]);
    let refused = outcome(command.env("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a,s3cret")).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("OTEL_EXPORTER_OTLP_HEADERS: member 2 is not name=value"), "{refused:?}");
    assert!(!refused.stderr.contains("s3cret"), "{refused:?}");
}

#[tokio::test]
async fn headers_reach_the_collector_and_its_refusal_reaches_the_log() {
    let collector = Collector::requiring("authorization", "Basic YQ==").await;
    let node = node_with(&collector, &[("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20YQ==")]).await;
    place_order(&node).await;
    collector.span("an append", |span| span.name == "append").await;
    let node = node_with(&collector, &[]).await;
    place_order(&node).await;
    let line = line_with(&node, &["the collector of traces does not accept them"]).await;
    assert!(line.contains(r#"error="PermissionDenied: authorization is required""#), "{line}");
    drop(collector);
}

#[tokio::test]
async fn a_collector_that_is_absent_is_logged_with_the_cause_alone() {
    let mut absent = Collector::start().await;
    absent.stop().await;
    let node = node_with(&absent, &[]).await;
    place_order(&node).await;
    let line = line_with(&node, &["the collector of traces does not accept them"]).await;
    assert!(line.contains(r#"error="Connection refused (os error 111)""#), "{line}");
}

#[tokio::test]
async fn spans_that_a_collector_rejects_from_a_batch_are_not_counted_as_exported() {
    let collector = Collector::rejecting(1, "too old").await;
    let node = node_with(&collector, &[]).await;
    place_order(&node).await;
    let line = line_with(&node, &["the collector of traces does not accept them"]).await;
    assert!(line.contains(r#"error="too old""#), "{line}");
    until("a rejected span is counted", async || {
        node.metric("ordersystem_trace_spans_dropped_total{reason=\"export_failed\"}").await >= 1.0
    })
    .await;
}
