//! Fan-out of new events: one reader of the log hands each event to the followers whose filter matches.
//!
//! A follower reads the log by itself until it has caught up, and then joins: its queue receives every matching event after the reader's position at
//! that moment. It leaves again, and reads by itself from its own position, when its queue is full, when the reader fails, and when the node has
//! reconnected to the store, since it must then verify its last event.

mod index;
mod queue;

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use self::{index::Index, queue::Queue};
use super::{AppError, event_filter::EventFilter};
use crate::{
    ports::event_store::{Direction, EventStore, LogFollower, LogPoint, Position, StoredEvent},
    telemetry::outage::{Line, Outage},
};

/// The number of events per read.
const BATCH_EVENTS: usize = 256;
/// The pause after a failure of the store.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(200);

/// The reader of a node, and its followers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FanOut(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Arc<dyn EventStore>,
    state: Mutex<FanOutState>,
    /// Notified when there is a follower.
    joined: Notify,
}

#[derive(Debug, Default)]
struct FanOutState {
    /// The point up to which events have been handed out; `None` while the reader is idle.
    reached: Option<Reached>,
    followers: HashMap<u64, Follower>,
    index: Index,
    last_id: u64,
}

#[derive(Debug)]
struct Follower {
    filter: Arc<EventFilter>,
    queue: Arc<Queue>,
}

/// The progress of the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reached {
    pub point: LogPoint,
    /// The connection to the store on which the point was read.
    pub connection: u64,
}

/// The result of [`Subscription::take`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Handed {
    /// Events that match its filter, in order.
    Events(Vec<StoredEvent>),
    /// No events now.
    Nothing,
    /// The follower has been removed, and has to read the log by itself.
    Left,
}

impl FanOut {
    /// A fan-out of new events of `store`, active while [`FanOut::run`] runs.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>) -> Self {
        Self(Arc::new(Shared { store, state: Mutex::default(), joined: Notify::new() }))
    }

    /// The log that is followed.
    pub(super) fn store(&self) -> &Arc<dyn EventStore> {
        &self.0.store
    }

    /// Adds a follower of new events that match `filter`.
    pub(super) fn join(&self, filter: Arc<EventFilter>) -> Subscription {
        let queue = Arc::new(Queue::default());
        let mut state = self.0.state();
        state.last_id += 1;
        let id = state.last_id;
        if let Some(reached) = state.reached {
            queue.begin(reached);
        }
        state.index.add(id, &filter);
        state.followers.insert(id, Follower { filter, queue: Arc::clone(&queue) });
        drop(state);
        self.0.joined.notify_one();
        Subscription { fan_out: self.clone(), id, queue }
    }

    /// Reads the log as long as there are followers.
    pub async fn run(self, ended: CancellationToken) {
        // When this task ends, however it ends, no follower keeps waiting for it.
        let _reading = Reading(&self.0);
        let mut connections = self.0.store.connections();
        let panics = Outage::new();
        while !ended.is_cancelled() {
            let reading = AssertUnwindSafe(self.0.read_on(&mut connections)).catch_unwind();
            let stopped = tokio::select! {
                () = ended.cancelled() => return,
                stopped = reading => stopped,
            };
            self.0.remove_all();
            match stopped {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "cannot share a reader of the log; its followers read it individually")
                }
                Err(_panic) => {
                    if let Some(Line { unsaid }) = panics.failed("a panic") {
                        tracing::error!(unsaid, "the shared reader of the log panicked and is restarted");
                    }
                }
            }
            tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, FanOutState> {
        self.state.lock()
    }

    /// Waits for followers, and reads for them from the end of the log on until all have left.
    async fn read_on(&self, connections: &mut watch::Receiver<u64>) -> Result<(), AppError> {
        while self.state().followers.is_empty() {
            self.joined.notified().await;
        }
        let mut connection = *connections.borrow_and_update();
        let last = self.store.read_log(Position(u64::MAX), Direction::Backward, 1).await?;
        let last = last.first().map_or(LogPoint::START, LogPoint::after);
        let mut follower = LogFollower::new(Arc::clone(&self.store), last);
        // The first read is verified, too, if the connection has changed by then.
        self.begin(Reached { point: last, connection });
        loop {
            let events = follower.poll_batch(BATCH_EVENTS).await?;
            let now = *connections.borrow();
            if now != connection {
                // Each follower has to verify the last event that it read.
                self.remove_all();
                connection = now;
                self.begin(Reached { point: follower.point(), connection });
                continue;
            }
            if !events.is_empty() {
                self.hand_out(&events, Reached { point: follower.point(), connection });
                continue;
            }
            if self.state().followers.is_empty() {
                return Ok(());
            }
            follower.wait().await;
        }
    }

    fn begin(&self, reached: Reached) {
        let mut state = self.state();
        state.reached = Some(reached);
        for follower in state.followers.values() {
            follower.queue.begin(reached);
        }
    }

    fn hand_out(&self, events: &[StoredEvent], reached: Reached) {
        let mut state = self.state();
        let mut woken = Vec::new();
        let mut gone = Vec::new();
        for event in events {
            let FanOutState { followers, index, .. } = &*state;
            let handed = index.each_candidate(event, |id, header| {
                let Some(follower) = followers.get(&id) else { return Ok(()) };
                if !follower.filter.passes_with(header)? {
                    return Ok(());
                }
                if follower.queue.push(event, reached.connection) {
                    woken.push(id);
                } else {
                    gone.push(id);
                }
                Ok(())
            });
            if handed.is_err() {
                // The followers that read the event will find the error by themselves.
                state.remove_all();
            }
            for id in gone.drain(..) {
                state.leave(id);
            }
        }
        woken.sort_unstable();
        woken.dedup();
        for follower in woken.iter().filter_map(|id| state.followers.get(id)) {
            follower.queue.notify();
        }
        state.reached = Some(reached);
    }

    fn remove_all(&self) {
        let mut state = self.state();
        state.remove_all();
        state.reached = None;
    }
}

