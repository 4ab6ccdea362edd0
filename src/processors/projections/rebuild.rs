//! Shadow rebuilds of the read model.
//!
//! The shadow copy is fed from the start of the log to its end. While it receives the last events the served read model is not fed, so that the copy
//! is at least as far when it is promoted: a caller that has waited for a position never sees an earlier one.

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use super::{
    CatchUp, ProjectionCore,
    catch_up::Meter,
    event_of,
    feed::{Feed, Sink},
};
use crate::ports::{
    event_store::Position,
    read_model::{LogCheckpoint, ShadowReadModel},
};

/// The phase of a rebuild.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No rebuild has been started.
    None,
    /// It reads the log.
    Reading,
    /// It builds the indexes for lists.
    Indexing,
    /// It has been promoted.
    Done,
    /// It was abandoned; the old read model stays.
    Failed(String),
}

/// The progress of a rebuild.
#[derive(Clone, Debug, PartialEq)]
pub struct RebuildState {
    /// Its number since the node started: 1, 2, 3 …
    pub number: u64,
    /// Its phase.
    pub phase: Phase,
    /// Its progress.
    pub progress: CatchUp,
}

/// The minimum interval after a finished rebuild: a rebuild costs as much as reading the whole log.
const REBUILD_INTERVAL: Duration = Duration::from_secs(60);

/// Requests rebuilds, and reports their progress. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Rebuilds(Arc<Asked>);

#[derive(Debug)]
struct Asked {
    state: watch::Sender<RebuildState>,
    /// When the last rebuild finished.
    done_at: Mutex<Option<Instant>>,
}

impl RebuildState {
    /// Whether it is running.
    #[must_use]
    pub const fn is_going_on(&self) -> bool {
        matches!(self.phase, Phase::Reading | Phase::Indexing)
    }
}

impl Default for Rebuilds {
    fn default() -> Self {
        let none = RebuildState { number: 0, phase: Phase::None, progress: nothing() };
        Self(Arc::new(Asked { state: watch::Sender::new(none), done_at: Mutex::new(None) }))
    }
}

const fn nothing() -> CatchUp {
    CatchUp { position: Position(0), target: Position(0), events: 0, total: 0, elapsed: Duration::ZERO }
}

impl Rebuilds {
    /// Starts a rebuild, or joins the running one. The second value says whether this call started it.
    #[must_use]
    pub fn start(&self) -> (watch::Receiver<RebuildState>, bool) {
        let begun = self.0.state.send_if_modified(|state| {
            if state.is_going_on() {
                return false;
            }
            *state = RebuildState { number: state.number + 1, phase: Phase::Reading, progress: nothing() };
            true
        });
        (self.0.state.subscribe(), begun)
    }

    /// How long to wait before another rebuild, if it must wait. A failed one may be retried at once.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        let done_at = *self.0.done_at.lock();
        REBUILD_INTERVAL.checked_sub(done_at?.elapsed()).filter(|wait| !wait.is_zero())
    }

    /// Runs requested rebuilds, forever.
    pub(super) async fn serve(&self, parts: &ProjectionCore) {
        let mut asked = self.0.state.subscribe();
        // `self` owns the sender, so this ends only with its task.
        while asked.wait_for(RebuildState::is_going_on).await.is_ok() {
            tracing::info!("rebuilding the read model; the old one stays in use");
            let phase = match self.rebuild(parts).await {
                Ok(summary) => {
                    tracing::info!("{summary}; it is now in use");
                    *self.0.done_at.lock() = Some(Instant::now());
                    Phase::Done
                }
                Err(error) => {
                    tracing::error!(error, "the rebuild of the read model failed; the old one stays in use");
                    Phase::Failed(error)
                }
            };
            self.0.state.send_modify(|state| state.phase = phase);
        }
    }

    async fn rebuild(&self, parts: &ProjectionCore) -> Result<String, String> {
        let _turn = parts.building.lock().await;
        let model = parts.read_model.begin_rebuild().await.map_err(text)?;
        let built = self.build(parts, &*model).await;
        if built.is_err()
            && let Err(error) = model.discard().await
        {
            tracing::warn!(%error, "cannot remove the remains of a rebuild; the next one will");
        }
        built
    }

    async fn build(&self, parts: &ProjectionCore, model: &dyn ShadowReadModel) -> Result<String, String> {
        let (log, head) = parts.log().await.map_err(text)?;
        let mut feed = Feed { store: Arc::clone(&parts.store), log, watcher: None };
        let mut meter = Meter::start(&*parts.store, Position(0), head);
        let sink = Sink::Rebuild(model);
        let tell = |progress| self.0.state.send_modify(|state| state.progress = progress);
        let mut checkpoint = LogCheckpoint { log, position: Position(0), event: 0 };
        checkpoint = feed.run(checkpoint.position, head, &sink, &mut meter, tell).await.map_err(text)?;
        self.0.state.send_modify(|state| state.phase = Phase::Indexing);
        model.index().await.map_err(text)?;
        // First the events that arrived in the meantime, and then the few that arrived during that.
        for _ in 0..2 {
            let (_, head) = parts.log().await.map_err(text)?;
            checkpoint = more(parts, &mut feed, checkpoint, head, &sink, &mut meter, tell).await?;
        }
        let _turn = parts.feeding.lock().await;
        let served = parts.read_model.checkpoint().await.map_err(text)?;
        let served = served.filter(|served| served.log == log).map_or(Position(0), |served| served.position);
        checkpoint = more(parts, &mut feed, checkpoint, served, &sink, &mut meter, tell).await?;
        if checkpoint.position > Position(0) && event_of(&*parts.store, checkpoint).await.map_err(text)?.is_none() {
            return Err(format!("the log lost the event at position {} during the rebuild", checkpoint.position));
        }
        model.promote().await.map_err(text)?;
        parts.progress.note_rebuilt();
        parts.has_reached(checkpoint.position);
        Ok(meter.summary())
    }
}

async fn more(
    parts: &ProjectionCore,
    feed: &mut Feed,
    checkpoint: LogCheckpoint,
    target: Position,
    sink: &Sink<'_>,
    meter: &mut Meter,
    tell: impl FnMut(CatchUp),
) -> Result<LogCheckpoint, String> {
    if target <= checkpoint.position {
        return Ok(checkpoint);
    }
    meter.extend(&*parts.store, target);
    feed.run(checkpoint.position, target, sink, meter, tell).await.map_err(text)
}

fn text(error: impl fmt::Display) -> String {
    error.to_string()
}
