//! Logging of a lasting failure: when it begins, when its cause changes, and every 30 s while it lasts, instead of at each attempt.

use std::{
    fmt,
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The interval at which a lasting failure is logged again.
pub const SAID_EVERY: Duration = Duration::from_secs(30);
/// The maximum number of causes that are distinguished at a time; further ones wait until another has not been logged for [`SAID_EVERY`].
const MAX_CAUSES: usize = 8;

/// Whether a dependency of a node, a broker, is known to be unreachable. Its connection logs that, so work that is stalled because of it need not.
#[derive(Clone, Default)]
pub struct Away(Option<Arc<dyn Fn() -> Option<String> + Send + Sync>>);

impl Away {
    /// Calls `why` each time, which must not block: it returns the reason, or `None` if the dependency is not known to be unreachable.
    #[must_use]
    pub fn new(why: impl Fn() -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(why)))
    }

    /// Why it is unreachable, if it is known to be.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        self.0.as_ref().and_then(|why| why())
    }
}

impl fmt::Debug for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Away").field(&self.why()).finish()
    }
}

/// A failure to log now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// The number of unlogged failures since the last line; `None`, which is logged as no field, if each was logged.
    pub unsaid: Option<NonZeroU64>,
}

/// A dependency that fails and recovers. This only decides when to log; the caller logs, with its own fields.
#[derive(Debug, Default)]
pub struct Outage {
    /// An outage that explains its failures, and is logged elsewhere.
    away: Away,
    /// So that a dependency that works costs only one load.
    lasts: AtomicBool,
    told: Mutex<Option<Told>>,
}

#[derive(Debug)]
struct Told {
    since: Instant,
    /// The causes logged within [`SAID_EVERY`], and when.
    causes: Vec<(String, Instant)>,
    unsaid: u64,
}

impl Outage {
    /// An outage that has not begun.
    #[must_use]
    pub const fn new() -> Self {
        Self { away: Away(None), lasts: AtomicBool::new(false), told: Mutex::new(None) }
    }

    /// Does not log while a broker is `away`.
    #[must_use]
    pub const fn while_not(away: Away) -> Self {
        Self { away, lasts: AtomicBool::new(false), told: Mutex::new(None) }
    }

    /// Records a failure because of `why`. Returns `Some` if it should be logged now.
    pub fn failed(&self, why: &str) -> Option<Line> {
        if self.away.why().is_some() {
            tracing::debug!(why, "work is stalled while a broker is unreachable");
            return None;
        }
        let now = Instant::now();
        let cause = cause(why);
        let mut told = self.told.lock();
        self.lasts.store(true, Ordering::Release);
        let told = told.get_or_insert_with(|| Told { since: now, causes: Vec::new(), unsaid: 0 });
        told.causes.retain(|(_, said_at)| now.duration_since(*said_at) < SAID_EVERY);
        if told.causes.len() < MAX_CAUSES && !told.causes.iter().any(|(said, _)| *said == cause) {
            told.causes.push((cause, now));
            return Some(Line { unsaid: NonZeroU64::new(std::mem::take(&mut told.unsaid)) });
        }
        told.unsaid += 1;
        None
    }

    /// Records a success. Returns how long the failure lasted, if there was one.
    pub fn works(&self) -> Option<Duration> {
        if !self.lasts.load(Ordering::Acquire) {
            return None;
        }
        let mut told = self.told.lock();
        self.lasts.store(false, Ordering::Release);
        told.take().map(|told| told.since.elapsed())
    }
}

/// The text without its numbers: the same cause with another time, port or position is not new.
fn cause(why: &str) -> String {
    why.chars().filter(|character| !character.is_ascii_digit()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Option<Line> = Some(Line { unsaid: None });

    fn after(unsaid: u64) -> Option<Line> {
        Some(Line { unsaid: NonZeroU64::new(unsaid) })
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_logged_once_and_then_every_half_minute() {
        let outage = Outage::new();
        let mut said = Vec::new();
        for _ in 0..700 {
            said.extend(outage.failed("no answer after 17 ms"));
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        let expected: Vec<_> = [FIRST, after(299), after(299)].into_iter().flatten().collect();
        assert_eq!(said, expected, "at 0, 30 and 60 of 70 seconds, with how many went unsaid");
    }

    #[tokio::test(start_paused = true)]
    async fn another_cause_is_logged_and_another_number_is_not() {
        let outage = Outage::default();
        assert_eq!(outage.failed("open for 17 ms"), FIRST);
        assert_eq!(outage.failed("open for 16 ms"), None);
        assert_eq!(outage.failed("connection refused"), after(1));
        // Two alternating causes are not logged alternately.
        assert_eq!(outage.failed("open for 3 ms"), None);
        assert_eq!(outage.failed("connection refused"), None);
        for letter in 'a'..='z' {
            outage.failed(&letter.to_string());
        }
        assert_eq!(outage.failed("the last of too many"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn its_end_is_reported_once_and_the_next_failure_is_logged() {
        let outage = Outage::default();
        assert_eq!(outage.works(), None);
        outage.failed("x");
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(outage.works(), Some(Duration::from_secs(3)));
        assert_eq!(outage.works(), None);
        assert_eq!(outage.failed("x"), FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_that_an_absent_broker_explains_are_not_logged_and_others_are() {
        let is_away = Arc::new(AtomicBool::new(true));
        let asked = Arc::clone(&is_away);
        let away = Away::new(move || asked.load(Ordering::Relaxed).then(|| "connection refused".to_owned()));
        let outage = Outage::while_not(away);
        assert_eq!((outage.failed("no lease"), outage.works()), (None, None));
        is_away.store(false, Ordering::Relaxed);
        assert_eq!(outage.failed("no lease"), FIRST);
    }
}
