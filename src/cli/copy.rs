//! `ordersystem copy`.

use std::sync::Arc;

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser as _},
};

use super::{
    error::{CliError, Failure},
    logs::{BrokerFiles, log},
    output::print,
    progress::{Following, rate},
    signals::stop_on_signals,
};
use crate::{
    config::{LogAddress, LogRef, Variable},
    log_tools::{self, CopyOptions, Meter, Patience},
    node::logs::{Access, open},
    telemetry,
};

const EXAMPLES: &str = "\
Copies every commit, in order, with its request id. A copy that was interrupted continues when the command is run again. A service may use the \
source meanwhile; nothing else may write to the target.

Examples:
  ordersystem copy --from embedded:/var/lib/orders --to nats://nats.internal:4222
  ordersystem copy --from redis://cache.internal:6379 --to embedded:./orders --follow

Exit codes: 0 for a complete copy; 1 for a failure, an interruption before the end, or a target that is not a copy of the source; 2 for a \
usage error.";

/// Copy a log into another store
#[derive(Args)]
#[command(after_help = LogAddress::help(), after_long_help = format!("{}\n\n{EXAMPLES}", LogAddress::help()))]
pub(super) struct CopyFlags {
    /// Log to copy
    #[arg(long, value_name = "LOG")]
    from: String,
    /// Target: a log that does not exist yet, or an earlier copy
    #[arg(long, value_name = "LOG")]
    to: String,
    /// Prefix of the source's keys in Redis, or of its streams in NATS [default: ordersystem]
    #[arg(long, value_name = "TEXT")]
    from_prefix: Option<String>,
    /// Prefix of the target's keys or streams [default: ordersystem]
    #[arg(long, value_name = "TEXT")]
    to_prefix: Option<String>,
    /// Number of servers of a NATS cluster that keep a new target
    #[arg(long, value_name = "N", default_value = "1", value_parser = replicas())]
    to_replicas: usize,
    /// Continue as the source grows, until interrupted
    #[arg(long, conflicts_with = "until_caught_up")]
    follow: bool,
    /// Stop at the end that the source had at the start; this is the default
    #[arg(long)]
    until_caught_up: bool,
    #[command(flatten)]
    files: BrokerFiles,
}

fn replicas() -> impl clap::builder::TypedValueParser<Value = usize> {
    PossibleValuesParser::new(["1", "3", "5"]).try_map(|text| text.parse::<usize>())
}

/// The arguments of `copy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyArgs {
    /// The source.
    pub from: LogRef,
    /// The target.
    pub to: LogRef,
    /// The number of replicas of a stream created in NATS.
    pub replicas: usize,
    /// Whether to keep following the source.
    pub follow: bool,
}

impl CopyFlags {
    pub(super) fn call(self, env: &[Variable]) -> Result<CopyArgs, CliError> {
        let mut from = log("from", &self.from, "from-prefix", self.from_prefix.as_deref())?;
        let mut to = log("to", &self.to, "to-prefix", self.to_prefix.as_deref())?;
        self.files.apply(env, &mut [&mut from, &mut to])?;
        Ok(CopyArgs { from, to, replicas: self.to_replicas, follow: self.follow })
    }
}

/// Copies a log, and prints the totals to standard output.
///
/// # Errors
/// One line: an unusable store, a target that is not a copy, or an interrupted copy.
pub(super) async fn run(call: &CopyArgs) -> Result<(), Failure> {
    telemetry::start_logging(&log_tools::log_config())?;
    let stop = &stop_on_signals()?;
    let from = open(&call.from, Access::Read, Patience::until(stop)).await?;
    let to = open(&call.to, Access::Write { replicas: call.replicas }, Patience::until(stop)).await?;
    let meter = Arc::new(Meter::default());
    let shown = Following::begin(&meter);
    let options = CopyOptions { follow: call.follow };
    let copied = log_tools::copy(&from, &to, options, &meter, stop).await;
    drop(shown);
    let copied = copied?;
    let rate = rate(copied.events, copied.took);
    let found = if copied.found > 0 { format!(", {} already present", copied.found) } else { String::new() };
    print(&format!(
        "{}: {} events in {} commits copied from {}{found}; {rate} events/s\n",
        call.to, copied.events, copied.commits, call.from
    ))?;
    if copied.is_stopped && !call.follow {
        return Err("interrupted before the end; run the same command again to continue".into());
    }
    Ok(())
}
