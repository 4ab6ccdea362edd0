//! The life cycle of a node: serve, drain, flush, stop.

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::Shared};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::Membership,
    node::{durability::NotDurable, monitor::Monitor},
    ports::{event_store::StoreError, message_bus::MessageBus, server_name::named},
    server::ApiState,
};

/// How long the node keeps refusing requests after it has announced its shutdown: long enough to notify a client or a probe on an open connection.
const DRAIN_NOTICE: Duration = Duration::from_millis(500);

/// How long clients may take to read the ends of their calls; at most half of the remaining grace period.
const MAX_CLOSING: Duration = Duration::from_secs(5);

/// How long a broker may take to respond during shutdown, once no request is in flight. A broker that does not respond counts as unreachable: nothing
/// can be flushed to it, and leases on it are left to expire.
const ANSWERS_WITHIN: Duration = Duration::from_millis(400);
/// For how long the store must not have answered before the requests in flight are abandoned.
const SILENT_FOR: Duration = Duration::from_secs(1);
/// The pause between two checks of the store while requests are in flight.
const CHECK_PAUSE: Duration = Duration::from_millis(200);
/// How long background work on an absent broker may take to end by itself.
const LAST_STEPS: Duration = Duration::from_millis(200);

/// The timeout for releasing the cluster membership.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// The stages of a shutdown, cancelled in this order.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// New work is refused, streams end.
    pub draining: CancellationToken,
    /// Requests in flight end without a result: the store does not answer.
    pub abandoned: CancellationToken,
    /// No more connections; open calls finish.
    pub closing: CancellationToken,
    /// The outbox publishes the rest and ends.
    pub flushing: CancellationToken,
    /// The outbox ends without flushing: its log or its bus is unreachable.
    pub given_up: CancellationToken,
    /// Everything else ends.
    pub ended: CancellationToken,
    /// The last spans are sent.
    pub exported: CancellationToken,
}

/// The concurrent tasks of a node.
#[derive(Debug, Default)]
pub struct Work {
    servers: JoinSet<()>,
    relay: JoinSet<()>,
    followers: JoinSet<()>,
    exporter: JoinSet<()>,
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
    pub fn spawn_background(&mut self, follower: impl Future<Output = ()> + Send + 'static) {
        self.followers.spawn(follower);
    }

    /// Runs the exporter of spans, which ends in bounded time when everything else has ended.
    pub fn export(&mut self, exporter: impl Future<Output = ()> + Send + 'static) {
        self.exporter.spawn(exporter);
    }
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    /// The shared state of the protocol servers.
    pub api: ApiState,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the grace period ended before {0} had finished")]
pub struct GraceExceeded(
    /// The unfinished task.
    pub &'static str,
);

/// Why a node ended abnormally.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// A stop was requested and was not completed in time.
    #[error("{0}")]
    GraceExceeded(GraceExceeded),
    /// It has reached its store for the first time, and the store does not meet the requirement.
    #[error("{0}")]
    NotDurable(NotDurable),
}

