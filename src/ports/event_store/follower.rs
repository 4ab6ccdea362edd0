//! Follows the log, and detects when it has been replaced.
//!
//! A position does not identify an event: a restored log keeps its id, and reaches the same positions again with other events. So a reader also
//! remembers the last event ([`LogPoint`]), and verifies it at the start and after each reconnect, before it trusts any read after it.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use xxhash_rust::xxh3::xxh3_64;

use super::{Direction, EventStore, Position, ReadBound, Revision, StoreError, StoredEvent, StreamId};

/// The minimum interval between wake-ups of a reader: on a busy log it then finds a batch instead of one event, and the writers do not pay for a
/// wake-up each. A reader of a quiet log is woken at once.
const PACE: Duration = Duration::from_millis(1);
/// How often a read is repeated because the node has reconnected in the meantime.
const MAX_READS: usize = 16;

/// How far a reader has read the log, with a fingerprint of the last event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogPoint {
    /// The position of the last event that was read.
    pub position: Position,
    /// A hash of that event's payload; `None` where only the position is known.
    pub fingerprint: Option<u32>,
}

impl LogPoint {
    /// The beginning of the log.
    pub const START: Self = Self { position: Position(0), fingerprint: None };

    /// The point after `event`.
    #[must_use]
    pub fn after(event: &StoredEvent) -> Self {
        Self { position: event.position, fingerprint: Some(event.fingerprint()) }
    }

    /// Checks that `store` still has the events read up to here: the event at exactly this position or, if only the position is known, that the log
    /// reaches it.
    ///
    /// # Errors
    /// [`StoreError::LogReplaced`] if it has not; [`StoreError::Unavailable`] if the server merely lags behind.
    pub async fn verify(self, store: &dyn EventStore) -> Result<(), StoreError> {
        let connection = *store.connections().borrow();
        let found = self.look_for(store).await;
        if matches!(found, Err(StoreError::LogReplaced(_))) {
            store.confirm_connection(connection).await?;
        }
        found
    }

    async fn look_for(self, store: &dyn EventStore) -> Result<(), StoreError> {
        if self.position == Position(0) {
            return Ok(());
        }
        let Some(fingerprint) = self.fingerprint else { return self.verify_reach(store).await };
        if self.is_found(store, fingerprint).await? {
            return Ok(());
        }
        // The server may be behind; a position confirmed by a quorum is not.
        self.verify_reach(store).await?;
        if self.is_found(store, fingerprint).await? {
            return Ok(());
        }
        let before = Position(self.position.0 - 1);
        match store.read_log(before, Direction::Forward, 1).await?.first() {
            Some(later) => Err(StoreError::LogReplaced(format!(
                "the event that had been read at position {} is gone; the next one is at {}",
                self.position, later.position
            ))),
            None => Err(StoreError::Unavailable(format!(
                "the server that replied does not have the log up to position {} yet",
                self.position
            ))),
        }
    }

    /// Whether the event exists; an error if another one has its position.
    async fn is_found(self, store: &dyn EventStore, fingerprint: u32) -> Result<bool, StoreError> {
        let after = Position(self.position.0.saturating_add(1));
        let found = store.read_log(after, Direction::Backward, 1).await?;
        match found.first().filter(|event| event.position == self.position) {
            Some(event) if event.fingerprint() == fingerprint => Ok(true),
            Some(_) => Err(StoreError::LogReplaced(format!(
                "the event at position {} is not the one that had been read there",
                self.position
            ))),
            None => Ok(false),
        }
    }

    async fn verify_reach(self, store: &dyn EventStore) -> Result<(), StoreError> {
        if store.head().await? >= self.position {
            return Ok(());
        }
        let head = store.confirmed_head().await?;
        if head >= self.position {
            return Ok(());
        }
        Err(StoreError::LogReplaced(format!(
            "it ends at position {head}, but had been read up to position {}",
            self.position
        )))
    }
}

impl StoredEvent {
    /// A hash of its payload, to distinguish it from another event at its position.
    #[must_use]
    pub fn fingerprint(&self) -> u32 {
        fingerprint(&self.payload)
    }
}

/// A hash of an event's payload; never 0, which may mean unknown.
#[must_use]
#[allow(
    clippy::cast_possible_truncation,
    reason = "32 bits of the hash are enough to tell two events in one place apart"
)]
pub fn fingerprint(payload: &[u8]) -> u32 {
    (xxh3_64(payload) as u32).max(1)
}

/// Remembers the last event read, and verifies it again after a reconnect.
#[derive(Debug)]
pub struct Foothold {
    point: LogPoint,
    connections: watch::Receiver<u64>,
    /// The connection on which the point was verified.
    found_on: Option<u64>,
}

impl Foothold {
    /// A point that is not verified yet.
    #[must_use]
    pub fn new(store: &dyn EventStore, point: LogPoint) -> Self {
        Self { point, connections: store.connections(), found_on: None }
    }

    /// The point.
    #[must_use]
    pub const fn point(&self) -> LogPoint {
        self.point
    }

    /// Reads the log after the point, up to the event that brings the total to `max_bytes`, on a connection on which the point was verified; moves to
    /// the last event read.
    ///
    /// # Errors
    /// [`StoreError::LogReplaced`] if the point no longer exists; otherwise the store's error.
    pub async fn read_log(
        &mut self,
        store: &dyn EventStore,
        max_events: usize,
        max_bytes: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        for _ in 0..MAX_READS {
            let connection = self.find(store).await?;
            let events = store.read_after(self.point, ReadBound::new(max_events, max_bytes)).await?;
            if self.holds(connection) {
                self.move_to(events.last());
                return Ok(events);
            }
        }
        Err(connection_unstable())
    }

