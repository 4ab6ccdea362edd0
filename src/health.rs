//! How the node is: every component has a check that can fail, looked at by a monitor and by whoever asks.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::Instant;

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

    /// Whether the node can serve without the component.
    fn needed_to_serve(&self) -> bool;

    /// How the component is now.
    async fn look(&self) -> Finding;
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
    /// Whether the node can serve without it.
    pub needed_to_serve: bool,
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
            Condition::Unhealthy if !component.needed_to_serve => Condition::Degraded,
            condition => condition,
        };
        let of_components = self.components.iter().map(worst).max().unwrap_or(Condition::Healthy);
        if self.is_draining { of_components.max(Condition::Degraded) } else { of_components }
    }

    /// Whether the node can serve: everything that it needs for that works, and it is not shutting down.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let stops_serving = |component: &ComponentHealth| {
            component.needed_to_serve && component.finding.condition == Condition::Unhealthy
        };
        !self.is_draining && !self.components.iter().any(stops_serving)
    }
}

/// Looks at every component of the node.
#[derive(Debug)]
pub struct Health {
    checks: Vec<Arc<dyn HealthCheck>>,
    draining: tokio_util::sync::CancellationToken,
    beat: Mutex<Instant>,
}

/// The process is taken for hung when its monitor has not run for this long.
const MAX_BEAT_AGE: Duration = Duration::from_secs(30);

impl Health {
    /// Looks through `checks`; not ready once `draining` is cancelled.
    #[must_use]
    pub fn new(checks: Vec<Arc<dyn HealthCheck>>, draining: tokio_util::sync::CancellationToken) -> Self {
        Self { checks, draining, beat: Mutex::new(Instant::now()) }
    }

    /// Looks at every component now, all at the same time.
    pub async fn report(&self) -> HealthReport {
        let components = futures_util::future::join_all(self.checks.iter().map(look)).await;
        HealthReport { components, is_draining: self.draining.is_cancelled() }
    }

    /// To be called regularly by the monitor: shows that the process still gets work done.
    pub fn beat(&self) {
        *self.beat.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Whether this process works. What it depends on does not count: a broker outage must not get it killed.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.beat.lock().unwrap_or_else(PoisonError::into_inner).elapsed() < MAX_BEAT_AGE
    }
}

async fn look(check: &Arc<dyn HealthCheck>) -> ComponentHealth {
    let started = Instant::now();
    let finding = tokio::time::timeout(CHECK_TIMEOUT, check.look())
        .await
        .unwrap_or_else(|_| Finding::unhealthy(format!("no answer within {} ms", CHECK_TIMEOUT.as_millis())));
    ComponentHealth {
        name: check.name(),
        finding,
        latency: started.elapsed(),
        needed_to_serve: check.needed_to_serve(),
    }
}
