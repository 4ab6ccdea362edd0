//! Shadow rebuilds of the read model.
//!
//! The shadow copy is fed from the start of the log to its end. While it receives the last events the served read model is not fed, so that the copy
//! is at least as far when it is promoted: a caller that has waited for a position never sees an earlier one.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use super::{
    CatchUp, Parts,
    catch_up::Meter,
    event_of,
    feed::{Feed, Sink},
    text,
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

    /// Runs requested rebuilds, for ever.
    pub(super) async fn serve(&self, parts: &Parts) {
        let mut asked = self.0.state.subscribe();
        // `self` owns the sender, so this ends only with its task.
        while asked.wait_for(RebuildState::is_going_on).await.is_ok() {
            tracing::info!("the list of orders is built anew beside the one that serves");
            let phase = match self.rebuild(parts).await {
                Ok(summary) => {
                    tracing::info!("{summary}; it serves now");
                    *self.0.done_at.lock() = Some(Instant::now());
                    Phase::Done
                }
                Err(error) => {
                    tracing::error!(error, "the rebuild of the list of orders has failed, the old one goes on");
                    Phase::Failed(error)
                }
            };
            self.0.state.send_modify(|state| state.phase = phase);
        }
    }

    async fn rebuild(&self, parts: &Parts) -> Result<String, String> {
        let _turn = parts.building.lock().await;
        let model = parts.read_model.begin_rebuild().await.map_err(text)?;
        let built = self.build(parts, &*model).await;
        if built.is_err()
            && let Err(error) = model.discard().await
        {
            tracing::warn!(%error, "what the rebuild has left is cleared away by the next one");
        }
        built
    }

    async fn build(&self, parts: &Parts, model: &dyn ShadowReadModel) -> Result<String, String> {
        let (log, head) = parts.log().await?;
        let mut feed = Feed { store: Arc::clone(&parts.store), log, watcher: None };
        let mut meter = Meter::start(&*parts.store, Position(0), head);
        let sink = Sink::Rebuild(model);
        let tell = |progress| self.0.state.send_modify(|state| state.progress = progress);
        let mut place = LogCheckpoint { log, position: Position(0), event: 0 };
        place = feed.run(place.position, head, &sink, &mut meter, tell).await?;
        self.0.state.send_modify(|state| state.phase = Phase::Indexing);
        model.index().await.map_err(text)?;
        // First the events that arrived meanwhile, and then the few that arrived during that.
        for _ in 0..2 {
            let (_, head) = parts.log().await?;
            place = more(parts, &mut feed, place, head, &sink, &mut meter, tell).await?;
        }
        let _turn = parts.feeding.lock().await;
        let served = parts.read_model.checkpoint().await.map_err(text)?;
        let served = served.filter(|served| served.log == log).map_or(Position(0), |served| served.position);
        place = more(parts, &mut feed, place, served, &sink, &mut meter, tell).await?;
        if place.position > Position(0) && event_of(&*parts.store, place).await?.is_none() {
            return Err(format!("the log has lost the event at position {} meanwhile", place.position));
        }
        model.promote().await.map_err(text)?;
        parts.has_reached(place.position);
        Ok(meter.summary())
    }
}

async fn more(
    parts: &Parts,
    feed: &mut Feed,
    place: LogCheckpoint,
    target: Position,
    sink: &Sink<'_>,
    meter: &mut Meter,
    tell: impl FnMut(CatchUp),
) -> Result<LogCheckpoint, String> {
    if target <= place.position {
        return Ok(place);
    }
    meter.extend(&*parts.store, target);
    feed.run(place.position, target, sink, meter, tell).await
}
