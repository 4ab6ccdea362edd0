//! Read models fed by the log: the list of orders and their totals.
//!
//! Off the reply path: a command is acknowledged before its row is there. Whoever needs the row waits for its position.

mod order_rows;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use metrics::Gauge;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use order_rows::{status_code, status_of_code};

use crate::{
    event_store::{EventStore, LogFollower, Position, StoredEvent},
    read_model::ReadModel,
};

/// Events taken from the log at a time.
const BATCH_EVENTS: usize = 1_024;
/// The pause before trying again after a failure.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// How far the read model has followed the log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ProjectionProgress {
    position: watch::Receiver<Position>,
    failure: Arc<Mutex<Option<String>>>,
}

/// The projection has ended: the position will not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProjectionEnded;

impl ProjectionProgress {
    /// The position up to which events are in the read model.
    #[must_use]
    pub fn position(&self) -> Position {
        *self.position.borrow()
    }

    /// Waits until events up to `wanted` are in the read model.
    ///
    /// # Errors
    /// [`ProjectionEnded`] when the node stops before that.
    pub async fn reached(&self, wanted: Position) -> Result<(), ProjectionEnded> {
        let mut position = self.position.clone();
        position.wait_for(|reached| *reached >= wanted).await.map(|_| ()).map_err(|_| ProjectionEnded)
    }

    /// Why the projection stands still, if it does.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_failure(&self, failure: Option<String>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }
}

/// Someone who wants to see every event of the log as it is projected.
pub trait LogWatcher: fmt::Debug + Send + Sync + 'static {
    /// These events are in the log. Called in order; to return quickly.
    fn saw(&self, events: &[StoredEvent]);
}

/// Feeds the read model of orders from the log.
#[derive(Debug)]
pub struct OrderProjection {
    watcher: Option<Arc<dyn LogWatcher>>,
    store: Arc<dyn EventStore>,
    read_model: Arc<dyn ReadModel>,
    progress: ProjectionProgress,
    reached: watch::Sender<Position>,
    position_gauge: Gauge,
}

impl OrderProjection {
    /// A projection that has not started yet.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>, read_model: Arc<dyn ReadModel>) -> Self {
        let (reached, position) = watch::channel(Position(0));
        let progress = ProjectionProgress { position, failure: Arc::default() };
        let position_gauge = metrics::gauge!("ordersystem_projection_position", "projection" => "orders");
        Self { watcher: None, store, read_model, progress, reached, position_gauge }
    }

    /// Shows every event to `watcher`, too.
    #[must_use]
    pub fn watched_by(self, watcher: Arc<dyn LogWatcher>) -> Self {
        Self { watcher: Some(watcher), ..self }
    }

    /// Where to see how far it is.
    #[must_use]
    pub fn progress(&self) -> ProjectionProgress {
        self.progress.clone()
    }

    /// Follows the log until `stop`. A failure is reported and tried again: the projection never skips an event.
    pub async fn run(&self, stop: CancellationToken) {
        let work = async {
            loop {
                let Err(failure) = self.follow().await;
                tracing::error!(%failure, position = %self.progress.position(), "the projection of orders stands still");
                self.progress.set_failure(Some(failure));
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        };
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
    }

    async fn follow(&self) -> Result<std::convert::Infallible, String> {
        let start = self.read_model.checkpoint().await.map_err(text)?;
        self.reached.send_replace(start);
        let mut follower = LogFollower::new(Arc::clone(&self.store), start);
        loop {
            let batch = follower.poll_batch(BATCH_EVENTS).await.map_err(text)?;
            if batch.is_empty() {
                self.progress.set_failure(None);
                follower.wait().await;
                continue;
            }
            if let Some(watcher) = &self.watcher {
                watcher.saw(&batch);
            }
            let changes = batch.iter().map(order_rows::row_change).collect::<Result<Vec<_>, _>>().map_err(text)?;
            self.read_model.apply(changes, follower.position()).await.map_err(text)?;
            self.reached.send_replace(follower.position());
            #[allow(clippy::cast_precision_loss, reason = "a gauge; far below 2^52")]
            self.position_gauge.set(follower.position().0 as f64);
        }
    }
}

fn text(error: impl fmt::Display) -> String {
    error.to_string()
}
