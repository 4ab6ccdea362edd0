//! The event store: one log of all commits, read as a whole or by stream.
//!
//! Every backend guarantees the following, held by one contract suite:
//! - **Atomic**: a commit is appended all or nothing; expected revision and request id are checked in the same step.
//! - **Gapless**: the revisions of a stream are 1, 2, 3 …
//! - **Ordered**: positions grow in commit order. A reader that has seen position p will never see a new event at or below p.
//! - **Readable when acknowledged**: a read that starts after an append returned sees it.
//! - **Once per request**: a request id takes effect once, for as long as the stream lives.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use crate::ports::server_name::ServerName;

mod commit;
mod confirmations;
mod durability;
mod error;
mod follower;
mod index_damage;
mod log_loss;
mod second_look;
mod token_key;

pub use commit::{Appended, Commit, CommitId, CommitPage, ExpectedRevision, RecordedCommit, RequestKey, RequestScope};
pub use confirmations::Confirmations;
pub use durability::Durability;
pub use error::{AppendError, StoreError};
pub use follower::{Foothold, LogFollower, LogPoint, LogWake, fingerprint};
pub use index_damage::IndexDamage;
pub use log_loss::{LogLoss, LossKind};
pub use second_look::{ReadError, confirmed, on_one};
pub use token_key::{NoRandomness, TokenKey};

/// The maximum number of events that one read returns.
pub const MAX_READ_EVENTS: usize = 4_096;
/// A read stops after the event that brings it to this many payload bytes.
pub const MAX_READ_BYTES: usize = 8 * 1024 * 1024;

/// Where a read stops: at the last event that it may return, or after the event that brings it to its last byte. It returns at least one event if one
/// exists (and `max_events` is not 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadBound {
    /// The events, at most [`MAX_READ_EVENTS`].
    pub max_events: usize,
    /// The payload bytes, at most [`MAX_READ_BYTES`].
    pub max_bytes: usize,
}

impl ReadBound {
    /// A bound within those of any read.
    #[must_use]
    pub fn new(max_events: usize, max_bytes: usize) -> Self {
        Self { max_events: max_events.min(MAX_READ_EVENTS), max_bytes: max_bytes.min(MAX_READ_BYTES) }
    }

    /// A bound in events; in bytes that of any read.
    #[must_use]
    pub fn events(max_events: usize) -> Self {
        Self::new(max_events, MAX_READ_BYTES)
    }

    /// Truncates `events` after the one that brings them to the last byte.
    pub fn cut(self, events: &mut Vec<StoredEvent>) {
        let mut bytes = 0;
        let end = events.iter().position(|event| {
            bytes += event.payload.len();
            bytes >= self.max_bytes
        });
        events.truncate(end.map_or(events.len(), |end| end + 1));
    }
}

/// The name of a stream: the number of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// The revision of an event in its stream: 1, 2, 3 …; 0 is before the first.
pub type Revision = u64;

/// The position of an event in the whole log. Positions grow in commit order, possibly with gaps. Zero is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// The identity of a log: positions of one log mean nothing in another. Created once, with the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogId(pub u32);

/// One event as stored in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its stream.
    pub stream: StreamId,
    /// Its revision in the stream.
    pub revision: Revision,
    /// Its position in the log.
    pub position: Position,
    /// Its encoded content, exactly as appended.
    pub payload: Bytes,
}

/// The direction of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Older to newer.
    Forward,
    /// Newer to older.
    Backward,
}

