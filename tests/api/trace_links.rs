//! What a reader of events gets of the traces of their commands: the contexts, and links from the span of its own call.

use futures_util::{StreamExt as _, stream};
use opentelemetry_proto::tonic::trace::v1::Span;
use ordersystem::proto::catga::orders::v1::{StreamEventsRequest, StreamOrderHistoryRequest};
use serde_json::Value;

use crate::{
    rest::Rest,
    support::{TestServer, collector::Collector, new_order, pay},
    traces::{hex, traceparent, with_context},
};

fn trace(number: usize) -> String {
    format!("{number:032x}")
}

/// A reader's own trace.
const READER: usize = 0xffff;

/// Places an order in a call of trace `number` for each of `numbers`; returns its id.
async fn place(server: &TestServer, number: usize, flags: &str) -> String {
    let call = with_context(new_order("c"), &traceparent(&trace(number), flags));
    let reply = server.commands().await.create_order(call).await.expect("accepted");
    reply.into_inner().order.expect("an order").order_id
}

/// The traces that the span of the reader's call links to, once it has ended.
async fn links(collector: &Collector, reader: usize) -> Vec<String> {
    let is_reader = |span: &Span| hex(&span.trace_id) == trace(reader) && span.kind == 2;
    let span = collector.span("the call of the reader", is_reader).await;
    span.links.iter().map(|link| hex(&link.trace_id)).collect()
}

#[tokio::test]
async fn the_span_of_a_stream_links_to_the_sampled_commands_of_its_events() {
    let collector = Collector::start().await;
    let rest = Rest::start_with(&[("otlp-endpoint", &collector.endpoint)]).await;
    let server = &rest.server;
    let order = place(server, 1, "01").await;
    place(server, 2, "00").await;
    let call = with_context(pay(&order), &traceparent(&trace(3), "01"));
    server.commands().await.pay_order(call).await.expect("accepted");
    let context = |reader: usize| traceparent(&trace(READER + reader), "01");

    let call = with_context(StreamEventsRequest::default(), &context(0));
    let events = server.history().await.stream_events(call).await.expect("opens").into_inner();
    assert_eq!(events.count().await, 3);
    assert_eq!(links(&collector, READER).await, [trace(1), trace(3)]);

    let request = StreamOrderHistoryRequest { order_id: order.clone(), ..Default::default() };
    let events = server.history().await.stream_order_history(with_context(request, &context(1))).await;
    assert_eq!(events.expect("opens").into_inner().count().await, 2);
    assert_eq!(links(&collector, READER + 1).await, [trace(1), trace(3)]);

    for (reader, path) in [(2, "/events".to_owned()), (3, format!("/orders/{order}/history"))] {
        let page = rest.request(reqwest::Method::GET, &path).header("traceparent", context(reader));
        assert_eq!(page.send().await.expect("answers").status(), 200);
        assert_eq!(links(&collector, READER + reader).await, [trace(1), trace(3)], "{path}");
    }

    let stream = rest.request(reqwest::Method::GET, "/events").header("accept", "text/event-stream");
    let mut stream = stream.header("traceparent", context(4)).send().await.expect("answers");
    let mut text = String::new();
    while !text.contains("caughtUp") {
        text += &String::from_utf8_lossy(&stream.chunk().await.expect("no error").expect("more"));
    }
    drop(stream);
    assert_eq!(links(&collector, READER + 4).await, [trace(1), trace(3)]);
}

#[tokio::test]
async fn the_span_of_a_stream_has_at_most_128_links_and_none_where_it_is_not_recorded() {
    const ORDERS: usize = 130;
    let collector = Collector::start().await;
    let server = TestServer::start_with(&[("otlp-endpoint", &collector.endpoint)]).await;
    stream::iter(1..=ORDERS).for_each_concurrent(16, async |number| drop(place(&server, number, "01").await)).await;
    let mut history = server.history().await;
    let call = with_context(StreamEventsRequest::default(), &traceparent(&trace(READER + 1), "00"));
    assert_eq!(history.stream_events(call).await.expect("opens").into_inner().count().await, ORDERS);
    let call = with_context(StreamEventsRequest::default(), &traceparent(&trace(READER), "01"));
    assert_eq!(history.stream_events(call).await.expect("opens").into_inner().count().await, ORDERS);
    assert_eq!(links(&collector, READER).await.len(), 128);
    assert!(!collector.spans().iter().any(|span| hex(&span.trace_id) == trace(READER + 1)));
}

#[tokio::test]
async fn events_have_the_context_of_their_command_in_json_and_in_server_sent_events() {
    let rest = Rest::start().await;
    let order = place(&rest.server, 1, "00").await;
    let own = rest.order("c").await;
    let context = traceparent(&trace(1), "00");
    let of = |events: &Value, order: &str| {
        let events = events.as_array().expect("an array");
        events.iter().find(|event| event["orderId"] == order).map(|event| event.get("traceparent").cloned())
    };
    let page = rest.get("/events").await.json();
    assert_eq!(of(&page, &order), Some(Some(context.as_str().into())));
    assert_eq!(of(&page, &own), Some(None), "it had none");
    assert_eq!(
        of(&rest.get(&format!("/orders/{order}/history")).await.json(), &order),
        Some(Some(context.as_str().into()))
    );
    let mut stream = rest.listen("/events", None).await;
    assert_eq!(stream.event().await.1["traceparent"], context);
    let document = rest.get("/openapi.json").await.json();
    let schemas = &document["components"]["schemas"];
    assert!(schemas["OrderCreated"]["properties"]["traceparent"].is_object(), "{schemas}");
    let required = schemas["OrderCreated"]["required"].as_array().expect("an array");
    assert!(!required.contains(&"traceparent".into()), "{required:?}");
}
