//! Logs and metrics.

pub mod outage;
pub mod settings;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tracing_subscriber::EnvFilter;

/// Silences the logs of libraries. The NATS client's lines name neither address nor cause: the backend logs its own. HTTP and TLS lines below ERROR
/// concern client behaviour, which clients may repeat without limit. A configured directive enables them, since later directives win.
const QUIET: &str = "async_nats=off,h2=error,hyper=error,hyper_util=error,rustls=error,tower=error";

/// The upper bounds of the buckets of request durations, in seconds.
const DURATION_BUCKETS: [f64; 14] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Logging.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// Directives for [`EnvFilter::try_new`].
    pub level: String,
    /// The format of the lines.
    pub format: LogFormat,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Sends the log of the process to standard error.
///
/// # Errors
/// A description, if the level is not a valid filter or logging is already set up.
pub fn start_logging(config: &LogConfig) -> Result<(), String> {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", config.level)).map_err(|error| error.to_string())?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => builder.json().try_init(),
    }
    .map_err(|error| error.to_string())
}

/// The recorder of metrics and its renderer. One per node: two nodes in one process keep theirs separate.
///
/// # Errors
/// If the buckets are invalid.
pub fn metrics_recorder() -> Result<(PrometheusRecorder, PrometheusHandle), Box<dyn std::error::Error + Send + Sync>> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &DURATION_BUCKETS)?
        .build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, describe);
    Ok((recorder, handle))
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("ordersystem_requests_total", "Commands and queries, by operation and outcome");
    describe_histogram!("ordersystem_request_duration_seconds", "How long commands and queries took, by operation");
    describe_gauge!("ordersystem_requests_in_flight", "Commands and queries being worked on");
    describe_gauge!("ordersystem_admission_limit", "Calls of a class that are let in at a time, by how long they take");
    describe_counter!("ordersystem_requests_shed_total", "Calls refused by their heads since too many were worked on");
    describe_gauge!("ordersystem_reads_waiting", "Queries that wait until the node has caught up with the log");
    describe_counter!(
        "ordersystem_append_conflicts_total",
        "Appends that lost against another writer of the same order"
    );
    describe_counter!(
        "ordersystem_taken_order_ids_total",
        "Ids drawn for a new order that another order had: should stay 0, and means that two nodes issue the same ids"
    );
    describe_counter!(
        "ordersystem_request_replays_total",
        "Commands answered from an earlier try with the same request id"
    );
    describe_counter!("ordersystem_order_cache_lookups_total", "Look-ups in the cache of folded orders, by result");
    describe_gauge!("ordersystem_order_cache_hit_ratio", "Share of look-ups that found a folded order, 0 to 1");
    describe_counter!(
        "ordersystem_shared_cache_lookups_total",
        "Look-ups of folded orders in the cache that nodes share, by result: hit, miss or error"
    );
    describe_gauge!(
        "ordersystem_certificate_expiry_seconds",
        "When the first certificate ends, in seconds of Unix time, by its use: server or client-ca"
    );
    describe_counter!("ordersystem_outbox_published_total", "Events that the message bus has accepted");
    describe_gauge!(
        "ordersystem_outbox_lag_positions",
        "Positions of the log not yet published, by whichever node publishes them"
    );
    describe_gauge!(
        "ordersystem_outbox_oldest_pending_seconds",
        "Age of the oldest event not yet published; 0 when there is none"
    );
    describe_counter!(
        "ordersystem_subscription_events_total",
        "What became of events on this node, by handler: handled, retried, dead_lettered, deduplicated"
    );
    describe_gauge!("ordersystem_subscription_active", "1 while this node runs the handler, 0 while it stands by");
    describe_gauge!("ordersystem_projection_position", "Position of the log that a read model has reached");
    describe_gauge!("ordersystem_log_position", "Position of the last event of the log");
    describe_gauge!("ordersystem_circuit_breaker_state", "0 closed, 1 half-open, 2 open; by what it stands before");
    describe_counter!("ordersystem_recovery_attempts_total", "Attempts to repair a component, by component");
    describe_counter!("ordersystem_recoveries_total", "Components that were well again after attempts, by component");
    describe_counter!("ordersystem_circuit_breaker_refused_total", "Calls that an open circuit breaker has refused");
    describe_gauge!("ordersystem_ready", "1 while the node can serve, else 0");
    describe_gauge!(
        "ordersystem_durability",
        "What an acknowledged command survives: -1 not known yet, 0 none, 1 process, 2 machine, 3 quorum"
    );
    describe_gauge!("ordersystem_info", "Always 1; version, node and backends are its labels");
}
