//! The recovery service: checks every component regularly, and repairs it if possible.
//!
//! Backends reconnect to brokers by themselves as soon as possible. This service handles failures that do not recover by themselves: background work
//! that has ended early ([`Supervised`]), and a circuit breaker that stays open although its backend works again. The pause between repairs of one
//! component grows, with jitter, so that nodes do not act in step.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, future::join_all};
use metrics::{Counter, counter};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    ports::{
        backoff::Backoff,
        health::{self, Condition, Health, HealthCheck},
    },
    telemetry::outage::{Away, Line, Outage},
};

/// The heartbeat interval of the service.
const BEAT: Duration = Duration::from_secs(1);

/// The options of the recovery service.
#[derive(Clone, Copy, Debug)]
pub struct RecoveryOptions {
    /// The check interval of a healthy component.
    pub interval: Duration,
    /// The pauses between two repairs of a component.
    pub backoff: Backoff,
}

impl Default for RecoveryOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(60)),
        }
    }
}

/// Monitors the components of a node and repairs them.
#[derive(Debug)]
pub struct RecoveryService {
    health: Arc<Health>,
    monitored: Vec<Monitored>,
    options: RecoveryOptions,
    alarms: Arc<FailureNotifier>,
}

/// A component, and the state of its repairs.
#[derive(Debug)]
struct Monitored {
    check: Arc<dyn HealthCheck>,
    attempts: Counter,
    recoveries: Counter,
    outage: Outage,
}

impl Monitored {
    fn new(check: &Arc<dyn HealthCheck>) -> Self {
        Self {
            check: Arc::clone(check),
            attempts: counter!("ordersystem_recovery_attempts_total", "component" => check.name()),
            recoveries: counter!("ordersystem_recoveries_total", "component" => check.name()),
            outage: Outage::new().whatever_the_cause(),
        }
    }
}

/// Notifies the recovery service of a failure: it then checks every component at once.
#[derive(Debug, Default)]
pub struct FailureNotifier(watch::Sender<()>);

impl RecoveryService {
    /// A service for the checks of `health`; wakes up early on `alarms`.
    #[must_use]
    pub fn new(health: Arc<Health>, options: RecoveryOptions, alarms: Arc<FailureNotifier>) -> Self {
        let monitored = health.checks().iter().map(Monitored::new).collect();
        Self { health, monitored, options, alarms }
    }

    /// Does not report unhealthy components while a broker is `away`: connections to a broker log its outage themselves.
    #[must_use]
    pub fn quiet_while(mut self, away: &Away) -> Self {
        for patient in &mut self.monitored {
            patient.outage = Outage::while_not(away.clone()).whatever_the_cause();
        }
        self
    }

    /// Monitors until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let components = join_all(self.monitored.iter().map(|patient| self.watch(patient)));
        tokio::select! {
            _ = components => {}
            () = self.send_heartbeats() => {}
            () = stop.cancelled() => {}
        }
    }

    /// In the same task as the work: when the work hangs, the heartbeat stops.
    async fn send_heartbeats(&self) {
        loop {
            self.health.recovery_beat();
            sleep(BEAT).await;
        }
    }

    async fn watch(&self, patient: &Monitored) {
        let check = &patient.check;
        let mut alarm = self.alarms.0.subscribe();
        let (mut failures, mut is_advancing) = (0_u32, false);
        loop {
            // A grace period after the start, before the first repair.
            if failures == 0 || is_advancing {
                tokio::select! {
                    () = sleep(self.options.interval) => {}
                    _ = alarm.changed() => {}
                }
            }
            let found = health::run_check(check).await.finding;
            is_advancing = found.condition == Condition::Unhealthy && check.is_advancing();
            if is_advancing {
                // Such as a projection that catches up: a repair attempt would be reported, and could not help.
            } else if found.condition == Condition::Unhealthy {
                failures = failures.saturating_add(1);
                patient.attempts.increment(1);
                let pause = self.options.backoff.after(failures);
                let (component, why, pause_ms) = (check.name(), found.detail, pause.as_millis() as u64);
                match patient.outage.failed(&why) {
                    Some(Line { unsaid }) => tracing::warn!(component, why, failures, unsaid, "trying to recover"),
                    None => tracing::debug!(component, why, failures, pause_ms, "trying to recover"),
                }
                // A repair that takes too long is cancelled and retried later.
                let _ = timeout(self.options.interval, check.repair()).await;
                sleep(pause).await;
            } else if failures > 0 {
                patient.recoveries.increment(1);
                let component = check.name();
                match patient.outage.works() {
                    Some(lasted) => {
                        tracing::info!(component, failures, lasted_ms = lasted.as_millis() as u64, "recovered");
                    }
                    None => tracing::debug!(component, failures, "recovered"),
                }
                failures = 0;
            }
        }
    }
}

/// Background work that is restarted when it has ended early, by a panic or otherwise.
#[derive(Debug)]
pub struct Supervised {
    name: &'static str,
    has_ended: AtomicBool,
    why: Mutex<&'static str>,
    restart: Notify,
    alarms: Arc<FailureNotifier>,
}

impl Supervised {
    /// Work called `name` in logs, whose end is reported to `alarms`.
    #[must_use]
    pub fn new(name: &'static str, alarms: Arc<FailureNotifier>) -> Self {
        Self { name, has_ended: AtomicBool::new(false), why: Mutex::new(""), restart: Notify::new(), alarms }
    }

