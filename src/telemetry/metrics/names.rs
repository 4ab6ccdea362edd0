//! All metrics. `docs/metrics.md` has the same table.

use metrics::{describe_counter, describe_gauge};

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number that only grows, and begins at 0 with the process.
    Counter,
    /// A number that rises and falls.
    Gauge,
    /// Counts of values by size.
    Histogram,
}

impl Kind {
    /// The name of the kind in the text of the metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, which ends in its unit.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its labels, as in the text of the metrics.
    pub labels: &'static [&'static str],
    /// Its description.
    pub meaning: &'static str,
}

const fn counter(name: &'static str, labels: &'static [&'static str], meaning: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, labels, meaning }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], meaning: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, meaning }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], meaning: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, labels, meaning }
}

/// The labels of a gRPC method.
const METHOD: &[&str] = &["rpc_service", "rpc_method"];
/// The labels of the outcome of a gRPC call.
const RPC: &[&str] = &["rpc_service", "rpc_method", "rpc_grpc_status_code"];
/// The labels of a REST route.
const ROUTE: &[&str] = &["http_route"];
/// The labels of the outcome of a REST request.
const HTTP: &[&str] = &["http_route", "http_request_method", "http_response_status_code"];
/// The labels of an operation on the event store.
const STORE: &[&str] = &["db_system_name", "db_operation_name"];

/// All metrics.
pub const METRICS: &[Metric] = &[
    // Calls.
    counter("rpc_server_requests_total", RPC, "gRPC and gRPC-Web calls that have ended, including refused ones"),
    histogram("rpc_server_duration_seconds", RPC, "Duration of gRPC calls, from their headers to the end of the reply"),
    gauge("rpc_server_active_requests", METHOD, "gRPC calls in progress; those of a streaming method are open streams"),
    counter("rpc_server_request_bytes_total", METHOD, "Bytes of request bodies, as received"),
    counter("rpc_server_response_bytes_total", METHOD, "Bytes of reply bodies, before the translation to gRPC-Web"),
    counter("rpc_server_stream_messages_received_total", METHOD, "Messages received by streaming methods"),
    counter("rpc_server_stream_messages_sent_total", METHOD, "Messages sent by streaming methods"),
    counter(
        "http_server_requests_total",
        HTTP,
        "Requests to REST and the dashboard that have ended, including refused ones",
    ),
    histogram(
        "http_server_request_duration_seconds",
        HTTP,
        "Duration of REST requests, from their headers to the end of the reply",
    ),
    gauge(
        "http_server_active_requests",
        ROUTE,
        "REST requests in progress; those of a streaming route are open streams",
    ),
    counter("http_server_request_body_bytes_total", ROUTE, "Bytes of request bodies, as received"),
    counter("http_server_response_body_bytes_total", ROUTE, "Bytes of reply bodies"),
    gauge("ordersystem_connections", &["port"], "Open connections, by port: main, grpc, admin"),
    counter("ordersystem_connections_accepted_total", &["port"], "Connections accepted, by port"),
    counter(
        "ordersystem_requests_shed_total",
        &["class"],
        "Calls refused based on their headers because too many were in flight",
    ),
    gauge("ordersystem_admission_limit", &["class"], "Concurrency limit of a class of calls, adapted to their latency"),
    counter(
        "ordersystem_audit_total",
        &["action", "outcome"],
        "Calls refused by access control, and actions of operators, by kind of action and outcome",
    ),
    // Commands and queries.
    counter("ordersystem_requests_total", &["operation", "outcome"], "Commands and queries, by operation and outcome"),
    histogram("ordersystem_request_duration_seconds", &["operation"], "Duration of commands and queries, by operation"),
    gauge("ordersystem_requests_in_flight", &[], "Commands and queries in progress"),
    gauge("ordersystem_reads_waiting", &[], "Queries that wait until the node has caught up with the log"),
    counter("ordersystem_append_conflicts_total", &[], "Appends that lost to another writer of the same order"),
    counter(
        "ordersystem_taken_order_ids_total",
        &[],
        "Ids generated for a new order that another order already had; if not 0, two nodes issue the same ids",
    ),
    counter("ordersystem_request_replays_total", &[], "Commands answered from an earlier try with the same request id"),
    counter("ordersystem_order_cache_lookups_total", &["result"], "Lookups in the cache of folded orders, by result"),
    gauge("ordersystem_order_cache_hit_ratio", &[], "Share of lookups that found a folded order, 0 to 1"),
    counter(
        "ordersystem_shared_cache_lookups_total",
        &["result"],
        "Lookups of folded orders in the cache that nodes share, by result: hit, miss or error",
    ),
    // The log.
    histogram(
        "db_client_operation_duration_seconds",
        STORE,
        "Duration of operations on the event store, by backend and operation, including failed ones",
    ),
    counter(
        "db_client_operation_errors_total",
        &["db_system_name", "db_operation_name", "error_type"],
        "Operations on the event store that failed, by kind of error; a conflict is one of `append`",
    ),
    histogram("ordersystem_commit_events", &[], "Events of the commits that were appended"),
    histogram("ordersystem_commit_bytes", &[], "Encoded bytes of the commits that were appended"),
    gauge("ordersystem_log_position", &[], "Position of the last event of the log"),
    gauge(
        "ordersystem_durability",
        &[],
        "Failures that an acknowledged command survives: -1 not known yet, 0 none, 1 process, 2 machine, 3 quorum",
    ),
    counter(
        "ordersystem_log_losses_total",
        &["reader"],
        "Times that events were found missing from the log, by reader: projection, outbox, or check",
    ),
    // Background work.
    counter("ordersystem_outbox_published_total", &[], "Events that the message bus has accepted"),
    gauge("ordersystem_outbox_lag_positions", &[], "Positions of the log that no node has published yet"),
    gauge("ordersystem_outbox_oldest_pending_seconds", &[], "Age of the oldest event not yet published; 0 without one"),
    counter(
        "ordersystem_subscription_events_total",
        &["handler", "outcome"],
        "Events processed on this node, by handler and outcome: handled, retried, dead_lettered, deduplicated",
    ),
    gauge("ordersystem_subscription_active", &["handler"], "1 while this node runs the handler, 0 while it stands by"),
    gauge("ordersystem_projection_position", &["projection"], "Position of the log that a read model has reached"),
    counter("ordersystem_lease_renewals_total", &["outcome"], "Renewals of leases, by outcome: renewed, lost, failed"),
    histogram("ordersystem_lease_renewal_duration_seconds", &[], "Duration of renewals of leases"),
    // State.
    gauge("ordersystem_ready", &[], "1 while the node can serve, else 0"),
    gauge(
        "ordersystem_circuit_breaker_state",
        &["breaker"],
        "State of a circuit breaker, by protected backend: 0 closed, 1 half-open, 2 open",
    ),
    counter("ordersystem_circuit_breaker_refused_total", &["breaker"], "Calls that an open circuit breaker rejected"),
    counter("ordersystem_recovery_attempts_total", &["component"], "Attempts to recover a component, by component"),
    counter("ordersystem_recoveries_total", &["component"], "Recoveries of a component after attempts, by component"),
    gauge(
        "ordersystem_certificate_expiry_seconds",
        &["use"],
        "Unix time at which the first certificate expires, by its use: server or client-ca",
    ),
    gauge(
        "ordersystem_identities_current",
        &[],
        "1 while the current identity file is in use, 0 while a previous one is",
    ),
    counter("ordersystem_trace_spans_exported_total", &[], "Spans that the collector of traces has accepted"),
    counter(
        "ordersystem_trace_spans_dropped_total",
        &["reason"],
        "Spans that were dropped, by reason: queue_full, export_failed",
    ),
    // The process.
    gauge(
        "ordersystem_info",
        &["version", "node", "persistence", "transport"],
        "Always 1; version, node and backends are its labels",
    ),
    gauge(
        "ordersystem_build_info",
        &["version", "revision", "rustc", "profile"],
        "Always 1; the version, commit, compiler and profile of the build are its labels",
    ),
    counter("process_cpu_seconds_total", &[], "CPU time that the process has used, user and system, in whole seconds"),
    gauge("process_open_fds", &[], "Open file descriptors"),
    gauge("process_max_fds", &[], "Largest number of open file descriptors"),
    gauge("process_virtual_memory_bytes", &[], "Virtual memory"),
    gauge("process_virtual_memory_max_bytes", &[], "Largest amount of virtual memory; 0 without a limit"),
    gauge("process_resident_memory_bytes", &[], "Resident memory"),
    gauge("process_start_time_seconds", &[], "Unix time at which the process started"),
    gauge("process_threads", &[], "Threads of the process"),
    gauge("tokio_workers", &[], "Worker threads of the runtime"),
    gauge("tokio_alive_tasks", &[], "Tasks that have not ended"),
    gauge("tokio_global_queue_depth", &[], "Tasks that wait for any worker"),
    counter("tokio_worker_parks_total", &[], "Times that idle workers began to wait"),
    counter("tokio_worker_busy_seconds_total", &[], "Time that workers were busy, in whole seconds"),
];

/// Describes the counters and gauges to the recorder.
pub(super) fn describe() {
    for metric in METRICS {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.meaning),
            Kind::Gauge => describe_gauge!(metric.name, metric.meaning),
            // Histograms are written with their series.
            Kind::Histogram => {}
        }
    }
}

