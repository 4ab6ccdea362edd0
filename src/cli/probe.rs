//! A gRPC health check of a node.

use std::time::Duration;

use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::node_client::Target;

/// Whether `service` of the node at `target` is serving.
///
/// # Errors
/// One line: the node is unreachable within `timeout_ms`, or has no such service.
pub async fn check(target: &Target, service: &str, timeout_ms: u64) -> Result<bool, String> {
    let address = &target.address;
    let timeout = Duration::from_millis(timeout_ms);
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = async {
        match HealthClient::new(target.connect(timeout).await?).check(request).await {
            Ok(answer) => Ok(answer),
            Err(status) => Err(target.why_failed(&status, timeout).await),
        }
    };
    let answer = tokio::time::timeout(timeout, answer)
        .await
        .map_err(|_| format!("no answer from {address} within {timeout_ms} ms"))??;
    Ok(answer.into_inner().status() == ServingStatus::Serving)
}