/// The log and its streams. See the module for the guarantees of every backend.
#[async_trait]
pub trait EventStore: fmt::Debug + Send + Sync + 'static {
    /// The identity of this log; `None` until the store has been reached for the first time. It never changes once known.
    fn log_id(&self) -> Option<LogId>;

    /// The signing key for unforgeable tokens, shared by all stores of the same log. Known when the log is known, and before anything is appended;
    /// `None` for a store opened read-only, which does not load one.
    fn token_key(&self) -> Option<TokenKey>;

    /// Changes each time this node has reconnected to the store. Events read before may be missing then, since the store may have been restored or
    /// have failed over in the meantime. It changes before anything is read on the new connection; for a store within the process, never.
    fn connections(&self) -> watch::Receiver<u64>;

    /// Whether this store's log is gone, or another one is in its place. While it is, nothing is read or written. A store
    /// that cannot lose its log while it is open never changes this.
    fn log_loss(&self) -> watch::Receiver<Option<LogLoss>> {
        watch::channel(None).1
    }

    /// The durability of an acknowledged commit; [`Durability::Unknown`] until the store has been reached for the first time.
    fn durability(&self) -> Durability;

    /// The reason for the durability, for humans: what was detected and what was asserted; `None` where the name is self-explanatory.
    fn durability_detail(&self) -> Option<String> {
        None
    }

    /// The maximum size of a commit, in bytes of its events, if the store has a known bound of its own.
    fn max_commit_bytes(&self) -> Option<usize> {
        None
    }

    /// Appends `commit` if its expectation holds. A repeated request (same id, same fingerprint) writes nothing and returns the first commit,
    /// whatever the expectation. A refused commit leaves nothing behind, so its request id is still free. A commit without events is refused, see
    /// [`Commit::require_events`].
    ///
    /// # Errors
    /// [`AppendError`] says why the append failed and whether anything may have been written.
    async fn append(&self, commit: Commit) -> Result<Appended, AppendError>;

    /// The commit that an earlier attempt of `request` on `stream` made, if any. In [`RequestScope::Log`] `stream` is ignored: the result names the
    /// stream of the first attempt.
    ///
    /// # Errors
    /// [`AppendError::RequestIdReused`] if the id was used with another payload; [`AppendError::Store`].
    async fn find_request(&self, stream: StreamId, request: &RequestKey) -> Result<Option<Appended>, AppendError>;

    /// Up to `max_events` events of one stream, starting with revision `from` (inclusive) in `direction`; empty for an unknown stream. Forward, 0
    /// means the same as 1; backward, any number beyond the last revision means the last. A read stops early at [`MAX_READ_EVENTS`] or
    /// [`MAX_READ_BYTES`], but returns at least one event if one exists (and `max_events` is not 0).
    ///
    /// # Errors
    /// [`StoreError`].
    async fn read_stream(
        &self,
        stream: StreamId,
        from: Revision,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError>;

    /// Up to `max_events` events of the whole log: forward those after `from`, backward those before it (both exclusive). Any number is a valid
    /// `from`. A read stops early at [`MAX_READ_EVENTS`] or [`MAX_READ_BYTES`], but returns at least one event if one exists (and `max_events` is not
    /// 0).
    ///
    /// # Errors
    /// [`StoreError`].
    async fn read_log(
        &self,
        from: Position,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError>;

    /// The events of the whole log after `point`, which was read on this connection, up to `bound`; otherwise as a forward [`EventStore::read_log`]. A
    /// store whose log may be restored while the connection stays open verifies that the event at `point` still exists.
    ///
    /// # Errors
    /// [`StoreError`]; if the event is missing the node reconnects, so that the reader verifies its point.
    async fn read_after(&self, point: LogPoint, bound: ReadBound) -> Result<Vec<StoredEvent>, StoreError> {
        let mut events = self.read_log(point.position, Direction::Forward, bound.max_events).await?;
        bound.cut(&mut events);
        Ok(events)
    }

    /// The commits that begin after `from`, each whole and with its request key, oldest first: about `max_events` events. The first commit is
    /// returned whatever its size (if `max_events` is not 0). More follow while the total is at most `max_events` and [`MAX_READ_EVENTS`] events, and
    /// until a commit brings it to [`MAX_READ_BYTES`]. Empty at the end of the log.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn read_commits(&self, from: Position, max_events: usize) -> Result<Vec<RecordedCommit>, StoreError>;

    /// Appends `commits`, at most a page of [`EventStore::read_commits`], in this order; returns the position of the last event. Each commit must
    /// name its stream's previous revision: no stream, or an exact one. On failure the log holds a prefix of `commits` and nothing of the rest, so a
    /// copied log keeps its order. There must be one such writer at a time; concurrent writers may make the call fail, but cannot break the order.
    ///
    /// # Errors
    /// As [`EventStore::append`] for the first commit that was not appended; [`AppendError::RequestIdReused`] for a known request id, even with the
    /// same payload. Earlier commits may have been appended: check the end of the log.
    async fn append_all(&self, commits: Vec<Commit>) -> Result<Position, AppendError> {
        let mut last = self.head().await?;
        for commit in commits {
            let appended = self.append(commit).await?;
            if appended.replayed {
                return Err(AppendError::RequestIdReused);
            }
            last = appended.position;
        }
        Ok(last)
    }

    /// The position of the last event of the log; zero for an empty log.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn head(&self) -> Result<Position, StoreError>;

    /// A position at or after every commit that any node had acknowledged before this call; only for [`EventStore::contains`]. A store whose reads
    /// are always current needs none.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn confirmed(&self) -> Result<Position, StoreError> {
        Ok(Position(0))
    }

    /// Whether a read of `stream`, whose last event then had `revision` (0: it was empty), included everything up to `position`. The result is exact,
    /// even where plain reads may lag behind acknowledged commits.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn contains(&self, stream: StreamId, revision: Revision, position: Position) -> Result<bool, StoreError> {
        let _ = (stream, revision, position);
        Ok(true)
    }

    /// Whether a read of `stream`, whose last event then had `revision` (0: it was empty), included every commit that any node had acknowledged
    /// before this call. Callers must check this before they refuse anything based on the read.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn confirms(&self, stream: StreamId, revision: Revision) -> Result<bool, StoreError> {
        let position = self.confirmed().await?;
        self.contains(stream, revision, position).await
    }

    /// The position of the last event, as [`EventStore::head`], in a log with every commit that any node had acknowledged before this call.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn confirmed_head(&self) -> Result<Position, StoreError> {
        self.head().await
    }

    /// Checks that reads made since [`EventStore::connections`] was `connection` came from the server to which all nodes write. Call it after a read
    /// that must be strong or has a token, and before a refusal: another node may already use a server that has replaced this node's server. A store
    /// whose connection cannot outlive its server's role needs no such check.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if that is uncertain, or the connection has changed.
    async fn confirm_connection(&self, connection: u64) -> Result<(), StoreError> {
        let _ = connection;
        Ok(())
    }

    /// The approximate number of events after `from` up to `to`: for humans, since positions may have gaps.
    fn distance(&self, from: Position, to: Position) -> u64 {
        to.0.saturating_sub(from.0)
    }

    /// The last position that the entry after `from` may hold, if it can be computed: lets a reader skip an unreadable entry.
    fn past_entry(&self, from: Position) -> Position {
        Position(from.0.saturating_add(1))
    }

    /// Checks every index against the log: each entry of an index must lead to its event. Returns up to a thousand that do not. Empty where the log is
    /// the only structure; missing events then show as a gap.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn check_indexes(&self) -> Result<Vec<IndexDamage>, StoreError> {
        Ok(Vec::new())
    }

    /// Which entries are missing from the log, for humans, whether a reader still needs them or not; `None` if none is missing, or if the numbers of
    /// the entries do not reveal it.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn missing_entries(&self) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    /// How often a check has found more entries missing than before; 0 where the numbers of the entries cannot tell.
    fn losses_found(&self) -> u64 {
        0
    }

    /// Changes after an append. It is only a hint to read: it may be late, or repeat.
    fn wake(&self) -> watch::Receiver<Position>;

    /// Its server, for messages; `None` if it is none, or has no name here.
    fn server(&self) -> Option<ServerName> {
        None
    }

    /// Why the store is known to be unreachable, without a call: there is no connection, and a new one is being made. Its outcome is logged at the
    /// source, once per change. `None` while connected, and for a store within the process.
    fn unreachable(&self) -> Option<String> {
        None
    }

    /// What threatens the store while it works, for humans: the loss of one more server would stop it. It makes no call.
    fn at_risk(&self) -> Option<String> {
        None
    }

    /// Why calls are known to fail now, where that is logged at its source: the store is unreachable, or its circuit breaker refuses calls. Work that
    /// fails in the meantime need not log it.
    fn known_outage(&self) -> Option<String> {
        self.unreachable()
    }

    /// Whether the store can be written and read now.
    ///
    /// # Errors
    /// [`StoreError`] gives the reason if it cannot.
    async fn check(&self) -> Result<(), StoreError>;
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
