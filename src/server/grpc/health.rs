//! The gRPC health service: follows the health of the node.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    ports::health::{Health, ReadinessListener},
    proto::DESCRIPTORS,
};

/// The interval of liveness checks.
const LIVENESS_INTERVAL: Duration = Duration::from_secs(5);

/// The services with a health status: the node as a whole (`""`), the probes, and every service of the API.
fn service_names() -> impl Iterator<Item = String> {
    use prost::Message;
    let descriptors = prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap_or_default();
    let of_api = descriptors.file.into_iter().flat_map(|file| {
        let package = file.package.clone().unwrap_or_default();
        file.service.into_iter().map(move |service| format!("{package}.{}", service.name.unwrap_or_default()))
    });
    [String::new(), "readiness".to_owned()].into_iter().chain(of_api)
}

/// The service name of liveness.
const LIVENESS: &str = "liveness";

/// Reports the health of the node to the health service.
#[derive(Debug)]
pub struct GrpcHealthReporter {
    reporter: HealthReporter,
    ready_names: Vec<String>,
    published: Mutex<Published>,
}

/// What the health service says.
#[derive(Debug, Default)]
struct Published {
    /// The number of the report that found it.
    by: u64,
    /// `None` while it is being changed. Publishing the same again would wake every Watch for nothing.
    is_ready: Option<bool>,
}

impl GrpcHealthReporter {
    /// Reports through `reporter`; NOT_SERVING until changed.
    pub async fn new(reporter: HealthReporter) -> Self {
        let health_reporter = Self { reporter, ready_names: service_names().collect(), published: Mutex::default() };
        health_reporter.reporter.set_service_status(LIVENESS, ServingStatus::Serving).await;
        health_reporter.set_ready(0, false).await;
        health_reporter
    }

    /// Updates `liveness` until `stop`. Runs outside the monitor because it reports the monitor's own liveness.
    pub fn watch_liveness(
        &self,
        health: Arc<Health>,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        let reporter = self.reporter.clone();
        async move {
            let mut was_live = true;
            while stop.run_until_cancelled(tokio::time::sleep(LIVENESS_INTERVAL)).await.is_some() {
                let is_live = health.is_live();
                if is_live != was_live {
                    reporter.set_service_status(LIVENESS, status(is_live)).await;
                    was_live = is_live;
                }
            }
        }
    }

    /// Publishes that the node is shutting down, which no report changes any more.
    pub async fn draining(&self) {
        self.set_ready(u64::MAX, false).await;
    }

    /// Ends every Watch, so that a connection with nothing else does not delay the end of the process.
    pub async fn close(&self) {
        let mut reporter = self.reporter.clone();
        for name in &self.ready_names {
            reporter.clear_service_status(name).await;
        }
        reporter.clear_service_status(LIVENESS).await;
    }
}

#[async_trait]
impl ReadinessListener for GrpcHealthReporter {
    /// Sets the status of everything but `liveness`.
    async fn set_ready(&self, report: u64, is_ready: bool) {
        let mut published = self.published.lock().await;
        if report < published.by {
            return;
        }
        published.by = report;
        if published.is_ready == Some(is_ready) {
            return;
        }
        // If this future is dropped halfway, the next report publishes everything again.
        published.is_ready = None;
        for name in &self.ready_names {
            self.reporter.set_service_status(name, status(is_ready)).await;
        }
        published.is_ready = Some(is_ready);
    }
}

const fn status(is_good: bool) -> ServingStatus {
    if is_good { ServingStatus::Serving } else { ServingStatus::NotServing }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::health::{CheckResult, HealthCheck};
    use std::sync::atomic::{AtomicBool, Ordering};
    use tonic_health::{
        pb::{HealthCheckRequest, health_server::Health as _},
        server::HealthService,
    };

    const SERVING: i32 = 1;
    const NOT_SERVING: i32 = 2;

    async fn answer(reporter: &HealthReporter, service: &str) -> i32 {
        let request = HealthCheckRequest { service: service.to_owned() };
        let service = HealthService::from_health_reporter(reporter.clone());
        service.check(tonic::Request::new(request)).await.unwrap().into_inner().status
    }

    async fn liveness(reporter: &HealthReporter) -> i32 {
        answer(reporter, LIVENESS).await
    }

    /// A component that is said to work or not.
    #[derive(Debug, Default)]
    struct Component(AtomicBool);

    #[async_trait]
    impl HealthCheck for Component {
        fn name(&self) -> &'static str {
            "component"
        }

        fn required_for_readiness(&self) -> bool {
            true
        }

        async fn check(&self) -> CheckResult {
            match self.0.load(Ordering::Relaxed) {
                true => CheckResult::healthy("works"),
                false => CheckResult::unhealthy("does not work"),
            }
        }
    }

    #[tokio::test]
    async fn whoever_reads_a_report_gets_the_same_answer_over_grpc_and_a_node_that_drains_stays_not_ready() {
        let (reporter, _) = tonic_health::server::health_reporter();
        let grpc_health = Arc::new(GrpcHealthReporter::new(reporter.clone()).await);
        let component = Arc::new(Component::default());
        let health = Health::new(vec![Arc::clone(&component) as _], CancellationToken::new());
        health.tell(Arc::clone(&grpc_health) as _);
        for works in [true, false, true] {
            component.0.store(works, Ordering::Relaxed);
            assert_eq!(health.report().await.is_ready(), works);
            for service in ["", "readiness", "catga.orders.v1.OrderCommandService"] {
                assert_eq!(answer(&reporter, service).await, if works { SERVING } else { NOT_SERVING }, "{service:?}");
            }
        }
        grpc_health.set_ready(1, false).await;
        assert_eq!(answer(&reporter, "").await, SERVING, "a report that began earlier was overtaken");
        grpc_health.draining().await;
        health.report().await;
        assert_eq!(answer(&reporter, "").await, NOT_SERVING, "although its components work");
    }

    #[tokio::test(start_paused = true)]
    async fn a_monitor_that_no_longer_runs_makes_liveness_fail_until_it_runs_again() {
        let (reporter, _) = tonic_health::server::health_reporter();
        let grpc_health = GrpcHealthReporter::new(reporter.clone()).await;
        let health = Arc::new(Health::new(Vec::new(), CancellationToken::new()));
        tokio::spawn(grpc_health.watch_liveness(Arc::clone(&health), CancellationToken::new()));
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(liveness(&reporter).await, SERVING);
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(liveness(&reporter).await, NOT_SERVING);
        health.monitor_beat();
        health.recovery_beat();
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(liveness(&reporter).await, SERVING);
    }
}