impl Node {
    /// Runs until `shutdown` is cancelled, and then shuts down gracefully.
    ///
    /// # Errors
    /// [`RunError`] if the shutdown exceeded the grace period, or the node has ended by itself; all tasks have ended then.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), RunError> {
        let unfit = tokio::select! {
            () = shutdown.cancelled() => None,
            not_durable = self.monitor.watch() => Some(not_durable),
        };
        let deadline = tokio::time::Instant::now() + self.grace;
        tracing::info!("shutting down: refusing new work, finishing work in flight");
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
            self.release().await;
        }
        self.stop.exported.cancel();
        while self.work.exporter.join_next().await.is_some() {}
        match (unfit, in_time) {
            (Some(not_durable), _) => Err(RunError::NotDurable(not_durable)),
            (None, in_time) => in_time.map_err(|_| RunError::GraceExceeded(GraceExceeded(stage))),
        }
    }

    /// Closes the id generator, and releases the cluster membership.
    async fn release(&self) {
        // Stores the mark, which blocks.
        let ids = Arc::clone(&self.api.ids);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || ids.close()).await {
            tracing::warn!(%error, "cannot close the id generator");
        }
        if let Some(membership) = &self.membership {
            // Only after the last id was issued. If it times out the leases expire.
            let _ = tokio::time::timeout(LEAVE_TIMEOUT, membership.leave()).await;
        }
    }

    /// Drains, and determines which backends are unreachable.
    async fn drained(&self, is_heard: bool) -> Absent {
        let (store, bus) = (&self.api.store, &self.bus);
        let draining = self.drain_for(is_heard).shared();
        let is_store_away = answers(&draining, async { store.check().await.is_ok() || store.unreachable().is_none() });
        let is_bus_away = answers(&draining, async { bus.check().await.is_ok() || bus.unreachable().is_none() });
        let (store, bus, ()) = tokio::join!(is_store_away, is_bus_away, draining.clone());
        Absent { store: !store || self.stop.abandoned.is_cancelled(), bus: !bus }
    }

    /// Waits until no request is in flight and, if `is_heard`, until clients could notice the shutdown: a node that was not ready is already out of
    /// service. Requests in flight are abandoned if the store does not answer: most of them would only end at their time limits.
    async fn drain_for(&self, is_heard: bool) {
        let drained = async {
            if is_heard {
                tokio::time::sleep(DRAIN_NOTICE).await;
            }
            while self.api.mediator.unanswered() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::pin!(drained);
        tokio::select! {
            biased;
            () = &mut drained => return,
            why = self.until_store_is_silent() => self.abandon(&why),
        }
        drained.await;
    }

    /// Ends the requests in flight.
    fn abandon(&self, why: &str) {
        let requests = self.api.mediator.unanswered();
        if requests > 0 {
            tracing::warn!(why, requests, "the event store does not answer: ending the requests in flight");
        }
        self.stop.abandoned.cancel();
    }

    /// Waits until the store has answered no check for [`SILENT_FOR`]; returns the last failure.
    async fn until_store_is_silent(&self) -> String {
        let store = &self.api.store;
        let mut why = named(store.server().as_ref(), "no answer in time".to_owned());
        let mut silent_at = tokio::time::Instant::now() + SILENT_FOR;
        while tokio::time::Instant::now() < silent_at {
            match tokio::time::timeout_at(silent_at, store.check()).await {
                Err(_) => break,
                Ok(Err(StoreError::Unavailable(failure))) => why = failure,
                Ok(_) => silent_at = tokio::time::Instant::now() + SILENT_FOR,
            }
            tokio::time::sleep(CHECK_PAUSE).await;
        }
        why
    }
}

/// The backends that are unreachable when the node ends.
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

/// Waits for the end of background work; tasks that wait for an unreachable broker are dropped, as in a crash.
async fn end_followers(followers: &mut JoinSet<()>, away: Absent) {
    let ended = async { while followers.join_next().await.is_some() {} };
    if !away.is_any() {
        return ended.await;
    }
    if tokio::time::timeout(LAST_STEPS, ended).await.is_err() {
        tracing::debug!("aborting background work that waits for a broker");
        followers.shutdown().await;
    }
}

/// Lets clients read the ends of their calls, then closes open connections: no command or query is still in flight, and a client that does not
/// read must not use up the outbox's share of the grace period.
async fn close_connections(servers: &mut JoinSet<()>, deadline: tokio::time::Instant) {
    let left = deadline.saturating_duration_since(tokio::time::Instant::now());
    let closed = async { while servers.join_next().await.is_some() {} };
    if tokio::time::timeout(MAX_CLOSING.min(left / 2), closed).await.is_err() {
        tracing::warn!("closing connections whose clients did not end their calls");
        servers.shutdown().await;
    }
}