    /// The events of `stream` from revision `from` on, verified in the same way.
    ///
    /// # Errors
    /// As [`Foothold::read_log`].
    pub async fn read_stream(
        &mut self,
        store: &dyn EventStore,
        stream: StreamId,
        from: Revision,
        max_events: usize,
        max_bytes: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        for _ in 0..MAX_READS {
            let connection = self.find(store).await?;
            let mut events = store.read_stream(stream, from, Direction::Forward, max_events).await?;
            ReadBound::new(max_events, max_bytes).cut(&mut events);
            if self.holds(connection) {
                self.move_to(events.last());
                return Ok(events);
            }
        }
        Err(connection_unstable())
    }

    /// The connection on which the point was verified, which the last read used.
    #[must_use]
    pub const fn found_on(&self) -> Option<u64> {
        self.found_on
    }

    /// Moves to `point`, which was read on the connection of the last verification.
    pub const fn pass(&mut self, point: LogPoint) {
        self.point = point;
    }

    /// Verifies the point unless that was done on this connection; returns the connection.
    async fn find(&self, store: &dyn EventStore) -> Result<u64, StoreError> {
        let connection = *self.connections.borrow();
        if self.found_on != Some(connection) {
            self.point.verify(store).await?;
        }
        Ok(connection)
    }

    /// Whether the last read was made on `connection`; otherwise it may come from another log.
    fn holds(&mut self, connection: u64) -> bool {
        let is_same = *self.connections.borrow() == connection;
        self.found_on = is_same.then_some(connection);
        is_same
    }

    fn move_to(&mut self, last: Option<&StoredEvent>) {
        self.point = last.map_or(self.point, LogPoint::after);
    }
}

fn connection_unstable() -> StoreError {
    StoreError::Unavailable("the connection to the event store keeps breaking".to_owned())
}

/// Wakes a reader when the log may have grown, or may have been replaced.
#[derive(Debug)]
pub struct LogWake {
    appended: watch::Receiver<Position>,
    connections: watch::Receiver<u64>,
    woken_at: Option<Instant>,
}

impl LogWake {
    /// Wakes after appends to `store` from now on.
    #[must_use]
    pub fn new(store: &dyn EventStore) -> Self {
        Self { appended: store.wake(), connections: store.connections(), woken_at: None }
    }

    /// Call this before each read: any later append ends the next [`LogWake::wait`].
    pub fn arm(&mut self) {
        self.appended.borrow_and_update();
        self.connections.borrow_and_update();
    }

    /// Waits until something may have been appended since [`LogWake::arm`], or the node has reconnected.
    pub async fn wait(&mut self) {
        tokio::select! {
            () = changed(&mut self.appended) => {}
            () = changed(&mut self.connections) => {}
        }
        if let Some(before) = self.woken_at {
            sleep_until(before + PACE).await;
        }
        self.woken_at = Some(Instant::now());
    }
}

/// Waits for a change; forever if the sender is gone.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Reads the log from a position to its end and on, as it grows: never skips, never repeats, holds one event between reads. It ends if the log no
/// longer has the events that it has read.
#[derive(Debug)]
pub struct LogFollower {
    store: Arc<dyn EventStore>,
    foothold: Foothold,
    wake: LogWake,
}

impl LogFollower {
    /// Starts after `point`, which is verified before the first read.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>, point: impl Into<LogPoint>) -> Self {
        let (foothold, wake) = (Foothold::new(&*store, point.into()), LogWake::new(&*store));
        Self { store, foothold, wake }
    }

    /// The position up to which events have been returned.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.foothold.point().position
    }

    /// The position up to which events have been returned, with the fingerprint of the last event.
    #[must_use]
    pub const fn point(&self) -> LogPoint {
        self.foothold.point()
    }

    /// The next events, at once; empty at the end of the log.
    ///
    /// # Errors
    /// [`StoreError::LogReplaced`] if earlier events no longer exist: the follower is then useless. Otherwise the store's error; the follower may be
    /// used again and resumes where it was.
    pub async fn poll_batch(&mut self, max_events: usize) -> Result<Vec<StoredEvent>, StoreError> {
        self.poll_within(max_events, usize::MAX).await
    }

    /// Like [`LogFollower::poll_batch`], ending with the event that brings the total to `max_bytes`.
    ///
    /// # Errors
    /// As [`LogFollower::poll_batch`].
    pub async fn poll_within(&mut self, max_events: usize, max_bytes: usize) -> Result<Vec<StoredEvent>, StoreError> {
        self.wake.arm();
        self.foothold.read_log(&*self.store, max_events, max_bytes).await
    }

    /// Continues after `point`, up to which another reader has read on that connection.
    pub const fn pass(&mut self, point: LogPoint) {
        self.foothold.pass(point);
    }

    /// The connection (see [`EventStore::connections`]) of the last [`LogFollower::poll_batch`], on which its point was verified.
    #[must_use]
    pub const fn found_on(&self) -> Option<u64> {
        self.foothold.found_on
    }

    /// Waits until something may have been appended since the last [`LogFollower::poll_batch`].
    pub async fn wait(&mut self) {
        self.wake.wait().await;
    }
}

/// A point with a known position only.
impl From<Position> for LogPoint {
    fn from(position: Position) -> Self {
        Self { position, fingerprint: None }
    }
}

impl fmt::Display for LogPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.position.fmt(f)
    }
}
