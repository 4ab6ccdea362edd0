//! `ordersystem projections rebuild`.

use std::time::Duration;

use clap::{Args, Subcommand, value_parser};
use tokio::time::timeout;

use super::{
    error::{CliError, Failure},
    node_client::Target,
    output::print,
    progress::{Progress, Reading, seconds_left},
    target::{MAX_TIMEOUT_MS, TargetArgs},
};
use crate::{
    config::Variable,
    proto::catga::system::v1::{
        RebuildPhase, RebuildProjectionsRequest, RebuildProjectionsResponse, admin_service_client::AdminServiceClient,
    },
};

const EXAMPLES: &str = "\
The node serves the old read model until the new one is complete. If this command ends early, the rebuild continues in the node.

Examples:
  ordersystem projections rebuild
  ordersystem projections rebuild --address orders-1.internal:5000
  ordersystem projections rebuild --token-file operator.key      where callers are identified

Exit codes: 0 for success, 1 for a failure, 2 for a usage error.";

/// Rebuild the read model of a running service
#[derive(Args)]
#[command(after_long_help = EXAMPLES, arg_required_else_help = false)]
pub(super) struct ProjectionsArgs {
    #[command(subcommand)]
    action: ActionArgs,
}

#[derive(Subcommand)]
enum ActionArgs {
    /// Rebuild the list of orders and the totals from the log
    #[command(after_long_help = EXAMPLES)]
    Rebuild(RebuildArgs),
}

#[derive(Args)]
struct RebuildArgs {
    /// Time limit for the first answer and for each progress report, ms
    // A node sends a report every half second.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = value_parser!(u64).range(1..=MAX_TIMEOUT_MS))]
    timeout_ms: u64,
    #[command(flatten)]
    target: TargetArgs,
}

/// A rebuild of the read model of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RebuildCall {
    /// The node.
    pub target: Target,
    /// The timeout of the connection and of each progress message.
    pub timeout_ms: u64,
}

impl ProjectionsArgs {
    pub(super) fn call(self, env: Vec<Variable>) -> Result<RebuildCall, CliError> {
        let ActionArgs::Rebuild(RebuildArgs { timeout_ms, target }) = self.action;
        Ok(RebuildCall { target: target.target(env)?, timeout_ms })
    }
}

/// Rebuilds the read model of the node, shows the progress, and returns when the new one is served.
///
/// # Errors
/// One line: the node is unreachable, refused, failed, or reported no progress in time.
pub(super) async fn run(call: RebuildCall) -> Result<(), Failure> {
    let RebuildCall { target, timeout_ms } = call;
    let (patience, address) = (Duration::from_millis(timeout_ms), &target.address);
    let mut client = AdminServiceClient::new(target.connect(patience).await?);
    let silent = |_| format!("{address}: no report for {timeout_ms} ms; a rebuild that has started continues there");
    let call = timeout(patience, client.rebuild_projections(RebuildProjectionsRequest {}));
    let mut reports = match call.await.map_err(silent)? {
        Ok(reports) => reports.into_inner(),
        Err(status) => return Err(target.why_failed(&status, patience).await.into()),
    };
    let (progress, mut has_said_joined) = (Progress::begin(), false);
    let end = loop {
        match timeout(patience, reports.message()).await.map_err(silent) {
            Ok(Ok(Some(state))) if state.phase() == RebuildPhase::Done => {
                // To the end of the reply: a client that leaves earlier is audited as gone.
                let _ended = timeout(patience, reports.message()).await;
                break Ok(state);
            }
            Ok(Ok(Some(state))) if state.phase() == RebuildPhase::Unspecified => {
                break Err(format!(
                    "{address}: another rebuild has started since; see its log for the result of this one"
                ));
            }
            Ok(Ok(Some(state))) => {
                if state.joined && !has_said_joined {
                    has_said_joined = true;
                    progress.note("a rebuild was already running; this is its progress");
                }
                progress.show(&reading(&state));
            }
            Ok(Ok(None)) => break Err(format!("{address}: the service did not report how the rebuild ended")),
            Ok(Err(status)) => break Err(target.why_failed(&status, patience).await),
            Err(silent) => break Err(silent),
        }
    };
    progress.end();
    let state = end?;
    Ok(print(&format!("rebuilt: {} events, {:.0} a second\n", state.events, state.events_per_second))?)
}

fn reading(state: &RebuildProjectionsResponse) -> Reading {
    let count = |events: i64| events.max(0).unsigned_abs();
    let left = match (state.phase(), &state.remaining) {
        (RebuildPhase::Indexing, _) => Some("building indexes".to_owned()),
        (_, Some(left)) => Some(seconds_left(count(left.seconds + i64::from(left.nanos > 0)))),
        (_, None) => None,
    };
    let rate = state.events_per_second.max(0.0).round() as u64;
    Reading { phase: "applied", done: count(state.events), total: count(state.total_events), rate, left }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_shows_progress_speed_and_remaining_time() {
        let mut state = RebuildProjectionsResponse {
            phase: RebuildPhase::Reading.into(),
            events: 500,
            total_events: 1_000,
            events_per_second: 99.6,
            remaining: Some(prost_types::Duration { seconds: 5, nanos: 20_000_000 }),
            joined: false,
        };
        assert_eq!(reading(&state).to_string(), "applied 500 of about 1000 events, 100 events/s, 6 s left");
        state.phase = RebuildPhase::Indexing.into();
        state.events = 1_000;
        let line = "applied 1000 of about 1000 events, 100 events/s, building indexes";
        assert_eq!(reading(&state).to_string(), line);
        let beginning = RebuildProjectionsResponse { phase: RebuildPhase::Reading.into(), ..Default::default() };
        assert_eq!(reading(&beginning).to_string(), "applied 0 of about 0 events, 0 events/s");
    }
}
