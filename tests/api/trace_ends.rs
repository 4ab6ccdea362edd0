//! The spans of work that does not end by itself: past its deadline, or after its client has gone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry_proto::tonic::trace::v1::Span;
use ordersystem::{
    ports::clock::SystemClock, proto::catga::orders::v1::order_command_service_client::OrderCommandServiceClient,
};
use reqwest::Client;
use serde_json::json;

use crate::{
    faulty::{FaultyStore, Mode},
    support::{
        PlainConnection, TestServer,
        collector::{Collector, attribute},
        new_order, until, within,
    },
    traces::{hex, with_context},
};

/// A node whose appends hang, and where its spans go.
struct Hanging {
    server: TestServer,
    store: Arc<FaultyStore>,
    collector: Collector,
    traces: AtomicU64,
}

impl Hanging {
    async fn start(settings: &[(&'static str, &str)]) -> Self {
        let collector = Collector::start().await;
        let (backends, store) = FaultyStore::backends();
        let settings = [&[("otlp-endpoint", collector.endpoint.as_str())], settings].concat();
        let server = TestServer::start_on(&settings, backends, Arc::new(SystemClock)).await;
        store.appends.set(Mode::Hangs);
        Self { server, store, collector, traces: AtomicU64::new(1) }
    }

    /// The id of a new trace, and its context.
    fn new_trace(&self) -> (String, String) {
        let trace = format!("{:032x}", self.traces.fetch_add(1, Ordering::Relaxed));
        let context = format!("00-{trace}-b7ad6b7169203331-01");
        (trace, context)
    }

    async fn until_it_appends(&self) {
        until("an append hangs", async || (*self.store.appending.borrow() == 1).then_some(())).await;
    }

    /// The span of a trace, which must have failed with this type of error.
    async fn failed(&self, trace: &str, name: &str, error_type: &str) -> Span {
        let span = self.collector.span(name, |span| hex(&span.trace_id) == trace && span.name == name).await;
        assert_eq!(attribute(&span, "error.type").as_deref(), Some(error_type), "{span:?}");
        assert_eq!(span.status.as_ref().map(|status| status.code), Some(2), "{span:?}");
        span
    }
}

const CREATE: &str = "catga.orders.v1.OrderCommandService/CreateOrder";

#[tokio::test]
async fn work_that_is_dropped_at_the_deadline_of_its_call_has_timed_out() {
    let node = Hanging::start(&[]).await;
    let (trace, context) = node.new_trace();
    // A client that leaves the deadline to the server.
    let mut commands = OrderCommandServiceClient::with_origin(
        PlainConnection::to(&node.server).await,
        "http://localhost".parse().unwrap(),
    );
    let mut call = within("300m", new_order("c"));
    call.metadata_mut().insert("traceparent", context.parse().expect("ASCII"));
    let status = commands.create_order(call).await.expect_err("too late");
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    node.failed(&trace, "append", "timeout").await;
    let command = node.failed(&trace, "CreateOrder", "timeout").await;
    assert_eq!(attribute(&command, "ordersystem.outcome").as_deref(), Some("abandoned"));
    node.failed(&trace, CREATE, "DeadlineExceeded").await;
}

#[tokio::test]
async fn work_that_exceeds_the_time_limit_of_requests_has_timed_out() {
    let node = Hanging::start(&[("request-timeout-ms", "300")]).await;
    let (trace, context) = node.new_trace();
    let order = json!({ "customerId": "c", "items": [{ "productId": "p", "quantity": 1, "price": 1 }] });
    let call = Client::new().post(node.server.url("/orders")).header("traceparent", context).json(&order);
    assert_eq!(call.send().await.expect("answers").status(), 504);
    node.failed(&trace, "append", "timeout").await;
    let command = node.failed(&trace, "CreateOrder", "timeout").await;
    assert_eq!(attribute(&command, "ordersystem.outcome").as_deref(), Some("failure"));
    node.failed(&trace, "POST /orders", "504").await;
}

#[tokio::test]
async fn work_whose_client_has_gone_is_cancelled() {
    let node = Hanging::start(&[]).await;
    let (trace, context) = node.new_trace();
    let mut commands = node.server.commands().await;
    let call = tokio::spawn(async move { commands.create_order(with_context(new_order("c"), &context)).await });
    node.until_it_appends().await;
    call.abort();
    node.failed(&trace, "append", "cancelled").await;
    let command = node.failed(&trace, "CreateOrder", "cancelled").await;
    assert_eq!(attribute(&command, "ordersystem.outcome").as_deref(), Some("abandoned"));
    let call = node.failed(&trace, CREATE, "cancelled").await;
    assert_eq!(attribute(&call, "rpc.grpc.status_code").as_deref(), Some("1"));

    let (trace, context) = node.new_trace();
    let order = json!({ "customerId": "c", "items": [{ "productId": "p", "quantity": 1, "price": 1 }] });
    // A client of its own, whose connection ends with the call.
    let call = Client::builder().pool_max_idle_per_host(0).build().expect("a client").post(node.server.url("/orders"));
    let call = tokio::spawn(call.header("traceparent", context).json(&order).timeout(Duration::from_secs(600)).send());
    node.until_it_appends().await;
    call.abort();
    node.failed(&trace, "append", "cancelled").await;
    let call = node.failed(&trace, "POST /orders", "cancelled").await;
    assert_eq!(attribute(&call, "http.response.status_code"), None, "there was none");
}

#[tokio::test]
async fn a_stream_that_its_client_ends_has_not_failed() {
    let node = Hanging::start(&[]).await;
    let (trace, context) = node.new_trace();
    let request = ordersystem::proto::catga::orders::v1::StreamEventsRequest { follow: true, ..Default::default() };
    let stream = node.server.history().await.stream_events(with_context(request, &context)).await.expect("opens");
    drop(stream);
    let span = node.collector.span("the stream", |span| hex(&span.trace_id) == trace).await;
    assert_eq!(attribute(&span, "rpc.grpc.status_code").as_deref(), Some("1"));
    assert_eq!((attribute(&span, "error.type"), span.status.unwrap_or_default().code), (None, 0));
}
