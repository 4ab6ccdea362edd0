//! A collector of traces: receives spans over OTLP with gRPC, and keeps them.

use std::{collections::HashMap, sync::Arc};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use parking_lot::Mutex;
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use super::until;

/// A collector on its own port.
pub struct Collector {
    pub endpoint: String,
    received: Received,
    serving: JoinHandle<()>,
}

#[derive(Clone, Default)]
struct Received {
    /// A header that each call must have.
    required: Option<(&'static str, &'static str)>,
    /// How many spans of each batch are rejected, and why.
    rejected: Option<(i64, &'static str)>,
    /// Each with the name of the node that has sent it.
    spans: Arc<Mutex<Vec<(String, Span)>>>,
    resource: Arc<Mutex<HashMap<String, String>>>,
}

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        if let Some((name, value)) = self.required
            && request.metadata().get(name).is_none_or(|given| given != value)
        {
            return Err(Status::permission_denied(format!("{name} is required")));
        }
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.unwrap_or_default().attributes;
            let attributes: HashMap<_, _> = attributes.iter().map(|pair| (pair.key.clone(), text(pair))).collect();
            let node = attributes.get("service.instance.id").cloned().unwrap_or_default();
            *self.resource.lock() = attributes;
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.spans.lock().extend(spans.map(|span| (node.clone(), span)));
        }
        let partial_success = self
            .rejected
            .map(|(rejected_spans, why)| ExportTracePartialSuccess { rejected_spans, error_message: why.to_owned() });
        Ok(Response::new(ExportTraceServiceResponse { partial_success }))
    }
}

impl Collector {
    pub async fn start() -> Self {
        Self::serve(Received::default()).await
    }

    /// One that refuses calls without this header.
    pub async fn requiring(name: &'static str, value: &'static str) -> Self {
        Self::serve(Received { required: Some((name, value)), ..Received::default() }).await
    }

    /// One that rejects `spans` of each batch.
    pub async fn rejecting(spans: i64, why: &'static str) -> Self {
        Self::serve(Received { rejected: Some((spans, why)), ..Received::default() }).await
    }

    /// Ends it: its port is closed when this returns.
    pub async fn stop(&mut self) {
        self.serving.abort();
        let _ = (&mut self.serving).await;
    }

    async fn serve(received: Received) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let service = TraceServiceServer::new(received.clone());
        let serving = tokio::spawn(async move {
            Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpIncoming::from(listener))
                .await
                .expect("serves");
        });
        Self { endpoint, received, serving }
    }

    /// The spans received so far.
    pub fn spans(&self) -> Vec<Span> {
        self.received.spans.lock().iter().map(|(_, span)| span.clone()).collect()
    }

    /// Waits for a span that this node has sent.
    pub async fn span_of(&self, node: &str, what: &str, is_wanted: impl Fn(&Span) -> bool) -> Span {
        until(what, || async {
            let spans = self.received.spans.lock().clone();
            let found = spans.iter().find(|(sender, span)| sender == node && is_wanted(span));
            found.map(|(_, span)| span.clone()).ok_or_else(|| {
                let seen = spans.iter().map(|(sender, span)| format!("{sender}: {}", span.name));
                format!("not from {node}: {}", seen.collect::<Vec<_>>().join(", "))
            })
        })
        .await
    }

    /// An attribute of the sender of the last spans.
    pub fn resource(&self, key: &str) -> Option<String> {
        self.received.resource.lock().get(key).cloned()
    }

    /// Waits for a span.
    pub async fn span(&self, what: &str, is_wanted: impl Fn(&Span) -> bool) -> Span {
        until(what, || async { self.spans().into_iter().find(&is_wanted).ok_or_else(|| names(&self.spans())) }).await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn names(spans: &[Span]) -> String {
    spans.iter().map(|span| &*span.name).collect::<Vec<_>>().join(", ")
}

/// An attribute of a span, as text.
pub fn attribute(span: &Span, key: &str) -> Option<String> {
    span.attributes.iter().find(|pair| pair.key == key).map(text)
}

fn text(pair: &KeyValue) -> String {
    match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}
