//! The checks of `/health`: one per component, each of which can fail.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::{
    circuit_breaker::{BreakerState, BreakerView, CircuitBreaker},
    cluster::MembershipStatus,
    id_generator::{IdError, IdGenerator, Reservation},
    node::recovery::Supervised,
    ports::{
        event_store::{EventStore, Position},
        health::{CheckResult, Condition, HealthCheck},
        message_bus::MessageBus,
        order_cache::OrderCache,
        read_model::ReadModel,
        server_name::ServerName,
    },
    processors::{
        handlers::{SubscriptionState, SubscriptionStatus},
        outbox::{Backlog, OutboxMeter, OutboxStatus},
        projections::ProjectionProgress,
    },
};

/// The lag of a follower, in positions, above which it is reported.
const MAX_LAG_POSITIONS: u64 = 100_000;
/// The age of a pending event above which it is reported.
const MAX_PENDING_SECONDS: f64 = 60.0;
/// The maximum number of dead letters of a handler that are counted.
const COUNTED_DEAD_LETTERS: usize = 100;

/// Checks that the event store responds.
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

    fn server(&self) -> Option<ServerName> {
        self.0.server()
    }

    async fn check(&self) -> CheckResult {
        match self.0.check().await {
            Ok(()) => {
                let detail = self.0.durability_detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
                let detail = format!("durability: {}{detail}", self.0.durability().name());
                match self.0.at_risk() {
                    Some(why) => CheckResult::degraded(format!("{why}; {detail}")),
                    None => CheckResult::healthy(detail),
                }
            }
            Err(error) => CheckResult::unhealthy(error.to_string()),
        }
    }
}

/// Checks that the message bus responds.
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

    fn server(&self) -> Option<ServerName> {
        self.0.server()
    }

    async fn check(&self) -> CheckResult {
        match self.0.check().await {
            Ok(()) => match self.0.at_risk() {
                Some(why) => CheckResult::degraded(format!("{}: {why}", self.0.kind())),
                None => CheckResult::healthy(self.0.kind()),
            },
            Err(error) => CheckResult::unhealthy(error.to_string()),
        }
    }
}

/// Checks that the shared cache responds.
#[derive(Debug)]
pub struct CacheCheck {
    /// The cache.
    pub cache: Arc<dyn OrderCache>,
    /// The circuit breaker in front of it.
    pub breaker: Arc<CircuitBreaker>,
}

#[async_trait]
impl HealthCheck for CacheCheck {
    fn name(&self) -> &'static str {
        "cache"
    }

    /// Everything in the cache is in the log as well.
    fn required_for_readiness(&self) -> bool {
        false
    }

    fn server(&self) -> Option<ServerName> {
        self.cache.server()
    }

    async fn check(&self) -> CheckResult {
        match self.cache.check().await {
            Ok(()) => {
                self.breaker.half_open();
                CheckResult::healthy("redis")
            }
            Err(error) => CheckResult::unhealthy(error.to_string()),
        }
    }
}

/// Checks that the outbox publishes, and is not far behind.
#[derive(Debug)]
pub struct OutboxCheck {
    /// The status of the relay.
    pub status: Arc<OutboxStatus>,
    /// The meter of its backlog.
    pub meter: Arc<OutboxMeter>,
    /// Its background task.
    pub work: Arc<Supervised>,
}

#[async_trait]
impl HealthCheck for OutboxCheck {
    fn name(&self) -> &'static str {
        "outbox"
    }

    /// Commands are stored in the log and published later.
    fn required_for_readiness(&self) -> bool {
        false
    }

    fn server(&self) -> Option<ServerName> {
        self.meter.server()
    }

    async fn check(&self) -> CheckResult {
        if let Some(end) = self.work.end() {
            return CheckResult::unhealthy(format!("the relay {end}"));
        }
        let failure = self.status.failure();
        let measured = tokio::try_join!(self.meter.measure(), self.meter.missing_entries());
        let (Backlog { positions, oldest_seconds, past_the_end }, missing) = match measured {
            Ok(measured) => measured,
            Err(unreadable) => return CheckResult::unhealthy(failure.unwrap_or(unreadable)),
        };
        let backlog = match past_the_end {
            Some((head, position)) => past(position, head),
            None => format!("lag: {positions}, oldest pending: {oldest_seconds:.1} s"),
        };
        if let Some(failure) = failure {
            return CheckResult::unhealthy(format!("{failure}; {backlog}"));
        }
        let owner = self.status.relayed_by().map(|node| format!("standing by: {node} publishes; "));
        let detail = owner.unwrap_or_default() + &backlog;
        if past_the_end.is_some() {
            CheckResult::unhealthy(detail)
        } else if let Some(loss) = self.status.loss().or(missing) {
            CheckResult::degraded(format!("{detail}; {loss}"))
        } else if positions > MAX_LAG_POSITIONS || oldest_seconds > MAX_PENDING_SECONDS {
            CheckResult::degraded(detail)
        } else {
            CheckResult::healthy(detail)
        }
    }

    async fn repair(&self) {
        self.work.restart();
    }
}

