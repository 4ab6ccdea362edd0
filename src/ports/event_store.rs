//! The event store: one log of all commits, read as a whole or by stream.
//!
//! Every backend guarantees the following, held by one contract suite:
//! - **Atomic**: a commit is appended all or nothing; expected revision and request id are checked in the same step.
//! - **Gapless**: the revisions of a stream are 1, 2, 3 …
//! - **Ordered**: positions grow in commit order. A reader that has seen position p will never see a new event at or below p.
//! - **Readable when acknowledged**: a read that starts after an append returned sees it.
//! - **Once per request**: a request id takes effect once, for as long as the stream lives.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

mod confirmations;
mod follower;
mod log_loss;
mod second_look;
mod token_key;

pub use confirmations::Confirmations;
pub use follower::{Foothold, LogFollower, LogPoint, LogWake, fingerprint};
pub use log_loss::{LogLoss, LossKind};
pub use second_look::{ReadError, confirmed, on_one};
pub use token_key::{NoRandomness, TokenKey};

/// The maximum number of events that one read returns.
pub const MAX_READ_EVENTS: usize = 4_096;
/// A read stops after the event that brings it to this many payload bytes.
pub const MAX_READ_BYTES: usize = 8 * 1024 * 1024;

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

/// The writer's expectation about the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedRevision {
    /// No expectation.
    Any,
    /// The stream has no events.
    NoStream,
    /// The stream has events.
    Exists,
    /// The last event of the stream has this revision.
    Exactly(Revision),
    /// The last event of the stream has this revision, and was read at this position of the log. A store that may fail over to a log with other
    /// events compares both: a command decided on a lost event must not be written after a different one.
    After {
        /// The revision.
        revision: Revision,
        /// The position.
        position: Position,
    },
}

impl ExpectedRevision {
    /// Whether a stream whose last revision is `actual` (0: no stream) matches the expectation.
    #[must_use]
    pub const fn holds(self, actual: Revision) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => actual == 0,
            Self::Exists => actual > 0,
            Self::Exactly(expected) | Self::After { revision: expected, .. } => actual == expected,
        }
    }

    /// The exact revision that the stream must have, if the expectation names one.
    #[must_use]
    pub const fn revision(self) -> Option<Revision> {
        match self {
            Self::Any | Self::Exists => None,
            Self::NoStream => Some(0),
            Self::Exactly(revision) | Self::After { revision, .. } => Some(revision),
        }
    }
}

/// The set of commits within which a request id is unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestScope {
    /// Among the commits of its stream.
    Stream,
    /// Among all commits of this scope, in any stream: for a command that creates a new stream on each attempt.
    Log,
}

/// The client's idempotency key, with a fingerprint of the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// The scope within which the id is unique.
    pub scope: RequestScope,
    /// The id, 1 to 128 visible ASCII characters.
    pub id: Arc<str>,
    /// A hash of the payload: equal for a retry, different for another payload.
    pub fingerprint: u128,
}

/// The identity of a commit, whatever its outcome. A backend that did not receive the reply to an append finds the commit by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CommitId(pub u128);

impl CommitId {
    /// A new random id, unique for all practical purposes.
    #[must_use]
    pub fn random() -> Self {
        Self(fastrand::u128(..))
    }
}

/// The events of one command, to be appended all or nothing.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The identity of the commit.
    pub id: CommitId,
    /// The target stream.
    pub stream: StreamId,
    /// The condition of the append.
    pub expected: ExpectedRevision,
    /// The idempotency key, if the command has one.
    pub request: Option<RequestKey>,
    /// The encoded events, at least one.
    pub events: Vec<Bytes>,
}

/// The position of a commit in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The stream; for a repeated [`RequestScope::Log`] request, the stream of the first attempt.
    pub stream: StreamId,
    /// The revision of its first event.
    pub first_revision: Revision,
    /// The revision of its last event.
    pub last_revision: Revision,
    /// The position of its last event.
    pub position: Position,
    /// The commit already existed: an earlier attempt with the same request id made it.
    pub replayed: bool,
}

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

/// One commit as stored in the log, with everything needed to make the same commit in another log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedCommit {
    /// The idempotency key of the commit, if it has one.
    pub request: Option<RequestKey>,
    /// Its events, at least one, all of one stream and in order.
    pub events: Vec<StoredEvent>,
}

