//! The audit: structured lines for refused calls and the actions of operators, under a separate log target, and a counter.
//!
//! Each action of an operator has a line. Refusals could fill the disk. Of those that are repeated, the first has a line at once, and further ones
//! are logged as a number every 30 s: by caller, route and reason where the caller is verified, else by route and reason. Of refusals to a verified
//! caller for other reasons than its limits, the first ten have a line each. The counter counts each of them.
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
    server::{
        call,
        error::{ApiError, Reason},
    },
    telemetry::logs::AUDIT,
};

/// The interval at which repeated refusals are logged as a number.
const COUNTED_EVERY: Duration = Duration::from_secs(30);
/// The lines of a verified caller for one reason on one route, before further refusals are only counted.
const LINES_OF_CALLER: u32 = 10;
/// The maximum number of kinds of repeated refusals whose caller is known. Beyond it, refusals to further callers are counted without their names.
const MAX_OF_CALLERS: usize = 1_000;

/// The outcome of an audited call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// It was executed.
    Done,
    /// It was allowed, and failed.
    Failed,
    /// It was allowed, and its client has left before the end of the reply: it may have been executed.
    Cancelled,
    /// It was refused.
    Refused(Refusal<'a>),
}

/// Why a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// The reason.
    pub reason: Reason,
    /// The limit of the caller that it has reached, and the owner of that limit.
    limit: Option<(&'a str, &'a str)>,
}

impl From<Reason> for Refusal<'static> {
    fn from(reason: Reason) -> Self {
        Self { reason, limit: None }
    }
}

impl<'a> From<&'a ApiError> for Refusal<'a> {
    fn from(error: &'a ApiError) -> Self {
        let limit = error.fact("limit").zip(error.fact("scope")).filter(|_| error.reason == Reason::CallerLimit);
        Self { reason: error.reason, limit }
    }
}

impl Outcome<'_> {
    const fn index(self) -> usize {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Cancelled => 2,
            Self::Refused(_) => 3,
        }
    }

    const fn name(self) -> &'static str {
        OUTCOMES[self.index()]
    }
}

const OUTCOMES: [&str; 4] = ["done", "failed", "cancelled", "refused"];

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

/// A kind of refusal that is repeated.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Repeated {
    /// The verified name of the caller; empty where anyone can cause it.
    name: String,
    what: What,
    reason: &'static str,
    /// The limit and its owner.
    limit: Option<(String, String)>,
}

impl Repeated {
    fn of(who: &Who, what: What, refusal: Refusal<'_>) -> Self {
        let limit = refusal.limit.map(|(limit, scope)| (limit.to_owned(), scope.to_owned()));
        Self { name: who.name.clone(), what, reason: refusal.reason.spec().name, limit }
    }

    /// How many of them have a line each.
    const fn lines(&self) -> u32 {
        if self.name.is_empty() || self.limit.is_some() { 1 } else { LINES_OF_CALLER }
    }
}

/// What was logged of a kind of refusal.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    lines: u32,
    /// The number of refusals since the last line.
    unsaid: u64,
}

/// The kinds of refusals that were lately repeated. Their number is bounded: by both tables, and by [`MAX_OF_CALLERS`].
type Lately = Arc<Mutex<HashMap<Repeated, Told>>>;

/// Writes the audit.
#[derive(Debug)]
pub struct Audit {
    counters: [[Counter; OUTCOMES.len()]; Kind::ALL.len()],
    lately: Lately,
}

impl Audit {
    /// An audit whose metrics use the current recorder.
    #[must_use]
    pub fn new() -> Self {
        let counter = |kind: Kind, outcome: &'static str| metrics::counter!("ordersystem_audit_total", "action" => kind.name(), "outcome" => outcome);
        let counters = Kind::ALL.map(|kind| OUTCOMES.map(|outcome| counter(kind, outcome)));
        Self { counters, lately: Lately::default() }
    }

    /// Records a call of the method or route of `rule`; `None` for a path that is not classified.
    pub fn record(&self, who: &Who, rule: Option<&'static Rule>, outcome: Outcome<'_>) {
        let kind = rule.map_or(Kind::Page, |rule| rule.kind);
        if let Some(counter) = Kind::ALL.iter().position(|known| *known == kind) {
            self.counters[counter][outcome.index()].increment(1);
        }
        let what = What::of(rule);
        let refusal = match outcome {
            Outcome::Refused(refusal) if !self.gets_a_line(Repeated::of(who, what, refusal)) => return,
            Outcome::Refused(refusal) => Some(refusal),
            Outcome::Done | Outcome::Failed | Outcome::Cancelled => None,
        };
        let reason = refusal.map_or("", |refusal| refusal.reason.spec().name);
        say(what, who, outcome.name(), reason, refusal.and_then(|refusal| refusal.limit), None);
    }

    /// Whether a refusal gets its own line; otherwise it is counted for the next line.
    fn gets_a_line(&self, mut kind: Repeated) -> bool {
        let mut lately = self.lately.lock();
        if lately.len() >= MAX_OF_CALLERS && !lately.contains_key(&kind) {
            (kind.name, kind.limit) = (String::new(), None);
        }
        match lately.entry(kind) {
            Entry::Occupied(mut told) => {
                let max = told.key().lines();
                let told = told.get_mut();
                if told.lines >= max {
                    told.unsaid += 1;
                    return false;
                }
                told.lines += 1;
            }
            Entry::Vacant(none) => {
                // Without a runtime there is no timer: each refusal gets a line.
                let Ok(runtime) = Handle::try_current() else { return true };
                runtime.spawn(count(Arc::clone(&self.lately), none.key().clone()));
                none.insert(Told { lines: 1, unsaid: 0 });
            }
        }
        true
    }
}

