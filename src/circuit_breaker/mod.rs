//! The circuit breaker: stops asking what keeps failing, and tries again after a while.
//!
//! Closed: calls go through; so many failures in a row open it. Open: calls are refused at once, until its time is over. Half-open:
//! a few calls are let through; enough successes close it, one failure opens it again. Only failures to reach something count: what
//! was reached and said no (a conflict, bad input) is a success to the breaker.

use std::{
    fmt,
    future::Future,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use metrics::{Counter, Gauge};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::telemetry::outage::Away;

mod guarded;

pub use guarded::{GuardedBus, GuardedCheckpoints, GuardedLeases, GuardedStore};

/// When a breaker opens and closes.
#[derive(Clone, Copy, Debug)]
pub struct BreakerOptions {
    /// So many failures in a row open it.
    pub failures_to_open: u32,
    /// So many successes, one after the other, close it from half-open; also the calls that it lets through at a time then.
    pub successes_to_close: u32,
    /// How long it stays open.
    pub open_for: Duration,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self { failures_to_open: 5, successes_to_close: 2, open_for: Duration::from_secs(30) }
    }
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// Some calls go through, to see whether it works again.
    HalfOpen,
    /// Calls are refused.
    Open,
}

impl BreakerState {
    /// The name in logs and health.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }
}

/// The breaker is open: the call was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// When the breaker will let a call through again, at the latest.
    pub retry_after: Duration,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the circuit breaker is open for {} ms", self.retry_after.as_millis())
    }
}

impl std::error::Error for Refused {}

/// What came of a call through a breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BreakerError<E> {
    /// The breaker is open: the call was not made.
    Refused(Refused),
    /// The call was made and failed.
    Failed(E),
}

impl<E: fmt::Display> fmt::Display for BreakerError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refused) => refused.fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for BreakerError<E> {}

#[derive(Debug)]
enum State {
    Closed,
    Open { until: Instant },
    HalfOpen { trials: u32, successes: u32 },
}

/// A circuit breaker. To be shared by all callers of one thing.
#[derive(Debug)]
pub struct CircuitBreaker {
    name: &'static str,
    options: BreakerOptions,
    state: Mutex<State>,
    /// Failures in a row while closed.
    failures: AtomicU32,
    state_gauge: Gauge,
    refused: Counter,
    /// What explains that it opens, and is said elsewhere.
    away: Away,
}

impl CircuitBreaker {
    /// A closed breaker, shown in the metrics under `name`.
    #[must_use]
    pub fn new(name: &'static str, options: BreakerOptions) -> Self {
        let state_gauge = metrics::gauge!("ordersystem_circuit_breaker_state", "breaker" => name);
        state_gauge.set(0.0);
        Self {
            name,
            options,
            state: Mutex::new(State::Closed),
            failures: AtomicU32::new(0),
            state_gauge,
            refused: metrics::counter!("ordersystem_circuit_breaker_refused_total", "breaker" => name),
            away: Away::default(),
        }
    }

    /// It is no news that it opens, and closes again, while a broker is `away`.
    #[must_use]
    pub fn quiet_while(self, away: Away) -> Self {
        Self { away, ..self }
    }

    /// Makes `call` if the breaker lets it; each error counts as a failure.
    ///
    /// # Errors
    /// [`BreakerError`].
    pub async fn call<T, E>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T, BreakerError<E>> {
        self.call_with(call, |_| true).await
    }

    /// The same, where only errors for which `is_failure` holds count as failures.
    ///
    /// # Errors
    /// [`BreakerError`].
    pub async fn call_with<T, E>(
        &self,
        call: impl Future<Output = Result<T, E>>,
        is_failure: impl Fn(&E) -> bool,
    ) -> Result<T, BreakerError<E>> {
        let mut place = self.enter().map_err(BreakerError::Refused)?;
        let outcome = call.await;
        place.end(!outcome.as_ref().is_err_and(is_failure));
        outcome.map_err(BreakerError::Failed)
    }

    /// What it stands before.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Where the breaker stands.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        match *self.lock() {
            State::Closed => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Someone has seen by other means that it works again: an open breaker need not wait for its time.
    pub fn try_again(&self) {
        let mut state = self.lock();
        if matches!(*state, State::Open { .. }) {
            self.set(&mut state, State::HalfOpen { trials: 0, successes: 0 });
        }
    }

