//! The circuit breaker: stops calling a backend that keeps failing, and retries after a while.
//!
//! Closed: calls pass; a number of consecutive failures opens it. Open: calls are refused at once, until its time is over. Half-open: a few calls
//! pass; enough successes close it, one failure opens it again. Only unavailability counts as a failure: a reply with a refusal (a conflict, bad
//! input) is a success for the breaker.

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
    /// Some calls pass, as trials of the backend.
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

/// The breaker is open: the call was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The maximum time until the breaker lets a call pass again.
    pub retry_after: Duration,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the circuit breaker is open for {} ms", self.retry_after.as_millis())
    }
}

impl std::error::Error for Refused {}

/// Why a call through a breaker failed.
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

/// A circuit breaker, shared by all callers of one backend.
#[derive(Debug)]
pub struct CircuitBreaker {
    name: &'static str,
    options: BreakerOptions,
    state: Mutex<State>,
    /// Consecutive failures while closed.
    failures: AtomicU32,
    state_gauge: Gauge,
    refused: Counter,
    /// An outage that explains why it opens, and is logged elsewhere.
    away: Away,
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
            state: Mutex::new(State::Closed),
            failures: AtomicU32::new(0),
            state_gauge,
            refused: metrics::counter!("ordersystem_circuit_breaker_refused_total", "breaker" => name),
            away: Away::default(),
        }
    }

    /// Does not log that it opens and closes while a broker is `away`.
    #[must_use]
    pub fn quiet_while(self, away: Away) -> Self {
        Self { away, ..self }
    }

    /// Makes `call` if the breaker permits it; each error counts as a failure.
    ///
    /// # Errors
    /// [`BreakerError`].
    pub async fn call<T, E>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T, BreakerError<E>> {
        self.call_with(call, |_| true).await
    }

    /// The same, but only errors for which `is_failure` returns true count as failures.
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

    /// The name of the guarded backend.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The current state.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        match *self.lock() {
            State::Closed => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Half-opens an open breaker early: the backend is known to work again.
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
            // A trial may outlast the half-open period in which it was admitted.
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
        // A call that was admitted before the breaker opened gives no new information.
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

/// An admitted call. A cancelled one does not count, and frees its permit.
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