/// Checks that the read model follows the log, and has caught up with the log as of the start.
#[derive(Debug)]
pub struct ProjectionCheck {
    /// Its progress.
    pub progress: ProjectionProgress,
    /// The read model itself.
    pub read_model: Arc<dyn ReadModel>,
    /// The log that it follows.
    pub store: Arc<dyn EventStore>,
    /// The end of the log at the first check, plus one; 0: not checked yet.
    pub start_head: AtomicU64,
    /// Its position, and the events of its catch-up, when [`HealthCheck::is_advancing`] was called last.
    pub last_seen: Mutex<Option<(Position, u64)>>,
    /// Its background task.
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

    fn server(&self) -> Option<ServerName> {
        self.store.server()
    }

    async fn check(&self) -> CheckResult {
        if let Some(end) = self.work.end() {
            return CheckResult::unhealthy(format!("the projection {end}"));
        }
        if let Some(failure) = self.progress.failure() {
            return CheckResult::unhealthy(failure);
        }
        if let Err(error) = self.read_model.check().await {
            return CheckResult::unhealthy(error.to_string());
        }
        // Read before the end of the log, since both may grow in the meantime.
        let position = self.progress.position().0;
        let mut head = match self.store.head().await {
            Ok(head) => head.0,
            Err(error) => return CheckResult::unhealthy(error.to_string()),
        };
        if position > head {
            head = match self.store.confirmed_head().await {
                Ok(confirmed) => confirmed.0,
                Err(error) => return CheckResult::unhealthy(error.to_string()),
            };
        }
        let _ = self.start_head.compare_exchange(0, head + 1, Ordering::AcqRel, Ordering::Acquire);
        // A log that has become shorter need not be followed to its former end.
        let at_start = (self.start_head.load(Ordering::Acquire) - 1).min(head);
        if position > head {
            return CheckResult::unhealthy(past(Position(position), Position(head)));
        }
        if position < at_start {
            return CheckResult::unhealthy(match self.progress.catch_up() {
                Some(catch_up) => format!("catching up: {catch_up}"),
                None => format!("catching up: {position} of {at_start}"),
            });
        }
        let finding = lag(self.store.distance(Position(position), Position(head)));
        if let Some(why) = self.progress.unreadable() {
            return CheckResult::degraded(format!(
                "{}; {why}: `ordersystem projections rebuild` builds it again from the log",
                finding.detail
            ));
        }
        match self.progress.loss() {
            Some(loss) => CheckResult::degraded(format!("{}; {loss}", finding.detail)),
            None => finding,
        }
    }

    /// A read model that is built from a long log is not ready for minutes, and needs no repair.
    fn is_advancing(&self) -> bool {
        let seen = (self.progress.position(), self.progress.catch_up().map_or(0, |catch_up| catch_up.events));
        let before = self.last_seen.lock().replace(seen);
        self.work.end().is_none() && self.progress.failure().is_none() && before != Some(seen)
    }

    async fn repair(&self) {
        self.work.restart();
    }
}

/// Checks that the circuit breakers are closed.
#[derive(Debug)]
pub struct BreakerCheck(pub Vec<Arc<CircuitBreaker>>);

#[async_trait]
impl HealthCheck for BreakerCheck {
    fn name(&self) -> &'static str {
        "circuit_breakers"
    }

    /// The guarded backends have their own checks.
    fn required_for_readiness(&self) -> bool {
        false
    }

    async fn check(&self) -> CheckResult {
        // Each is looked at once: its state may change at any time, and the condition must fit the detail.
        let views: Vec<_> = self.0.iter().map(|breaker| (breaker, breaker.view())).collect();
        let one = |(breaker, view): &(&Arc<CircuitBreaker>, BreakerView)| match view.retry_after {
            Some(retry_after) => format!("{}: open ({})", breaker.name(), breaker.failed_until(retry_after)),
            None => format!("{}: {}", breaker.name(), view.state.name()),
        };
        let detail = views.iter().map(one).collect::<Vec<_>>().join(", ");
        match views.iter().all(|(_, view)| view.state == BreakerState::Closed) {
            true => CheckResult::healthy(detail),
            false => CheckResult::degraded(detail),
        }
    }
}

