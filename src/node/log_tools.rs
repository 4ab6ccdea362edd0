//! `ordersystem copy` and `ordersystem verify`: open the logs, run, and report progress and results.

use std::{
    io::{IsTerminal as _, Write as _},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{StartError, backends::nats_access};
use crate::{
    backends::{
        embedded::{
            database::Database,
            event_store::{EmbeddedEventStore, read_only::ReadOnlyEventStore},
            read_model::at_rest::stored_rows,
        },
        nats::{
            connection::{ConnectError as NatsConnectError, Nats, NatsOptions},
            event_store::NatsEventStore,
        },
        redis::{
            connection::{ConnectError, Redis, RedisOptions},
            event_store::RedisEventStore,
            permissions::Roles,
        },
    },
    cli::{CopyArgs, VerifyArgs},
    config::{LogAddress, LogRef},
    log_tools::{self, CopyOptions, Finding, Looked, Meter, Passing, Patience, PatientStore},
    ports::event_store::EventStore,
};

/// The timeout of a tool for a broker: longer than that of a node, which has waiting clients.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The interval of progress updates on a terminal, and elsewhere.
const BAR_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(5);
const BAR_WIDTH: usize = 30;

/// Copies a log, and prints the totals to standard output.
///
/// # Errors
/// One line: an unusable store, a target that is not a copy, or an interrupted copy.
pub async fn copy(call: &CopyArgs, stop: &CancellationToken) -> Result<(), StartError> {
    let patience = || Patience::until(stop);
    let from = open(&call.from, Use::Read, patience()).await?;
    let to = open(&call.to, Use::Write { replicas: call.replicas }, patience()).await?;
    let meter = Arc::new(Meter::default());
    let shown = Shown::begin(&meter);
    let options = CopyOptions { follow: call.follow };
    let copied = log_tools::copy(&from, &to, options, &meter, stop).await;
    shown.end().await;
    let copied = copied?;
    let rate = rate(copied.events, copied.took);
    let found = if copied.found > 0 { format!(", {} were there", copied.found) } else { String::new() };
    say(&format!(
        "{}: {} events in {} commits copied from {}{found}; {rate} events/s\n",
        call.to, copied.events, copied.commits, call.from
    ))?;
    if copied.is_stopped && !call.follow {
        return Err("interrupted before the end; the same command goes on from there".into());
    }
    Ok(())
}

/// Audits a log or compares two; returns whether no problem was found. Problems go to standard output, one per line.
///
/// # Errors
/// One line: an unreadable log.
pub async fn verify(call: &VerifyArgs) -> Result<bool, StartError> {
    let log = open(&call.log, Use::Read, Patience::default()).await?;
    let other = match &call.other {
        Some(other) => Some(open(other, Use::Read, Patience::default()).await?),
        None => None,
    };
    let meter = Arc::new(Meter::default());
    let shown = Shown::begin(&meter);
    let mut unsaid = None;
    let report = |finding: Finding| {
        let line = if call.json { json_line(&finding) } else { text_line(&finding) };
        if let Err(error) = say(&line) {
            unsaid.get_or_insert(error);
        }
    };
    let looked = match &other {
        Some(other) => log_tools::compare(&log, other, &meter, report).await.map_err(StartError::from),
        None => audit(call, &log, &meter, report).await,
    };
    shown.end().await;
    let looked = looked?;
    if let Some(error) = unsaid {
        return Err(error);
    }
    let is_well = looked.findings == 0;
    say(&if call.json {
        let result = json!({
            "ok": is_well, "events": looked.events, "commits": looked.commits, "orders": looked.orders, "findings": looked.findings,
        });
        format!("{result}\n")
    } else {
        let orders = if call.other.is_none() {
            format!(" of {}", counted(looked.orders, "order", "orders"))
        } else {
            String::new()
        };
        let verdict = if is_well { "all is well".to_owned() } else { counted(looked.findings, "finding", "findings") };
        let (events, commits) =
            (counted(looked.events, "event", "events"), counted(looked.commits, "commit", "commits"));
        format!("{events} in {commits}{orders}: {verdict}\n")
    })?;
    Ok(is_well)
}

/// Audits a log, and the read model in the same data folder, if there is one.
async fn audit(
    call: &VerifyArgs,
    log: &Arc<dyn EventStore>,
    meter: &Meter,
    mut report: impl FnMut(Finding) + Send,
) -> Result<Looked, StartError> {
    // Read before the log, which is then further.
    let rows = match call.log.address.clone() {
        LogAddress::Embedded(dir) => tokio::task::spawn_blocking(move || stored_rows(&dir)).await??,
        LogAddress::Redis(_) | LogAddress::Nats(_) => None,
    };
    let mut looked = log_tools::audit(log, meter, &mut report).await?;
    if let Some(rows) = rows {
        looked.findings += log_tools::audit_rows(log, &rows, meter, report).await?;
    }
    Ok(looked)
}

fn counted(number: u64, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

/// The access mode of a log.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Read-only: nothing is created or changed.
    Read,
    Write {
        replicas: usize,
    },
}

async fn open(log: &LogRef, how: Use, patience: Patience) -> Result<Arc<dyn EventStore>, StartError> {
    let opened = match &log.address {
        LogAddress::Embedded(dir) => open_folder(dir, how),
        LogAddress::Redis(url) => {
            let options = RedisOptions {
                response_timeout: ANSWER_WITHIN,
                makes_log: how != Use::Read,
                roles: Roles { reads_log: true, writes_log: how != Use::Read, bus: false, cache: false },
                ..RedisOptions::new(url.expose(), &log.prefix)
            };
            open_redis(options).await
        }
        LogAddress::Nats(url) => {
            let options = NatsOptions {
                request_timeout: ANSWER_WITHIN,
                makes_log: how != Use::Read,
                replicas: if let Use::Write { replicas } = how { replicas } else { 1 },
                access: nats_access(&log.nats_access),
                ..NatsOptions::new(url.expose(), &log.prefix)
            };
            open_nats(options, &patience).await
        }
    };
    match opened {
        Ok(store) => Ok(Arc::new(PatientStore::new(store, patience))),
        Err(error) => Err(format!("{log}: {error}").into()),
    }
}

fn open_folder(dir: &Path, how: Use) -> Result<Arc<dyn EventStore>, StartError> {
    Ok(match how {
        Use::Read => Arc::new(ReadOnlyEventStore::open(dir)?),
        Use::Write { .. } => Arc::new(EmbeddedEventStore::new(Database::open(dir)?)),
    })
}

async fn open_redis(options: RedisOptions) -> Result<Arc<dyn EventStore>, StartError> {
    let redis = Redis::start(options, true)?;
    match redis.first_connection().await {
        Ok(()) => Ok(Arc::new(RedisEventStore::new(redis))),
        Err(ConnectError::Retryable(why) | ConnectError::Fatal(why)) => Err(why.into()),
    }
}

impl Passing for NatsConnectError {
    fn passes(&self) -> bool {
        matches!(self, Self::Retryable(_))
    }
}

async fn open_nats(options: NatsOptions, patience: &Patience) -> Result<Arc<dyn EventStore>, StartError> {
    let nats = Nats::start(options).await?;
    nats.connected().await.map_err(|error| error.why().to_owned())?;
    let store = NatsEventStore::new(nats);
    // The servers are reachable; this checks for a quorum.
    patience.ask(|| store.first_admission()).await.map_err(|error| error.why().to_owned())?;
    Ok(Arc::new(store))
}

/// Shows progress on standard error: a bar on a terminal, else occasional lines.
struct Shown {
    showing: JoinHandle<()>,
    is_terminal: bool,
}

impl Shown {
    fn begin(meter: &Arc<Meter>) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self { showing: tokio::spawn(show(Arc::clone(meter), is_terminal)), is_terminal }
    }

    async fn end(self) {
        self.showing.abort();
        let _ = self.showing.await;
        if self.is_terminal {
            // Clears the bar. Errors on a closed standard error are ignored.
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

async fn show(meter: Arc<Meter>, is_terminal: bool) {
    let every = if is_terminal { BAR_EVERY } else { LINE_EVERY };
    let (mut phase, mut begun) = ("", Instant::now());
    loop {
        tokio::time::sleep(every).await;
        let reading = meter.read();
        if reading.phase != phase {
            (phase, begun) = (reading.phase, Instant::now().checked_sub(every).unwrap_or_else(Instant::now));
        }
        if phase.is_empty() {
            continue;
        }
        let rate = rate(reading.done, begun.elapsed());
        let (done, total) = (reading.done, reading.total.max(reading.done));
        let left = match (total - done).checked_div(rate) {
            Some(seconds) if done < total => format!(", {seconds} s left"),
            _ => String::new(),
        };
        let text = format!("{phase} {done} of about {total} events, {rate} events/s{left}");
        let _ = if is_terminal {
            let filled = usize::try_from(done * BAR_WIDTH as u64 / total.max(1)).unwrap_or(BAR_WIDTH).min(BAR_WIDTH);
            let bar = format!("{}{}", "#".repeat(filled), "-".repeat(BAR_WIDTH - filled));
            write!(std::io::stderr(), "\r\x1b[K[{bar}] {text}")
        } else {
            writeln!(std::io::stderr(), "{text}")
        };
    }
}

/// Events per second.
fn rate(events: u64, time: Duration) -> u64 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    events.saturating_mul(1_000) / millis
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

/// Prints to standard output. A progress bar is redrawn at the next update.
fn say(text: &str) -> Result<(), StartError> {
    if std::io::stderr().is_terminal() {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
    match std::io::stdout().write_all(text.as_bytes()) {
        // The reader has closed the pipe (e.g. `| head`).
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
