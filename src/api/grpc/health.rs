//! The gRPC health service: follows the health of the node.

use tonic_health::{ServingStatus, server::HealthReporter};

use crate::proto::DESCRIPTORS;

/// The services whose health can be asked for: the node as a whole (`""`), the probes, and every service of the API.
fn service_names() -> impl Iterator<Item = String> {
    use prost::Message;
    let descriptors = prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap_or_default();
    let of_api = descriptors.file.into_iter().flat_map(|file| {
        let package = file.package.clone().unwrap_or_default();
        file.service.into_iter().map(move |service| format!("{package}.{}", service.name.unwrap_or_default()))
    });
    [String::new(), "readiness".to_owned()].into_iter().chain(of_api)
}

/// The name under which liveness is asked for.
const LIVENESS: &str = "liveness";

/// Tells the health service how the node is.
#[derive(Clone, Debug)]
pub struct HealthDoor {
    reporter: HealthReporter,
    ready_names: Vec<String>,
    /// What was told last: telling it again would wake every Watch for nothing.
    told: Option<(bool, bool)>,
}

impl HealthDoor {
    /// Reports through `reporter`; NOT_SERVING until told otherwise.
    pub async fn new(reporter: HealthReporter) -> Self {
        let mut door = Self { reporter, ready_names: service_names().collect(), told: None };
        door.set(false, true).await;
        door
    }

    /// Everything but `liveness` follows readiness.
    pub async fn set(&mut self, is_ready: bool, is_live: bool) {
        if self.told == Some((is_ready, is_live)) {
            return;
        }
        for name in &self.ready_names {
            self.reporter.set_service_status(name, status(is_ready)).await;
        }
        self.reporter.set_service_status(LIVENESS, status(is_live)).await;
        // Noted last: whoever drops this halfway tells all of it again.
        self.told = Some((is_ready, is_live));
    }

    /// Ends every Watch, so that a connection that only watches does not hold up the end of the process.
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