    /// How the work ended, if it has ended and must be restarted.
    #[must_use]
    pub fn end(&self) -> Option<&'static str> {
        let why = || *self.why.lock();
        self.has_ended.load(Ordering::Acquire).then(why)
    }

    /// Restarts the work, if it has ended.
    pub fn restart(&self) {
        if self.has_ended.load(Ordering::Acquire) {
            self.restart.notify_one();
        }
    }

    /// Runs the work of `start`, and runs it again whenever it has ended and [`Supervised::restart`] is called, until `stop`.
    pub async fn run<F: Future<Output = ()>>(&self, start: impl Fn() -> F, stop: CancellationToken) {
        loop {
            let outcome = AssertUnwindSafe(async { start().await }).catch_unwind().await;
            if stop.is_cancelled() {
                return;
            }
            let why = if outcome.is_err() { "ended by a panic" } else { "has ended" };
            tracing::error!(work = self.name, why, "background work is not running");
            *self.why.lock() = why;
            self.has_ended.store(true, Ordering::Release);
            self.alarms.0.send_replace(());
            tokio::select! {
                () = self.restart.notified() => tracing::info!(work = self.name, "restarted"),
                () = stop.cancelled() => return,
            }
            self.has_ended.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use async_trait::async_trait;
    use tokio::time::Instant;

    use super::*;
    use crate::ports::health::CheckResult;

    /// A component that is healthy after a number of repairs, and records when it was repaired.
    #[derive(Debug)]
    struct Broken {
        repairs_needed: AtomicU32,
        repaired_at: Mutex<Vec<Instant>>,
    }

    #[async_trait]
    impl HealthCheck for Broken {
        fn name(&self) -> &'static str {
            "patient"
        }

        fn required_for_readiness(&self) -> bool {
            true
        }

        async fn check(&self) -> CheckResult {
            if self.repairs_needed.load(Ordering::SeqCst) == 0 {
                CheckResult::healthy("")
            } else {
                CheckResult::unhealthy("")
            }
        }

        async fn repair(&self) {
            self.repairs_needed.fetch_sub(1, Ordering::SeqCst);
            self.repaired_at.lock().push(Instant::now());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_component_is_repaired_with_growing_pauses_until_it_is_healthy() {
        let patient = Arc::new(Broken { repairs_needed: AtomicU32::new(5), repaired_at: Mutex::default() });
        let checks = vec![Arc::clone(&patient) as Arc<dyn HealthCheck>];
        let health = Arc::new(Health::new(checks, CancellationToken::new()));
        let service = RecoveryService::new(health, RecoveryOptions::default(), Arc::default());
        assert!(timeout(Duration::from_secs(600), service.run(CancellationToken::new())).await.is_err(), "runs on");
        let repaired_at = patient.repaired_at.lock().clone();
        assert_eq!(repaired_at.len(), 5, "nothing more is done once it is healthy");
        for (failures, times) in repaired_at.windows(2).enumerate() {
            let (pause, longest) = (times[1] - times[0], Duration::from_secs(1 << failures));
            assert!(pause >= longest / 2 && pause <= longest + BEAT, "pause {failures}: {pause:?}");
        }
    }

    /// A component that catches up until `until`, and then stops halfway.
    #[derive(Debug)]
    struct CatchingUp {
        until: Instant,
        repaired_at: Mutex<Vec<Instant>>,
    }

    #[async_trait]
    impl HealthCheck for CatchingUp {
        fn name(&self) -> &'static str {
            "catching-up"
        }

        fn required_for_readiness(&self) -> bool {
            true
        }

        async fn check(&self) -> CheckResult {
            CheckResult::unhealthy("catching up")
        }

        fn is_advancing(&self) -> bool {
            Instant::now() < self.until
        }

        async fn repair(&self) {
            self.repaired_at.lock().push(Instant::now());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_component_that_catches_up_is_not_repaired_until_it_stalls() {
        let until = Instant::now() + Duration::from_secs(600);
        let component = Arc::new(CatchingUp { until, repaired_at: Mutex::default() });
        let checks = vec![Arc::clone(&component) as Arc<dyn HealthCheck>];
        let health = Arc::new(Health::new(checks, CancellationToken::new()));
        let options = RecoveryOptions::default();
        let service = RecoveryService::new(health, options, Arc::default());
        assert!(timeout(Duration::from_secs(1_200), service.run(CancellationToken::new())).await.is_err(), "runs on");
        let first = component.repaired_at.lock().first().copied().expect("a stalled component is repaired");
        assert!((until..=until + options.interval + BEAT).contains(&first), "{:?} after it stalled", first - until);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_panics_is_reported_at_once_and_started_again() {
        let alarms = Arc::new(FailureNotifier::default());
        let mut alarm = alarms.0.subscribe();
        let supervised = Arc::new(Supervised::new("work", Arc::clone(&alarms)));
        let starts = Arc::new(AtomicU32::new(0));
        let stop = CancellationToken::new();
        let work = {
            let (supervised, starts, stop) = (Arc::clone(&supervised), Arc::clone(&starts), stop.clone());
            tokio::spawn(async move {
                let start = || async {
                    assert!(starts.fetch_add(1, Ordering::SeqCst) > 0, "the first run fails");
                    std::future::pending().await
                };
                tokio::select! {
                    () = supervised.run(start, stop.clone()) => {}
                    () = stop.cancelled() => {}
                }
            })
        };
        alarm.changed().await.unwrap();
        assert_eq!(supervised.end(), Some("ended by a panic"));
        supervised.restart();
        sleep(BEAT).await;
        assert_eq!((supervised.end(), starts.load(Ordering::SeqCst)), (None, 2));
        stop.cancel();
        work.await.unwrap();
    }
}
