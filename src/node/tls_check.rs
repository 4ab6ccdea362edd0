//! What `/health` says about certificates.

use async_trait::async_trait;

use crate::{
    ports::health::{Finding, HealthCheck},
    server::tls::Tls,
};

/// The certificates are valid, and for a while yet.
#[derive(Debug)]
pub struct TlsCheck(pub Tls);

#[async_trait]
impl HealthCheck for TlsCheck {
    fn name(&self) -> &'static str {
        "tls"
    }

    /// Whether a client takes a certificate is the client's to decide.
    fn required_for_readiness(&self) -> bool {
        false
    }

    async fn look(&self) -> Finding {
        let troubles = self.0.troubles();
        if troubles.is_empty() {
            Finding::healthy("all certificates are valid")
        } else {
            Finding::degraded(troubles.join("; "))
        }
    }
}
