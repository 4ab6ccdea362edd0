//! What `/health` looks at: one check a component, each of which can fail.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;

use crate::{
    circuit_breaker::{BreakerState, CircuitBreaker},
    cluster::MembershipStatus,
    id_generator::{IdError, IdGenerator, Reservation},
    node::recovery::Supervised,
    ports::{
        event_store::{EventStore, Position},
        health::{Condition, Finding, HealthCheck},
        message_bus::MessageBus,
        order_cache::OrderCache,
        read_model::ReadModel,
    },
    processors::{
        handlers::{Role, SubscriptionStatus},
        outbox::{Backlog, OutboxMeter, OutboxStatus},
        projections::ProjectionProgress,
    },
};

/// A follower that is further behind than this many positions is reported.
const MAX_LAG_POSITIONS: u64 = 100_000;

/// An event that has waited longer than this to be published is reported.
const MAX_PENDING_SECONDS: f64 = 60.0;
/// How many dead letters of a handler are counted.
const COUNTED_DEAD_LETTERS: usize = 100;

/// The event store answers.
#[derive(Debug)]
pub struct StoreCheck(pub Arc<dyn EventStore>);

#[async_trait]
impl HealthCheck for StoreCheck {
    fn name(&self) -> &'static str {
        "store"
    }

    fn required_for_readiness(&self) -> bool {
        true
    }

    async fn look(&self) -> Finding {
        match self.0.check().await {
            Ok(()) => {
                let detail = self.0.durability_detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
                Finding::healthy(format!("durability: {}{detail}", self.0.durability().name()))
            }
            Err(error) => Finding::unhealthy(error.to_string()),
        }
    }
}

/// The message bus answers.
#[derive(Debug)]
pub struct TransportCheck(pub Arc<dyn MessageBus>);

#[async_trait]
impl HealthCheck for TransportCheck {
    fn name(&self) -> &'static str {
        "transport"
    }

    fn required_for_readiness(&self) -> bool {
        true
    }

    async fn look(&self) -> Finding {
        match self.0.check().await {
            Ok(()) => Finding::healthy(self.0.kind()),
            Err(error) => Finding::unhealthy(error.to_string()),
        }
    }
}

/// The shared cache answers.
#[derive(Debug)]
pub struct CacheCheck {
    /// The cache.
    pub cache: Arc<dyn OrderCache>,
    /// What keeps calls from it when it fails.
    pub breaker: Arc<CircuitBreaker>,
}

#[async_trait]
impl HealthCheck for CacheCheck {
    fn name(&self) -> &'static str {
        "cache"
    }

    /// Whatever it holds is in the log as well.
    fn required_for_readiness(&self) -> bool {
        false
    }

    async fn look(&self) -> Finding {
        match self.cache.check().await {
            Ok(()) => {
                self.breaker.try_again();
                Finding::healthy("redis")
            }
            Err(error) => Finding::unhealthy(error.to_string()),
        }
    }
}

/// The outbox publishes, and is not far behind.
#[derive(Debug)]
pub struct OutboxCheck {
    /// How the relay does.
    pub status: Arc<OutboxStatus>,
    /// How far behind it is.
    pub meter: Arc<OutboxMeter>,
    /// Its work.
    pub work: Arc<Supervised>,
}

#[async_trait]
impl HealthCheck for OutboxCheck {
    fn name(&self) -> &'static str {
        "outbox"
    }

    /// Commands are kept in the log and published later.
    fn required_for_readiness(&self) -> bool {
        false
    }

    async fn look(&self) -> Finding {
        if let Some(end) = self.work.end() {
            return Finding::unhealthy(format!("the relay {end}"));
        }
        let failure = self.status.failure();
        let Backlog { positions, oldest_seconds, past_the_end } = match self.meter.measure().await {
            Ok(backlog) => backlog,
            Err(unreadable) => return Finding::unhealthy(failure.unwrap_or(unreadable)),
        };
        let backlog = match past_the_end {
            Some((head, position)) => past(position, head),
            None => format!("lag: {positions}, oldest pending: {oldest_seconds:.1} s"),
        };
        if let Some(failure) = failure {
            return Finding::unhealthy(format!("{failure}; {backlog}"));
        }
        let owner = self.status.relayed_by().map(|node| format!("standing by: {node} publishes; "));
        let detail = owner.unwrap_or_default() + &backlog;
        if past_the_end.is_some() {
            Finding::unhealthy(detail)
        } else if let Some(loss) = self.status.loss() {
            Finding::degraded(format!("{detail}; {loss}"))
        } else if positions > MAX_LAG_POSITIONS || oldest_seconds > MAX_PENDING_SECONDS {
            Finding::degraded(detail)
        } else {
            Finding::healthy(detail)
        }
    }

    async fn repair(&self) {
        self.work.restart();
    }
}

