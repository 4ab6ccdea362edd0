//! The metrics of the event store and of leases, counted where calls to them pass.
//!
//! The names of operations follow the conventions of OpenTelemetry for databases.

use std::time::Instant;

use metrics::{Counter, Histogram};

use crate::ports::{
    event_store::{AppendError, StoreError},
    lease_store::LeaseError,
};

/// The error type of an operation whose caller no longer waits: it took too long, or the client has gone.
const CANCELLED: &str = "cancelled";
/// The error types of a read.
const READ_ERRORS: &[&str] = &["unavailable", "log_replaced", "corrupt", CANCELLED];
/// The error types of an append.
const APPEND_ERRORS: &[&str] = &[
    "conflict",
    "request_reused",
    "outcome_unknown",
    "too_late",
    "refused",
    "unavailable",
    "log_replaced",
    "corrupt",
    CANCELLED,
];

/// The type of an error of an append. The text of the error may contain input of a client.
pub fn append_error(error: &AppendError) -> &'static str {
    match error {
        AppendError::Conflict { .. } => "conflict",
        AppendError::RequestIdReused => "request_reused",
        AppendError::OutcomeUnknown(_) => "outcome_unknown",
        AppendError::TooLate => "too_late",
        AppendError::Store(error) => store_error(error),
        _ => "refused",
    }
}

/// The type of an error of a read.
pub fn store_error(error: &StoreError) -> &'static str {
    match error {
        StoreError::Unavailable(_) => "unavailable",
        StoreError::LogReplaced(_) => "log_replaced",
        _ => "corrupt",
    }
}

/// The meters of one event store.
#[derive(Debug)]
pub struct StoreMeters {
    /// Counts appends.
    pub append: OperationMeter,
    /// Counts lookups of request ids.
    pub find_request: OperationMeter,
    /// Counts reads of one stream.
    pub read_stream: OperationMeter,
    /// Counts reads of the log.
    pub read_log: OperationMeter,
    commit_events: Histogram,
    commit_bytes: Histogram,
}

impl StoreMeters {
    /// The meters of the backend `system`, with the current recorder.
    #[must_use]
    pub fn new(system: &'static str) -> Self {
        let meter = |operation, errors| OperationMeter::new(system, operation, errors);
        Self {
            append: meter("append", APPEND_ERRORS),
            find_request: meter("find_request", APPEND_ERRORS),
            read_stream: meter("read_stream", READ_ERRORS),
            read_log: meter("read_log", READ_ERRORS),
            commit_events: metrics::histogram!("ordersystem_commit_events"),
            commit_bytes: metrics::histogram!("ordersystem_commit_bytes"),
        }
    }

    /// Counts a commit that was appended.
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub fn committed(&self, events: usize, bytes: usize) {
        self.commit_events.record(events as f64);
        self.commit_bytes.record(bytes as f64);
    }
}

/// The meter of one operation.
#[derive(Debug)]
pub struct OperationMeter {
    seconds: Histogram,
    errors: Vec<(&'static str, Counter)>,
}

impl OperationMeter {
    fn new(system: &'static str, operation: &'static str, errors: &[&'static str]) -> Self {
        let error = |kind: &'static str| metrics::counter!("db_client_operation_errors_total", "db_system_name" => system, "db_operation_name" => operation, "error_type" => kind);
        Self {
            seconds: metrics::histogram!("db_client_operation_duration_seconds", "db_system_name" => system, "db_operation_name" => operation),
            errors: errors.iter().map(|kind| (*kind, error(kind))).collect(),
        }
    }

    /// Begins an operation.
    pub fn begin(&self) -> Operation<'_> {
        Operation { meter: self, begun: Instant::now(), error: Some(CANCELLED) }
    }
}

/// An operation in progress, counted when it ends.
#[derive(Debug)]
pub struct Operation<'a> {
    meter: &'a OperationMeter,
    begun: Instant,
    error: Option<&'static str>,
}

impl Operation<'_> {
    /// Ends the operation, with the type of its error if it failed.
    pub fn end(mut self, error: Option<&'static str>) {
        self.error = error;
    }
}

impl Drop for Operation<'_> {
    fn drop(&mut self) {
        self.meter.seconds.record(self.begun.elapsed().as_secs_f64());
        let Some(error) = self.error else { return };
        if let Some((_, counter)) = self.meter.errors.iter().find(|(kind, _)| *kind == error) {
            counter.increment(1);
        }
    }
}

/// The meters of leases.
#[derive(Debug)]
pub struct LeaseMeters {
    seconds: Histogram,
    renewed: Counter,
    lost: Counter,
    failed: Counter,
}

impl LeaseMeters {
    /// The meters, with the current recorder.
    #[must_use]
    pub fn new() -> Self {
        let outcome = |outcome| metrics::counter!("ordersystem_lease_renewals_total", "outcome" => outcome);
        Self {
            seconds: metrics::histogram!("ordersystem_lease_renewal_duration_seconds"),
            renewed: outcome("renewed"),
            lost: outcome("lost"),
            failed: outcome("failed"),
        }
    }

    /// Begins a renewal.
    pub fn begin(&self) -> Renewal<'_> {
        Renewal { meters: self, begun: Instant::now(), outcome: &self.failed }
    }
}

/// A renewal in progress, counted when it ends.
#[derive(Debug)]
pub struct Renewal<'a> {
    meters: &'a LeaseMeters,
    begun: Instant,
    outcome: &'a Counter,
}

impl Renewal<'_> {
    /// Ends the renewal.
    pub fn end<T>(mut self, outcome: &Result<T, LeaseError>) {
        self.outcome = match outcome {
            Ok(_) => &self.meters.renewed,
            Err(LeaseError::Lost) => &self.meters.lost,
            Err(_) => &self.meters.failed,
        };
    }
}

impl Drop for Renewal<'_> {
    fn drop(&mut self) {
        self.meters.seconds.record(self.begun.elapsed().as_secs_f64());
        self.outcome.increment(1);
    }
}

impl Default for LeaseMeters {
    fn default() -> Self {
        Self::new()
    }
}
