//! Metrics that are sampled when they are read: the process, the runtime, and the build of the program.

use metrics::{Counter, Gauge};
use metrics_process::Collector;
use tokio::runtime::{Handle, RuntimeMetrics};

/// The version of the program.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit that it was built from, if the build names it.
const REVISION: &str = match option_env!("ORDERSYSTEM_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
/// The compiler that built it.
const RUSTC: &str = env!("ORDERSYSTEM_RUSTC");

/// The handles of the sampled gauges.
pub(super) struct Sampled {
    process: Collector,
    workers: Gauge,
    tasks: Gauge,
    queue: Gauge,
    parks: Counter,
    busy: Counter,
}

impl Sampled {
    /// Makes the handles, with the current recorder.
    pub fn begin() -> Self {
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        metrics::gauge!("ordersystem_build_info", "version" => VERSION, "revision" => REVISION, "rustc" => RUSTC, "profile" => profile).set(1.0);
        Self {
            process: Collector::default(),
            workers: metrics::gauge!("tokio_workers"),
            tasks: metrics::gauge!("tokio_alive_tasks"),
            queue: metrics::gauge!("tokio_global_queue_depth"),
            parks: metrics::counter!("tokio_worker_parks_total"),
            busy: metrics::counter!("tokio_worker_busy_seconds_total"),
        }
    }

    /// Updates the gauges.
    pub fn sample(&self) {
        self.process.collect();
        if let Ok(runtime) = Handle::try_current() {
            self.sample_runtime(&runtime.metrics());
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "gauges; far below 2^52")]
    fn sample_runtime(&self, runtime: &RuntimeMetrics) {
        self.workers.set(runtime.num_workers() as f64);
        self.tasks.set(runtime.num_alive_tasks() as f64);
        self.queue.set(runtime.global_queue_depth() as f64);
        let workers = 0..runtime.num_workers();
        self.parks.absolute(workers.clone().map(|worker| runtime.worker_park_count(worker)).sum());
        let busy: std::time::Duration = workers.map(|worker| runtime.worker_total_busy_duration(worker)).sum();
        self.busy.absolute(busy.as_secs());
    }
}

impl std::fmt::Debug for Sampled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sampled").finish_non_exhaustive()
    }
}
