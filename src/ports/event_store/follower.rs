//! Reading the log on, and noticing when it is no longer the log that was read.
//!
//! A position says nothing about what stands there: a log that was put back to an earlier state keeps its id, and reaches the same positions
//! again with other events. So a reader remembers the last event as well ([`LogPoint`]), and looks for it when it begins and each time that
//! the node has connected to the store again, before it believes what it reads after it.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use xxhash_rust::xxh3::xxh3_64;

use super::{Direction, EventStore, Position, Revision, StoreError, StoredEvent, StreamId};

/// A reader that has just been woken is not woken again for this long: on a busy log it then finds a batch and not one event,
/// and the writers do not pay for a wake-up each. A reader of a quiet log is woken at once.
const PACE: Duration = Duration::from_millis(1);
/// How often a read is made again because the node has connected again meanwhile.
const MAX_READS: usize = 16;

/// Up to where somebody has read the log, with what tells the event there from another one.
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

    /// Checks that `store` still has what was read up to here: the event at exactly this position, or, where only the position is known,
    /// that the log reaches it.
    ///
    /// # Errors
    /// [`StoreError::LogReplaced`] if it has not; a server that merely lags behind is [`StoreError::Unavailable`].
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
        // What was asked may be behind; what a quorum has confirmed is not.
        self.verify_reach(store).await?;
        if self.is_found(store, fingerprint).await? {
            return Ok(());
        }
        let before = Position(self.position.0 - 1);
        match store.read_log(before, Direction::Forward, 1).await?.first() {
            Some(later) => Err(StoreError::LogReplaced(format!(
                "there is no event at position {} any more, where one had been read, but one at {}",
                self.position, later.position
            ))),
            None => Err(StoreError::Unavailable(format!(
                "what was asked does not show the log up to position {} yet",
                self.position
            ))),
        }
    }

    /// Whether the event is there; an error if another one is in its place.
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
            "it ends at position {head}, and had been read up to position {}",
            self.position
        )))
    }
}

impl StoredEvent {
    /// A hash of its payload, to tell it from another event in its place.
    #[must_use]
    pub fn fingerprint(&self) -> u32 {
        fingerprint(&self.payload)
    }
}

/// A hash of the payload of an event; never 0, which may stand for one that is not known.
#[must_use]
#[allow(
    clippy::cast_possible_truncation,
    reason = "32 bits of the hash are enough to tell two events in one place apart"
)]
pub fn fingerprint(payload: &[u8]) -> u32 {
    (xxh3_64(payload) as u32).max(1)
}

/// Remembers what was last read, and looks for it again where it may have gone.
#[derive(Debug)]
pub struct Foothold {
    point: LogPoint,
    connections: watch::Receiver<u64>,
    /// The connection on which the point has been found in the log.
    found_on: Option<u64>,
}

impl Foothold {
    /// One that has not been looked for yet.
    #[must_use]
    pub fn new(store: &dyn EventStore, point: LogPoint) -> Self {
        Self { point, connections: store.connections(), found_on: None }
    }

    /// Where it is.
    #[must_use]
    pub const fn point(&self) -> LogPoint {
        self.point
    }

    /// What comes after the point in the log, up to the event that brings it to `max_bytes`, read on a connection on which the point has been
    /// found; moves on to the last of it.
    ///
    /// # Errors
    /// [`StoreError::LogReplaced`] if the point is no longer there; otherwise what the store says.
    pub async fn read_log(
        &mut self,
        store: &dyn EventStore,
        max_events: usize,
        max_bytes: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        for _ in 0..MAX_READS {
            let connection = self.find(store).await?;
            let mut events = store.read_after(self.point, max_events).await?;
            cut(&mut events, max_bytes);
            if self.holds(connection) {
                self.move_to(events.last());
                return Ok(events);
            }
        }
        Err(does_not_last())
    }

