//! `ordersystem log-level`.

use std::time::Duration;

use clap::{Args, value_parser};
use tonic::Request;

use super::{
    error::{CliError, Failure},
    node_client::Target,
    output::print,
    target::{MAX_TIMEOUT_MS, TargetArgs},
};
use crate::{
    config::Variable,
    proto::catga::system::v1::{
        GetLogLevelRequest, LogLevel, SetLogLevelRequest, admin_service_client::AdminServiceClient,
    },
    settings::parse::quoted,
    telemetry::logs,
};

const EXAMPLES: &str = "\
A filter is a level (off, error, warn, info, debug, trace), or directives separated by commas: info,ordersystem::processors=debug. The \
targets order_events and access, which are off unless they are named, have a line for each event that the built-in handler receives, and for \
each call. The audit stays, unless the configured filter silences it. The configured filter applies again when the node restarts, and on SIGHUP.

Examples:
  ordersystem log-level                                                      show the filter
  ordersystem log-level debug --for-seconds 300                              log more for five minutes
  ordersystem log-level info,order_events=info                               log each event
  ordersystem log-level info,access=info --for-seconds 300                   log each call for five minutes
  ordersystem log-level --configured                                         use the configured filter
  ordersystem log-level debug --token-file operator.key                      where callers are identified

Exit codes: 0 for success, 1 for a failure, 2 for a usage error.";

/// Show or change the log filter of a running service
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct LogLevelArgs {
    /// Filter to use; without it the current one is shown
    #[arg(value_name = "FILTER")]
    filter: Option<String>,
    /// Use the configured filter after this time, s [default: when it is changed again]
    #[arg(long, value_name = "N", requires = "filter", value_parser = value_parser!(u64).range(1..=86_400))]
    for_seconds: Option<u64>,
    /// Use the configured filter now
    #[arg(long, conflicts_with = "filter")]
    configured: bool,
    /// Time limit of the call, ms
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = value_parser!(u64).range(1..=MAX_TIMEOUT_MS))]
    timeout_ms: u64,
    #[command(flatten)]
    target: TargetArgs,
}

/// A call that shows or changes the log filter of a running service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevelCall {
    /// The node, and how to reach it.
    pub target: Target,
    /// The timeout.
    pub timeout_ms: u64,
    /// The filter to use; empty for the configured one; `None`: nothing is changed.
    pub filter: Option<String>,
    /// How long it is used.
    pub duration: Option<Duration>,
}

impl LogLevelArgs {
    pub(super) fn call(self, env: Vec<Variable>) -> Result<LogLevelCall, CliError> {
        let Self { filter, for_seconds, configured, timeout_ms, target } = self;
        if let Some(filter) = &filter {
            logs::check(filter).map_err(CliError::Usage)?;
        }
        let filter = filter.or_else(|| configured.then(String::new));
        Ok(LogLevelCall {
            target: target.target(env)?,
            timeout_ms,
            filter,
            duration: for_seconds.map(Duration::from_secs),
        })
    }
}

impl LogLevelCall {
    /// Changes the filter, if one is given, and prints the one in effect.
    ///
    /// # Errors
    /// One line: the node is unreachable, or refused.
    pub(super) async fn run(self) -> Result<(), Failure> {
        let Self { target, timeout_ms, filter, duration } = self;
        let timeout = Duration::from_millis(timeout_ms);
        let mut client = AdminServiceClient::new(target.connect(timeout).await?);
        let answer = match filter {
            Some(filter) => {
                let duration = duration.map(prost_types::Duration::try_from).transpose()?;
                let mut request = Request::new(SetLogLevelRequest { filter, duration });
                request.set_timeout(timeout);
                client.set_log_level(request).await.map(|reply| reply.into_inner().log_level)
            }
            None => {
                let mut request = Request::new(GetLogLevelRequest {});
                request.set_timeout(timeout);
                client.get_log_level(request).await.map(|reply| reply.into_inner().log_level)
            }
        };
        match answer {
            Ok(level) => {
                let level = level.unwrap_or_default();
                for target in logs::unknown_targets(&level.filter) {
                    eprintln!("warning: the service has no target {}", quoted(&target));
                }
                Ok(print(&text(&level))?)
            }
            Err(status) => Err(target.why_failed(&status, timeout).await.into()),
        }
    }
}

/// The filter in effect; if it is not the configured one, also how long it applies, and the next filter.
fn text(level: &LogLevel) -> String {
    let LogLevel { filter, configured_filter, reverts_at } = level;
    match reverts_at {
        None if filter == configured_filter => format!("{filter}\n"),
        None => format!("{filter} (configured: {configured_filter})\n"),
        Some(at) => format!("{filter} (until {at}, then as configured: {configured_filter})\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_shown_with_what_comes_after_it() {
        let mut level = LogLevel { filter: "info".into(), configured_filter: "info".into(), reverts_at: None };
        assert_eq!(text(&level), "info\n");
        level.filter = "debug".into();
        assert_eq!(text(&level), "debug (configured: info)\n");
        level.reverts_at = Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 0 });
        assert_eq!(text(&level), "debug (until 2027-01-15T08:00:00Z, then as configured: info)\n");
    }
}
