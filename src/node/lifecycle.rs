//! The life cycle of a node: serve, drain, flush, stop.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::Shared};
use metrics::Gauge;
use metrics_exporter_prometheus::PrometheusRecorder;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::Membership,
    ports::{
        event_store::{Durability, EventStore},
        health::{Health, HealthReport},
        message_bus::MessageBus,
    },
    server::{ApiState, grpc::health::GrpcHealthReporter},
    telemetry::outage::Away,
};

/// The interval at which the monitor checks every component.
const MONITOR_INTERVAL: Duration = Duration::from_secs(1);
/// The timeout of the monitor for the log position in its gauge.
const HEAD_TIMEOUT: Duration = Duration::from_millis(500);
/// How long the node keeps refusing requests after it has announced its shutdown: long enough to notify a client or a probe on an open connection.
const DRAIN_NOTICE: Duration = Duration::from_millis(500);

/// How long clients may take to read the ends of their calls; at most half of the remaining grace period.
const MAX_CLOSING: Duration = Duration::from_secs(5);

/// How long a broker may take to respond during shutdown, once no request is in flight. A broker that does not respond counts as away: nothing can be
/// flushed to it, and leases on it are left to expire.
const ANSWERS_WITHIN: Duration = Duration::from_millis(400);
/// How long background work on an absent broker may take to end by itself.
const LAST_STEPS: Duration = Duration::from_millis(200);

/// The timeout for releasing the cluster membership.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// The stages of a shutdown, cancelled in this order.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// New work is refused, streams end.
    pub draining: CancellationToken,
    /// No more connections; open calls finish.
    pub closing: CancellationToken,
    /// The outbox publishes the rest and ends.
    pub flushing: CancellationToken,
    /// The outbox ends without flushing: its log or its bus is away.
    pub given_up: CancellationToken,
    /// Everything else ends.
    pub ended: CancellationToken,
}

/// The concurrent tasks of a node.
#[derive(Debug, Default)]
pub struct Work {
    servers: JoinSet<()>,
    relay: JoinSet<()>,
    followers: JoinSet<()>,
}

impl Work {
    /// Runs a listener, which ends when it is closed and its connections have ended.
    pub fn serve(&mut self, server: impl Future<Output = ()> + Send + 'static) {
        self.servers.spawn(server);
    }

    /// Runs the outbox relay, which ends when it has flushed.
    pub fn relay(&mut self, relay: impl Future<Output = ()> + Send + 'static) {
        self.relay.spawn(relay);
    }

    /// Runs a follower of the log or the bus, or a task that updates state.
    pub fn follow(&mut self, follower: impl Future<Output = ()> + Send + 'static) {
        self.followers.spawn(follower);
    }
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    /// The shared state of the protocol servers.
    pub context: ApiState,
    /// Its cluster membership, if it is one of many.
    pub membership: Option<Arc<Membership>>,
    /// The message bus.
    pub bus: Arc<dyn MessageBus>,
    /// The monitor of its health.
    pub monitor: Monitor,
    /// Its tasks.
    pub work: Work,
    /// Its shutdown stages.
    pub stop: Stop,
    /// The grace period of a shutdown.
    pub grace: Duration,
}

/// A task was still running at the end of the grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraceExceeded(
    /// The unfinished task.
    pub &'static str,
);

impl std::fmt::Display for GraceExceeded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the grace period was over before {} had finished", self.0)
    }
}

impl std::error::Error for GraceExceeded {}

/// The required durability, `--require-durable`.
#[derive(Clone, Debug)]
pub struct DurabilityRequirement {
    /// The durability of an acknowledged commit.
    pub required: Durability,
    /// The event store, as in `--persistence`.
    pub persistence: &'static str,
    /// The address of the event store, without a password; `None` if it is not a server.
    pub server: Option<String>,
}

impl DurabilityRequirement {
    /// Whether the detected durability of `store` is sufficient, or is not known yet.
    ///
    /// # Errors
    /// [`NotDurable`] if it is known and insufficient.
    pub fn holds(&self, store: &dyn EventStore) -> Result<(), NotDurable> {
        let found = store.durability();
        if found == Durability::Unknown || found >= self.required {
            return Ok(());
        }
        Err(NotDurable {
            persistence: self.persistence,
            server: self.server.clone(),
            found,
            required: self.required,
            detail: store.durability_detail(),
        })
    }
}

/// The durability of the store is below the requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotDurable {
    persistence: &'static str,
    server: Option<String>,
    found: Durability,
    required: Durability,
    /// The detected or asserted settings of the store.
    detail: Option<String>,
}

impl NotDurable {
    /// The remedy for the operator.
    fn remedy(&self) -> &'static str {
        match self.persistence {
            "redis" => {
                "set appendonly yes, appendfsync always, no-appendfsync-on-rewrite no and maxmemory-policy noeviction, in its configuration \
                 and with CONFIG SET, and use no Sentinels (docs/deploy.md, Redis)"
            }
            "nats" => {
                "set sync_interval: always in the jetstream block of each server, and name their monitoring ports (--nats-monitor) or \
                 assert it (--nats-synced) (docs/deploy.md, NATS)"
            }
            _ => "take --persistence embedded with --data-dir DIR, or redis, or nats",
        }
    }
}

