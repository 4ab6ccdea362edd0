//! Node health: every component has a check that can fail, run by a monitor and on demand.

use std::{
    fmt,
    panic::AssertUnwindSafe,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use crate::ports::server_name::{ServerName, named};

/// The timeout of one check; a check that takes longer has failed.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// The condition of a component, or of the whole node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// Works as it should.
    Healthy,
    /// Works with defects: late, or with a problem that does not stop it.
    Degraded,
    /// Does not work.
    Unhealthy,
}

impl Condition {
    /// The name that people read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "Healthy",
            Self::Degraded => "Degraded",
            Self::Unhealthy => "Unhealthy",
        }
    }
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckResult {
    /// The condition of the component.
    pub condition: Condition,
    /// More, for humans.
    pub detail: String,
}

impl CheckResult {
    /// A healthy result.
    #[must_use]
    pub fn healthy(detail: impl Into<String>) -> Self {
        Self { condition: Condition::Healthy, detail: detail.into() }
    }

    /// A degraded result.
    #[must_use]
    pub fn degraded(detail: impl Into<String>) -> Self {
        Self { condition: Condition::Degraded, detail: detail.into() }
    }

    /// An unhealthy result.
    #[must_use]
    pub fn unhealthy(detail: impl Into<String>) -> Self {
        Self { condition: Condition::Unhealthy, detail: detail.into() }
    }
}

/// Checks one component.
#[async_trait]
pub trait HealthCheck: fmt::Debug + Send + Sync + 'static {
    /// The name of the component: "store".
    fn name(&self) -> &'static str;

    /// Whether readiness requires this component.
    fn required_for_readiness(&self) -> bool;

    /// The server that it asks, for messages; `None` if it asks none.
    fn server(&self) -> Option<ServerName> {
        None
    }

    /// Runs the check.
    async fn check(&self) -> CheckResult;

    /// Whether the component, which was found unhealthy, has come closer to being healthy since the last call: it is not repaired then.
    fn is_advancing(&self) -> bool {
        false
    }

    /// Attempts a repair; does nothing by default, since most components recover by themselves.
    async fn repair(&self) {}
}

/// The result of the check of one component.
#[derive(Clone, Debug)]
pub struct ComponentHealth {
    /// The component.
    pub name: &'static str,
    /// The result.
    pub finding: CheckResult,
    /// How long the check took.
    pub latency: Duration,
    /// Whether readiness requires this component.
    pub required_for_readiness: bool,
}

/// The health of the node.
#[derive(Clone, Debug)]
pub struct HealthReport {
    /// Every component.
    pub components: Vec<ComponentHealth>,
    /// The node is shutting down.
    pub is_draining: bool,
}

impl HealthReport {
    /// The node as a whole: unhealthy if a required component is, else degraded if any component is not healthy.
    #[must_use]
    pub fn condition(&self) -> Condition {
        let worst = |component: &ComponentHealth| match component.finding.condition {
            Condition::Unhealthy if !component.required_for_readiness => Condition::Degraded,
            condition => condition,
        };
        let of_components = self.components.iter().map(worst).max().unwrap_or(Condition::Healthy);
        if self.is_draining { of_components.max(Condition::Degraded) } else { of_components }
    }

    /// Whether the node can serve: every required component works, and it is not shutting down.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.is_draining && self.in_the_way().next().is_none()
    }

    /// Why the node cannot serve, for humans: each cause once, with the failed components that report it.
    #[must_use]
    pub fn reasons(&self) -> String {
        let mut causes: Vec<(&ComponentHealth, Vec<&str>)> = Vec::new();
        for component in self.in_the_way() {
            let is_same =
                |first: &ComponentHealth| first_cause(&first.finding.detail) == first_cause(&component.finding.detail);
            match causes.iter_mut().find(|(first, _)| is_same(first)) {
                Some((_, others)) => others.push(component.name),
                None => causes.push((component, Vec::new())),
            }
        }
        let draining = self.is_draining.then(|| "it is shutting down".to_owned());
        let components = causes.into_iter().map(|(first, others)| match others[..] {
            [] => format!("{}: {}", first.name, first.finding.detail),
            _ => format!("{}: {} (also {})", first.name, first.finding.detail, others.join(", ")),
        });
        draining.into_iter().chain(components).collect::<Vec<_>>().join("; ")
    }

    fn in_the_way(&self) -> impl Iterator<Item = &ComponentHealth> {
        let stops_serving = |component: &&ComponentHealth| {
            component.required_for_readiness && component.finding.condition == Condition::Unhealthy
        };
        self.components.iter().filter(stops_serving)
    }
}

/// An error without the name of the port that failed: one broker may serve several of them.
#[must_use]
pub fn cause(error: &str) -> &str {
    let begins = [" is unavailable: ", "it is not known whether the commit was written: "];
    begins.iter().find_map(|begin| error.split_once(begin)).map_or(error, |(_, cause)| cause)
}

