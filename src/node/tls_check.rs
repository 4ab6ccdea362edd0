//! The health check of certificates.

use async_trait::async_trait;

use crate::{
    ports::health::{CheckResult, HealthCheck},
    server::tls::Tls,
};

/// Checks that the certificates are valid and do not expire soon.
#[derive(Debug)]
pub struct TlsCheck(pub Tls);

#[async_trait]
impl HealthCheck for TlsCheck {
    fn name(&self) -> &'static str {
        "tls"
    }

    /// Each client decides whether it accepts a certificate.
    fn required_for_readiness(&self) -> bool {
        false
    }

    async fn check(&self) -> CheckResult {
        let troubles = self.0.troubles();
        if troubles.is_empty() {
            CheckResult::healthy("all certificates are valid")
        } else {
            CheckResult::degraded(troubles.join("; "))
        }
    }
}