/// Logs the number of refusals of one kind every [`COUNTED_EVERY`], until there are no more.
async fn count(lately: Lately, kind: Repeated) {
    let refused = OUTCOMES[OUTCOMES.len() - 1];
    let who = Who { name: kind.name.clone(), peer: None };
    let limit = kind.limit.as_ref().map(|(limit, scope)| (limit.as_str(), scope.as_str()));
    loop {
        sleep(COUNTED_EVERY).await;
        let unsaid = {
            let mut lately = lately.lock();
            let unsaid = lately.get_mut(&kind).map(|told| std::mem::take(&mut told.unsaid)).unwrap_or_default();
            if unsaid == 0 {
                lately.remove(&kind);
                return;
            }
            unsaid
        };
        say(kind.what, &who, refused, kind.reason, limit, Some(unsaid));
    }
}

/// Writes a line: for one call, or for the `count` calls that had no line.
fn say(what: What, who: &Who, outcome: &str, reason: &str, limit: Option<(&str, &str)>, count: Option<u64>) {
    // Texts are quoted and escaped by the log.
    tracing::info!(
        target: AUDIT,
        who = who.name.as_str(),
        peer = who.peer.map(|peer| peer.to_string()),
        action = what.action,
        method = what.method,
        path = what.path,
        outcome,
        reason,
        limit = limit.map(|(limit, _)| limit),
        scope = limit.map(|(_, scope)| scope),
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

    use tracing::subscriber::DefaultGuard;

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
        /// Captures the lines that this thread logs while the guard lives.
        fn captured() -> (Self, DefaultGuard) {
            let lines = Self::default();
            let writer = lines.clone();
            let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
            (lines, tracing::subscriber::set_default(log))
        }

        /// The lines since the last call, from the path on.
        fn taken(&self) -> Vec<String> {
            let text = String::from_utf8(std::mem::take(&mut *self.0.lock())).expect("text");
            let end = |line: &str| line.split_once("path=").expect("a path").1.trim().to_owned();
            text.lines().map(end).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_that_anyone_can_cause_are_logged_at_once_and_then_counted() {
        let (lines, _guard) = Lines::captured();
        let audit = Audit::new();
        let rule = table::of_method("/catga.orders.v1.OrderCommandService/PayOrder");
        let refuse = |who: &str, rule, reason| {
            audit.record(&Who { name: who.to_owned(), peer: None }, rule, Outcome::Refused(Refusal::from(reason)));
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
        // Refusals of a verified caller are rare, and have a line each.
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

    /// The error of a call that exceeds a limit.
    fn exceeded(limit: &str, scope: &str) -> ApiError {
        ApiError::new(Reason::CallerLimit, "").with("limit", limit).with("scope", scope)
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_one_caller_has_a_bounded_number_of_lines_with_its_name() {
        let (lines, _guard) = Lines::captured();
        let (audit, rule) = (Audit::new(), table::of_method("/catga.orders.v1.OrderQueryService/GetOrder"));
        let refuse = |name: &str, refusal: Refusal<'_>| {
            audit.record(&Who { name: name.to_owned(), peer: None }, rule, Outcome::Refused(refusal));
        };
        let (by_role, by_name) = (exceeded("rate", "role:reader"), exceeded("streams", "name:app"));
        for _ in 0..1_000 {
            for name in ["app", "shop"] {
                refuse(name, Refusal::from(&by_role));
                refuse(name, Reason::RoleMissing.into());
            }
            refuse("app", Refusal::from(&by_name));
        }
        let of = |lines: &[String], part: &str| lines.iter().filter(|line| line.ends_with(part)).count();
        let at_once = lines.taken();
        let rate = "reason=\"CALLER_LIMIT\" limit=\"rate\" scope=\"role:reader\"";
        let streams = "reason=\"CALLER_LIMIT\" limit=\"streams\" scope=\"name:app\"";
        let role = "reason=\"ROLE_MISSING\"";
        assert_eq!((of(&at_once, rate), of(&at_once, streams), of(&at_once, role)), (2, 1, 20));
        assert_eq!(at_once.len(), 23);
        sleep(COUNTED_EVERY + Duration::from_millis(1)).await;
        let counted = lines.taken();
        let found = [rate, streams].map(|text| of(&counted, &format!("{text} count=999")));
        assert_eq!((found, of(&counted, &format!("{role} count=990"))), ([2, 1], 2), "{counted:?}");
        assert_eq!(counted.len(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn the_refusals_of_very_many_callers_are_bounded_as_well() {
        let (lines, _guard) = Lines::captured();
        let (audit, rule) = (Audit::new(), table::of_method("/catga.orders.v1.OrderQueryService/GetOrder"));
        for number in 0..3 * MAX_OF_CALLERS {
            let who = Who { name: format!("caller-{number}"), peer: None };
            audit.record(&who, rule, Outcome::Refused(Refusal::from(&exceeded("rate", "role:reader"))));
        }
        assert_eq!(lines.taken().len(), MAX_OF_CALLERS + 1);
        sleep(COUNTED_EVERY + Duration::from_millis(1)).await;
        let counted = lines.taken();
        assert_eq!(counted.len(), 1, "{counted:?}");
        assert!(counted[0].ends_with(&format!("count={}", 2 * MAX_OF_CALLERS - 1)), "{counted:?}");
    }
}
