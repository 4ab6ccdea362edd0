//! The circuit breaker: stops calling a backend that keeps failing, and retries after a while.
//!
//! Closed: calls pass; a number of consecutive failures opens it. Open: calls are refused at once, until its time is over. Half-open: a few calls
//! pass; enough successes close it, one failure opens it again. Only unavailability counts as a failure: a reply with a refusal (a conflict, bad
//! input) is a success for the breaker.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use metrics::{Counter, Gauge};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::{
    ports::health::{BREAKER_IS_OPEN, cause},
    telemetry::outage::{Away, Line, Outage},
};

mod guarded;
mod guarded_bus;
mod guarded_leases;
mod meters;

pub use guarded::GuardedStore;
pub use guarded_bus::GuardedBus;
pub use guarded_leases::{GuardedCheckpoints, GuardedLeases};

/// The thresholds of a breaker.
#[derive(Clone, Copy, Debug)]
pub struct BreakerOptions {
    /// The number of consecutive failures that open it.
    pub failures_to_open: u32,
    /// The number of consecutive successes that close it from half-open; also the maximum of concurrent calls while half-open.
    pub successes_to_close: u32,
    /// How long it stays open.
    pub open_for: Duration,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self { failures_to_open: 5, successes_to_close: 2, open_for: Duration::from_secs(30) }
    }
}

/// The state of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls pass.
    Closed,
    /// Some calls pass, to try the backend.
    HalfOpen,
    /// Calls are refused.
    Open,
}

impl BreakerState {
    /// The name in logs and health reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }
}

/// A breaker at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerView {
    /// Its state.
    pub state: BreakerState,
    /// The consecutive failures while closed.
    pub failures: u32,
    /// The time until an open one lets a trial pass; zero if the next call is one. `None` if it is not open.
    pub retry_after: Option<Duration>,
}

/// The breaker is open: the call was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The maximum time until the breaker lets a call pass again.
    pub retry_after: Duration,
    /// The failure that opened it.
    pub why: Arc<str>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{BREAKER_IS_OPEN}{})", self.why, next_try(self.retry_after))
    }
}

impl std::error::Error for Refused {}

/// Why a call through a breaker failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BreakerError<E> {
    /// The breaker is open: the call was not made.
    #[error("{0}")]
    Refused(Refused),
    /// The call was made and failed.
    #[error("{0}")]
    Failed(E),
}

#[derive(Debug)]
enum Phase {
    Closed,
    Open { until: Instant },
    HalfOpen { trials: u32, successes: u32 },
}

/// A circuit breaker, shared by all callers of one backend.
#[derive(Debug)]
pub struct CircuitBreaker {
    name: &'static str,
    options: BreakerOptions,
    state: Mutex<Phase>,
    /// The failure that opened it last.
    last_failure: Mutex<Arc<str>>,
    /// Consecutive failures while closed.
    failures: AtomicU32,
    state_gauge: Gauge,
    refused: Counter,
    /// Logged once, and every half minute while the breaker opens again and again.
    outage: Outage,
}

impl CircuitBreaker {
    /// A closed breaker, with metrics under `name`.
    #[must_use]
    pub fn new(name: &'static str, options: BreakerOptions) -> Self {
        let state_gauge = metrics::gauge!("ordersystem_circuit_breaker_state", "breaker" => name);
        state_gauge.set(0.0);
        Self {
            name,
            options,
            state: Mutex::new(Phase::Closed),
            last_failure: Mutex::new(Arc::from("")),
            failures: AtomicU32::new(0),
            state_gauge,
            refused: metrics::counter!("ordersystem_circuit_breaker_refused_total", "breaker" => name),
            outage: Outage::new(),
        }
    }

    /// Does not log that it opens and closes while a broker is `away`, which explains it and is logged elsewhere.
    #[must_use]
    pub fn quiet_while(self, away: Away) -> Self {
        Self { outage: Outage::while_not(away).at_once(), ..self }
    }

    /// Makes `call` if the breaker permits it; each error counts as a failure.
    ///
    /// # Errors
    /// [`BreakerError`].
    pub async fn call<T, E: fmt::Display>(
        &self,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, BreakerError<E>> {
        self.call_with(call, |_| true).await
    }

    /// Like [`CircuitBreaker::call`], but only errors for which `is_failure` returns true count as failures.
    ///
    /// # Errors
    /// [`BreakerError`].
    pub async fn call_with<T, E: fmt::Display>(
        &self,
        call: impl Future<Output = Result<T, E>>,
        is_failure: impl Fn(&E) -> bool,
    ) -> Result<T, BreakerError<E>> {
        let mut permit = self.acquire().map_err(BreakerError::Refused)?;
        let outcome = call.await;
        permit.end(outcome.as_ref().err().filter(|error| is_failure(error)));
        outcome.map_err(BreakerError::Failed)
    }

    /// The name of the guarded backend.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The current state.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.view().state
    }

    /// The thresholds.
    #[must_use]
    pub const fn options(&self) -> BreakerOptions {
        self.options
    }