impl std::fmt::Display for NotDurable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (found, required) = (self.found.name(), self.required.name());
        write!(f, "--require-durable: the durability of persistence {} is {found}", self.persistence)?;
        write!(f, ", {required} is required")?;
        if let Some(server) = &self.server {
            write!(f, "; at {server}")?;
        }
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        write!(f, "; {}", self.remedy())
    }
}

impl std::error::Error for NotDurable {}

/// Why a node ended abnormally.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunError {
    /// A stop was requested and was not completed in time.
    GraceExceeded(GraceExceeded),
    /// It has reached its store for the first time, and the store does not meet the requirement.
    NotDurable(NotDurable),
}

impl std::fmt::Display for RunError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::GraceExceeded(error) => error.fmt(f),
            Self::NotDurable(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RunError {}

impl Node {
    /// Runs until `shutdown` is cancelled, and then shuts down in order.
    ///
    /// # Errors
    /// [`RunError`] if the shutdown exceeded the grace period, or the node has ended by itself; all tasks have ended then.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), RunError> {
        let unfit = tokio::select! {
            () = shutdown.cancelled() => None,
            not_durable = self.monitor.watch() => Some(not_durable),
        };
        let deadline = tokio::time::Instant::now() + self.grace;
        tracing::info!("shutting down: refusing new work, finishing what is in flight");
        self.stop.draining.cancel();
        self.monitor.draining().await;
        let mut stage = "requests in flight";
        let mut away = Absent::default();
        let orderly = async {
            let is_heard = self.monitor.was_ready();
            away = self.drained(is_heard).await;
            stage = "open connections";
            self.stop.closing.cancel();
            self.monitor.close().await;
            close_connections(&mut self.work.servers, deadline).await;
            stage = "the outbox";
            self.stop.flushing.cancel();
            if away.is_any() {
                self.stop.given_up.cancel();
            }
            while self.work.relay.join_next().await.is_some() {}
            stage = "background work";
            self.stop.ended.cancel();
            end_followers(&mut self.work.followers, away).await;
        };
        let in_time = tokio::time::timeout_at(deadline, orderly).await;
        if !(away.store && self.membership.is_some()) {
            self.give_back().await;
        }
        match (unfit, in_time) {
            (Some(not_durable), _) => Err(RunError::NotDurable(not_durable)),
            (None, in_time) => in_time.map_err(|_| RunError::GraceExceeded(GraceExceeded(stage))),
        }
    }

    /// Closes the id generator, and releases the cluster membership.
    async fn give_back(&self) {
        // Stores the mark, which blocks.
        let ids = Arc::clone(&self.context.ids);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || ids.seal()).await {
            tracing::warn!(%error, "the id generator could not be sealed");
        }
        if let Some(membership) = &self.membership {
            // Only after the last id was issued. If it times out the leases expire.
            let _ = tokio::time::timeout(LEAVE_TIMEOUT, membership.leave()).await;
        }
    }

    /// Drains, and determines which backends are away.
    async fn drained(&self, is_heard: bool) -> Absent {
        let (store, bus) = (&self.context.store, &self.bus);
        let draining = self.drain_for(is_heard).shared();
        let is_store_away = answers(&draining, async { store.check().await.is_ok() || store.unreachable().is_none() });
        let is_bus_away = answers(&draining, async { bus.check().await.is_ok() || bus.unreachable().is_none() });
        let (store, bus, ()) = tokio::join!(is_store_away, is_bus_away, draining.clone());
        Absent { store: !store, bus: !bus }
    }

    /// Waits until no request is in flight and, if `is_heard`, until clients could notice the shutdown: a node that was not ready is already out of
    /// service.
    async fn drain_for(&self, is_heard: bool) {
        if is_heard {
            tokio::time::sleep(DRAIN_NOTICE).await;
        }
        while self.context.mediator.unanswered() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Which backends of a node are away when it ends.
#[derive(Clone, Copy, Debug, Default)]
struct Absent {
    store: bool,
    bus: bool,
}

impl Absent {
    const fn is_any(self) -> bool {
        self.store || self.bus
    }
}

/// Whether the `answer` of a broker arrives in time and is good.
async fn answers(drained: &Shared<impl Future<Output = ()>>, answer: impl Future<Output = bool>) -> bool {
    let is_over = async {
        tokio::time::sleep(ANSWERS_WITHIN).await;
        // While requests are in flight a broker may be busy with them.
        if drained.peek().is_none() {
            drained.clone().await;
            tokio::time::sleep(ANSWERS_WITHIN).await;
        }
    };
    tokio::select! {
        is_good = answer => is_good,
        () = is_over => false,
    }
}

/// Waits for the end of background work; tasks that wait for a broker that is `away` are dropped, as in a crash.
async fn end_followers(followers: &mut JoinSet<()>, away: Absent) {
    let ended = async { while followers.join_next().await.is_some() {} };
    if !away.is_any() {
        return ended.await;
    }
    if tokio::time::timeout(LAST_STEPS, ended).await.is_err() {
        tracing::debug!("background work that waits for a broker is dropped");
        followers.shutdown().await;
    }
}

/// Lets clients read the ends of their calls, then closes open connections: no command or query is in flight any more, and a client that does not
/// read must not use up the outbox's share of the grace period.
async fn close_connections(servers: &mut JoinSet<()>, deadline: tokio::time::Instant) {
    let left = deadline.saturating_duration_since(tokio::time::Instant::now());
    let closed = async { while servers.join_next().await.is_some() {} };
    if tokio::time::timeout(MAX_CLOSING.min(left / 2), closed).await.is_err() {
        tracing::warn!("closing connections whose clients did not end their calls");
        servers.shutdown().await;
    }
}

/// Checks the components of the node regularly and publishes changes.
#[derive(Debug)]
pub struct Monitor {
    health: Arc<Health>,
    door: GrpcHealthReporter,
    context: ApiState,
    recorder: PrometheusRecorder,
    ready: Gauge,
    log_position: Gauge,
    durability: Gauge,
    requirement: Option<DurabilityRequirement>,
    found: Durability,
    was_ready: Option<bool>,
    /// An outage that explains why the node is not ready, and is logged elsewhere.
    away: Away,
}

impl Monitor {
    /// A monitor before its first check, of a store whose durability was `found`.
    #[must_use]
    pub fn new(
        context: &ApiState,
        door: GrpcHealthReporter,
        recorder: PrometheusRecorder,
        found: Durability,
        requirement: Option<DurabilityRequirement>,
    ) -> Self {
        let [ready, log_position, durability] = metrics::with_local_recorder(&recorder, || {
            ["ordersystem_ready", "ordersystem_log_position", "ordersystem_durability"]
                .map(|name| metrics::gauge!(name))
        });
        durability.set(found.level());
        Self {
            was_ready: None,
            away: Away::default(),
            health: Arc::clone(&context.health),
            door,
            context: context.clone(),
            recorder,
            ready,
            log_position,
            durability,
            requirement,
            found,
        }
    }

    /// While a broker is `away`, logs a node that is not ready below WARN.
    #[must_use]
    pub fn quiet_while(self, away: Away) -> Self {
        Self { away, ..self }
    }

    /// Monitors until the store, when first reached, turns out to be less durable than required.
    async fn watch(&mut self) -> NotDurable {
        loop {
            let report = self.look().await;
            let is_ready = report.is_ready();
            let found = self.context.store.durability();
            let before = std::mem::replace(&mut self.found, found);
            if found != before {
                tracing::info!(
                    durability = found.name(),
                    before = before.name(),
                    "what an acknowledged command survives"
                );
            }
            // If settings change later, the node refuses commands until they are corrected.
            if before == Durability::Unknown
                && let Some(requirement) = &self.requirement
                && let Err(not_durable) = requirement.holds(&*self.context.store)
            {
                return not_durable;
            }
            match self.was_ready.replace(is_ready) {
                before if before == Some(is_ready) => {}
                _ if is_ready => tracing::info!("the node is ready"),
                None => tracing::info!(why = report.reasons(), "the node is not ready yet"),
                Some(_) if self.away.why().is_some() => {
                    tracing::info!(why = report.reasons(), "the node is not ready any more");
                }
                Some(_) => tracing::warn!(why = report.reasons(), "the node is not ready any more"),
            }
            // Until the node is first ready, its readiness is being waited for.
            let pause = if is_ready { MONITOR_INTERVAL } else { MONITOR_INTERVAL / 10 };
            tokio::time::sleep(pause).await;
        }
    }

    /// Checks all components once.
    async fn look(&mut self) -> HealthReport {
        self.health.monitor_beat();
        let report = self.health.report().await;
        let is_ready = report.is_ready();
        self.door.set_ready(is_ready).await;
        self.ready.set(if is_ready { 1.0 } else { 0.0 });
        // A store that hangs or panics must not end the monitoring.
        let head = AssertUnwindSafe(self.context.store.head()).catch_unwind();
        if let Ok(Ok(Ok(head))) = tokio::time::timeout(HEAD_TIMEOUT, head).await {
            #[allow(clippy::cast_precision_loss, reason = "a gauge; far below 2^52")]
            self.log_position.set(head.0 as f64);
        }
        self.durability.set(self.context.store.durability().level());
        self.context.mediator.publish_gauges();
        self.context.admission.publish_gauges();
        self.recorder.handle().run_upkeep();
        report
    }

    /// Reports whether the monitor itself still runs, until `stop`.
    pub fn watch_liveness(&self, stop: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        self.door.watch_liveness(Arc::clone(&self.health), stop)
    }

    /// Publishes the shutdown, without any check: a check may take as long as a broker blocks it.
    async fn draining(&mut self) {
        self.door.set_ready(false).await;
        self.ready.set(0.0);
    }

    /// Whether the node was ready at the last check.
    const fn was_ready(&self) -> bool {
        matches!(self.was_ready, Some(true))
    }

    async fn close(&mut self) {
        self.door.close().await;
    }
}