/// How the words of an open circuit breaker begin, after the failure that opened it.
pub const BREAKER_IS_OPEN: &str = " (the circuit breaker is open";

/// The same without what a circuit breaker has added.
fn first_cause(error: &str) -> &str {
    let cause = cause(error);
    cause.split_once(BREAKER_IS_OPEN).map_or(cause, |(first, _)| first)
}

/// Publishes what reports find, where readiness is not checked on demand.
#[async_trait]
pub trait ReadinessListener: fmt::Debug + Send + Sync {
    /// Publishes what the report of this number found, unless that of a later one is known: reports are numbered as they begin, and one may be
    /// overtaken.
    async fn set_ready(&self, report: u64, is_ready: bool);
}

/// Checks every component of the node.
#[derive(Debug)]
pub struct Health {
    checks: Vec<Arc<dyn HealthCheck>>,
    draining: tokio_util::sync::CancellationToken,
    listener: OnceLock<Arc<dyn ReadinessListener>>,
    /// How many reports have begun.
    reports: AtomicU64,
    monitor: Heartbeat,
    recovery: Heartbeat,
}

/// When a worker last showed progress.
#[derive(Debug)]
struct Heartbeat(Mutex<Instant>);

impl Heartbeat {
    fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    fn record(&self) {
        *self.0.lock() = Instant::now();
    }

    fn is_recent(&self) -> bool {
        self.0.lock().elapsed() < MAX_BEAT_AGE
    }
}

/// The maximum age of a heartbeat of the monitor or the recovery service; beyond it the process counts as hung.
const MAX_BEAT_AGE: Duration = Duration::from_secs(30);

impl Health {
    /// Runs `checks`; not ready once `draining` is cancelled.
    #[must_use]
    pub fn new(checks: Vec<Arc<dyn HealthCheck>>, draining: tokio_util::sync::CancellationToken) -> Self {
        let (listener, reports) = (OnceLock::new(), AtomicU64::new(0));
        Self { checks, draining, listener, reports, monitor: Heartbeat::new(), recovery: Heartbeat::new() }
    }

    /// Tells `listener` what every report finds. There is one listener: a second one is ignored.
    pub fn tell(&self, listener: Arc<dyn ReadinessListener>) {
        let _ = self.listener.set(listener);
    }

    /// Checks every component now, all concurrently. The listener knows the result first, so that no two answers contradict each other.
    pub async fn report(&self) -> HealthReport {
        let number = self.reports.fetch_add(1, Ordering::Relaxed) + 1;
        let components = futures_util::future::join_all(self.checks.iter().map(run_check)).await;
        let report = HealthReport { components, is_draining: self.draining.is_cancelled() };
        if let Some(listener) = self.listener.get() {
            listener.set_ready(number, report.is_ready()).await;
        }
        report
    }

    /// Every component's check.
    #[must_use]
    pub fn checks(&self) -> &[Arc<dyn HealthCheck>] {
        &self.checks
    }

    /// Records a heartbeat. The monitor must call this regularly.
    pub fn monitor_beat(&self) {
        self.monitor.record();
    }

    /// Records a heartbeat of the recovery service, which must call this regularly.
    pub fn recovery_beat(&self) {
        self.recovery.record();
    }

    /// Whether this process works: its monitor and its recovery service run. Dependencies do not count: a broker outage must not get the process
    /// killed.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.monitor.is_recent() && self.recovery.is_recent()
    }
}

/// Runs one check, with a timeout of two seconds.
pub async fn run_check(check: &Arc<dyn HealthCheck>) -> ComponentHealth {
    let started = Instant::now();
    let finding = match timeout(CHECK_TIMEOUT, AssertUnwindSafe(check.check()).catch_unwind()).await {
        Ok(Ok(finding)) => finding,
        Ok(Err(_panic)) => CheckResult::unhealthy("the check panicked"),
        Err(_) => {
            let why = format!("no answer within {} ms", CHECK_TIMEOUT.as_millis());
            CheckResult::unhealthy(named(check.server().as_ref(), why))
        }
    };
    ComponentHealth {
        name: check.name(),
        finding,
        latency: started.elapsed(),
        required_for_readiness: check.required_for_readiness(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_several_components_report_is_listed_once() {
        let failed = |(name, detail)| ComponentHealth {
            name,
            finding: CheckResult::unhealthy(detail),
            latency: Duration::ZERO,
            required_for_readiness: true,
        };
        let components = [
            ("store", "the event store is unavailable: connection refused"),
            ("transport", "the message bus is unavailable: connection refused"),
            ("ids", "this node has no worker number"),
            (
                "projections",
                "the event store is unavailable: connection refused (the circuit breaker is open; next try in 3 s)",
            ),
        ];
        let report = HealthReport { components: components.map(failed).into(), is_draining: false };
        let reasons = report.reasons();
        let expected = "store: the event store is unavailable: connection refused (also transport, projections); \
                        ids: this node has no worker number";
        assert_eq!(reasons, expected);
    }
}
