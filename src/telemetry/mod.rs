//! Logs, metrics and traces.

pub mod call;
pub mod call_id;
pub mod logs;
pub mod metrics;
pub mod outage;
pub mod settings;
pub mod traces;

pub use logs::{LogConfig, LogFormat, start_logging};

/// The options of traces.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceConfig {
    /// The address of the collector, `http://host:port`; `None`: no spans are made.
    pub endpoint: Option<String>,
    /// The share of traces that are recorded, 0 to 1, where the caller has not decided.
    pub sample_ratio: f64,
}