    /// The breaker as it is now.
    #[must_use]
    pub fn view(&self) -> BreakerView {
        let (state, retry_after) = match *self.lock() {
            Phase::Closed => (BreakerState::Closed, None),
            Phase::HalfOpen { .. } => (BreakerState::HalfOpen, None),
            Phase::Open { until } => (BreakerState::Open, Some(until.saturating_duration_since(Instant::now()))),
        };
        let failures = if state == BreakerState::Closed { self.failures.load(Ordering::Relaxed) } else { 0 };
        BreakerView { state, failures, retry_after }
    }

    /// Why it is open, and when it lets a call pass again; `None` if it is not open.
    #[must_use]
    pub fn open_because(&self) -> Option<String> {
        self.view().retry_after.map(|retry_after| self.failed_until(retry_after))
    }

    /// The last failure, and when an open breaker lets a call pass again: `retry_after` of its [`BreakerView`].
    #[must_use]
    pub fn failed_until(&self, retry_after: Duration) -> String {
        format!("{}{}", self.last_failure.lock(), next_try(retry_after))
    }

    /// Half-opens an open breaker early: the backend is known to work again.
    pub fn half_open(&self) {
        let mut state = self.lock();
        if matches!(*state, Phase::Open { .. }) {
            self.set(&mut state, Phase::HalfOpen { trials: 0, successes: 0 });
        }
    }

    fn acquire(&self) -> Result<Permit<'_>, Refused> {
        let mut state = self.lock();
        if let Phase::Open { until } = *state
            && Instant::now() >= until
        {
            self.set(&mut state, Phase::HalfOpen { trials: 0, successes: 0 });
        }
        match &mut *state {
            Phase::Closed => Ok(Permit { breaker: self, is_trial: false }),
            Phase::HalfOpen { trials, .. } if *trials < self.options.successes_to_close => {
                *trials += 1;
                Ok(Permit { breaker: self, is_trial: true })
            }
            Phase::HalfOpen { .. } => Err(self.refuse(Duration::from_millis(100))),
            Phase::Open { until } => Err(self.refuse(until.saturating_duration_since(Instant::now()))),
        }
    }

    fn refuse(&self, retry_after: Duration) -> Refused {
        self.refused.increment(1);
        Refused { retry_after, why: Arc::clone(&self.last_failure.lock()) }
    }

    fn succeeded(&self, is_trial: bool) {
        if !is_trial {
            self.failures.store(0, Ordering::Relaxed);
            return;
        }
        let mut state = self.lock();
        if let Phase::HalfOpen { trials, successes } = &mut *state {
            // A trial may outlast the half-open period in which it was admitted.
            *trials = trials.saturating_sub(1);
            *successes += 1;
            if *successes >= self.options.successes_to_close {
                self.failures.store(0, Ordering::Relaxed);
                self.set(&mut state, Phase::Closed);
                if let Some(lasted) = self.outage.works() {
                    let lasted_ms = lasted.as_millis() as u64;
                    tracing::info!(lasted_ms, "the circuit breaker of the {} is closed: calls pass again", self.name);
                }
            }
        }
    }

    fn failed(&self, is_trial: bool, why: &dyn fmt::Display) {
        if !is_trial && self.failures.fetch_add(1, Ordering::Relaxed) + 1 < self.options.failures_to_open {
            return;
        }
        let mut state = self.lock();
        // A call that was admitted before the breaker opened gives no new information.
        if is_trial == matches!(*state, Phase::HalfOpen { .. }) && !matches!(*state, Phase::Open { .. }) {
            self.set(&mut state, Phase::Open { until: Instant::now() + self.options.open_for });
            let why = why.to_string();
            // Several ports share a breaker: its name says which.
            *self.last_failure.lock() = Arc::from(cause(&why));
            if let Some(Line { unsaid }) = self.outage.failed(&why) {
                let open_ms = self.options.open_for.as_millis() as u64;
                tracing::warn!(
                    why,
                    open_ms,
                    unsaid,
                    "the circuit breaker of the {} is open: calls are refused",
                    self.name
                );
            }
        }
    }

    fn set(&self, state: &mut Phase, next: Phase) {
        let (level, state_name) = match next {
            Phase::Closed => (0.0, BreakerState::Closed.name()),
            Phase::HalfOpen { .. } => (1.0, BreakerState::HalfOpen.name()),
            Phase::Open { .. } => (2.0, BreakerState::Open.name()),
        };
        tracing::debug!("the circuit breaker of the {} is {state_name}", self.name);
        self.state_gauge.set(level);
        *state = next;
    }

    fn lock(&self) -> MutexGuard<'_, Phase> {
        self.state.lock()
    }
}

/// The error of the call; a refusal is converted by `unavailable`.
fn or_refused<E>(error: BreakerError<E>, unavailable: impl FnOnce(String) -> E) -> E {
    match error {
        BreakerError::Failed(error) => error,
        BreakerError::Refused(refused) => unavailable(refused.to_string()),
    }
}

