//! The status of the relay.

use parking_lot::{Mutex, MutexGuard};

use crate::ports::event_store::Position;

/// The status of the outbox on this node. Shared with health and metrics.
#[derive(Debug, Default)]
pub struct OutboxStatus {
    state: Mutex<RelayState>,
}

#[derive(Debug, Default)]
struct RelayState {
    published_to: Option<Position>,
    relayed_by: Option<String>,
    failure: Option<String>,
    loss: Option<String>,
    /// The loss has been reported, and nothing has been published since.
    is_told: bool,
}

impl OutboxStatus {
    /// The position up to which the bus has accepted everything from this node's relay; `None` if another node relays, or none yet.
    #[must_use]
    pub fn published_to(&self) -> Option<Position> {
        self.state().published_to
    }

    /// The node that relays instead of this one, if any.
    #[must_use]
    pub fn relayed_by(&self) -> Option<String> {
        self.state().relayed_by.clone()
    }

    /// Why the relay is stalled, if it is.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.state().failure.clone()
    }

    /// The last detected loss of log events while this node ran, if any.
    #[must_use]
    pub fn loss(&self) -> Option<String> {
        self.state().loss.clone()
    }

    fn state(&self) -> MutexGuard<'_, RelayState> {
        self.state.lock()
    }

    pub(super) fn published(&self, position: Position) {
        let mut state = self.state();
        (state.published_to, state.relayed_by) = (Some(position), None);
    }

    /// Clears the failure after a success.
    pub(super) fn works(&self) {
        let mut state = self.state();
        (state.failure, state.is_told) = (None, false);
    }

    /// Records that the log has lost events; returns whether the loss is new.
    pub(super) fn lost(&self, loss: String) -> bool {
        let mut state = self.state();
        state.loss = Some(loss);
        !std::mem::replace(&mut state.is_told, true)
    }

    pub(super) fn stands_by(&self, relayed_by: Option<String>) {
        let mut state = self.state();
        let loss = state.loss.take();
        *state = RelayState { relayed_by, loss, ..RelayState::default() };
    }

    /// Records a failure. Published events stay published: the backlog grows from there.
    pub(super) fn failed(&self, failure: String) {
        self.state().failure = Some(failure);
    }
}
