//! The outbox: publishes the log from its checkpoint. The log itself is the outbox; there is no second table.
//!
//! At least once, in order: the checkpoint moves only past events that would survive this process, so a crash at any moment publishes a part of the
//! log again and never skips events. On a bus that outlives the process these are the accepted events; on one that does not
//! ([`MessageBus::oldest_unpersisted`]), the handlers must have acknowledged them, too. One relay at a time holds the lease; its fencing token
//! prevents a relay that has lost the lease from moving the checkpoint.

use std::{borrow::Cow, fmt, pin::pin, sync::Arc, time::Duration};

use metrics::Counter;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    codec::{self, EventHeader},
    ports::{
        backoff::Backoff,
        checkpoint_store::{Checkpoint, CheckpointStore},
        clock::Clock,
        event_store::{Durability, EventStore, LogFollower, LogPoint, Position, StoreError, StoredEvent},
        lease_store::{Lease, LeaseStore},
        message_bus::{Message, MessageBus, VolatileMessages},
    },
    processors::{
        leader::{Ended, Leadership, STANDBY_POLL_INTERVAL, run_as_leader},
        owners::Owners,
    },
    telemetry::{
        outage::{Away, Line, Outage},
        traces::{self, KeyValue, SpanKind, SpanScope, Traces},
    },
};

mod meter;
mod start;
mod status;
mod trail;

pub use meter::{Backlog, OutboxMeter};
pub use status::OutboxStatus;
use trail::Trail;

/// The name of the lease and of the checkpoint.
pub const NAME: &str = "outbox";
/// The pauses between attempts after failures.
const RETRIES: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
/// The poll interval for acknowledgements of published events by handlers.
const ACK_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long a stopping relay waits for acknowledgements: events not handled by then are published again after the next start.
const FINAL_ACK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a stopping relay keeps retrying after failures. An unreachable backend cannot be flushed to, and the log keeps everything.
const FINAL_RETRY_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the handlers, which subscribe at the start, may take before it is reported.
const MAX_SUBSCRIBING: Duration = Duration::from_secs(5);

/// The options of the outbox.
#[derive(Clone, Copy, Debug)]
pub struct OutboxOptions {
    /// The maximum number of events published at once.
    pub batch_size: usize,
    /// The interval at which the relay reads the log without being woken.
    pub scan_interval: Duration,
}

/// The dependencies of the relay.
#[derive(Clone, Debug)]
pub struct OutboxDeps {
    /// The log.
    pub store: Arc<dyn EventStore>,
    /// The target of the events.
    pub bus: Arc<dyn MessageBus>,
    /// The consumers on the bus that must receive every event: the handlers of this node.
    pub consumers: Vec<String>,
    /// The store of the relay's checkpoint.
    pub checkpoints: Arc<dyn CheckpointStore>,
    /// The leases for the relay.
    pub leases: Arc<dyn LeaseStore>,
    /// The name of this node, for the lease.
    pub node: String,
    /// Records who relays.
    pub owners: Arc<Owners>,
}

/// The relay from the log to the bus.
#[derive(Debug)]
pub struct OutboxRelay {
    parts: OutboxDeps,
    options: OutboxOptions,
    status: Arc<OutboxStatus>,
    published: Counter,
    outage: Outage,
    /// Whether a dependency is known to be unreachable.
    away: Away,
    losses: Counter,
    trail: Mutex<Trail>,
    traces: Traces,
}

/// Why the relay paused.
enum RelayOutcome {
    /// Another node has the lease; its name, if known.
    NotOwner(Option<String>),
    /// Something failed.
    Failed(String),
    /// A stop was requested, and everything is published.
    Flushed,
    /// The log has lost published events: under another lease the checkpoint may go back.
    LogReplaced,
}

/// The progress of the lease owner.
struct Progress {
    fencing_token: u64,
    /// The last position accepted by the bus.
    published_to: Position,
    /// The checkpoint.
    saved: LogPoint,
}