/// The lines of the text before the series of the histogram `name`.
pub(super) fn head(name: &str) -> String {
    let known = METRICS.iter().find(|metric| metric.name == name);
    let help = known.map_or_else(String::new, |metric| format!("# HELP {name} {}\n", metric.meaning));
    format!("{help}# TYPE {name} histogram")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The unit that a name ends in.
    fn unit(metric: &Metric) -> &'static str {
        let name = metric.name.trim_end_matches("_total");
        ["seconds", "bytes", "events", "positions", "ratio"].into_iter().find(|unit| name.ends_with(unit)).unwrap_or("")
    }

    #[test]
    fn the_page_on_metrics_has_the_same_table() {
        let row = |metric: &Metric| {
            let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let (name, kind, unit, meaning) = (metric.name, metric.kind.name(), unit(metric), metric.meaning);
            let row = format!("| `{name}` | {kind} | {} | {unit} | {meaning} |", labels.join(", "));
            // Replaced twice, since two adjacent empty cells share a bar.
            row.replace("|  |", "| |").replace("|  |", "| |")
        };
        let page = include_str!("../../../docs/metrics.md");
        let found: Vec<_> = page.lines().filter(|line| line.starts_with("| `")).collect();
        let expected: Vec<_> = METRICS.iter().map(row).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn names_follow_the_conventions_and_are_unique() {
        let mut names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
        for metric in METRICS {
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            assert!(!metric.meaning.contains(['|', '\n', '\\']), "{}", metric.name);
        }
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
