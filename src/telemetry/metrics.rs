//! The metrics of a node, as shown by `GET /metrics`.
//!
//! Code counts with the macros of the crate `metrics`, whose handles are made once. Counters and gauges are those of its Prometheus exporter.
//! Histograms are ours: the exporter keeps each recorded value until the next scrape, at several times the cost.

mod histogram;
mod names;
mod sampled;
mod text;

use std::{collections::BTreeMap, sync::Arc};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use parking_lot::Mutex;

pub use self::names::{Kind, METRICS, Metric};
use self::{histogram::Buckets, sampled::Sampled, text::Families};

/// The upper bounds of the buckets of durations, in seconds.
const DURATION_BUCKETS: [f64; 14] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];
/// The upper bounds of the buckets of sizes, in bytes.
const SIZE_BUCKETS: [f64; 8] = [256.0, 512.0, 1_024.0, 2_048.0, 4_096.0, 16_384.0, 65_536.0, 1_048_576.0];
/// The upper bounds of the buckets of numbers of events.
const EVENT_BUCKETS: [f64; 6] = [1.0, 2.0, 4.0, 8.0, 16.0, 64.0];

/// The metrics of one node: two nodes in one process have separate metrics. Cheap to clone. It is a recorder for
/// [`with_local_recorder`](metrics::with_local_recorder).
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    exporter: PrometheusRecorder,
    handle: PrometheusHandle,
    histograms: Mutex<BTreeMap<String, BTreeMap<Key, Arc<Buckets>>>>,
    sampled: Sampled,
}

impl Metrics {
    /// Metrics that have counted nothing yet.
    #[must_use]
    pub fn new() -> Self {
        let exporter = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&exporter, names::describe);
        let sampled = metrics::with_local_recorder(&exporter, Sampled::begin);
        Self(Arc::new(Inner { handle: exporter.handle(), exporter, histograms: Mutex::default(), sampled }))
    }

    /// The text of `GET /metrics`.
    #[must_use]
    pub fn render(&self) -> String {
        metrics::with_local_recorder(self, || self.0.sampled.sample());
        let text = self.0.handle.render();
        let mut families = Families::default();
        families.add(&text);
        let histograms = self.0.histograms.lock();
        let heads: Vec<_> = histograms.keys().map(|name| names::head(name)).collect();
        for (series, head) in histograms.values().zip(&heads) {
            for (key, buckets) in series {
                families.add_histogram(key, head, &buckets.counted());
            }
        }
        families.write()
    }

    /// Does the periodic work of the exporter.
    pub fn run_upkeep(&self) {
        self.0.handle.run_upkeep();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder for Metrics {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        self.0.exporter.describe_counter(name, unit, description);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        self.0.exporter.describe_gauge(name, unit, description);
    }

    /// Histograms are described by the table of names.
    fn describe_histogram(&self, _name: KeyName, _unit: Option<Unit>, _description: SharedString) {}

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.0.exporter.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.0.exporter.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, _metadata: &Metadata<'_>) -> Histogram {
        let mut histograms = self.0.histograms.lock();
        let series = histograms.entry(key.name().to_owned()).or_default();
        let buckets = series.entry(key.to_retained()).or_insert_with(|| Arc::new(buckets(key.name())));
        Histogram::from_arc(Arc::clone(buckets))
    }
}

/// The buckets of the metric `name`, by its unit.
fn buckets(name: &str) -> Buckets {
    match name.rsplit('_').next() {
        Some("bytes") => Buckets::new(&SIZE_BUCKETS, 1.0),
        Some("events") => Buckets::new(&EVENT_BUCKETS, 1.0),
        // In nanoseconds: the sum wraps around after 584 years.
        _ => Buckets::new(&DURATION_BUCKETS, 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_sorted_and_each_metric_has_one_header() {
        let metrics = Metrics::new();
        metrics::with_local_recorder(&metrics, || {
            for class in ["z", "b", "y", "a", "x"] {
                metrics::counter!("ordersystem_requests_shed_total", "class" => class).increment(1);
                metrics::histogram!("ordersystem_request_duration_seconds", "operation" => class).record(0.002);
            }
            metrics::histogram!("ordersystem_commit_bytes").record(300.0);
        });
        let text = metrics.render();
        let of = |name: &str| text.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect::<Vec<_>>();
        let shed = of("ordersystem_requests_shed_total");
        let expected =
            ["a", "b", "x", "y", "z"].map(|class| format!("ordersystem_requests_shed_total{{class=\"{class}\"}} 1"));
        assert_eq!(shed, expected);
        let a = of("ordersystem_request_duration_seconds_bucket{operation=\"a\"");
        assert_eq!(a.first().unwrap(), "ordersystem_request_duration_seconds_bucket{operation=\"a\",le=\"0.00005\"} 0");
        assert_eq!(a.last().unwrap(), "ordersystem_request_duration_seconds_bucket{operation=\"a\",le=\"+Inf\"} 1");
        assert_eq!(of("ordersystem_commit_bytes_sum"), ["ordersystem_commit_bytes_sum 300"]);
        let heads = text.lines().filter(|line| line.starts_with("# TYPE ")).collect::<Vec<_>>();
        let mut sorted = heads.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(heads, sorted);
        let expected = "# TYPE ordersystem_request_duration_seconds histogram";
        assert!(heads.contains(&expected), "{heads:?}");
    }
}