    /// The events of `stream` from revision `from` on, with the same care.
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
            cut(&mut events, max_bytes);
            if self.holds(connection) {
                self.move_to(events.last());
                return Ok(events);
            }
        }
        Err(does_not_last())
    }

    /// The connection on which the point was found, which the last read was made on.
    #[must_use]
    pub const fn found_on(&self) -> Option<u64> {
        self.found_on
    }

    /// Moves on to `point`, which has been read on the connection on which the last one was found.
    pub const fn pass(&mut self, point: LogPoint) {
        self.point = point;
    }

    /// Looks for the point, if it has not been found on this connection, which is returned.
    async fn find(&self, store: &dyn EventStore) -> Result<u64, StoreError> {
        let connection = *self.connections.borrow();
        if self.found_on != Some(connection) {
            self.point.verify(store).await?;
        }
        Ok(connection)
    }

    /// Whether what has just been read was read on `connection`: after it, it may be another log's.
    fn holds(&mut self, connection: u64) -> bool {
        let is_same = *self.connections.borrow() == connection;
        self.found_on = is_same.then_some(connection);
        is_same
    }

    fn move_to(&mut self, last: Option<&StoredEvent>) {
        self.point = last.map_or(self.point, LogPoint::after);
    }
}

/// Ends `events` with the one that brings them to `max_bytes`.
fn cut(events: &mut Vec<StoredEvent>, max_bytes: usize) {
    let mut bytes = 0;
    let end = events.iter().position(|event| {
        bytes += event.payload.len();
        bytes >= max_bytes
    });
    events.truncate(end.map_or(events.len(), |end| end + 1));
}

fn does_not_last() -> StoreError {
    StoreError::Unavailable("the connection to the event store does not last".to_owned())
}

/// Wakes a reader when the log may have grown, or may have been replaced.
#[derive(Debug)]
pub struct LogWake {
    appended: watch::Receiver<Position>,
    connections: watch::Receiver<u64>,
    woken_at: Option<Instant>,
}

impl LogWake {
    /// Wakes for what is appended to `store` from now on.
    #[must_use]
    pub fn new(store: &dyn EventStore) -> Self {
        Self { appended: store.wake(), connections: store.connections(), woken_at: None }
    }

    /// To be called before each read: whatever is appended from here on ends the next [`LogWake::wait`].
    pub fn arm(&mut self) {
        self.appended.borrow_and_update();
        self.connections.borrow_and_update();
    }

    /// Waits until something may have been appended since [`LogWake::arm`], or the node has connected again.
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

/// Waits for a change; for ever where nobody is left to make one.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Reads the log from a position to its end and on, as it grows: never skips, never repeats, holds one event between reads. A log that no
/// longer has what was read ends it.
#[derive(Debug)]
pub struct LogFollower {
    store: Arc<dyn EventStore>,
    foothold: Foothold,
    wake: LogWake,
}

impl LogFollower {
    /// Starts after `point`, which is looked for before the first read.
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

    /// The same, with the event there.
    #[must_use]
    pub const fn point(&self) -> LogPoint {
        self.foothold.point()
    }

    /// The next events, at once; empty at the end of the log.
    ///
    /// # Errors
    /// [`StoreError::LogReplaced`] if what was read before is no longer there: then the follower is of no more use. Otherwise what the store
    /// says; the follower may be used again and goes on where it was.
    pub async fn poll_batch(&mut self, max_events: usize) -> Result<Vec<StoredEvent>, StoreError> {
        self.poll_within(max_events, usize::MAX).await
    }

    /// The same, ending with the event that brings them to `max_bytes`.
    ///
    /// # Errors
    /// As [`LogFollower::poll_batch`].
    pub async fn poll_within(&mut self, max_events: usize, max_bytes: usize) -> Result<Vec<StoredEvent>, StoreError> {
        self.wake.arm();
        self.foothold.read_log(&*self.store, max_events, max_bytes).await
    }

    /// Goes on after `point`, up to which somebody else has read on that connection.
    pub const fn pass(&mut self, point: LogPoint) {
        self.foothold.pass(point);
    }

    /// The connection (see [`EventStore::connections`]) that the last [`LogFollower::poll_batch`] read on, which had what was read before.
    #[must_use]
    pub const fn found_on(&self) -> Option<u64> {
        self.foothold.found_on
    }

    /// Waits until something may have been appended since the last [`LogFollower::poll_batch`].
    pub async fn wait(&mut self) {
        self.wake.wait().await;
    }
}

/// A point of which only the position is known.
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
