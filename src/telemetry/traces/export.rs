//! The export of spans to a collector, over OTLP with gRPC.
//!
//! A call only puts its spans into a bounded queue. If the collector is unreachable, slow or overwhelmed, the queue fills up, and further spans are
//! dropped and counted; no call ever waits for it.

use std::time::Duration;

use metrics::Counter;
use opentelemetry::{Context, KeyValue, trace::TracerProvider as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Sampler, SdkTracerProvider, Span, SpanData, SpanProcessor},
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    MAX_LINKS, Traces,
    collector::{Collector, Rejected},
    environment::{self, Environment},
};
use crate::telemetry::{
    TraceConfig,
    outage::{Line, Outage},
};

/// The maximum number of spans that wait for the collector; a span takes about a kilobyte.
const MAX_QUEUED: usize = 8_192;
/// The maximum number of spans sent at once.
const MAX_BATCH: usize = 512;
/// How long a span waits for others to be sent with it.
const BATCH_DELAY: Duration = Duration::from_millis(500);
/// How long a node that ends may take to send the rest.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Sends queued spans to the collector.
#[derive(Debug)]
pub struct Exporting {
    collector: Collector,
    endpoint: String,
    queued: mpsc::Receiver<SpanData>,
    exported: Counter,
    failed: Counter,
    outage: Outage,
}

/// Starts to make spans as configured, if there is an endpoint for them; `node` names this node in them. Needs the runtime and the recorder of
/// metrics; the collector is not called yet.
///
/// # Errors
/// If the endpoint is not a valid address, or the headers in the environment are malformed.
pub fn open(
    config: &TraceConfig,
    node: &str,
) -> Result<(Traces, Option<Exporting>), Box<dyn std::error::Error + Send + Sync>> {
    let Some(endpoint) = config.endpoint.clone() else { return Ok((Traces::off(), None)) };
    let environment = Environment::new(&environment::of_process);
    if let Some(variable) = environment.switched_off_by() {
        tracing::info!(variable, "no spans are made, although there is an endpoint for them");
        return Ok((Traces::off(), None));
    }
    if let Some(exporter) = environment.unknown_exporter() {
        tracing::warn!(exporter, "OTEL_TRACES_EXPORTER is ignored: spans are sent over OTLP");
    }
    let resource = resource(node, environment);
    let collector = Collector::new(&endpoint, environment.headers()?, &resource);
    let collector = collector.map_err(|error| format!("otlp-endpoint: {error}"))?;
    let (sender, queued) = mpsc::channel(MAX_QUEUED);
    let dropped = |reason| metrics::counter!("ordersystem_trace_spans_dropped_total", "reason" => reason);
    let provider = SdkTracerProvider::builder()
        .with_span_processor(Queue { sender, full: dropped("queue_full") })
        // Whether a trace is recorded is decided before a span of it is made.
        .with_sampler(Sampler::AlwaysOn)
        .with_max_links_per_span(MAX_LINKS)
        .with_resource(resource)
        .build();
    let exporting = Exporting {
        collector,
        endpoint,
        queued,
        exported: metrics::counter!("ordersystem_trace_spans_exported_total"),
        failed: dropped("export_failed"),
        outage: Outage::new(),
    };
    Ok((Traces::on(provider.tracer("ordersystem"), config.sample_ratio), Some(exporting)))
}

/// The attributes of this process in its spans. The variables of OpenTelemetry win over our own values.
fn resource(node: &str, environment: Environment<'_>) -> Resource {
    let own = [
        KeyValue::new("service.name", "ordersystem"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", node.to_owned()),
    ];
    let (given, ignored) = environment.attributes();
    if !ignored.is_empty() {
        let ignored = ignored.join(", ");
        tracing::warn!(ignored, "OTEL_RESOURCE_ATTRIBUTES has members that are not name=value");
    }
    Resource::builder_empty().with_attributes(own).with_attributes(given).build()
}

/// The queue in which ended spans wait for the collector.
#[derive(Debug)]
struct Queue {
    sender: mpsc::Sender<SpanData>,
    full: Counter,
}

impl SpanProcessor for Queue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.sender.try_send(span).is_err() {
            self.full.increment(1);
        }
    }

    /// Does nothing: [`Exporting::run`] flushes.
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl Exporting {
    /// Sends spans until `stop` is cancelled, then the rest, within two seconds.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        while stop.run_until_cancelled(self.next_batch(&mut batch)).await.is_some() {
            if stop.run_until_cancelled(self.export(&mut batch)).await.is_none() {
                break;
            }
        }
        self.queued.close();
        let rest = async {
            loop {
                if !batch.is_empty() {
                    self.export(&mut batch).await;
                }
                if self.queued.recv_many(&mut batch, MAX_BATCH).await == 0 {
                    return;
                }
            }
        };
        if timeout(FLUSH_TIMEOUT, rest).await.is_err() {
            tracing::warn!(collector = self.endpoint, "the collector of traces does not take the last spans");
        }
    }

    /// Fills `batch`, which may already hold the spans of an interrupted call.
    async fn next_batch(&mut self, batch: &mut Vec<SpanData>) {
        if batch.is_empty() && self.queued.recv_many(batch, MAX_BATCH).await == 0 {
            return;
        }
        let full_at = Instant::now() + BATCH_DELAY;
        while batch.len() < MAX_BATCH {
            let more = self.queued.recv_many(batch, MAX_BATCH - batch.len());
            if !matches!(timeout_at(full_at, more).await, Ok(1..)) {
                return;
            }
        }
    }

    /// Sends `batch`, or drops it if the collector does not accept it.
    async fn export(&mut self, batch: &mut Vec<SpanData>) {
        let spans = std::mem::take(batch);
        let count = spans.len() as u64;
        let endpoint = &self.endpoint;
        let (dropped, why) = match self.collector.export(spans).await {
            Ok(Rejected { spans: 0, .. }) => {
                self.exported.increment(count);
                if let Some(lasted) = self.outage.works() {
                    tracing::info!(
                        collector = endpoint,
                        lasted_ms = lasted.as_millis() as u64,
                        "the collector of traces accepts spans again"
                    );
                }
                return;
            }
            Ok(Rejected { spans, reason }) => (spans.min(count), reason),
            Err(error) => (count, error),
        };
        self.exported.increment(count - dropped);
        self.failed.increment(dropped);
        if let Some(Line { unsaid }) = self.outage.failed(&why) {
            tracing::warn!(
                collector = endpoint,
                error = why,
                unsaid,
                "spans are dropped: the collector of traces does not accept them"
            );
        }
    }
}