impl RecordedCommit {
    /// The same commit for another log, where its stream must be at the same revision.
    #[must_use]
    pub fn to_commit(&self) -> Commit {
        let (stream, first) = self.events.first().map_or((StreamId(0), 1), |event| (event.stream, event.revision));
        let expected = match first.saturating_sub(1) {
            0 => ExpectedRevision::NoStream,
            before => ExpectedRevision::Exactly(before),
        };
        Commit {
            id: CommitId::random(),
            stream,
            expected,
            request: self.request.clone(),
            events: self.events.iter().map(|event| event.payload.clone()).collect(),
        }
    }

    /// The position of its last event.
    #[must_use]
    pub fn position(&self) -> Position {
        self.events.last().map_or(Position(0), |event| event.position)
    }

    fn bytes(&self) -> usize {
        self.events.iter().map(|event| event.payload.len()).sum()
    }
}

/// Collects the result of [`EventStore::read_commits`]: one commit, and then as many as the bounds allow.
#[derive(Debug, Default)]
pub struct CommitPage {
    max_events: usize,
    events: usize,
    bytes: usize,
    commits: Vec<RecordedCommit>,
}

impl CommitPage {
    /// An empty page for up to `max_events` events.
    #[must_use]
    pub fn new(max_events: usize) -> Self {
        Self { max_events: max_events.min(MAX_READ_EVENTS), ..Self::default() }
    }

    /// Whether the page is full, even for the smallest commit.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.events >= self.max_events || self.bytes >= MAX_READ_BYTES
    }

    /// Adds the next commit, if it is the first or fits; returns whether it was added.
    pub fn take(&mut self, commit: RecordedCommit) -> bool {
        let fits = self.commits.is_empty() || self.events + commit.events.len() <= self.max_events;
        if self.is_full() || !fits {
            return false;
        }
        self.events += commit.events.len();
        self.bytes += commit.bytes();
        self.commits.push(commit);
        true
    }

    /// How many more events fit.
    #[must_use]
    pub const fn missing(&self) -> usize {
        self.max_events.saturating_sub(self.events)
    }

    /// The collected commits.
    #[must_use]
    pub fn into_commits(self) -> Vec<RecordedCommit> {
        self.commits
    }
}

/// The direction of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Older to newer.
    Forward,
    /// Newer to older.
    Backward,
}

impl Commit {
    /// Refuses a commit without events, which would be a bug of the caller. Every backend calls this first, so that all refuse it alike.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], since a retry does not help.
    pub fn require_events(&self) -> Result<(), AppendError> {
        if self.events.is_empty() {
            return Err(AppendError::Store(StoreError::Corrupt("a commit without events".into())));
        }
        Ok(())
    }
}

/// What an acknowledged commit survives, as detected from the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Not known yet: the store has not been reached since the start, so nothing has been acknowledged.
    Unknown,
    /// Nothing: commits are lost when the process ends.
    None,
    /// The end of the service process.
    Process,
    /// A power loss of the storing machine.
    Machine,
    /// The loss of a minority of the storing machines.
    Quorum,
}

impl Durability {
    /// The name in logs, health reports and the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::None => "none",
            Self::Process => "process",
            Self::Machine => "machine",
            Self::Quorum => "quorum",
        }
    }

    /// The number in metrics, which grows with the durability; -1 while it is unknown.
    #[must_use]
    pub const fn level(self) -> f64 {
        match self {
            Self::Unknown => -1.0,
            Self::None => 0.0,
            Self::Process => 1.0,
            Self::Machine => 2.0,
            Self::Quorum => 3.0,
        }
    }
}

/// Why an append did not happen, or may not have happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// The stream does not match the expectation. Reload and decide again.
    Conflict {
        /// The last revision of the stream; 0: no stream.
        actual: Revision,
    },
    /// The request id was used before with another payload. Never retry.
    RequestReused,
    /// The store is out of space. Nothing was written.
    Full(String),
    /// The commit is larger than the store accepts. Nothing was written; retries fail until an operator changes `setting`.
    TooLarge {
        /// The target stream.
        stream: StreamId,
        /// Its size.
        bytes: usize,
        /// The maximum size.
        max_bytes: usize,
        /// The setting of the store that imposes the maximum.
        setting: &'static str,
    },
    /// The deadline of the call passed before the commit was begun. Nothing was written.
    TooLate,
    /// It is unknown whether the commit was written. Look it up before retrying.
    OutcomeUnknown(String),
    /// The store failed; nothing was written.
    Store(StoreError),
}

