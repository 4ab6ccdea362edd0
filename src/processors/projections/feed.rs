//! Feeds a read model from the log at full speed: the next batches are read and decoded while earlier ones are applied.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{
    BATCH_EVENTS, LogWatcher, RETRY_PAUSE,
    catch_up::{CatchUp, Meter},
    row_change,
    stall::Stall,
};
use crate::ports::{
    event_store::{Direction, EventStore, LogId, Position, StoreError, StoredEvent},
    read_model::{LogCheckpoint, ReadModel, ReadModelError, RowChange, ShadowReadModel},
};

/// The number of batches read ahead, and the maximum number applied as one.
const READ_AHEAD: usize = 8;
/// How often an unreachable store is retried, [`RETRY_PAUSE`] apart, before the build is abandoned.
const READ_ATTEMPTS: usize = 60;

/// The target read model.
#[derive(Debug)]
pub(super) enum Sink<'a> {
    Serving(&'a dyn ReadModel),
    Rebuild(&'a dyn ShadowReadModel),
}

/// The source of the events.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) store: Arc<dyn EventStore>,
    pub(super) log: LogId,
    pub(super) watcher: Option<Arc<dyn LogWatcher>>,
}

struct Batch {
    changes: Vec<RowChange>,
    checkpoint: LogCheckpoint,
}

impl Sink<'_> {
    async fn apply(&self, batch: Batch) -> Result<(), ReadModelError> {
        match self {
            Self::Serving(model) => model.apply(batch.changes, batch.checkpoint).await,
            Self::Rebuild(model) => model.apply(batch.changes, batch.checkpoint).await,
        }
    }
}

impl Feed {
    /// Applies the events after `start` up to `target` at least; returns the position reached.
    pub(super) async fn run(
        &mut self,
        start: Position,
        target: Position,
        sink: &Sink<'_>,
        meter: &mut Meter,
        mut tell: impl FnMut(CatchUp),
    ) -> Result<LogCheckpoint, Stall> {
        let (batches, mut ready) = mpsc::channel(READ_AHEAD);
        let reader = Reader { store: Arc::clone(&self.store), log: self.log, watcher: self.watcher.clone(), batches };
        // The reader ends with this future, however it ends.
        let _reading = AbortOnDropHandle::new(tokio::spawn(reader.run(start, target)));
        let mut reached = LogCheckpoint { log: self.log, position: start, event: 0 };
        let mut taken = Vec::with_capacity(READ_AHEAD);
        while ready.recv_many(&mut taken, READ_AHEAD).await > 0 {
            let Some(batch) = merged(taken.drain(..).collect::<Result<Vec<_>, _>>()?) else { continue };
            let (events, checkpoint) = (batch.changes.len(), batch.checkpoint);
            sink.apply(batch).await?;
            reached = checkpoint;
            tell(meter.add_applied(events, checkpoint.position));
        }
        if reached.position < target {
            return Err(format!("the log ends at {}, before {target}", reached.position).into());
        }
        Ok(reached)
    }
}

/// Merges several batches into one, which is cheaper for a read model.
fn merged(batches: Vec<Batch>) -> Option<Batch> {
    batches.into_iter().reduce(|mut first, second| {
        first.changes.extend(second.changes);
        Batch { changes: first.changes, checkpoint: second.checkpoint }
    })
}

struct Reader {
    store: Arc<dyn EventStore>,
    log: LogId,
    watcher: Option<Arc<dyn LogWatcher>>,
    batches: mpsc::Sender<Result<Batch, Stall>>,
}

impl Reader {
    async fn run(self, start: Position, target: Position) {
        let mut position = start;
        while position < target {
            let batch = match self.read(position).await {
                // The log has lost its end in the meantime.
                Ok(events) if events.is_empty() => return,
                Ok(events) => self.batch(&events),
                Err(error) => Err(error.into()),
            };
            let is_last = batch.is_err();
            position = batch.as_ref().map_or(position, |batch| batch.checkpoint.position);
            if self.batches.send(batch).await.is_err() || is_last {
                return;
            }
        }
    }

    async fn read(&self, position: Position) -> Result<Vec<StoredEvent>, StoreError> {
        let mut attempt = 1;
        loop {
            match self.store.read_log(position, Direction::Forward, BATCH_EVENTS).await {
                Ok(events) => return Ok(events),
                Err(StoreError::Unavailable(error)) if attempt < READ_ATTEMPTS => {
                    // The projection reports that it is stalled, once the attempts are used up.
                    tracing::debug!(error, %position, "cannot read the log");
                    attempt += 1;
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn batch(&self, events: &[StoredEvent]) -> Result<Batch, Stall> {
        if let Some(watcher) = &self.watcher {
            watcher.observe(events);
        }
        let changes = events.iter().map(row_change).collect::<Result<_, _>>()?;
        let last = events.last().ok_or("a batch without events")?;
        Ok(Batch { changes, checkpoint: LogCheckpoint::after(self.log, last) })
    }
}
