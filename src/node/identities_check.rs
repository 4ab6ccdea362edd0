//! The health check of the identity file.

use async_trait::async_trait;

use crate::{
    identity::Authenticator,
    ports::health::{CheckResult, HealthCheck},
};

/// Checks that the identity file and its key set, as they are now, are in use.
#[derive(Debug)]
pub struct IdentitiesCheck(pub Authenticator);

#[async_trait]
impl HealthCheck for IdentitiesCheck {
    fn name(&self) -> &'static str {
        "identities"
    }

    /// The callers of the last good file are still known.
    fn required_for_readiness(&self) -> bool {
        false
    }

    async fn check(&self) -> CheckResult {
        match self.0.trouble() {
            None => CheckResult::healthy("the identity file is in use"),
            Some(why) => CheckResult::degraded(format!("the changed identity file is not used: {why}")),
        }
    }
}
