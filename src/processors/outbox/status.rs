//! How the relay does.

use parking_lot::{Mutex, MutexGuard};

use crate::ports::event_store::Position;

/// How the outbox does on this node. Shared with health and metrics.
#[derive(Debug, Default)]
pub struct OutboxStatus {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    published_to: Option<Position>,
    relayed_by: Option<String>,
    failure: Option<String>,
    loss: Option<String>,
    /// The loss has been told of, and nothing has been published since.
    is_told: bool,
}

impl OutboxStatus {
    /// The position up to which the bus has accepted everything from this node's relay; `None` if another node relays, or nobody yet.
    #[must_use]
    pub fn published_to(&self) -> Option<Position> {
        self.state().published_to
    }

    /// The node that relays in the place of this one, if one does.
    #[must_use]
    pub fn relayed_by(&self) -> Option<String> {
        self.state().relayed_by.clone()
    }

    /// Why the relay stands still, if it does.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.state().failure.clone()
    }

    /// What the log was last found to have lost while this node ran, if it has.
    #[must_use]
    pub fn loss(&self) -> Option<String> {
        self.state().loss.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn published(&self, position: Position) {
        let mut state = self.state();
        (state.published_to, state.relayed_by) = (Some(position), None);
    }

    /// A failure counts until something has gone well.
    pub(super) fn works(&self) {
        let mut state = self.state();
        (state.failure, state.is_told) = (None, false);
    }

    /// The log has lost events; answers whether that is news.
    pub(super) fn lost(&self, loss: String) -> bool {
        let mut state = self.state();
        state.loss = Some(loss);
        !std::mem::replace(&mut state.is_told, true)
    }

    pub(super) fn stands_by(&self, relayed_by: Option<String>) {
        let mut state = self.state();
        let loss = state.loss.take();
        *state = State { relayed_by, loss, ..State::default() };
    }

    /// What has been published stays published: the backlog grows from there.
    pub(super) fn failed(&self, failure: String) {
        self.state().failure = Some(failure);
    }
}