/// When an open breaker lets a call pass, in words.
fn next_try(retry_after: Duration) -> String {
    match retry_after.as_millis().div_ceil(1_000) {
        0 => "; the next call is tried".to_owned(),
        seconds => format!("; next try in {seconds} s"),
    }
}

/// An admitted call. A cancelled one does not count, and frees its permit.
struct Permit<'a> {
    breaker: &'a CircuitBreaker,
    is_trial: bool,
}

impl Permit<'_> {
    fn end(&mut self, failure: Option<impl fmt::Display>) {
        match failure {
            None => self.breaker.succeeded(self.is_trial),
            Some(why) => self.breaker.failed(self.is_trial, &why),
        }
        self.is_trial = false;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.is_trial
            && let Phase::HalfOpen { trials, .. } = &mut *self.breaker.lock()
        {
            *trials = trials.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<(), BreakerError<&'static str>>;

    async fn ok(breaker: &CircuitBreaker) -> Outcome {
        breaker.call(async { Ok(()) }).await
    }

    async fn fail(breaker: &CircuitBreaker) -> Outcome {
        breaker.call(async { Err("broken") }).await
    }

    async fn opened() -> CircuitBreaker {
        let breaker = CircuitBreaker::new("test", BreakerOptions::default());
        for _ in 0..5 {
            assert_eq!(fail(&breaker).await, Err(BreakerError::Failed("broken")));
        }
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn five_failures_in_a_row_open_it_and_a_success_between_them_does_not() {
        let breaker = CircuitBreaker::new("test", BreakerOptions::default());
        for _ in 0..1_000 {
            let _ = fail(&breaker).await;
            let _ = fail(&breaker).await;
            ok(&breaker).await.unwrap();
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
        let breaker = opened().await;
        let refused = Refused { retry_after: Duration::from_secs(30), why: "broken".into() };
        assert_eq!(ok(&breaker).await, Err(BreakerError::Refused(refused)));
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_open_time_two_successes_close_it_and_one_failure_reopens_it() {
        let breaker = opened().await;
        tokio::time::advance(Duration::from_secs(30)).await;
        ok(&breaker).await.unwrap();
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        let _ = fail(&breaker).await;
        assert_eq!(breaker.state(), BreakerState::Open);
        tokio::time::advance(Duration::from_secs(30)).await;
        ok(&breaker).await.unwrap();
        ok(&breaker).await.unwrap();
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_breaker_reports_when_it_lets_a_call_pass_again() {
        let breaker = CircuitBreaker::new("test", BreakerOptions::default());
        let view = |state, failures, retry_after| BreakerView { state, failures, retry_after };
        let _ = fail(&breaker).await;
        let _ = fail(&breaker).await;
        assert_eq!(breaker.view(), view(BreakerState::Closed, 2, None));
        let breaker = opened().await;
        tokio::time::advance(Duration::from_secs(12)).await;
        assert_eq!(breaker.view(), view(BreakerState::Open, 0, Some(Duration::from_secs(18))));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(breaker.view(), view(BreakerState::Open, 0, Some(Duration::ZERO)), "the next call is the trial");
        ok(&breaker).await.unwrap();
        assert_eq!(breaker.view(), view(BreakerState::HalfOpen, 0, None));
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_one_names_the_failure_that_opened_it() {
        let breaker = CircuitBreaker::new("test", BreakerOptions::default());
        assert_eq!(breaker.open_because(), None);
        let call = |why: &'static str| breaker.call(async move { Err::<(), _>(why) });
        for _ in 0..5 {
            let _ = call("the event store is unavailable: NATS at orders:4222: no answer within 2 s").await;
        }
        tokio::time::advance(Duration::from_millis(12_500)).await;
        let why = "NATS at orders:4222: no answer within 2 s";
        let refused = ok(&breaker).await.unwrap_err().to_string();
        assert_eq!(refused, format!("{why} (the circuit breaker is open; next try in 18 s)"));
        assert_eq!(breaker.open_because(), Some(format!("{why}; next try in 18 s")));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(breaker.open_because(), Some(format!("{why}; the next call is tried")));
        let _ = call("NATS at orders:4222: connection refused").await;
        let why = "NATS at orders:4222: connection refused";
        assert_eq!(breaker.open_because(), Some(format!("{why}; next try in 30 s")), "the last one");
    }

    #[tokio::test(start_paused = true)]
    async fn half_open_lets_two_calls_in_at_a_time_and_an_abandoned_one_frees_its_permit() {
        let breaker = opened().await;
        breaker.half_open();
        let (first, second) = (breaker.acquire().unwrap(), breaker.acquire().unwrap());
        assert!(breaker.acquire().is_err());
        drop(first);
        ok(&breaker).await.unwrap();
        drop(second);
        ok(&breaker).await.unwrap();
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn errors_that_are_not_failures_never_open_it() {
        let breaker = CircuitBreaker::new("test", BreakerOptions::default());
        for _ in 0..100 {
            let refused = breaker.call_with(async { Err::<(), _>("conflict") }, |_| false).await;
            assert_eq!(refused, Err(BreakerError::Failed("conflict")));
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    }
}
