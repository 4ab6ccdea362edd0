//! What traces cost: CreateOrder on a node without an endpoint for spans, and on nodes with one, whose collector accepts all of
//! them at once. With another binary, one without any traces for example, its calls are the base.

use std::ffi::OsString;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use crate::variants::{self, Variant};

/// A collector that forgets the spans.
struct Oblivious;

#[tonic::async_trait]
impl TraceService for Oblivious {
    async fn export(
        &self,
        _spans: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Starts the collector; returns its address.
async fn collector() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let serving = Server::builder().add_service(TraceServiceServer::new(Oblivious));
    tokio::spawn(serving.serve_with_incoming(TcpIncoming::from(listener)));
    endpoint
}

/// Measures all in turn, and compares them.
pub async fn compare(other: Option<&OsString>) {
    let endpoint = collector().await;
    let sampling = |ratio: &str| ["--otlp-endpoint", &endpoint, "--trace-sample-ratio", ratio].map(str::to_owned);
    let base = other.map(|binary| Variant::of(binary, "other", 1.0, &[], None));
    let own = [
        Variant::new("off", 0.99, &[], None),
        Variant::new("1 %", 0.97, &sampling("0.01"), None),
        Variant::new("100 %", 0.0, &sampling("1.0"), None),
    ];
    variants::compare(base.into_iter().chain(own).collect()).await;
}
