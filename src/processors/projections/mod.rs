//! Read models fed from the log: the list of orders and their totals.
//!
//! Projections are off the reply path: a command is acknowledged before its row exists. Callers that need read-your-writes wait for the commit's
//! position.
//!
//! A read model that is new, or whose rows come from another log, is built as a shadow copy and promoted when it has caught up; any other resumes
//! from its checkpoint. An operator may request a rebuild at any time, see [`Rebuilds`].

mod catch_up;
mod feed;
mod losses;
mod order_rows;
mod progress;
mod rebuild;
mod stall;
mod write_timer;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use metrics::{Counter, Gauge};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

pub use catch_up::CatchUp;
pub use order_rows::row_change;
pub use progress::{ProjectionEnded, ProjectionProgress};
pub use rebuild::{Phase, RebuildState, Rebuilds};

use self::{
    catch_up::Meter,
    feed::{Feed, Sink},
    stall::{Stall, Stalls},
    write_timer::{Unwritten, Waiters, WriteTimer},
};
use crate::{
    ports::{
        event_store::{Direction, EventStore, LogFollower, LogId, LogPoint, Position, StoreError, StoredEvent},
        read_model::{LogCheckpoint, ReadModel},
    },
    telemetry::outage::{Away, Outage},
};

/// The number of events read from the log at a time.
const BATCH_EVENTS: usize = 4_096;
/// A read model that is this many events behind reads ahead and reports its progress.
const CATCH_UP_EVENTS: u64 = 20_000;
/// The pause before a retry after a failure.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// An observer of every event of the log as it is projected.
pub trait LogWatcher: fmt::Debug + Send + Sync + 'static {
    /// Observes these events of the log. Called in order; it must return quickly.
    fn observe(&self, events: &[StoredEvent]);

    /// The log has lost observed events: all state derived from them is invalid. The log is observed again from its beginning.
    fn lost(&self);
}

/// Feeds the read model of orders from the log.
#[derive(Debug)]
pub struct OrderProjection {
    watcher: Option<Arc<dyn LogWatcher>>,
    parts: ProjectionCore,
    position_gauge: Gauge,
    losses: Counter,
    /// A loss has been reported, and the rows that come from the lost events have not been dropped yet.
    is_reported: AtomicBool,
    rebuilds: Rebuilds,
    stalls: Stalls,
}

/// The state shared by the projection and a rebuild.
#[derive(Clone, Debug)]
struct ProjectionCore {
    store: Arc<dyn EventStore>,
    read_model: Arc<dyn ReadModel>,
    progress: ProjectionProgress,
    reached: Arc<watch::Sender<Position>>,
    damage: Arc<watch::Sender<Option<String>>>,
    found_on: Arc<watch::Sender<u64>>,
    /// Held while the served read model is being fed or replaced.
    feeding: Arc<tokio::sync::Mutex<()>>,
    /// Held during a shadow rebuild: one at a time.
    building: Arc<tokio::sync::Mutex<()>>,
}

impl ProjectionCore {
    /// Records that the served read model has events up to `position`.
    fn has_reached(&self, position: Position) {
        self.reached.send_if_modified(|reached| {
            let moves = position > *reached;
            *reached = position.max(*reached);
            moves
        });
    }

    /// The end of the log, and its id.
    async fn log(&self) -> Result<(LogId, Position), Stall> {
        let head = self.store.head().await?;
        let log = self.store.log_id().ok_or("the id of the log is not known yet")?;
        Ok((log, head))
    }
}

