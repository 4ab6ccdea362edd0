//! The client of a collector of traces: OTLP with gRPC.

use std::{error::Error, time::Duration};

use http::HeaderMap;
use opentelemetry_proto::{
    tonic::collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, trace_service_client::TraceServiceClient,
    },
    transform::{common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope},
};
use opentelemetry_sdk::{Resource, trace::SpanData};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{
    Code, Request, Status,
    metadata::MetadataMap,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

use crate::ports::backoff::Backoff;

/// How long the collector may take to accept a batch, with all attempts.
pub const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum number of attempts for one batch.
const MAX_ATTEMPTS: u32 = 4;
/// The pauses between them.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(1_600));
/// The maximum length of an error message of the collector in the log, in characters.
const MAX_MESSAGE_CHARS: usize = 256;

/// A collector of traces. It is called only to export.
#[derive(Debug)]
pub struct Collector {
    client: TraceServiceClient<Channel>,
    headers: MetadataMap,
    resource: ResourceAttributesWithSchema,
}

/// The spans of a batch that the collector has refused, while it accepted the others.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rejected {
    /// Their number.
    pub spans: u64,
    /// Its reason.
    pub reason: String,
}

impl Collector {
    /// The collector at `endpoint`. Each call has `headers`, and each span the attributes of `resource`.
    ///
    /// # Errors
    /// If the endpoint is not a valid address.
    pub fn new(endpoint: &str, headers: HeaderMap, resource: &Resource) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(endpoint.to_owned())?.connect_timeout(EXPORT_TIMEOUT);
        let endpoint = endpoint.user_agent(concat!("ordersystem/", env!("CARGO_PKG_VERSION")))?;
        let client = TraceServiceClient::new(endpoint.connect_lazy());
        Ok(Self { client, headers: MetadataMap::from_headers(headers), resource: resource.into() })
    }

    /// Sends `spans`; retries failures that may be temporary, as OTLP defines them.
    ///
    /// # Errors
    /// Why the collector does not accept them.
    pub async fn export(&self, spans: Vec<SpanData>) -> Result<Rejected, String> {
        let resource_spans = group_spans_by_resource_and_scope(spans, &self.resource);
        let message = ExportTraceServiceRequest { resource_spans };
        let give_up_at = Instant::now() + EXPORT_TIMEOUT;
        let mut attempts = 1;
        loop {
            let mut call = Request::new(message.clone());
            call.metadata_mut().clone_from(&self.headers);
            let failure = match timeout_at(give_up_at, self.client.clone().export(call)).await {
                Ok(Ok(reply)) => return Ok(reply.into_inner().partial_success.map(rejected).unwrap_or_default()),
                Ok(Err(failure)) => failure,
                Err(_) => return Err(format!("no answer in {EXPORT_TIMEOUT:?}")),
            };
            match pause(&failure, attempts) {
                Some(pause) if attempts < MAX_ATTEMPTS && Instant::now() + pause < give_up_at => sleep(pause).await,
                _ => return Err(described(&failure)),
            }
            attempts += 1;
        }
    }
}

fn rejected(partial: ExportTracePartialSuccess) -> Rejected {
    Rejected { spans: partial.rejected_spans.try_into().unwrap_or(0), reason: shortened(&partial.error_message) }
}

/// The pause after this many failed attempts; `None` if no other attempt may succeed. Source: OTLP, "Failures".
fn pause(failure: &Status, attempts: u32) -> Option<Duration> {
    let told = failure.get_details_retry_info().and_then(|info| info.retry_delay);
    match failure.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Some(PAUSES.after(attempts).max(told.unwrap_or_default())),
        Code::ResourceExhausted => told.map(|told| PAUSES.after(attempts).max(told)),
        _ => None,
    }
}

/// A failure, for people: the message of the collector, or why it cannot be called.
fn described(failure: &Status) -> String {
    let Some(mut cause) = failure.source() else {
        let code = failure.code();
        let message = shortened(failure.message());
        return if message.is_empty() { format!("{code:?}") } else { format!("{code:?}: {message}") };
    };
    // The library names only the layer that failed: the innermost cause is the reason.
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn shortened(message: &str) -> String {
    message.chars().take(MAX_MESSAGE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_failure_is_described_by_the_collector_or_by_its_innermost_cause() {
        assert_eq!(described(&Status::permission_denied("no such tenant")), "PermissionDenied: no such tenant");
        assert_eq!(described(&Status::new(Code::Internal, "")), "Internal");
        assert_eq!(described(&Status::internal("x".repeat(1_000))).len(), "Internal: ".len() + MAX_MESSAGE_CHARS);
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let outer = std::io::Error::other(refused);
        assert_eq!(described(&Status::from_error(Box::new(outer))), "connection refused");
    }

    #[test]
    fn only_failures_that_may_be_temporary_are_retried_and_not_before_the_collector_asks() {
        assert!(pause(&Status::unavailable(""), 1).is_some());
        assert_eq!(pause(&Status::invalid_argument(""), 1), None);
        assert_eq!(pause(&Status::resource_exhausted(""), 1), None);
        let later = ErrorDetails::with_retry_info(Some(Duration::from_secs(3)));
        let busy = |code| Status::with_error_details(code, "", later.clone());
        for code in [Code::ResourceExhausted, Code::Unavailable] {
            assert_eq!(pause(&busy(code), 1), Some(Duration::from_secs(3)));
        }
    }
}
