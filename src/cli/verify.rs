//! `ordersystem verify`.

use std::{io, sync::Arc};

use clap::Args;
use serde_json::json;

use super::{
    error::{CliError, Failure},
    logs::{BrokerFiles, log},
    output::print,
    progress::Following,
};
use crate::{
    config::{LogAddress, LogRef, Variable},
    log_tools::{self, Checked, Finding, Meter, Patience},
    node::logs::{Access, open, stored_rows},
    ports::event_store::EventStore,
    telemetry,
};

const EXAMPLES: &str = "\
Reads what the logs held at the start; services may use them meanwhile.

Examples:
  ordersystem verify embedded:/var/lib/orders
  ordersystem verify embedded:/var/lib/orders nats://nats.internal:4222
  ordersystem verify --json redis://cache.internal:6379 | jq .

Exit codes: 0 if all is well, 1 for a discrepancy or a log that cannot be read, 2 for a usage error.";

/// Audit a log, or compare two
#[derive(Args)]
#[command(after_help = LogAddress::help(), after_long_help = format!("{}\n\n{EXAMPLES}", LogAddress::help()))]
pub(super) struct VerifyFlags {
    /// Log to audit
    #[arg(value_name = "LOG")]
    log: String,
    /// Log to compare it with, commit by commit, except for positions
    #[arg(value_name = "OTHER")]
    other: Option<String>,
    /// Prefix of the log's keys in Redis, or of its streams in NATS [default: ordersystem]
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// Prefix of the other log's keys or streams [default: ordersystem]
    #[arg(long, value_name = "TEXT", requires = "other")]
    other_prefix: Option<String>,
    /// Print one JSON object per line: one for each discrepancy, and one for the result
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    files: BrokerFiles,
}

/// The arguments of `verify`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyArgs {
    /// The log to audit.
    pub log: LogRef,
    /// The log to compare it with.
    pub other: Option<LogRef>,
    /// Whether to print JSON, one object per line.
    pub json: bool,
}

impl VerifyFlags {
    pub(super) fn call(self, env: &[Variable]) -> Result<VerifyArgs, CliError> {
        let named = |address: String| log("other", &address, "other-prefix", self.other_prefix.as_deref());
        let mut other = self.other.map(named).transpose()?;
        let mut log = log("log", &self.log, "prefix", self.prefix.as_deref())?;
        let mut logs: Vec<&mut LogRef> = std::iter::once(&mut log).chain(&mut other).collect();
        self.files.apply(env, &mut logs)?;
        Ok(VerifyArgs { log, other, json: self.json })
    }
}

/// Audits a log or compares two; returns whether no discrepancy was found. Each goes to standard output, one per line.
///
/// # Errors
/// One line: an unreadable log.
pub(super) async fn run(call: &VerifyArgs) -> Result<bool, Failure> {
    telemetry::start_logging(&log_tools::log_config())?;
    let log = open(&call.log, Access::Read, Patience::default()).await?;
    let other = match &call.other {
        Some(other) => Some(open(other, Access::Read, Patience::default()).await?),
        None => None,
    };
    let meter = Arc::new(Meter::default());
    let shown = Following::begin(&meter);
    let mut unsaid: Option<io::Error> = None;
    let report = |finding: Finding| {
        let line = if call.json { json_line(&finding) } else { text_line(&finding) };
        if let Err(error) = shown.progress().suspended(|| print(&line)) {
            unsaid.get_or_insert(error);
        }
    };
    let looked = match &other {
        Some(other) => log_tools::compare(&log, other, &meter, report).await.map_err(Failure::from),
        None => audit(call, &log, &meter, report).await,
    };
    drop(shown);
    let looked = looked?;
    if let Some(error) = unsaid {
        return Err(error.into());
    }
    print(&result_line(call, &looked))?;
    Ok(looked.findings == 0)
}

/// Audits a log, and the read model in the same data folder, if there is one.
async fn audit(
    call: &VerifyArgs,
    log: &Arc<dyn EventStore>,
    meter: &Meter,
    mut report: impl FnMut(Finding) + Send,
) -> Result<Checked, Failure> {
    // Read before the log, which then reaches at least as far.
    let rows = stored_rows(&call.log).await?;
    let mut looked = log_tools::audit(log, meter, &mut report).await?;
    if let Some(rows) = rows {
        looked.findings += log_tools::audit_rows(log, &rows, meter, report).await?;
    }
    Ok(looked)
}

fn result_line(call: &VerifyArgs, looked: &Checked) -> String {
    let is_well = looked.findings == 0;
    if call.json {
        let result = json!({
            "ok": is_well, "events": looked.events, "commits": looked.commits, "orders": looked.orders, "findings": looked.findings,
        });
        return format!("{result}\n");
    }
    let orders = match call.other {
        None => format!(" of {}", counted(looked.orders, "order", "orders")),
        Some(_) => " compared".to_owned(),
    };
    let verdict = if is_well { "all is well".to_owned() } else { counted(looked.findings, "finding", "findings") };
    let (events, commits) = (counted(looked.events, "event", "events"), counted(looked.commits, "commit", "commits"));
    format!("{events} in {commits}{orders}: {verdict}\n")
}

fn counted(number: u64, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

fn text_line(finding: &Finding) -> String {
    let place: Vec<String> = [
        finding.position.map(|position| format!("position {position}")),
        finding.stream.map(|stream| format!("order {stream}")),
        finding.revision.map(|revision| format!("revision {revision}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    let place = if place.is_empty() { String::new() } else { format!("{}: ", place.join(", ")) };
    format!("{}: {place}{}\n", finding.kind.name(), finding.detail)
}

fn json_line(finding: &Finding) -> String {
    // 64-bit numbers are text, as everywhere in our JSON.
    let line = json!({
        "kind": finding.kind.name(),
        "position": finding.position.map(|position| position.to_string()),
        "orderId": finding.stream.map(|stream| stream.to_string()),
        "revision": finding.revision,
        "detail": finding.detail,
    });
    format!("{line}\n")
}