impl OrderProjection {
    /// A projection that has not started yet.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>, read_model: Arc<dyn ReadModel>) -> Self {
        let (reached, position) = watch::channel(Position(0));
        let (finding, found_on) = watch::channel(0);
        let (damaging, damage) = watch::channel(None);
        let progress = ProjectionProgress {
            position,
            found_on,
            waiters: Waiters::none(),
            failure: Arc::default(),
            loss: Arc::default(),
            damage,
            unreadable: Arc::default(),
            unreadable_outage: Arc::new(Outage::new().whatever_the_cause()),
            catch_up: Arc::default(),
        };
        let position_gauge = metrics::gauge!("ordersystem_projection_position", "projection" => "orders");
        let parts = ProjectionCore {
            store,
            read_model,
            progress,
            reached: Arc::new(reached),
            damage: Arc::new(damaging),
            found_on: Arc::new(finding),
            feeding: Arc::default(),
            building: Arc::default(),
        };
        let losses = metrics::counter!("ordersystem_log_losses_total", "reader" => "projection");
        let store = Arc::clone(&parts.store);
        let stalls = Stalls::while_not(Away::new(move || store.known_outage()));
        Self {
            watcher: None,
            parts,
            position_gauge,
            losses,
            is_reported: AtomicBool::default(),
            rebuilds: Rebuilds::default(),
            stalls,
        }
    }

    /// Adds `watcher` as an observer of every event.
    #[must_use]
    pub fn watched_by(self, watcher: Arc<dyn LogWatcher>) -> Self {
        Self { watcher: Some(watcher), ..self }
    }

    /// The progress of the projection.
    #[must_use]
    pub fn progress(&self) -> ProjectionProgress {
        self.parts.progress.clone()
    }

    /// Requests rebuilds, which run while [`OrderProjection::run`] runs.
    #[must_use]
    pub fn rebuilds(&self) -> Rebuilds {
        self.rebuilds.clone()
    }

    /// Follows the log until `stop`. A failure is reported and retried: the projection never skips an event.
    pub async fn run(&self, stop: CancellationToken) {
        let work = async {
            loop {
                let Err(stall) = self.follow().await;
                let progress = &self.parts.progress;
                self.stalls.begin(&stall, progress.position());
                let Stall { why: failure, damage } = stall;
                // Only progress shows that the damage is gone.
                if damage.is_some() {
                    self.note_damage(damage);
                }
                progress.set_failure(Some(failure));
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        };
        // A separate task: a rebuild must not delay the projection.
        let (rebuilds, parts) = (self.rebuilds.clone(), self.parts.clone());
        let rebuilding = AbortOnDropHandle::new(tokio::spawn(async move { rebuilds.serve(&parts).await }));
        tokio::select! {
            () = work => {}
            () = self.watch_for_loss() => {}
            ended = rebuilding => {
                let error = ended.err().map(|error| error.to_string());
                tracing::error!(error, "the read model can no longer be rebuilt: its task has ended");
            }
            () = stop.cancelled() => {}
        }
    }

    async fn follow(&self) -> Result<std::convert::Infallible, Stall> {
        let ProjectionCore { store, progress, .. } = &self.parts;
        let (log, head) = self.parts.log().await?;
        let mut checkpoint = self.resume(log, head).await?;
        let start = checkpoint.map_or(Position(0), |checkpoint| checkpoint.position);
        if store.distance(start, head) > CATCH_UP_EVENTS {
            let caught_up = self.catch_up(log, checkpoint, head).await;
            progress.set_catch_up(None);
            checkpoint = Some(caught_up?);
        }
        let start = self.point(checkpoint).await?;
        let mut follower = LogFollower::new(Arc::clone(store), start);
        self.at(start.position);
        let (mut timer, mut unwritten) = (WriteTimer::new(&progress.waiters), Unwritten::default());
        loop {
            let batch = match follower.poll_batch(BATCH_EVENTS).await {
                // The rows are dropped before the log is followed again.
                Err(StoreError::LogReplaced(what)) => return Err(self.lost(what).into()),
                Err(error) => {
                    self.apply(&mut unwritten).await?;
                    return Err(error.into());
                }
                Ok(batch) => batch,
            };
            if let Some(watcher) = self.watcher.as_ref().filter(|_| !batch.is_empty()) {
                watcher.observe(&batch);
            }
            if let Some(last) = batch.last() {
                match batch.iter().map(row_change).collect::<Result<Vec<_>, _>>() {
                    Ok(changes) => unwritten.add(changes, LogCheckpoint::after(log, last)),
                    Err(error) => {
                        self.apply(&mut unwritten).await?;
                        return Err(error.into());
                    }
                }
            }
            let events = unwritten.changes.len();
            if (1..BATCH_EVENTS).contains(&events) && timer.holds_back() {
                tokio::select! {
                    () = timer.end() => {}
                    () = follower.wait() => {}
                }
                continue;
            }
            self.apply(&mut unwritten).await?;
            self.found_on(follower.found_on());
            // Under constant load the follower never finds the end of the log.
            self.works();
            if events > 0 {
                timer.written(events);
            } else {
                follower.wait().await;
            }
        }
    }

    /// Writes the changes that are not in the read model yet.
    async fn apply(&self, unwritten: &mut Unwritten) -> Result<(), Stall> {
        let Unwritten { changes, checkpoint: Some(checkpoint) } = std::mem::take(unwritten) else { return Ok(()) };
        let _turn = self.parts.feeding.lock().await;
        self.parts.read_model.apply(changes, checkpoint).await?;
        self.at(checkpoint.position);
        Ok(())
    }

    /// Records that the last event in the read model was verified in the log on this connection.
    fn found_on(&self, connection: Option<u64>) {
        let newest = connection.unwrap_or_default();
        self.parts.found_on.send_if_modified(|found| std::mem::replace(found, newest.max(*found)) < newest);
    }

    /// The checkpoint as a log point, with the fingerprint that a follower verifies.
    async fn point(&self, checkpoint: Option<LogCheckpoint>) -> Result<LogPoint, Stall> {
        let Some(checkpoint) = checkpoint else { return Ok(LogPoint::START) };
        match event_of(&*self.parts.store, checkpoint).await? {
            Some(event) => Ok(LogPoint::after(&event)),
            None if checkpoint.position == Position(0) => Ok(LogPoint::START),
            None => {
                Err(format!("the event at position {} disappeared while it was being applied", checkpoint.position)
                    .into())
            }
        }
    }

    fn at(&self, position: Position) {
        self.parts.has_reached(position);
        #[allow(clippy::cast_precision_loss, reason = "a gauge; far below 2^52")]
        self.position_gauge.set(position.0 as f64);
    }

    /// Returns the checkpoint to resume from, if the rows match the current log; else drops the rows and reports that.
    async fn resume(&self, log: LogId, head: Position) -> Result<Option<LogCheckpoint>, Stall> {
        let ProjectionCore { store, read_model, .. } = &self.parts;
        let Some(checkpoint) = read_model.checkpoint().await? else { return Ok(None) };
        let connection = *store.connections().borrow();
        let mut is_loss = false;
        let why = if checkpoint.log != log {
            format!("its rows come from log {}, but the log is now {}", checkpoint.log.0, log.0)
        } else if checkpoint.position > head && checkpoint.position > store.confirmed_head().await? {
            is_loss = true;
            format!("it has followed the log to position {}, but the log now ends at {head}", checkpoint.position)
        } else if event_of(&**store, checkpoint).await?.is_some() || checkpoint.position == Position(0) {
            if !self.is_failing() {
                tracing::info!(position = %checkpoint.position, head = %head, "the read model resumes from its checkpoint");
            }
            return Ok(Some(checkpoint));
        } else if checkpoint.position > head {
            return Err(format!(
                "the server that replied does not have the log up to position {} yet",
                checkpoint.position
            )
            .into());
        } else {
            is_loss = true;
            format!("the log has another event at position {} than the one that it has applied", checkpoint.position)
        };
        if is_loss {
            store.confirm_connection(connection).await?;
        }
        if is_loss && !self.is_reported.swap(false, Ordering::Relaxed) {
            self.note_loss(&why);
        }
        self.stalls.drop_rows(&why);
        let _turn = self.parts.feeding.lock().await;
        read_model.clear().await?;
        self.stalls.dropped_rows();
        self.parts.progress.note_rebuilt();
        self.parts.reached.send_replace(Position(0));
        if let Some(watcher) = &self.watcher {
            // Repeated: stale state may have been cached since.
            watcher.lost();
        }
        Ok(None)
    }

    /// Follows the log from `checkpoint` to `head`, reading ahead; an empty read model is filled as a shadow copy.
    async fn catch_up(
        &self,
        log: LogId,
        checkpoint: Option<LogCheckpoint>,
        head: Position,
    ) -> Result<LogCheckpoint, Stall> {
        let ProjectionCore { store, progress, read_model, .. } = &self.parts;
        let start = checkpoint.map_or(Position(0), |checkpoint| checkpoint.position);
        let mut meter = Meter::start(&**store, start, head);
        if !self.is_failing() {
            tracing::info!(position = %start, events = meter.state().total, "the read model is catching up with the log");
        }
        let mut feed = Feed { store: Arc::clone(store), log, watcher: self.watcher.clone() };
        let tell = |state: CatchUp| progress.set_catch_up(Some(state));
        let reached = match checkpoint {
            Some(_) => {
                let sink = Sink::Serving(&**read_model);
                feed.run(start, head, &sink, &mut meter, |state| {
                    self.at(state.position);
                    tell(state);
                })
                .await?
            }
            None => {
                let _turn = self.parts.building.lock().await;
                let model = read_model.begin_rebuild().await?;
                let sink = Sink::Rebuild(&*model);
                let reached = feed.run(start, head, &sink, &mut meter, tell).await?;
                model.index().await?;
                let _turn = self.parts.feeding.lock().await;
                model.promote().await?;
                progress.note_rebuilt();
                reached
            }
        };
        tracing::info!(position = %reached.position, "{}", meter.summary());
        Ok(reached)
    }
}

/// The event at `checkpoint`, if the log still has it.
async fn event_of(store: &dyn EventStore, checkpoint: LogCheckpoint) -> Result<Option<StoredEvent>, StoreError> {
    let Some(before) = checkpoint.position.0.checked_sub(1) else { return Ok(None) };
    let found = store.read_log(Position(before), Direction::Forward, 1).await?;
    let checkpoint_of = |event: &StoredEvent| LogCheckpoint::after(checkpoint.log, event);
    Ok(found.into_iter().next().filter(|event| {
        event.position == checkpoint.position
            && (checkpoint.event == 0 || checkpoint_of(event).event == checkpoint.event)
    }))
}
