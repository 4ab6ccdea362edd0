//! The backlog of the outbox, measured independently of the relay, so that it stays correct while the relay is stalled.

use std::{sync::Arc, time::Duration};

use metrics::Gauge;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{NAME, OutboxStatus, text};
use crate::{
    codec::EventHeader,
    domain::timestamp::Timestamp,
    ports::{
        checkpoint_store::CheckpointStore,
        clock::Clock,
        event_store::{Direction, EventStore, Position},
        server_name::ServerName,
    },
};

/// How often the gauges are updated.
const MEASURE_INTERVAL: Duration = Duration::from_secs(1);
/// The timeout of one measurement; after it the age is derived from the previous measurement.
const MEASURE_TIMEOUT: Duration = Duration::from_secs(2);

/// The events in the log that the bus has not accepted yet.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Backlog {
    /// The number of positions from the last published one to the end of the log.
    pub positions: u64,
    /// The age of the oldest of these events, by the clock of this node; 0 without such events.
    pub oldest_seconds: f64,
    /// The end of the log and the published position after it, if the log ends before the published position: it has lost events.
    pub past_the_end: Option<(Position, Position)>,
}

/// Measures the [`Backlog`] of the log, whichever node relays it. The relaying node uses its own progress; every other node uses the relay's
/// checkpoint, so all nodes of one log show the same backlog, also when the relay is gone.
#[derive(Debug)]
pub struct OutboxMeter {
    status: Arc<OutboxStatus>,
    store: Arc<dyn EventStore>,
    checkpoints: Arc<dyn CheckpointStore>,
    clock: Arc<dyn Clock>,
    /// The time of the oldest event that was pending at the last measurement.
    oldest_at: Mutex<Option<Timestamp>>,
    lag: Gauge,
    oldest: Gauge,
}

impl OutboxMeter {
    pub(super) fn new(
        status: Arc<OutboxStatus>,
        store: Arc<dyn EventStore>,
        checkpoints: Arc<dyn CheckpointStore>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            status,
            store,
            checkpoints,
            clock,
            oldest_at: Mutex::default(),
            lag: metrics::gauge!("ordersystem_outbox_lag_positions"),
            oldest: metrics::gauge!("ordersystem_outbox_oldest_pending_seconds"),
        }
    }

    /// Updates the gauges until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let measure = async {
            loop {
                match tokio::time::timeout(MEASURE_TIMEOUT, self.measure()).await {
                    Ok(Ok(backlog)) => self.show(backlog),
                    // As far as this node knows, the same events are pending, and growing older.
                    Ok(Err(_)) | Err(_) => self.oldest.set(self.age()),
                }
                tokio::time::sleep(MEASURE_INTERVAL).await;
            }
        };
        stop.run_until_cancelled(measure).await;
    }

    /// The server of the log, for messages.
    #[must_use]
    pub fn server(&self) -> Option<ServerName> {
        self.store.server()
    }

    /// The current backlog.
    ///
    /// # Errors
    /// A description, if the log or the checkpoint cannot be read.
    pub async fn measure(&self) -> Result<Backlog, String> {
        let position = match self.status.published_to() {
            Some(position) => position,
            None => self.checkpoint().await?,
        };
        let head = self.store.head().await.map_err(text)?;
        let oldest_at = if head > position { self.recorded_after(position).await? } else { None };
        *self.oldest_at.lock() = oldest_at;
        let mut past_the_end = None;
        if position > head {
            // The first read may have been behind.
            let head = self.store.confirmed_head().await.map_err(text)?;
            past_the_end = (position > head).then_some((head, position));
        }
        let positions = self.store.distance(position, head);
        Ok(Backlog { positions, oldest_seconds: self.age(), past_the_end })
    }

    /// The entries that are missing from the log, also published ones: if the bus loses them too, they cannot be published again.
    ///
    /// # Errors
    /// A description, if the log cannot be read.
    pub async fn missing_entries(&self) -> Result<Option<String>, String> {
        self.store.missing_entries().await.map_err(text)
    }

    async fn checkpoint(&self) -> Result<Position, String> {
        let checkpoint = self.checkpoints.load(NAME).await.map_err(text)?;
        Ok(checkpoint.map_or(Position(0), |checkpoint| checkpoint.position))
    }

    async fn recorded_after(&self, position: Position) -> Result<Option<Timestamp>, String> {
        let next = self.store.read_log(position, Direction::Forward, 1).await.map_err(text)?;
        let Some(next) = next.first() else { return Ok(None) };
        EventHeader::read(&next.payload).and_then(|header| header.at()).map(Some).map_err(text)
    }

    fn age(&self) -> f64 {
        let oldest_at = *self.oldest_at.lock();
        let age_micros = |at: Timestamp| self.clock.now_micros().saturating_sub(at.as_micros()).max(0);
        #[allow(clippy::cast_precision_loss, reason = "an age in seconds; microseconds are more than enough")]
        oldest_at.map_or(0.0, |at| age_micros(at) as f64 / 1e6)
    }

    fn show(&self, backlog: Backlog) {
        #[allow(clippy::cast_precision_loss, reason = "a gauge; far below 2^52")]
        self.lag.set(backlog.positions as f64);
        self.oldest.set(backlog.oldest_seconds);
    }
}
