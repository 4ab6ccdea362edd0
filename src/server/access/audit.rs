//! The audit: structured lines for refused calls and the actions of operators, under a separate log target, and a counter.
//!
//! Each action of an operator and each refusal to a verified caller has a line. Refusals that anyone can cause could fill the disk: the first one
//! with a reason on a route is logged at once, and further ones as a number every 30 s. The counter counts each of them.
//!
//! A line has no personal data: neither the payload of the call, nor the order or customer that it is about.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use http::Extensions;
use metrics::Counter;
use parking_lot::Mutex;
use tokio::{runtime::Handle, time::sleep};

use super::table::{Kind, Rule};
use crate::{
    identity::Principal,
    server::{call, error::Reason},
};

/// The log target of the audit: `--log-level info,audit=off` silences it.
pub const TARGET: &str = "audit";

/// The interval at which refusals to callers that are not verified are logged as a number.
const COUNTED_EVERY: Duration = Duration::from_secs(30);

/// The outcome of an audited call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was executed.
    Done,
    /// It was allowed, and failed.
    Failed,
    /// It was refused, for this reason.
    Refused(Reason),
}

impl Outcome {
    const fn index(self) -> usize {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Refused(_) => 2,
        }
    }
}

const OUTCOMES: [&str; 3] = ["done", "failed", "refused"];

/// The caller and its address.
#[derive(Clone, Debug, Default)]
pub struct Who {
    /// The verified name; empty without one.
    pub name: String,
    /// The address of the client.
    pub peer: Option<SocketAddr>,
}

impl Who {
    /// The client of the request with `extensions`, as `principal` if it was verified.
    #[must_use]
    pub fn of(extensions: &Extensions, principal: Option<&Principal>) -> Self {
        let name = principal.and_then(Principal::name).map(ToString::to_string).unwrap_or_default();
        Self { name, peer: call::connection(extensions).and_then(|connection| connection.peer) }
    }
}

/// The kind, the method and the path of the called row of the table of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct What {
    action: &'static str,
    method: &'static str,
    path: &'static str,
}

impl What {
    fn of(rule: Option<&'static Rule>) -> Self {
        match rule {
            Some(rule) => Self { action: rule.kind.name(), method: rule.method, path: &rule.path },
            None => Self { action: Kind::Page.name(), method: "", path: "unclassified" },
        }
    }
}