    fn enter(&self) -> Result<Place<'_>, Refused> {
        let mut state = self.lock();
        if let State::Open { until } = *state
            && Instant::now() >= until
        {
            self.set(&mut state, State::HalfOpen { trials: 0, successes: 0 });
        }
        match &mut *state {
            State::Closed => Ok(Place { breaker: self, is_trial: false }),
            State::HalfOpen { trials, .. } if *trials < self.options.successes_to_close => {
                *trials += 1;
                Ok(Place { breaker: self, is_trial: true })
            }
            State::HalfOpen { .. } => Err(self.refuse(Duration::from_millis(100))),
            State::Open { until } => Err(self.refuse(until.saturating_duration_since(Instant::now()))),
        }
    }

    fn refuse(&self, retry_after: Duration) -> Refused {
        self.refused.increment(1);
        Refused { retry_after }
    }

    fn succeeded(&self, is_trial: bool) {
        if !is_trial {
            self.failures.store(0, Ordering::Relaxed);
            return;
        }
        let mut state = self.lock();
        if let State::HalfOpen { trials, successes } = &mut *state {
            // A trial may outlast the half-open time in which it was let in.
            *trials = trials.saturating_sub(1);
            *successes += 1;
            if *successes >= self.options.successes_to_close {
                self.failures.store(0, Ordering::Relaxed);
                self.set(&mut state, State::Closed);
            }
        }
    }

    fn failed(&self, is_trial: bool) {
        if !is_trial && self.failures.fetch_add(1, Ordering::Relaxed) + 1 < self.options.failures_to_open {
            return;
        }
        let mut state = self.lock();
        // A call that was let in before the breaker opened says nothing new.
        if is_trial == matches!(*state, State::HalfOpen { .. }) && !matches!(*state, State::Open { .. }) {
            self.set(&mut state, State::Open { until: Instant::now() + self.options.open_for });
        }
    }

    fn set(&self, state: &mut State, next: State) {
        let (level, state_name) = match next {
            State::Closed => (0.0, BreakerState::Closed.name()),
            State::HalfOpen { .. } => (1.0, BreakerState::HalfOpen.name()),
            State::Open { .. } => (2.0, BreakerState::Open.name()),
        };
        let before = self.name;
        match next {
            State::Open { .. } if self.away.why().is_some() => {
                tracing::debug!("the circuit breaker before the {before} is {state_name}: calls are refused");
            }
            State::Open { .. } => {
                let open_ms = self.options.open_for.as_millis() as u64;
                tracing::warn!(open_ms, "the circuit breaker before the {before} is {state_name}: calls are refused");
            }
            _ => tracing::info!("the circuit breaker before the {before} is {state_name}"),
        }
        self.state_gauge.set(level);
        *state = next;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// A call that was let in. One that is given up half-way counts for nothing, and frees its place.
struct Place<'a> {
    breaker: &'a CircuitBreaker,
    is_trial: bool,
}

impl Place<'_> {
    fn end(&mut self, has_succeeded: bool) {
        if has_succeeded {
            self.breaker.succeeded(self.is_trial)
        } else {
            self.breaker.failed(self.is_trial)
        }
        self.is_trial = false;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.is_trial
            && let State::HalfOpen { trials, .. } = &mut *self.breaker.lock()
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
        let refused = Refused { retry_after: Duration::from_secs(30) };
        assert_eq!(ok(&breaker).await, Err(BreakerError::Refused(refused)));
    }

    #[tokio::test(start_paused = true)]
    async fn after_its_time_two_successes_close_it_and_one_failure_opens_it_again() {
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
    async fn half_open_lets_two_calls_in_at_a_time_and_a_given_up_one_frees_its_place() {
        let breaker = opened().await;
        breaker.try_again();
        let (first, second) = (breaker.enter().unwrap(), breaker.enter().unwrap());
        assert!(breaker.enter().is_err());
        drop(first);
        ok(&breaker).await.unwrap();
        drop(second);
        ok(&breaker).await.unwrap();
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn errors_that_are_no_failures_never_open_it() {
        let breaker = CircuitBreaker::new("test", BreakerOptions::default());
        for _ in 0..100 {
            let refused = breaker.call_with(async { Err::<(), _>("conflict") }, |_| false).await;
            assert_eq!(refused, Err(BreakerError::Failed("conflict")));
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    }
}
