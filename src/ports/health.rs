//! How the node is: every component has a check that can fail, looked at by a monitor and by whoever asks.

use std::{fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

/// How long one check may take; one that takes longer has failed.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// How a component, or the whole node, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// As it should be.
    Healthy,
    /// Works, but not as it should: late, or with something out of order that does not stop it.
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

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How the component is.
    pub condition: Condition,
    /// More, for people.
    pub detail: String,
}

impl Finding {
    /// As it should be.
    #[must_use]
    pub fn healthy(detail: impl Into<String>) -> Self {
        Self { condition: Condition::Healthy, detail: detail.into() }
    }

    /// Works, but not as it should.
    #[must_use]
    pub fn degraded(detail: impl Into<String>) -> Self {
        Self { condition: Condition::Degraded, detail: detail.into() }
    }

    /// Does not work.
    #[must_use]
    pub fn unhealthy(detail: impl Into<String>) -> Self {
        Self { condition: Condition::Unhealthy, detail: detail.into() }
    }
}

/// Looks at one component.
#[async_trait]
pub trait HealthCheck: fmt::Debug + Send + Sync + 'static {
    /// The name of the component: "store".
    fn name(&self) -> &'static str;

    /// Whether readiness requires this component.
    fn required_for_readiness(&self) -> bool;

    /// How the component is now.
    async fn look(&self) -> Finding;

    /// Does what can be done about a component that does not work. Most recover by themselves, and have nothing here.
    async fn repair(&self) {}
}

/// What was found about one component.
#[derive(Clone, Debug)]
pub struct ComponentHealth {
    /// The component.
    pub name: &'static str,
    /// What was found.
    pub finding: Finding,
    /// How long looking took.
    pub latency: Duration,
    /// Whether readiness requires this component.
    pub required_for_readiness: bool,
}

/// How the node is.
#[derive(Clone, Debug)]
pub struct HealthReport {
    /// Every component.
    pub components: Vec<ComponentHealth>,
    /// The node is shutting down.
    pub is_draining: bool,
}

impl HealthReport {
    /// The node as a whole: unhealthy if a component without which it cannot serve is, else degraded if anything is not healthy.
    #[must_use]
    pub fn condition(&self) -> Condition {
        let worst = |component: &ComponentHealth| match component.finding.condition {
            Condition::Unhealthy if !component.required_for_readiness => Condition::Degraded,
            condition => condition,
        };
        let of_components = self.components.iter().map(worst).max().unwrap_or(Condition::Healthy);
        if self.is_draining { of_components.max(Condition::Degraded) } else { of_components }
    }

    /// Whether the node can serve: everything that it needs for that works, and it is not shutting down.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.is_draining && self.in_the_way().next().is_none()
    }

    /// What keeps the node from serving, for people: each component with what was found.
    #[must_use]
    pub fn reasons(&self) -> String {
        let draining = self.is_draining.then(|| "it is shutting down".to_owned());
        let components = self.in_the_way().map(|one| format!("{}: {}", one.name, one.finding.detail));
        draining.into_iter().chain(components).collect::<Vec<_>>().join("; ")
    }

    fn in_the_way(&self) -> impl Iterator<Item = &ComponentHealth> {
        let stops_serving = |component: &&ComponentHealth| {
            component.required_for_readiness && component.finding.condition == Condition::Unhealthy
        };
        self.components.iter().filter(stops_serving)
    }
}

/// Looks at every component of the node.
#[derive(Debug)]
pub struct Health {
    checks: Vec<Arc<dyn HealthCheck>>,
    draining: tokio_util::sync::CancellationToken,
    monitor: Heartbeat,
    recovery: Heartbeat,
}

/// When something last showed that it gets work done.
#[derive(Debug)]
struct Heartbeat(Mutex<Instant>);

impl Heartbeat {
    fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    fn beat(&self) {
        *self.0.lock() = Instant::now();
    }

    fn beats(&self) -> bool {
        self.0.lock().elapsed() < MAX_BEAT_AGE
    }
}

/// The process is taken for hung when its monitor or its recovery service has not run for this long.
const MAX_BEAT_AGE: Duration = Duration::from_secs(30);

impl Health {
    /// Looks through `checks`; not ready once `draining` is cancelled.
    #[must_use]
    pub fn new(checks: Vec<Arc<dyn HealthCheck>>, draining: tokio_util::sync::CancellationToken) -> Self {
        Self { checks, draining, monitor: Heartbeat::new(), recovery: Heartbeat::new() }
    }

    /// Looks at every component now, all at the same time.
    pub async fn report(&self) -> HealthReport {
        let components = futures_util::future::join_all(self.checks.iter().map(look)).await;
        HealthReport { components, is_draining: self.draining.is_cancelled() }
    }

    /// Every component's check.
    #[must_use]
    pub fn checks(&self) -> &[Arc<dyn HealthCheck>] {
        &self.checks
    }

    /// To be called regularly by the monitor: shows that the process still gets work done.
    pub fn monitor_beat(&self) {
        self.monitor.beat();
    }

    /// To be called regularly by the recovery service.
    pub fn recovery_beat(&self) {
        self.recovery.beat();
    }

    /// Whether this process works: its monitor and its recovery service run. What it depends on does not count: a broker outage must not
    /// get it killed.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.monitor.beats() && self.recovery.beats()
    }
}

/// Makes one check; one that takes longer than two seconds has failed.
pub async fn look(check: &Arc<dyn HealthCheck>) -> ComponentHealth {
    let started = Instant::now();
    let finding = match timeout(CHECK_TIMEOUT, AssertUnwindSafe(check.look()).catch_unwind()).await {
        Ok(Ok(finding)) => finding,
        Ok(Err(_panic)) => Finding::unhealthy("the check panicked"),
        Err(_) => Finding::unhealthy(format!("no answer within {} ms", CHECK_TIMEOUT.as_millis())),
    };
    ComponentHealth {
        name: check.name(),
        finding,
        latency: started.elapsed(),
        required_for_readiness: check.required_for_readiness(),
    }
}
