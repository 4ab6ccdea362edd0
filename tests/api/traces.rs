//! Traces: from the caller through the command to the log, the bus and the handlers.

use opentelemetry_proto::tonic::trace::v1::Span;
use ordersystem::proto::catga::orders::v1::{ExecuteCommandsRequest, execute_commands_request};
use ordersystem::{
    codec::EventHeader,
    ports::event_store::{Direction, Position},
};
use reqwest::Client;
use serde_json::json;
use tonic::Request;

use crate::support::{
    Step, TestServer,
    collector::{Collector, attribute},
    new_order, order_after, pay, soon, until,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

pub fn traceparent(trace: &str, flags: &str) -> String {
    format!("00-{trace}-{PARENT}-{flags}")
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn with_context<T>(message: T, traceparent: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", traceparent.parse().expect("ASCII"));
    request
}

/// The contexts that the log has, by position.
async fn stored(server: &TestServer) -> Vec<Option<String>> {
    let events = server.store().read_log(Position(0), Direction::Forward, 100).await.expect("readable");
    let context = |payload: &[u8]| EventHeader::read(payload).expect("an event").traceparent().map(str::to_owned);
    events.iter().map(|event| context(&event.payload)).collect()
}

/// Checks that the spans of trace `trace` are `root`, `command` and an append, each below the one before; that the event at `position` has the
/// context of the command; and that its publishing and its handling link to it.
async fn assert_whole(
    collector: &Collector,
    server: &TestServer,
    trace: &str,
    root: &str,
    command: &str,
    position: u64,
) -> Span {
    let of_trace = |span: &Span, name: &str| hex(&span.trace_id) == trace && span.name == name;
    let root = collector.span(root, |span| of_trace(span, root)).await;
    let command = collector.span(command, |span| of_trace(span, command)).await;
    let append = collector.span("append", |span| of_trace(span, "append")).await;
    assert_eq!(hex(&root.parent_span_id), PARENT);
    assert_eq!(command.parent_span_id, root.span_id);
    assert_eq!(append.parent_span_id, command.span_id);
    assert_eq!(attribute(&command, "ordersystem.outcome").as_deref(), Some("success"));
    assert_eq!(attribute(&append, "db.system.name").as_deref(), Some("inmemory"));
    assert_eq!(attribute(&append, "db.operation.name").as_deref(), Some("append"));
    assert_eq!(attribute(&append, "db.operation.batch.size"), None, "one event is no batch");
    assert_eq!(attribute(&append, "ordersystem.log.position"), Some(position.to_string()));
    let contexts = stored(server).await;
    let context = format!("00-{trace}-{}-01", hex(&command.span_id));
    assert_eq!(contexts[usize::try_from(position).unwrap() - 1], Some(context));
    for name in ["publish", "process order-event-logger"] {
        let is_linked = |span: &Span| {
            span.links.iter().any(|link| link.trace_id == command.trace_id && link.span_id == command.span_id)
        };
        let linked = collector.span(name, |span| span.name == name && is_linked(span)).await;
        assert_ne!(linked.trace_id, command.trace_id, "a link, not a child");
        assert_eq!(attribute(&linked, "messaging.system").as_deref(), Some("inmemory"));
        assert_eq!(attribute(&linked, "messaging.operation.name").as_deref(), name.split(' ').next());
    }
    root
}

#[tokio::test]
async fn a_command_over_grpc_is_one_tree_to_the_append_with_links_from_publishing_and_handling() {
    let collector = Collector::start().await;
    let server = TestServer::start_with(&[("otlp-endpoint", &collector.endpoint), ("node-id", "traced")]).await;
    let order = order_after(&server.commands().await, "customer-1", &[]).await;
    let call = with_context(pay(&order.order_id), &traceparent(TRACE, "01"));
    server.commands().await.pay_order(call).await.expect("accepted");
    let root = "catga.orders.v1.OrderCommandService/PayOrder";
    let root = assert_whole(&collector, &server, TRACE, root, "PayOrder", 2).await;
    assert_eq!(attribute(&root, "rpc.system").as_deref(), Some("grpc"));
    assert_eq!(attribute(&root, "rpc.service").as_deref(), Some("catga.orders.v1.OrderCommandService"));
    assert_eq!(attribute(&root, "rpc.method").as_deref(), Some("PayOrder"));
    assert_eq!(attribute(&root, "rpc.grpc.status_code").as_deref(), Some("0"), "from the trailers");
    assert_eq!(collector.resource("service.name").as_deref(), Some("ordersystem"));
    assert_eq!(collector.resource("service.instance.id").as_deref(), Some("traced"));
    // A refusal is no failure of the server, and its status is told without a body.
    let again = "1af7651916cd43dd8448eb211c80319c";
    let call = with_context(pay(&order.order_id), &traceparent(again, "01"));
    server.commands().await.pay_order(call).await.expect_err("paid already");
    let refused = collector.span("the refusal", |span| hex(&span.trace_id) == again && span.kind == 2).await;
    assert_eq!(attribute(&refused, "rpc.grpc.status_code").as_deref(), Some("9"));
    assert_eq!(refused.status.unwrap_or_default().code, 0);
    let told = format!("{:?}", collector.spans());
    assert!(told.contains(&order.order_id) && !told.contains("customer-1"), "no personal data: {told}");
}

#[tokio::test]
async fn a_command_over_rest_is_the_same_tree() {
    let collector = Collector::start().await;
    let server = TestServer::start_with(&[("otlp-endpoint", &collector.endpoint)]).await;
    let order = order_after(&server.commands().await, "customer-1", &[]).await;
    let body = json!({ "paymentMethod": "card" }).to_string();
    let call = Client::new().post(server.url(&format!("/orders/{}/pay", order.order_id)));
    let call = call.header("Content-Type", "application/json").header("traceparent", traceparent(TRACE, "01"));
    let reply = call.body(body).send().await.expect("answers");
    assert!(reply.status().is_success(), "{}", reply.status());
    let known: Vec<_> = ordersystem::server::paths();
    let route = known.iter().find(|path| path.starts_with("/orders/{") && path.ends_with("/pay")).expect("a route");
    let root = assert_whole(&collector, &server, TRACE, &format!("POST {route}"), "PayOrder", 2).await;
    assert_eq!(attribute(&root, "http.route").as_ref(), Some(route));
    assert_eq!(attribute(&root, "http.request.method").as_deref(), Some("POST"));
    assert_eq!(attribute(&root, "http.response.status_code").as_deref(), Some("200"));
    let search = server.url("/orders?customerId=customer-1");
    let call = Client::new().get(search).header("traceparent", traceparent(&TRACE.replace('0', "2"), "01"));
    call.send().await.expect("answers");
    collector.span("the search", |span| span.name == "GET /orders").await;
    assert!(!format!("{:?}", collector.spans()).contains("customer-1"), "no personal data");
}

#[tokio::test]
async fn many_commands_in_one_call_are_below_its_span() {
    let collector = Collector::start().await;
    let server = TestServer::start_with(&[("otlp-endpoint", &collector.endpoint)]).await;
    let order = order_after(&server.commands().await, "customer-1", &[]).await;
    let command = execute_commands_request::Command::PayOrder(pay(&order.order_id));
    let sent = ExecuteCommandsRequest { command: Some(command), ..Default::default() };
    let call = with_context(tokio_stream::iter([sent]), &traceparent(TRACE, "01"));
    let mut replies = server.commands().await.execute_commands(call).await.expect("opens").into_inner();
    while replies.message().await.expect("no failure").is_some() {}
    let root = "catga.orders.v1.OrderCommandService/ExecuteCommands";
    assert_whole(&collector, &server, TRACE, root, "PayOrder", 2).await;
}

#[tokio::test]
async fn an_unsampled_call_stays_unsampled_and_its_context_is_stored_all_the_same() {
    let collector = Collector::start().await;
    let server = TestServer::start_with(&[("otlp-endpoint", &collector.endpoint)]).await;
    let commands = server.commands().await;
    let unsampled = "2af7651916cd43dd8448eb211c80319c";
    commands.clone().create_order(with_context(new_order("c"), &traceparent(unsampled, "00"))).await.expect("accepted");
    commands.clone().create_order(with_context(new_order("c"), &traceparent(TRACE, "01"))).await.expect("accepted");
    // Events are published and handled in the order of the log.
    collector.span("handling", |span| span.name == "process order-event-logger").await;
    let spans = collector.spans();
    assert!(spans.iter().all(|span| hex(&span.trace_id) != unsampled));
    let links = spans.iter().flat_map(|span| &span.links);
    assert!(links.map(|link| hex(&link.trace_id)).all(|trace| trace == TRACE));
    let contexts = stored(&server).await;
    let context = contexts[0].as_deref().expect("stored");
    assert!(context.starts_with(&format!("00-{unsampled}-")) && context.ends_with("-00"), "{context}");
}

#[tokio::test]
async fn a_ratio_of_zero_records_only_what_a_caller_has_sampled() {
    let collector = Collector::start().await;
    let settings = [("otlp-endpoint", collector.endpoint.as_str()), ("trace-sample-ratio", "0")];
    let server = TestServer::start_with(&settings).await;
    let commands = server.commands().await;
    commands.clone().create_order(new_order("c")).await.expect("accepted");
    commands.clone().create_order(with_context(new_order("c"), &traceparent(TRACE, "01"))).await.expect("accepted");
    collector.span("handling", |span| span.name == "process order-event-logger").await;
    let spans = collector.spans();
    assert_eq!(spans.iter().filter(|span| span.name == "append").count(), 1);
    assert!(stored(&server).await[0].as_deref().is_some_and(|context| context.ends_with("-00")));
}

#[tokio::test]
async fn without_a_collector_only_the_context_of_a_caller_is_stored() {
    let server = TestServer::start().await;
    let commands = server.commands().await;
    commands.clone().create_order(new_order("c")).await.expect("accepted");
    let context = traceparent(TRACE, "01");
    commands.clone().create_order(with_context(new_order("c"), &context)).await.expect("accepted");
    commands.clone().create_order(with_context(new_order("c"), "00-no-context-01")).await.expect("accepted");
    assert_eq!(stored(&server).await, [None, Some(context), None]);
}

#[tokio::test]
async fn the_span_of_a_request_is_named_by_its_method_if_that_is_a_known_one() {
    let collector = Collector::start().await;
    let server = TestServer::start_with(&[("otlp-endpoint", &collector.endpoint)]).await;
    for (method, name, attribute_of_it) in [
        ("PUT", "PUT /orders/{id}", "PUT"),
        ("PATCH", "PATCH /orders/{id}", "PATCH"),
        ("DELETE", "DELETE /orders/{id}", "DELETE"),
        ("BREW", "HTTP /orders/{id}", "_OTHER"),
    ] {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let refused = Client::new().request(method, server.url("/orders/7")).send().await.expect("answers");
        assert_eq!(refused.status(), 405);
        let span = collector.span(name, |span| span.name == name).await;
        assert_eq!(attribute(&span, "http.request.method").as_deref(), Some(attribute_of_it));
    }
}

/// The value of a metric of the node; 0 if it has none.
async fn metric(server: &TestServer, series: &str) -> f64 {
    let text = reqwest::get(server.url("/metrics")).await.expect("answers").text().await.expect("text");
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
    value.unwrap_or_default()
}

#[tokio::test]
async fn a_collector_that_never_answers_stops_no_call_and_its_spans_are_dropped_and_counted() {
    // Accepts connections, in its backlog, and never reads.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", silent.local_addr().expect("an address"));
    let mut server = TestServer::start_with(&[("otlp-endpoint", &endpoint)]).await;
    let commands = server.commands().await;
    let wave = async || {
        let callers = (0..16).map(|_| async {
            for _ in 0..20 {
                commands.clone().create_order(new_order("c")).await.expect("accepted");
            }
        });
        futures_util::future::join_all(callers).await;
    };
    // Three spans each: more than wait for the collector, unless the calls take so long that the first ones have been given up meanwhile.
    for _ in 0..10 {
        wave().await;
    }
    until("spans are dropped", async || {
        wave().await;
        metric(&server, "ordersystem_trace_spans_dropped_total{reason=\"queue_full\"}").await > 0.0
    })
    .await;
    assert_eq!(metric(&server, "ordersystem_trace_spans_exported_total").await, 0.0);
    order_after(&commands, "c", &[Step::Pay]).await;
    soon("the node ends without the collector", server.stop()).await.expect("in order");
}
