//! The outbox: publishes what the log holds, from its checkpoint. The log itself is the outbox; there is no second table.
//!
//! At least once, in order: the checkpoint moves only after the bus has accepted, so a crash between the two publishes a batch
//! again. One relay at a time holds the lease; its fencing token keeps a relay that has lost it from moving the checkpoint.

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use metrics::{Counter, Gauge};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    checkpoint_store::{Checkpoint, CheckpointStore},
    codec::EventHeader,
    event_store::{EventStore, LogFollower, Position, StoredEvent},
    lease::{Lease, LeaseStore},
    message_bus::{Message, MessageBus},
};

/// The name of the lease and of the checkpoint.
const NAME: &str = "outbox";
/// How long the relay owns the lease without renewing it.
const LEASE_TTL: Duration = Duration::from_secs(10);
/// How often it renews.
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// The longest pause between attempts after failures.
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(5);

/// How the outbox works.
#[derive(Clone, Copy, Debug)]
pub struct OutboxOptions {
    /// The most events published at once.
    pub batch_size: usize,
    /// How often to look even if nothing has woken the relay.
    pub scan_interval: Duration,
}

/// What the relay reads from and writes to.
#[derive(Clone, Debug)]
pub struct OutboxParts {
    /// The log.
    pub store: Arc<dyn EventStore>,
    /// Where events go.
    pub bus: Arc<dyn MessageBus>,
    /// Where the relay remembers how far it is.
    pub checkpoints: Arc<dyn CheckpointStore>,
    /// Who may relay.
    pub leases: Arc<dyn LeaseStore>,
    /// The name of this node, for the lease.
    pub node: String,
}

/// How the outbox does. Shared with health and shutdown.
#[derive(Debug, Default)]
pub struct OutboxStatus {
    published_to: AtomicU64,
    failure: Mutex<Option<String>>,
}

impl OutboxStatus {
    /// The position up to which the bus has accepted everything, as far as this node knows.
    #[must_use]
    pub fn position(&self) -> Position {
        Position(self.published_to.load(Ordering::Acquire))
    }

    /// Why the relay stands still, if it does.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_failure(&self, failure: Option<String>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }
}

/// The relay from the log to the bus.
#[derive(Debug)]
pub struct OutboxRelay {
    parts: OutboxParts,
    options: OutboxOptions,
    status: Arc<OutboxStatus>,
    published: Counter,
    lag: Gauge,
}

/// Why the relay paused.
enum Pause {
    /// Another node has the lease.
    NotOwner,
    /// Something failed.
    Failed(String),
    /// Asked to stop, and everything is published.
    Flushed,
}

impl OutboxRelay {
    /// A relay that has not started yet.
    #[must_use]
    pub fn new(parts: OutboxParts, options: OutboxOptions) -> Self {
        Self {
            parts,
            options,
            status: Arc::default(),
            published: metrics::counter!("ordersystem_outbox_published_total"),
            lag: metrics::gauge!("ordersystem_outbox_lag_positions"),
        }
    }

    /// Where to see how it does.
    #[must_use]
    pub fn status(&self) -> Arc<OutboxStatus> {
        Arc::clone(&self.status)
    }

    /// Relays until `flush` is cancelled and the log has been published to its end. Drop the future to end it earlier.
    pub async fn run(&self, flush: CancellationToken) {
        let mut failures = 0_u32;
        loop {
            let pause = match self.own_and_relay(&flush).await {
                Pause::Flushed => return,
                Pause::NotOwner if flush.is_cancelled() => return,
                Pause::NotOwner => {
                    failures = 0;
                    self.options.scan_interval
                }
                Pause::Failed(failure) => {
                    tracing::warn!(%failure, "the outbox stands still");
                    self.status.set_failure(Some(failure));
                    failures = failures.saturating_add(1);
                    retry_pause(failures)
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn own_and_relay(&self, flush: &CancellationToken) -> Pause {
        let lease = match self.parts.leases.acquire(NAME, &self.parts.node, LEASE_TTL).await {
            Ok(Some(lease)) => lease,
            Ok(None) => return Pause::NotOwner,
            Err(error) => return Pause::Failed(error.to_string()),
        };
        let mut owned = lease.clone();
        let pause = self.relay(&mut owned, flush).await.unwrap_or_else(Pause::Failed);
        // Whoever comes next need not wait for the lease to expire. If that fails, it will expire.
        let _ = self.parts.leases.release(&owned).await;
        pause
    }

    async fn relay(&self, lease: &mut Lease, flush: &CancellationToken) -> Result<Pause, String> {
        let start = self.parts.checkpoints.load(NAME).await.map_err(text)?;
        let start = start.map_or(Position(0), |checkpoint| checkpoint.position);
        let mut follower = LogFollower::new(Arc::clone(&self.parts.store), start);
        self.status.published_to.store(start.0, Ordering::Release);
        let mut renew_at = Instant::now() + RENEW_EVERY;
        loop {
            if Instant::now() >= renew_at {
                *lease = self.parts.leases.renew(lease, LEASE_TTL).await.map_err(text)?;
                renew_at = Instant::now() + RENEW_EVERY;
            }
            let batch = follower.poll_batch(self.options.batch_size).await.map_err(text)?;
            if batch.is_empty() {
                self.status.set_failure(None);
                self.lag.set(0.0);
                if flush.is_cancelled() {
                    return Ok(Pause::Flushed);
                }
                self.idle(&mut follower, flush).await;
                continue;
            }
            self.publish(&batch, lease).await?;
        }
    }

    async fn idle(&self, follower: &mut LogFollower, flush: &CancellationToken) {
        tokio::select! {
            () = follower.wait() => {}
            () = flush.cancelled() => {}
            // Also the beat by which the lease is renewed.
            () = tokio::time::sleep(self.options.scan_interval.min(RENEW_EVERY)) => {}
        }
    }

    async fn publish(&self, batch: &[StoredEvent], lease: &Lease) -> Result<(), String> {
        let messages = batch.iter().map(message).collect::<Result<Vec<_>, _>>()?;
        self.parts.bus.publish(&messages).await.map_err(text)?;
        let position = batch.last().map_or(Position(0), |last| last.position);
        let checkpoint = Checkpoint { position, fencing_token: lease.fencing_token };
        self.parts.checkpoints.save(NAME, checkpoint).await.map_err(text)?;
        self.status.published_to.store(position.0, Ordering::Release);
        self.status.set_failure(None);
        self.published.increment(messages.len() as u64);
        #[allow(clippy::cast_precision_loss, reason = "a gauge; far below 2^52")]
        self.lag.set(self.parts.store.wake().borrow().0.saturating_sub(position.0) as f64);
        Ok(())
    }
}

/// A stored event as the bus carries it: the same bytes.
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

fn retry_pause(failures: u32) -> Duration {
    let longest = (Duration::from_millis(50) * 2_u32.pow(failures.min(10))).min(MAX_RETRY_PAUSE);
    longest.mul_f64(0.5 + 0.5 * fastrand::f64())
}

fn text(error: impl fmt::Display) -> String {
    error.to_string()
}