impl OutboxRelay {
    /// A relay that has not started yet.
    #[must_use]
    pub fn new(parts: OutboxDeps, options: OutboxOptions) -> Self {
        let published = metrics::counter!("ordersystem_outbox_published_total");
        let losses = metrics::counter!("ordersystem_log_losses_total", "reader" => "outbox");
        let away = away(&parts);
        let outage = Outage::while_not(known_outage(&parts)).whatever_the_cause();
        Self {
            parts,
            options,
            status: Arc::default(),
            published,
            losses,
            trail: Mutex::default(),
            outage,
            away,
            traces: Traces::off(),
        }
    }

    /// Makes the spans of publishing.
    #[must_use]
    pub fn traced(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    /// The status of the relay.
    #[must_use]
    pub fn status(&self) -> Arc<OutboxStatus> {
        Arc::clone(&self.status)
    }

    /// A meter of the backlog, by `clock`.
    #[must_use]
    pub fn meter(&self, clock: Arc<dyn Clock>) -> Arc<OutboxMeter> {
        let OutboxDeps { store, checkpoints, .. } = &self.parts;
        Arc::new(OutboxMeter::new(self.status(), Arc::clone(store), Arc::clone(checkpoints), clock))
    }

    /// Like [`OutboxRelay::run`], but ends at once when `give_up` is cancelled: pending requests will not be answered.
    pub async fn run_until(&self, flush: CancellationToken, give_up: CancellationToken) {
        if give_up.run_until_cancelled(self.run(flush)).await.is_none() {
            self.log_unflushed(&self.away.why().unwrap_or_else(|| "no answer in time".to_owned()));
        }
    }

    /// Relays until `flush` is cancelled and the log has been published to its end, or cannot be because the log or the bus is unreachable: the next
    /// start publishes the rest. Drop the future to end it earlier.
    pub async fn run(&self, flush: CancellationToken) {
        let mut failures = 0_u32;
        let mut give_up_at = None;
        loop {
            match self.relay_while_leader(&flush).await {
                RelayOutcome::Flushed => return,
                RelayOutcome::LogReplaced => {
                    failures = 0;
                    sleep(RETRIES.after(failures)).await;
                }
                RelayOutcome::NotOwner(owner) => {
                    failures = 0;
                    self.status.stands_by(owner);
                    if flush.run_until_cancelled(sleep(STANDBY_POLL_INTERVAL)).await.is_none() {
                        return;
                    }
                }
                RelayOutcome::Failed(failure) => {
                    if flush.is_cancelled()
                        && (self.away.why().is_some()
                            || Instant::now() >= *give_up_at.get_or_insert(Instant::now() + FINAL_RETRY_TIMEOUT))
                    {
                        self.log_unflushed(&failure);
                        return;
                    }
                    if let Some(Line { unsaid }) = self.outage.failed(&failure) {
                        tracing::warn!(failure, unsaid, "the outbox is stalled");
                    }
                    self.status.failed(failure);
                    failures = failures.saturating_add(1);
                    let _ = flush.run_until_cancelled(sleep(RETRIES.after(failures))).await;
                    if flush.is_cancelled() {
                        sleep(RETRIES.after(0)).await;
                    }
                }
            }
        }
    }

    /// Logs the end of a relay that has not flushed.
    fn log_unflushed(&self, failure: &str) {
        let published_to = self.status.published_to().map(|position| position.to_string());
        let store = &self.parts.store;
        let rest = match store.durability() {
            // With an in-memory log, unpublished events are lost, too.
            Durability::None => "unpublished events are lost with the log, which is kept in memory",
            // Nothing was ever written to the log.
            Durability::Unknown => "its log was never reached, so this node has accepted nothing",
            _ if store.unreachable().is_some() => {
                "unpublished events will be published by the next node that reaches the log"
            }
            _ => "unpublished events are in the log and will be published after the next start",
        };
        tracing::warn!(failure, published_to, "cannot flush the outbox: {rest}");
    }

    async fn relay_while_leader(&self, flush: &CancellationToken) -> RelayOutcome {
        let work = async |lease: &Lease, lost: CancellationToken| {
            // Also cancelled while the bus blocks a publish.
            let relayed = lost.run_until_cancelled(self.relay(lease, flush)).await;
            let outcome = relayed.unwrap_or_else(|| Err("the lease is lost".to_owned()));
            // A relay that has detected a loss acquires the lease again, since another leader may not detect it.
            let releases = !lost.is_cancelled() && matches!(self.lost_from(Position(0)).await, Ok(None));
            Ended { outcome, releases }
        };
        let OutboxDeps { leases, node, owners, .. } = &self.parts;
        match run_as_leader(&**leases, NAME, node, owners, work).await {
            Leadership::Standby(leader) => RelayOutcome::NotOwner(leader),
            Leadership::Failed(why) | Leadership::Lost(why) => RelayOutcome::Failed(why),
            Leadership::Ended(relayed) => relayed.unwrap_or_else(RelayOutcome::Failed),
        }
    }

    async fn relay(&self, lease: &Lease, flush: &CancellationToken) -> Result<RelayOutcome, String> {
        self.until_subscribed().await?;
        let start = self.start(lease.fencing_token).await?;
        let start = self.before_loss(lease, start).await?;
        let mut progress = Progress { fencing_token: lease.fencing_token, published_to: start.position, saved: start };
        let mut follower = LogFollower::new(Arc::clone(&self.parts.store), start);
        self.status.published(start.position);
        let mut end_at = None;
        loop {
            self.check_bus(&progress).await?;
            let batch = match follower.poll_batch(self.options.batch_size).await {
                Err(StoreError::LogReplaced(what)) => {
                    self.lost(&what);
                    return Ok(RelayOutcome::LogReplaced);
                }
                batch => batch.map_err(text)?,
            };
            if !batch.is_empty() {
                self.publish(&batch, &mut progress).await?;
                continue;
            }
            self.save(&mut progress).await?;
            self.works();
            let waits_for_acks = progress.saved.position < progress.published_to;
            if !flush.is_cancelled() {
                self.idle(&mut follower, flush, waits_for_acks).await;
            } else if waits_for_acks && Instant::now() < *end_at.get_or_insert(Instant::now() + FINAL_ACK_TIMEOUT) {
                sleep(ACK_POLL_INTERVAL / 5).await;
            } else {
                return Ok(RelayOutcome::Flushed);
            }
        }
    }

    fn works(&self) {
        self.status.works();
        if let Some(lasted) = self.outage.works() {
            tracing::info!(lasted_ms = lasted.as_millis() as u64, "the outbox is publishing again");
        }
    }

    async fn lost_from(&self, published_to: Position) -> Result<Option<u64>, String> {
        let log = self.parts.store.log_id().map_or(0, |log| log.0);
        self.parts.bus.lost_from(&self.parts.consumers, log, published_to.0).await.map_err(text)
    }

    /// Checks that the bus still has the accepted events.
    async fn check_bus(&self, progress: &Progress) -> Result<(), String> {
        match self.lost_from(progress.published_to).await? {
            None => Ok(()),
            Some(_) => Err("the message bus has lost events, which are published again".to_owned()),
        }
    }

    fn lost(&self, what: &str) {
        if self.status.lost(format!("the log has lost events: {what}")) {
            tracing::error!(what, "the log has lost events that this node or an earlier leader had published");
            self.losses.increment(1);
        }
    }

    fn trail(&self) -> MutexGuard<'_, Trail> {
        self.trail.lock()
    }