/// The read model follows the log, and has caught up with what was there at the start.
#[derive(Debug)]
pub struct ProjectionCheck {
    /// How far it is.
    pub progress: ProjectionProgress,
    /// The read model itself.
    pub read_model: Arc<dyn ReadModel>,
    /// What it follows.
    pub store: Arc<dyn EventStore>,
    /// The end of the log at the first look, plus one; 0: not looked yet.
    pub start_head: AtomicU64,
    /// Its work.
    pub work: Arc<Supervised>,
}

#[async_trait]
impl HealthCheck for ProjectionCheck {
    fn name(&self) -> &'static str {
        "projections"
    }

    fn required_for_readiness(&self) -> bool {
        true
    }

    async fn look(&self) -> Finding {
        if let Some(end) = self.work.end() {
            return Finding::unhealthy(format!("the projection {end}"));
        }
        if let Some(failure) = self.progress.failure() {
            return Finding::unhealthy(failure);
        }
        if let Err(error) = self.read_model.check().await {
            return Finding::unhealthy(error.to_string());
        }
        // Before the end of the log, which may grow meanwhile, and this with it.
        let position = self.progress.position().0;
        let mut head = match self.store.head().await {
            Ok(head) => head.0,
            Err(error) => return Finding::unhealthy(error.to_string()),
        };
        if position > head {
            head = match self.store.confirmed_head().await {
                Ok(confirmed) => confirmed.0,
                Err(error) => return Finding::unhealthy(error.to_string()),
            };
        }
        let _ = self.start_head.compare_exchange(0, head + 1, Ordering::AcqRel, Ordering::Acquire);
        // A log that has become shorter since need not be followed to where it ended then.
        let at_start = (self.start_head.load(Ordering::Acquire) - 1).min(head);
        if position > head {
            return Finding::unhealthy(past(Position(position), Position(head)));
        }
        if position < at_start {
            return Finding::unhealthy(match self.progress.catch_up() {
                Some(catch_up) => format!("catching up: {catch_up}"),
                None => format!("catching up: {position} of {at_start}"),
            });
        }
        let finding = lag(self.store.distance(Position(position), Position(head)));
        match self.progress.loss() {
            Some(loss) => Finding::degraded(format!("{}; {loss}", finding.detail)),
            None => finding,
        }
    }

    async fn repair(&self) {
        self.work.restart();
    }
}

/// The circuit breakers are closed.
#[derive(Debug)]
pub struct BreakerCheck(pub Vec<Arc<CircuitBreaker>>);

#[async_trait]
impl HealthCheck for BreakerCheck {
    fn name(&self) -> &'static str {
        "circuit_breakers"
    }

    /// What is behind an open one has a check of its own.
    fn required_for_readiness(&self) -> bool {
        false
    }

    async fn look(&self) -> Finding {
        let states = self.0.iter().map(|breaker| (breaker.name(), breaker.state()));
        let (names, states): (Vec<_>, Vec<_>) =
            states.map(|(name, state)| (format!("{name}: {}", state.name()), state)).unzip();
        let detail = names.join(", ");
        match states.iter().all(|state| *state == BreakerState::Closed) {
            true => Finding::healthy(detail),
            false => Finding::degraded(detail),
        }
    }
}

/// Every subscription runs, here or on another node.
#[derive(Debug)]
pub struct SubscriptionCheck {
    /// How they do, and their work.
    pub subscriptions: Vec<(Arc<SubscriptionStatus>, Arc<Supervised>)>,
    /// Where their dead letters are.
    pub bus: Arc<dyn MessageBus>,
}

