//! `ordersystem health`.

use clap::{Args, value_parser};

use super::{
    error::{CliError, Failure},
    node_client::Target,
    output::print,
    probe,
    target::{MAX_TIMEOUT_MS, TargetArgs},
};
use crate::config::Variable;

const EXAMPLES: &str = "\
Prints SERVING or NOT_SERVING.

Examples:
  ordersystem health                                      ask the node at the configured port on this machine
  ordersystem health --address orders-1.internal:5000     ask another node
  ordersystem health --token-file key.txt                 present an API key; health needs none
  ordersystem health --service liveness                   ask only whether the process works, as a liveness probe does

Exit codes: 0 if the service is serving, 1 if it is not or cannot be reached, 2 for a usage error.";

/// Ask a running service for its health, as a container probe does
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct HealthArgs {
    /// gRPC service to ask for; empty for the whole server
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    service: String,
    /// Time limit for the answer, ms
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = value_parser!(u64).range(1..=MAX_TIMEOUT_MS))]
    timeout_ms: u64,
    #[command(flatten)]
    target: TargetArgs,
}

/// A health check of a running service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCall {
    /// The node, and how to reach it.
    pub target: Target,
    /// The gRPC service to query; empty for the whole server.
    pub service: String,
    /// The timeout.
    pub timeout_ms: u64,
}

impl HealthArgs {
    pub(super) fn call(self, env: Vec<Variable>) -> Result<HealthCall, CliError> {
        Ok(HealthCall { target: self.target.target(env)?, service: self.service, timeout_ms: self.timeout_ms })
    }
}

impl HealthCall {
    /// Prints whether the service is serving.
    ///
    /// # Errors
    /// One line: the node is unreachable, or not serving.
    pub(super) async fn run(self) -> Result<(), Failure> {
        let Self { target, service, timeout_ms } = self;
        let is_serving = probe::check(&target, &service, timeout_ms).await?;
        print(if is_serving { "SERVING\n" } else { "NOT_SERVING\n" })?;
        if is_serving { Ok(()) } else { Err(format!("{} is not serving", target.address).into()) }
    }
}
