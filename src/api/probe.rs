//! A gRPC health check from outside, for container probes: `ordersystem health`.

use std::{error::Error, time::Duration};

use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// Asks the node at `address` (`host:port`) how `service` is, within `timeout_ms`, and prints the answer.
///
/// # Errors
/// In one line: out of reach, or not serving.
pub async fn run(address: &str, service: &str, timeout_ms: u64) -> Result<(), Box<dyn Error + Send + Sync>> {
    let is_serving = check(address, service, timeout_ms).await?;
    println!("{}", if is_serving { "SERVING" } else { "NOT_SERVING" });
    if is_serving { Ok(()) } else { Err(format!("{address} is not serving").into()) }
}

/// Whether `service` of the node at `address` (`host:port`) is serving.
///
/// # Errors
/// In one line: out of reach within `timeout_ms`, or no such service.
pub async fn check(address: &str, service: &str, timeout_ms: u64) -> Result<bool, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| format!("{address}: {error}"))?;
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = async {
        let channel = endpoint.connect().await.map_err(|error| format!("{address} is out of reach: {error}"))?;
        let answer = HealthClient::new(channel).check(request).await;
        answer.map_err(|status| format!("{address}: {}", status.message()))
    };
    let answer = tokio::time::timeout(Duration::from_millis(timeout_ms), answer)
        .await
        .map_err(|_| format!("no answer from {address} within {timeout_ms} ms"))??;
    Ok(answer.into_inner().status() == ServingStatus::Serving)
}