    /// Waits until the bus retains published events for every handler.
    async fn until_subscribed(&self) -> Result<(), String> {
        let give_up_at = Instant::now() + MAX_SUBSCRIBING;
        while self.parts.bus.oldest_unpersisted(&self.parts.consumers) == VolatileMessages::NoConsumer {
            if Instant::now() >= give_up_at {
                return Err("not every handler has subscribed to the message bus".to_owned());
            }
            sleep(ACK_POLL_INTERVAL / 5).await;
        }
        Ok(())
    }

    async fn idle(&self, follower: &mut LogFollower, flush: &CancellationToken, waits_for_acks: bool) {
        let scan = self.options.scan_interval;
        tokio::select! {
            () = follower.wait() => {}
            () = flush.cancelled() => {}
            () = sleep(if waits_for_acks { scan.min(ACK_POLL_INTERVAL) } else { scan }) => {}
        }
    }

    /// The span of publishing `messages`, linked to the commands that caused them.
    fn span(&self, messages: &[Message]) -> Option<SpanScope> {
        if !self.traces.is_on() {
            return None;
        }
        let causes = messages.iter().filter_map(|message| codec::sampled_cause(&message.payload));
        let span = self.traces.linked(SpanKind::Producer, "publish", causes)?;
        let count = i64::try_from(messages.len()).unwrap_or(i64::MAX);
        span.describe(
            "publish",
            [
                KeyValue::new("messaging.system", self.parts.bus.kind()),
                KeyValue::new("messaging.operation.type", "send"),
                KeyValue::new("messaging.operation.name", "publish"),
                KeyValue::new("messaging.batch.message_count", count),
            ],
        );
        Some(span)
    }