#[async_trait]
impl HealthCheck for SubscriptionCheck {
    fn name(&self) -> &'static str {
        "subscriptions"
    }

    fn required_for_readiness(&self) -> bool {
        false
    }

    async fn look(&self) -> Finding {
        let findings =
            futures_util::future::join_all(self.subscriptions.iter().map(|(status, work)| self.one(status, work)))
                .await;
        let condition = findings.iter().map(|finding| finding.condition).max().unwrap_or(Condition::Healthy);
        let details: Vec<_> = findings.into_iter().map(|finding| finding.detail).collect();
        Finding { condition, detail: details.join("; ") }
    }

    async fn repair(&self) {
        self.subscriptions.iter().for_each(|(_, work)| work.restart());
    }
}

impl SubscriptionCheck {
    async fn one(&self, status: &SubscriptionStatus, work: &Supervised) -> Finding {
        let name = status.handler();
        if let Some(end) = work.end() {
            return Finding::unhealthy(format!("{name} {end}"));
        }
        match status.role() {
            Role::Starting => Finding::healthy(format!("{name} starting")),
            Role::Ended => Finding::unhealthy(format!("{name} has ended")),
            Role::Failing(reason) => Finding::unhealthy(format!("{name} {reason}")),
            Role::StandingBy(owner) => {
                Finding::healthy(format!("{name} standing by: {} handles", owner.as_deref().unwrap_or("another node")))
            }
            Role::Active => match self.bus.dead_letters(name, COUNTED_DEAD_LETTERS + 1).await {
                Err(error) => Finding::degraded(format!("{name} {error}")),
                Ok(letters) => running(name, status.handled(), letters.len()),
            },
        }
    }
}

/// A handler that runs here, with what waits for the operator.
fn running(name: &str, handled: u64, dead_letters: usize) -> Finding {
    let more = if dead_letters > COUNTED_DEAD_LETTERS { "more than " } else { "" };
    let dead = dead_letters.min(COUNTED_DEAD_LETTERS);
    let detail = format!("{name} handled: {handled}, dead letters: {more}{dead}");
    if dead > 0 { Finding::degraded(detail) } else { Finding::healthy(detail) }
}

/// The node has its name and its worker number among the nodes of the log.
#[derive(Debug)]
pub struct MembershipCheck {
    /// Whether it has.
    pub status: Arc<MembershipStatus>,
    /// Whether the node was told that it is one of many.
    pub is_cluster: bool,
}

#[async_trait]
impl HealthCheck for MembershipCheck {
    fn name(&self) -> &'static str {
        if self.is_cluster { "cluster" } else { "worker_number" }
    }

    fn required_for_readiness(&self) -> bool {
        true
    }

    async fn look(&self) -> Finding {
        match self.status.get() {
            Ok(identity) => {
                Finding::healthy(format!("worker {} of datacenter {}", identity.worker_id(), identity.datacenter_id()))
            }
            Err(error) => Finding::unhealthy(format!("no worker number: {error}")),
        }
    }
}

/// The node may issue ids.
#[derive(Debug)]
pub struct IdCheck(pub Arc<IdGenerator>);

#[async_trait]
impl HealthCheck for IdCheck {
    fn name(&self) -> &'static str {
        "ids"
    }

    fn required_for_readiness(&self) -> bool {
        true
    }

    async fn look(&self) -> Finding {
        match self.0.reserve(1) {
            Ok(Reservation::Ids(_) | Reservation::WaitMicros(_)) => Finding::healthy("issuing"),
            // Reads and commands for orders that exist need no new id: the node is of use.
            Err(error @ IdError::ClockBehind { .. }) => Finding::degraded(error.to_string()),
            Err(error) => Finding::unhealthy(error.to_string()),
        }
    }
}

/// A lag would be no more than 0, and hide it.
fn past(position: Position, head: Position) -> String {
    format!("the checkpoint is at {position}, past the end of the log at {head}")
}

fn lag(positions: u64) -> Finding {
    let detail = format!("lag: {positions}");
    if positions > MAX_LAG_POSITIONS { Finding::degraded(detail) } else { Finding::healthy(detail) }
}