/// Why the store could not serve a read or write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The store is unreachable or overloaded. A retry may help.
    Unavailable(String),
    /// The stored data is damaged. A retry does not help; damaged data is never returned.
    Corrupt(String),
    /// The log no longer has events that were read from it before: it was restored to an earlier state, or lost its end. A retry does not help;
    /// reading from the beginning does.
    LogReplaced(String),
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
    /// have failed over meanwhile. It changes before anything is read on the new connection; for a store within the process, never.
    fn connections(&self) -> watch::Receiver<u64>;

    /// Whether the log that this store has been working on is gone, or another one is in its place. While it is, nothing is read or written. A store
    /// that cannot lose its log while it is open never changes this.
    fn log_loss(&self) -> watch::Receiver<Option<LogLoss>> {
        watch::channel(None).1
    }

    /// What an acknowledged commit survives; [`Durability::Unknown`] until the store has been reached for the first time.
    fn durability(&self) -> Durability;

    /// The reason for the durability, for people: what was detected and what was asserted; `None` where the name is self-explanatory.
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
    /// [`AppendError::RequestReused`] if the id was used with another payload; [`AppendError::Store`].
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

    /// Up to `max_events` events of the whole log after `point`, which was read on this connection; the same events as a forward
    /// [`EventStore::read_log`]. A store whose log may be restored while the connection stays open verifies that the event at `point` still exists.
    ///
    /// # Errors
    /// [`StoreError`]; if the event is missing the node reconnects, so that the reader verifies its point.
    async fn read_after(&self, point: LogPoint, max_events: usize) -> Result<Vec<StoredEvent>, StoreError> {
        self.read_log(point.position, Direction::Forward, max_events).await
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
    /// As [`EventStore::append`] for the first commit that was not appended; [`AppendError::RequestReused`] for a known request id, even with the
    /// same payload. Earlier commits may have been appended: check the end of the log.
    async fn append_all(&self, commits: Vec<Commit>) -> Result<Position, AppendError> {
        let mut last = self.head().await?;
        for commit in commits {
            let appended = self.append(commit).await?;
            if appended.replayed {
                return Err(AppendError::RequestReused);
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

    /// The approximate number of events after `from` up to `to`: for people, since positions may have gaps.
    fn distance(&self, from: Position, to: Position) -> u64 {
        to.0.saturating_sub(from.0)
    }

    /// The last position that the entry after `from` may hold, if it can be computed: lets a reader skip an unreadable entry.
    fn past_entry(&self, from: Position) -> Position {
        Position(from.0.saturating_add(1))
    }

    /// Checks every index against the log: one sentence for each order or request whose events are missing, up to a thousand. Empty where the log is
    /// the only structure; missing events then show as a gap.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn check_indexes(&self) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    /// Changes after an append. It is only a hint to read: it may be late, or repeat.
    fn wake(&self) -> watch::Receiver<Position>;

    /// Why the store is known to be unreachable, without a call: there is no connection, and a new one is being made. Its outcome is logged at the
    /// source, once per change. `None` while connected, and for a store within the process.
    fn unreachable(&self) -> Option<String> {
        None
    }

    /// Whether the store can be written and read now.
    ///
    /// # Errors
    /// [`StoreError`] says why not.
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

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(why) => write!(f, "the event store is unavailable: {why}"),
            Self::Corrupt(what) => write!(f, "the event store is damaged: {what}"),
            Self::LogReplaced(what) => write!(f, "the log has lost events: {what}"),
        }
    }
}

impl std::error::Error for StoreError {}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict { actual } => write!(f, "the stream is at revision {actual}"),
            Self::RequestReused => f.write_str("the request id was used with another payload"),
            Self::Full(why) => write!(f, "the event store is full: {why}"),
            Self::TooLarge { stream, bytes, max_bytes, setting } => write!(
                f,
                "a commit of {bytes} bytes to order {stream} is larger than the {max_bytes} that the event store takes: raise {setting}"
            ),
            Self::TooLate => f.write_str("the deadline passed before the commit was begun"),
            Self::OutcomeUnknown(why) => write!(f, "it is not known whether the commit was written: {why}"),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AppendError {}

impl From<StoreError> for AppendError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