/// The number of refusals since the last line, by row and reason. Both tables bound the number of entries.
type Unsaid = Arc<Mutex<HashMap<(What, &'static str), u64>>>;

/// Writes the audit.
#[derive(Debug)]
pub struct Audit {
    counters: [[Counter; OUTCOMES.len()]; Kind::ALL.len()],
    unsaid: Unsaid,
}

impl Audit {
    /// An audit whose metrics use the current recorder.
    #[must_use]
    pub fn new() -> Self {
        let counter = |kind: Kind, outcome: &'static str| metrics::counter!("ordersystem_audit_total", "action" => kind.name(), "outcome" => outcome);
        let counters = Kind::ALL.map(|kind| OUTCOMES.map(|outcome| counter(kind, outcome)));
        Self { counters, unsaid: Unsaid::default() }
    }

    /// Records a call of the method or route of `rule`; `None` for a path that is not classified.
    pub fn record(&self, who: &Who, rule: Option<&'static Rule>, outcome: Outcome) {
        let kind = rule.map_or(Kind::Page, |rule| rule.kind);
        if let Some(counter) = Kind::ALL.iter().position(|known| *known == kind) {
            self.counters[counter][outcome.index()].increment(1);
        }
        let what = What::of(rule);
        let reason = match outcome {
            Outcome::Refused(reason) => reason.spec().name,
            Outcome::Done | Outcome::Failed => "",
        };
        let is_anyones = who.name.is_empty() && matches!(outcome, Outcome::Refused(_));
        if is_anyones && !self.is_first(what, reason) {
            return;
        }
        say(what, who, OUTCOMES[outcome.index()], reason, None);
    }

    /// Whether a refusal gets its own line; otherwise it is counted for the next line.
    fn is_first(&self, what: What, reason: &'static str) -> bool {
        let key = (what, reason);
        match self.unsaid.lock().entry(key) {
            Entry::Occupied(mut unsaid) => {
                *unsaid.get_mut() += 1;
                return false;
            }
            Entry::Vacant(none) => {
                // Without a runtime there is no timer: each refusal gets a line.
                let Ok(runtime) = Handle::try_current() else { return true };
                none.insert(0);
                runtime.spawn(count(Arc::clone(&self.unsaid), key));
            }
        }
        true
    }
}

/// Logs the number of refusals every [`COUNTED_EVERY`], until there are no more.
async fn count(all: Unsaid, key: (What, &'static str)) {
    loop {
        sleep(COUNTED_EVERY).await;
        let unsaid = {
            let mut all = all.lock();
            let unsaid = all.insert(key, 0).unwrap_or_default();
            if unsaid == 0 {
                all.remove(&key);
                return;
            }
            unsaid
        };
        say(key.0, &Who::default(), OUTCOMES[2], key.1, Some(unsaid));
    }
}

/// Writes a line: for one call, or for the `count` calls that had no line.
fn say(what: What, who: &Who, outcome: &str, reason: &str, count: Option<u64>) {
    // Texts are quoted and escaped by the log.
    tracing::info!(
        target: TARGET,
        who = who.name.as_str(),
        peer = who.peer.map(|peer| peer.to_string()),
        action = what.action,
        method = what.method,
        path = what.path,
        outcome,
        reason,
        count,
        "audit"
    );
}

impl Default for Audit {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::server::access::table;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        /// The lines since the last call, from the path on.
        fn taken(&self) -> Vec<String> {
            let text = String::from_utf8(std::mem::take(&mut *self.0.lock())).expect("text");
            let end = |line: &str| line.split_once("path=").expect("a path").1.trim().to_owned();
            text.lines().map(end).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_that_anyone_can_cause_are_logged_at_once_and_then_counted() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let _guard = tracing::subscriber::set_default(log);
        let audit = Audit::new();
        let rule = table::of_method("/catga.orders.v1.OrderCommandService/PayOrder");
        let refuse = |who: &str, rule, reason| {
            audit.record(&Who { name: who.to_owned(), peer: None }, rule, Outcome::Refused(reason));
        };
        for _ in 0..1_000 {
            refuse("", None, Reason::HostNotAllowed);
            refuse("", rule, Reason::CredentialsMissing);
        }
        refuse("", rule, Reason::CredentialsInvalid);
        let pay = "\"/catga.orders.v1.OrderCommandService/PayOrder\" outcome=\"refused\"";
        let unclassified = "\"unclassified\" outcome=\"refused\" reason=\"HOST_NOT_ALLOWED\"";
        let missing = format!("{pay} reason=\"CREDENTIALS_MISSING\"");
        let at_once = [unclassified.to_owned(), missing.clone(), format!("{pay} reason=\"CREDENTIALS_INVALID\"")];
        assert_eq!(lines.taken(), at_once);
        // Each refusal of a verified caller has a line: their number is bounded by the caller's limits.
        refuse("app", rule, Reason::RoleMissing);
        refuse("app", rule, Reason::RoleMissing);
        assert_eq!(lines.taken().len(), 2);
        sleep(COUNTED_EVERY + Duration::from_millis(1)).await;
        let mut counted = lines.taken();
        counted.sort();
        let mut expected = [format!("{unclassified} count=999"), format!("{missing} count=999")];
        expected.sort();
        assert_eq!(counted, expected);
        // After a minute without refusals the next one has a line at once.
        sleep(COUNTED_EVERY * 2).await;
        assert_eq!(lines.taken(), Vec::<String>::new());
        refuse("", rule, Reason::CredentialsMissing);
        assert_eq!(lines.taken(), [missing]);
    }
}