/// Checks that every subscription runs, here or on another node.
#[derive(Debug)]
pub struct SubscriptionCheck {
    /// Their statuses and background tasks.
    pub subscriptions: Vec<(Arc<SubscriptionStatus>, Arc<Supervised>)>,
    /// The bus with their dead letters.
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

    fn server(&self) -> Option<ServerName> {
        self.bus.server()
    }

    async fn check(&self) -> CheckResult {
        let findings =
            futures_util::future::join_all(self.subscriptions.iter().map(|(status, work)| self.one(status, work)))
                .await;
        let condition = findings.iter().map(|finding| finding.condition).max().unwrap_or(Condition::Healthy);
        let details: Vec<_> = findings.into_iter().map(|finding| finding.detail).collect();
        CheckResult { condition, detail: details.join("; ") }
    }

    async fn repair(&self) {
        self.subscriptions.iter().for_each(|(_, work)| work.restart());
    }
}

impl SubscriptionCheck {
    async fn one(&self, status: &SubscriptionStatus, work: &Supervised) -> CheckResult {
        let name = status.handler();
        if let Some(end) = work.end() {
            return CheckResult::unhealthy(format!("{name} {end}"));
        }
        match status.state() {
            SubscriptionState::Starting => CheckResult::healthy(format!("{name} starting")),
            SubscriptionState::Ended => CheckResult::unhealthy(format!("{name} has ended")),
            SubscriptionState::Failing(reason) => CheckResult::unhealthy(format!("{name} {reason}")),
            SubscriptionState::StandingBy(owner) => CheckResult::healthy(format!(
                "{name} standing by: {} handles",
                owner.as_deref().unwrap_or("another node")
            )),
            SubscriptionState::Active => match self.bus.dead_letters(name, COUNTED_DEAD_LETTERS + 1).await {
                Err(error) => CheckResult::degraded(format!("{name} {error}")),
                Ok(letters) => running(name, status.handled(), letters.len()),
            },
        }
    }
}

/// The result for a handler that runs here, with its dead letters.
fn running(name: &str, handled: u64, dead_letters: usize) -> CheckResult {
    let more = if dead_letters > COUNTED_DEAD_LETTERS { "more than " } else { "" };
    let dead = dead_letters.min(COUNTED_DEAD_LETTERS);
    let detail = format!("{name} handled: {handled}, dead letters: {more}{dead}");
    if dead > 0 { CheckResult::degraded(detail) } else { CheckResult::healthy(detail) }
}

/// Checks that the node has its name and its worker number among the nodes of the log.
#[derive(Debug)]
pub struct MembershipCheck {
    /// The status of the membership.
    pub status: Arc<MembershipStatus>,
    /// Whether the node is configured as one of many.
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

    async fn check(&self) -> CheckResult {
        match self.status.get() {
            Ok(identity) => CheckResult::healthy(format!(
                "worker {} of datacenter {}",
                identity.worker_id(),
                identity.datacenter_id()
            )),
            Err(error) => CheckResult::unhealthy(format!("no worker number: {error}")),
        }
    }
}

/// Checks that the node may issue ids.
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

    async fn check(&self) -> CheckResult {
        match self.0.reserve(1) {
            Ok(Reservation::Ids(_) | Reservation::WaitMicros(_)) => CheckResult::healthy("issuing"),
            // Reads and commands on existing orders need no new id: the node can still serve.
            Err(error @ IdError::ClockBehind { .. }) => CheckResult::degraded(error.to_string()),
            Err(error @ IdError::MarkBehind) => CheckResult::unhealthy(match self.0.mark_failure() {
                Some(why) => format!("{error}: {why}"),
                None => error.to_string(),
            }),
            Err(error) => CheckResult::unhealthy(error.to_string()),
        }
    }
}

/// The lag would be shown as 0, which would hide the loss.
fn past(position: Position, head: Position) -> String {
    format!("the checkpoint is at {position}, past the end of the log at {head}")
}

fn lag(positions: u64) -> CheckResult {
    let detail = format!("lag: {positions}");
    if positions > MAX_LAG_POSITIONS { CheckResult::degraded(detail) } else { CheckResult::healthy(detail) }
}

#[cfg(test)]
mod tests;
