//! The monitor of a node: checks its components regularly, and publishes changes to gRPC health, metrics and the log.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use metrics::{Counter, Gauge};
use tokio_util::sync::CancellationToken;

use crate::{
    node::durability::{DurabilityRequirement, NotDurable},
    ports::{
        event_store::Durability,
        health::{Health, HealthReport},
    },
    processors::handlers::{SubscriptionState, SubscriptionStatus},
    server::{ApiState, grpc::health::GrpcHealthReporter},
    telemetry::outage::{Away, Outage},
};

/// The interval at which the monitor checks every component.
const MONITOR_INTERVAL: Duration = Duration::from_secs(1);
/// The timeout of the monitor for the log position in its gauge.
const HEAD_TIMEOUT: Duration = Duration::from_millis(500);

/// Checks the components of the node regularly and publishes changes.
#[derive(Debug)]
pub struct Monitor {
    health: Arc<Health>,
    grpc_health: Arc<GrpcHealthReporter>,
    api: ApiState,
    ready: Gauge,
    log_position: Gauge,
    durability: Gauge,
    losses: Counter,
    requirement: Option<DurabilityRequirement>,
    found: Durability,
    was_ready: Option<bool>,
    /// The URL of the node, for people, until it has been logged.
    serves: Option<String>,
    /// The handlers that start with the node.
    handlers: Vec<Arc<SubscriptionStatus>>,
    outage: Outage,
}

/// Describes what orders survive, for people.
const fn kept(durability: Durability) -> &'static str {
    match durability {
        Durability::Unknown => "it is not known yet what orders survive",
        Durability::None => "orders are lost when it ends",
        Durability::Process => "orders survive its end, but not a power loss",
        Durability::Machine => "orders survive a power loss",
        Durability::Quorum => "orders survive the loss of a minority of the servers",
    }
}

impl Monitor {
    /// A monitor before its first check, of a store whose durability was `found`.
    #[must_use]
    pub fn new(
        api: &ApiState,
        grpc_health: Arc<GrpcHealthReporter>,
        found: Durability,
        requirement: Option<DurabilityRequirement>,
    ) -> Self {
        let [ready, log_position, durability] = metrics::with_local_recorder(&api.metrics, || {
            ["ordersystem_ready", "ordersystem_log_position", "ordersystem_durability"]
                .map(|name| metrics::gauge!(name))
        });
        let losses = metrics::with_local_recorder(
            &api.metrics,
            || metrics::counter!("ordersystem_log_losses_total", "reader" => "check"),
        );
        durability.set(found.level());
        Self {
            was_ready: None,
            serves: None,
            handlers: Vec::new(),
            outage: Outage::new(),
            health: Arc::clone(&api.health),
            grpc_health,
            api: api.clone(),
            ready,
            log_position,
            durability,
            losses,
            requirement,
            found,
        }
    }

    /// While a broker is `away`, logs a node that is not ready below WARN.
    #[must_use]
    pub fn quiet_while(self, away: Away) -> Self {
        Self { outage: Outage::while_not(away), ..self }
    }

    /// Logs `url` when the node is ready for the first time and its `handlers` have started, so that no line of the start follows.
    #[must_use]
    pub fn at(self, url: String, handlers: Vec<Arc<SubscriptionStatus>>) -> Self {
        Self { serves: Some(url), handlers, ..self }
    }

    /// Monitors until the store, when first reached, turns out to be less durable than required.
    pub(super) async fn watch(&mut self) -> NotDurable {
        loop {
            let report = self.check_all().await;
            let is_ready = report.is_ready();
            let found = self.api.store.durability();
            let before = std::mem::replace(&mut self.found, found);
            if found != before {
                tracing::info!(
                    durability = found.name(),
                    before = before.name(),
                    "the durability of acknowledged commands has changed"
                );
            }
            // If settings change later, the node refuses commands until they are corrected.
            if before == Durability::Unknown
                && let Some(requirement) = &self.requirement
                && let Err(not_durable) = requirement.holds(&*self.api.store)
            {
                return not_durable;
            }
            self.tell(&report);
            // Until the node is first ready, its readiness is being waited for.
            let is_awaited = !is_ready || self.serves.is_some();
            let pause = if is_awaited { MONITOR_INTERVAL / 10 } else { MONITOR_INTERVAL };
            tokio::time::sleep(pause).await;
        }
    }

    /// Logs that the node has become ready, or is no longer ready; repeats the latter every half minute.
    fn tell(&mut self, report: &HealthReport) {
        let is_ready = report.is_ready();
        let before = self.was_ready.replace(is_ready);
        if is_ready {
            let lasted_ms = self.outage.works().map(|lasted| lasted.as_millis() as u64);
            let is_starting = self.handlers.iter().any(|handler| handler.state() == SubscriptionState::Starting);
            match self.serves.take_if(|_| !is_starting) {
                Some(url) => {
                    let kept = kept(self.api.store.durability());
                    tracing::info!("the node is ready: it serves gRPC and REST at {url}, and {kept}");
                }
                None if self.serves.is_none() && before != Some(true) => tracing::info!(lasted_ms, "the node is ready"),
                None => {}
            }
            return;
        }
        let why = report.reasons();
        // Its components log changes of the cause.
        match (self.outage.failed("not ready"), before) {
            (_, None) => tracing::info!(why, "the node is not ready yet"),
            (Some(_), Some(false)) => tracing::warn!(why, "the node is still not ready"),
            (Some(_), Some(true)) => tracing::warn!(why, "the node is no longer ready"),
            // The outage of a broker, which explains it, is logged by the connection to it.
            (None, Some(true)) => tracing::info!(why, "the node is no longer ready"),
            (None, Some(false)) => {}
        }
    }

    /// Checks all components once.
    async fn check_all(&mut self) -> HealthReport {
        self.health.monitor_beat();
        let report = self.health.report().await;
        let is_ready = report.is_ready();
        self.ready.set(if is_ready { 1.0 } else { 0.0 });
        // A store that hangs or panics must not end the monitoring.
        let head = AssertUnwindSafe(self.api.store.head()).catch_unwind();
        if let Ok(Ok(Ok(head))) = tokio::time::timeout(HEAD_TIMEOUT, head).await {
            #[allow(clippy::cast_precision_loss, reason = "a gauge; far below 2^52")]
            self.log_position.set(head.0 as f64);
        }
        self.durability.set(self.api.store.durability().level());
        self.losses.absolute(self.api.store.losses_found());
        self.api.mediator.publish_gauges();
        self.api.admission.publish_gauges();
        self.api.metrics.run_upkeep();
        report
    }

    /// Reports whether the monitor itself still runs, until `stop`.
    pub fn watch_liveness(&self, stop: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        self.grpc_health.watch_liveness(Arc::clone(&self.health), stop)
    }

    /// Publishes the shutdown, without any check: a check may take as long as a broker blocks it.
    pub(super) async fn draining(&self) {
        self.grpc_health.draining().await;
        self.ready.set(0.0);
    }

    /// Whether the node was ready at the last check.
    pub(super) const fn was_ready(&self) -> bool {
        matches!(self.was_ready, Some(true))
    }

    pub(super) async fn close(&self) {
        self.grpc_health.close().await;
    }
}