    async fn publish(&self, batch: &[StoredEvent], progress: &mut Progress) -> Result<(), String> {
        let messages = batch.iter().map(message).collect::<Result<Vec<_>, _>>()?;
        let publishing = traces::within(self.span(&messages), self.parts.bus.publish(&messages), |span, published| {
            if published.is_err() {
                span.fail("publish_failed");
            }
        });
        let mut publishing = pin!(publishing);
        loop {
            tokio::select! {
                published = &mut publishing => break published.map_err(text)?,
                // A full bus waits for slow handlers: their progress counts in the meantime.
                () = sleep(ACK_POLL_INTERVAL) => self.save(progress).await?,
            }
        }
        if let Some(last) = batch.last() {
            progress.published_to = last.position;
            self.trail().push(LogPoint::after(last));
        }
        self.published.increment(messages.len() as u64);
        self.save(progress).await?;
        self.status.published(progress.published_to);
        self.works();
        Ok(())
    }

    /// Moves the checkpoint past events that would survive this process.
    async fn save(&self, progress: &mut Progress) -> Result<(), String> {
        let position = match self.parts.bus.oldest_unpersisted(&self.parts.consumers) {
            VolatileMessages::Nothing => progress.published_to,
            VolatileMessages::From(first) => progress.published_to.min(Position(first.saturating_sub(1))),
            VolatileMessages::NoConsumer => return Ok(()),
        };
        if position > progress.saved.position {
            // The checkpoint may be stored on the same server as the bus: a replacement server does not know which messages it lacks.
            self.check_bus(progress).await?;
            let point = self.trail().at(position);
            let checkpoint = Checkpoint::at(point, progress.fencing_token);
            self.parts.checkpoints.save(NAME, checkpoint).await.map_err(text)?;
            progress.saved = point;
        }
        Ok(())
    }
}

/// Whether the log or the bus is known to be unreachable.
fn away(parts: &OutboxDeps) -> Away {
    let (store, bus) = (Arc::clone(&parts.store), Arc::clone(&parts.bus));
    Away::new(move || store.unreachable().or_else(|| bus.unreachable()))
}

/// Whether the log or the bus is known to fail.
fn known_outage(parts: &OutboxDeps) -> Away {
    let (store, bus) = (Arc::clone(&parts.store), Arc::clone(&parts.bus));
    Away::new(move || store.known_outage().or_else(|| bus.known_outage()))
}

/// A stored event as a message: the same bytes.
fn message(stored: &StoredEvent) -> Result<Message, String> {
    let kind = EventHeader::read(&stored.payload).and_then(|header| header.kind()).map_err(text)?;
    Ok(Message {
        key: stored.stream.0,
        sequence: stored.revision,
        position: stored.position.0,
        kind: Cow::Borrowed(kind.name()),
        payload: stored.payload.clone(),
    })
}

fn text(error: impl fmt::Display) -> String {
    error.to_string()
}
