//! The progress and the state of the projection, shared with queries and health checks.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{catch_up::CatchUp, write_timer::Waiters};
use crate::{
    ports::event_store::Position,
    telemetry::outage::{Line, Outage},
};

/// How far the read model has followed the log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ProjectionProgress {
    pub(super) position: watch::Receiver<Position>,
    pub(super) found_on: watch::Receiver<u64>,
    pub(super) waiters: Waiters,
    pub(super) failure: Arc<Mutex<Option<String>>>,
    pub(super) loss: Arc<Mutex<Option<String>>>,
    pub(super) damage: watch::Receiver<Option<String>>,
    pub(super) unreadable: Arc<Mutex<Option<String>>>,
    /// That is logged once, and every half minute while queries find it.
    pub(super) unreadable_outage: Arc<Outage>,
    pub(super) catch_up: Arc<Mutex<Option<CatchUp>>>,
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
        let _waiting = self.waiters.add();
        let mut position = self.position.clone();
        position.wait_for(|reached| *reached >= wanted).await.map(|_| ()).map_err(|_| ProjectionEnded)
    }

    /// Waits until the last event in the read model was verified in the log on `connection` (see
    /// [`connections`](crate::ports::event_store::EventStore::connections)) or a later one: until then it may contain events that the log has lost.
    ///
    /// # Errors
    /// [`ProjectionEnded`] when the node stops before that.
    pub async fn found_on(&self, connection: u64) -> Result<(), ProjectionEnded> {
        let _waiting = self.waiters.add();
        let mut found_on = self.found_on.clone();
        found_on.wait_for(|found| *found >= connection).await.map(|_| ()).map_err(|_| ProjectionEnded)
    }

    /// Why the projection is stalled, if it is.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    /// The last detected loss of log events while this node ran, if any.
    #[must_use]
    pub fn loss(&self) -> Option<String> {
        self.loss.lock().clone()
    }

    /// The damage of the log before which the read model ends, if it does: what it has is not the current state of the orders.
    #[must_use]
    pub fn damage(&self) -> Option<String> {
        self.damage.borrow().clone()
    }

    /// Waits for such damage.
    pub async fn damaged(&self) -> String {
        let mut damage = self.damage.clone();
        match damage.wait_for(Option::is_some).await.map(|found| found.clone()) {
            Ok(Some(found)) => found,
            _ => std::future::pending().await,
        }
    }

    /// Why queries cannot read the read model: it is damaged until it is rebuilt.
    #[must_use]
    pub fn unreadable(&self) -> Option<String> {
        self.unreadable.lock().clone()
    }

    /// Records that a query has found damage in the read model.
    pub fn note_unreadable(&self, why: &str) {
        *self.unreadable.lock() = Some(why.to_owned());
        if let Some(Line { unsaid }) = self.unreadable_outage.failed(why) {
            tracing::error!(
                why,
                unsaid,
                "the read model is damaged: `ordersystem projections rebuild` builds it again from the log"
            );
        }
    }

    pub(super) fn note_rebuilt(&self) {
        *self.unreadable.lock() = None;
        if let Some(lasted) = self.unreadable_outage.works() {
            tracing::info!(lasted_ms = lasted.as_millis() as u64, "the read model can be read again");
        }
    }

    /// The progress towards the end of the log, while the read model is far behind.
    #[must_use]
    pub fn catch_up(&self) -> Option<CatchUp> {
        *self.catch_up.lock()
    }

    pub(super) fn set_catch_up(&self, catch_up: Option<CatchUp>) {
        *self.catch_up.lock() = catch_up;
    }

    pub(super) fn set_failure(&self, failure: Option<String>) {
        *self.failure.lock() = failure;
    }
}
