//! Logging of a lasting failure: when it begins, when its cause changes, and every 30 s while it lasts, instead of at each attempt.
//!
//! One fault has many symptoms, whose causes differ in their words: work with one state, such as a relay or a projection, is logged
//! [`whatever the cause`](Outage::whatever_the_cause). What a broker or a circuit breaker explains, which are logged themselves, is not
//! logged at all, neither meanwhile nor while the work recovers from it ([`Away`]).

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

/// How long work may take to work again after the outage that has stalled it.
const RECOVERS_WITHIN: Duration = Duration::from_secs(10);

/// Whether a dependency of a node, a broker, is known to be unreachable or to fail. Its connection or its circuit breaker logs that, so work that is
/// stalled because of it need not.
#[derive(Clone, Default)]
pub struct Away(Option<Arc<Dependency>>);

struct Dependency {
    why: Box<dyn Fn() -> Option<String> + Send + Sync>,
    /// When it was last found unreachable or failing, by any clone.
    last: Mutex<Option<Instant>>,
}

impl Away {
    /// Calls `why` each time, which must not block: it returns the reason, or `None` if no outage of the dependency is known.
    #[must_use]
    pub fn new(why: impl Fn() -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(Dependency { why: Box::new(why), last: Mutex::new(None) })))
    }

    /// Why it is unreachable or fails, if that is known.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        let Dependency { why, last } = &**self.0.as_ref()?;
        let why = why()?;
        *last.lock() = Some(Instant::now());
        Some(why)
    }

    /// Whether it is, or was within the time that work needs to recover: then that explains a failure.
    fn explains(&self, recovers_within: Duration) -> bool {
        let is_recent = |last: Instant| last.elapsed() < recovers_within;
        self.why().is_some() || self.0.as_ref().is_some_and(|source| source.last.lock().is_some_and(is_recent))
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
#[derive(Debug)]
pub struct Outage {
    /// An outage that explains its failures, and is logged elsewhere.
    away: Away,
    recovers_within: Duration,
    /// Whether all causes are one, and an outage that comes back soon is the same one.
    has_one_state: bool,
    /// Whether causes that differ only by their numbers are the same.
    ignores_numbers: bool,
    /// So that a dependency that works costs only one load.
    lasts: AtomicBool,
    told: Mutex<Told>,
}

#[derive(Debug)]
struct Told {
    /// When it began; `None` if it does not last.
    since: Option<Instant>,
    /// Whether it was logged since then.
    is_said: bool,
    /// The causes logged within [`SAID_EVERY`], and when.
    causes: Vec<(String, Instant)>,
    unsaid: u64,
}

impl Default for Outage {
    fn default() -> Self {
        Self::new()
    }
}

impl Outage {
    /// An outage that has not begun.
    #[must_use]
    pub const fn new() -> Self {
        Self::while_not(Away(None))
    }

    /// Does not log while a broker is `away`, nor while the work recovers from that.
    #[must_use]
    pub const fn while_not(away: Away) -> Self {
        let told = Told { since: None, is_said: false, causes: Vec::new(), unsaid: 0 };
        Self {
            away,
            recovers_within: RECOVERS_WITHIN,
            has_one_state: false,
            ignores_numbers: true,
            lasts: AtomicBool::new(false),
            told: Mutex::new(told),
        }
    }

    /// Logs a failure right after the broker was away as well: it has nothing to recover.
    #[must_use]
    pub fn at_once(self) -> Self {
        Self { recovers_within: Duration::ZERO, ..self }
    }

    /// Logs once in [`SAID_EVERY`] at most: another cause is no news, and neither is a failure soon after a success.
    #[must_use]
    pub fn whatever_the_cause(self) -> Self {
        Self { has_one_state: true, ..self }
    }

    /// Causes that differ by a number are distinguished: it names what has failed.
    #[must_use]
    pub fn of_each_number(self) -> Self {
        Self { ignores_numbers: false, ..self }
    }

    /// Records a failure because of `why`. Returns `Some` if it should be logged now.
    pub fn failed(&self, why: &str) -> Option<Line> {
        if self.away.explains(self.recovers_within) {
            tracing::debug!(why, "work is stalled because of a broker, or recovers from that");
            return None;
        }
        let now = Instant::now();
        let mut told = self.told.lock();
        self.lasts.store(true, Ordering::Release);
        told.since.get_or_insert(now);
        told.causes.retain(|(_, said_at)| now.duration_since(*said_at) < SAID_EVERY);
        let cause = if self.ignores_numbers { without_numbers(why) } else { why.to_owned() };
        let max_causes = if self.has_one_state { 1 } else { MAX_CAUSES };
        if told.causes.len() < max_causes && !told.causes.iter().any(|(said, _)| *said == cause) {
            told.causes.push((cause, now));
            told.is_said = true;
            return Some(Line { unsaid: NonZeroU64::new(std::mem::take(&mut told.unsaid)) });
        }
        told.unsaid += 1;
        None
    }

    /// Records a success. Returns how long the failure lasted, if there was one that was logged.
    pub fn works(&self) -> Option<Duration> {
        if !self.lasts.load(Ordering::Acquire) {
            return None;
        }
        let mut told = self.told.lock();
        self.lasts.store(false, Ordering::Release);
        if !self.has_one_state {
            (told.causes, told.unsaid) = (Vec::new(), 0);
        }
        let is_said = std::mem::take(&mut told.is_said);
        told.since.take().filter(|_| is_said).map(|since| since.elapsed())
    }
}

/// The text without its numbers: the same cause with another time, port or position is not new.
fn without_numbers(why: &str) -> String {
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
        tokio::time::advance(RECOVERS_WITHIN - Duration::from_millis(1)).await;
        assert_eq!((outage.failed("no lease"), outage.works()), (None, None), "it may still recover from that");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(outage.failed("no lease"), FIRST);
        assert_eq!(outage.works(), Some(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn work_with_one_state_is_logged_every_half_a_minute_whatever_the_cause() {
        let outage = Outage::new().whatever_the_cause();
        let mut said = Vec::new();
        for round in 0..700_u32 {
            let symptom = ["no answer in time", "the breaker is open", "no leader"][round as usize % 3];
            said.extend(outage.failed(symptom));
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        let expected: Vec<_> = [FIRST, after(299), after(299)].into_iter().flatten().collect();
        assert_eq!(said, expected, "at 0, 30 and 60 of 70 seconds");
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_fails_and_works_by_turns_is_logged_every_half_a_minute() {
        let outage = Outage::new().whatever_the_cause();
        let (mut said, mut ends) = (Vec::new(), 0);
        for _ in 0..700 {
            said.extend(outage.failed("no answer in time"));
            tokio::time::advance(Duration::from_millis(50)).await;
            ends += usize::from(outage.works().is_some());
            tokio::time::advance(Duration::from_millis(50)).await;
        }
        let expected: Vec<_> = [FIRST, after(299), after(299)].into_iter().flatten().collect();
        assert_eq!((said, ends), (expected, 3), "an end is told of a failure that was");
        tokio::time::advance(SAID_EVERY).await;
        assert!(outage.failed("another fault").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_named_by_its_number_is_logged_for_each() {
        let outage = Outage::new().of_each_number();
        assert_eq!(outage.failed("order 1 is damaged"), FIRST);
        assert_eq!(outage.failed("order 1 is damaged"), None);
        assert_eq!(outage.failed("order 2 is damaged"), after(1));
    }
}