impl FanOutState {
    fn leave(&mut self, id: u64) {
        if let Some(follower) = self.followers.remove(&id) {
            self.index.remove(id, &follower.filter);
            follower.queue.end();
        }
    }

    fn remove_all(&mut self) {
        for follower in std::mem::take(&mut self.followers).into_values() {
            follower.queue.end();
        }
        self.index = Index::default();
    }
}

/// Removes all followers when it is dropped: when the reader ends, however it ends.
struct Reading<'a>(&'a Shared);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.remove_all();
    }
}

/// A follower's membership in the fan-out; it leaves when this is dropped.
#[derive(Debug)]
pub(super) struct Subscription {
    fan_out: FanOut,
    id: u64,
    queue: Arc<Queue>,
}

impl Subscription {
    /// The point after which the queue is complete; `None` while the reader has not begun.
    pub fn begins_after(&self) -> Option<LogPoint> {
        self.queue.begins_after()
    }

    /// Whether it has been removed.
    pub fn has_left(&self) -> bool {
        self.queue.has_ended()
    }

    /// Takes the queued events, for a follower that has verified its last event on `connection`.
    pub fn take(&self, connection: Option<u64>) -> Handed {
        self.queue.take(connection)
    }

    /// The reader's point on `connection`, if the follower has taken all of its events up to there.
    pub fn passed(&self, connection: Option<u64>) -> Option<LogPoint> {
        let state = self.fan_out.0.state();
        let reached = state.reached.filter(|reached| Some(reached.connection) == connection);
        let has_all = state.followers.contains_key(&self.id) && self.queue.is_empty();
        reached.filter(|_| has_all).map(|reached| reached.point)
    }

    /// Waits until there may be events to take, or a point to begin with.
    pub async fn changed(&self) {
        self.queue.changed().await;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.fan_out.0.state().leave(self.id);
    }
}
