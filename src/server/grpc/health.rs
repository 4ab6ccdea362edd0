//! The gRPC health service: follows the health of the node.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{ports::health::Health, proto::DESCRIPTORS};

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
#[derive(Clone, Debug)]
pub struct GrpcHealthReporter {
    reporter: HealthReporter,
    ready_names: Vec<String>,
    /// The last reported readiness: reporting it again would wake every Watch for nothing.
    reported: Option<bool>,
}

impl GrpcHealthReporter {
    /// Reports through `reporter`; NOT_SERVING until changed.
    pub async fn new(reporter: HealthReporter) -> Self {
        let mut health_reporter = Self { reporter, ready_names: service_names().collect(), reported: None };
        health_reporter.reporter.set_service_status(LIVENESS, ServingStatus::Serving).await;
        health_reporter.set_ready(false).await;
        health_reporter
    }

    /// Sets the status of everything but `liveness`.
    pub async fn set_ready(&mut self, is_ready: bool) {
        if self.reported == Some(is_ready) {
            return;
        }
        for name in &self.ready_names {
            self.reporter.set_service_status(name, status(is_ready)).await;
        }
        // Recorded last: if this future is dropped halfway, everything is reported again.
        self.reported = Some(is_ready);
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

    /// Ends every Watch, so that a connection with nothing else does not delay the end of the process.
    pub async fn close(&mut self) {
        for name in &self.ready_names {
            self.reporter.clear_service_status(name).await;
        }
        self.reporter.clear_service_status(LIVENESS).await;
    }
}

const fn status(is_good: bool) -> ServingStatus {
    if is_good { ServingStatus::Serving } else { ServingStatus::NotServing }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_health::{
        pb::{HealthCheckRequest, health_server::Health as _},
        server::HealthService,
    };

    async fn liveness(reporter: &HealthReporter) -> i32 {
        let request = HealthCheckRequest { service: LIVENESS.to_owned() };
        let service = HealthService::from_health_reporter(reporter.clone());
        service.check(tonic::Request::new(request)).await.unwrap().into_inner().status
    }

    #[tokio::test(start_paused = true)]
    async fn a_monitor_that_no_longer_runs_makes_liveness_fail_until_it_runs_again() {
        let (reporter, _) = tonic_health::server::health_reporter();
        let grpc_health = GrpcHealthReporter::new(reporter.clone()).await;
        let health = Arc::new(Health::new(Vec::new(), CancellationToken::new()));
        tokio::spawn(grpc_health.watch_liveness(Arc::clone(&health), CancellationToken::new()));
        let (serving, not_serving) = (1, 2);
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(liveness(&reporter).await, serving);
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(liveness(&reporter).await, not_serving);
        health.monitor_beat();
        health.recovery_beat();
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(liveness(&reporter).await, serving);
    }
}
