//! The event store: one log of all commits, read as a whole or one stream at a time.
//!
//! What every backend guarantees, held by one contract suite:
//! - **Atomic**: a commit's events are all there or none is; expected revision and request id are checked in the same step.
//! - **Gapless**: the revisions of a stream are 1, 2, 3 …
//! - **Ordered**: positions grow in commit order. A reader that has seen position p will never see a new event at or below p.
//! - **Readable when acknowledged**: a read that starts after an append returned sees it.
//! - **Once a request**: a request id takes effect once, for as long as the stream lives.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

mod confirmations;
mod follower;
mod second_look;
mod token_key;

pub use confirmations::Confirmations;
pub use follower::{Foothold, LogFollower, LogPoint, LogWake, fingerprint};
pub use second_look::{ReadError, confirmed, on_one};
pub use token_key::{NoRandomness, TokenKey};

/// The most events that one read returns.
pub const MAX_READ_EVENTS: usize = 4_096;
/// A read stops after the event that brings it to this many payload bytes.
pub const MAX_READ_BYTES: usize = 8 * 1024 * 1024;

/// The name of a stream: the number of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// The place of an event in its stream: 1, 2, 3 …; 0 stands before the first.
pub type Revision = u64;

/// The place of an event in the whole log; grows in commit order, gaps allowed. Zero stands before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// Which log it is: positions of one log mean nothing in another. Made once, when the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogId(pub u32);

/// What the writer believes about the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedRevision {
    /// Nothing.
    Any,
    /// The stream has no events.
    NoStream,
    /// The stream has events.
    Exists,
    /// The last event of the stream has this revision.
    Exactly(Revision),
    /// The last event of the stream has this revision, and was read at this position of the log. A store that may fail over to a log with other
    /// events compares both: a command that was decided on what has been lost since must not be written after something else.
    After {
        /// The revision.
        revision: Revision,
        /// The position.
        position: Position,
    },
}

impl ExpectedRevision {
    /// Whether a stream whose last revision is `actual` (0: no stream) is as expected.
    #[must_use]
    pub const fn holds(self, actual: Revision) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => actual == 0,
            Self::Exists => actual > 0,
            Self::Exactly(expected) | Self::After { revision: expected, .. } => actual == expected,
        }
    }

    /// The revision that the stream must have, if it is a certain one.
    #[must_use]
    pub const fn revision(self) -> Option<Revision> {
        match self {
            Self::Any | Self::Exists => None,
            Self::NoStream => Some(0),
            Self::Exactly(revision) | Self::After { revision, .. } => Some(revision),
        }
    }
}

/// Among which commits a request id is unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestScope {
    /// Among the commits of its stream.
    Stream,
    /// Among all commits of this scope, whatever their stream: for a command whose stream is new with each try.
    Log,
}

/// The client's idempotency key, with what tells one payload from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// Where the id is unique.
    pub scope: RequestScope,
    /// The id, 1 to 128 visible ASCII characters.
    pub id: Arc<str>,
    /// A hash of the payload: the same for a retry, another for another payload.
    pub fingerprint: u128,
}

/// Which commit it is, whatever became of it: a backend that has lost the answer to an append looks for it by this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CommitId(pub u128);

impl CommitId {
    /// A new one. Random, and so unlike any other for all practical purposes.
    #[must_use]
    pub fn random() -> Self {
        Self(fastrand::u128(..))
    }
}

/// The events of one command, to be appended all or nothing.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Which commit it is.
    pub id: CommitId,
    /// Where to.
    pub stream: StreamId,
    /// On what condition.
    pub expected: ExpectedRevision,
    /// The idempotency key, if the command has one.
    pub request: Option<RequestKey>,
    /// The encoded events, at least one.
    pub events: Vec<Bytes>,
}

/// Where a commit stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The stream: the one of the first try when a [`RequestScope::Log`] request is repeated.
    pub stream: StreamId,
    /// The revision of its first event.
    pub first_revision: Revision,
    /// The revision of its last event.
    pub last_revision: Revision,
    /// The position of its last event.
    pub position: Position,
    /// The commit was there already: an earlier try with the same request id made it.
    pub replayed: bool,
}

/// One event as the log holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its stream.
    pub stream: StreamId,
    /// Its place in the stream.
    pub revision: Revision,
    /// Its place in the log.
    pub position: Position,
    /// Its encoded content, exactly as appended.
    pub payload: Bytes,
}

/// One commit as the log holds it: what somebody needs to make the same commit in another log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedCommit {
    /// The idempotency key that it was made with, if it had one.
    pub request: Option<RequestKey>,
    /// Its events, at least one, all of one stream and in order.
    pub events: Vec<StoredEvent>,
}

impl RecordedCommit {
    /// The same commit for another log, where its stream must stand as it stood here.
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

/// What [`EventStore::read_commits`] returns, as it is gathered: one commit, and then as many as the bounds allow.
#[derive(Debug, Default)]
pub struct CommitPage {
    max_events: usize,
    events: usize,
    bytes: usize,
    commits: Vec<RecordedCommit>,
}

impl CommitPage {
    /// An empty one for up to `max_events` events.
    #[must_use]
    pub fn new(max_events: usize) -> Self {
        Self { max_events: max_events.min(MAX_READ_EVENTS), ..Self::default() }
    }

    /// Whether it takes no more, however small.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.events >= self.max_events || self.bytes >= MAX_READ_BYTES
    }

    /// Takes the next commit, if it is the first or does not make too many events; answers whether it did.
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

    /// How many events it takes at the most, besides those that it has.
    #[must_use]
    pub const fn missing(&self) -> usize {
        self.max_events.saturating_sub(self.events)
    }

    /// The commits that it has taken.
    #[must_use]
    pub fn into_commits(self) -> Vec<RecordedCommit> {
        self.commits
    }
}

/// Which way to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Older to newer.
    Forward,
    /// Newer to older.
    Backward,
}

impl Commit {
    /// Refuses a commit without events, which would be a bug of the caller: every backend asks this first, so that all refuse it
    /// alike.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], since trying again does not help.
    pub fn require_events(&self) -> Result<(), AppendError> {
        if self.events.is_empty() {
            return Err(AppendError::Store(StoreError::Corrupt("a commit without events".into())));
        }
        Ok(())
    }
}

/// What an acknowledged commit survives, as found and not as hoped for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Not known yet: the store has not been reached since the start, so nothing has been acknowledged either.
    Unknown,
    /// Nothing: it is gone when the process ends.
    None,
    /// The end of the service process.
    Process,
    /// A power loss of the machine that stores.
    Machine,
    /// The loss of a minority of the machines that store.
    Quorum,
}

impl Durability {
    /// The name in logs, health and API.
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

    /// The number in metrics, which grows with what is survived; -1 while it is not known.
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

/// Why an append did not happen, or may not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// The stream is not as expected. Reload, decide again.
    Conflict {
        /// The last revision of the stream; 0: no stream.
        actual: Revision,
    },
    /// The request id was used before with another payload. Never retry.
    RequestReused,
    /// The store is out of space. Nothing was written.
    Full(String),
    /// The commit is larger than the store takes. Nothing was written, and nothing will be before an operator changes `setting`.
    TooLarge {
        /// Where it was to go.
        stream: StreamId,
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        max_bytes: usize,
        /// What of the store's own settings says so.
        setting: &'static str,
    },
    /// The deadline of the call had passed before the commit was begun. Nothing was written.
    TooLate,
    /// The store does not know whether the commit was written. Look for it before trying again.
    OutcomeUnknown(String),
    /// The store failed; nothing was written.
    Store(StoreError),
}

/// Why the store could not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// Out of reach or overloaded. Trying again helps.
    Unavailable(String),
    /// What it holds is damaged. Trying again does not help; nothing damaged is ever returned.
    Corrupt(String),
    /// The log no longer has what was read from it before: it was put back to an earlier state, or lost its end. Trying again does not
    /// help; reading from the beginning does.
    LogReplaced(String),
}

/// The log and its streams. See the module for what every backend guarantees.
#[async_trait]
pub trait EventStore: fmt::Debug + Send + Sync + 'static {
    /// Which log this is; `None` until the store has been reached for the first time. Once known it stays the same.
    fn log_id(&self) -> Option<LogId>;

    /// The key of the log, which every store of the same log knows, for tokens that nobody else can make. Known when the log is and before
    /// anything is appended; `None` for a store that was opened to be read only, and looks for none.
    fn token_key(&self) -> Option<TokenKey>;

    /// Changes each time that this node has connected to the store again: what was read before may no longer be there, since the store may
    /// have been restored or have failed over meanwhile. Changes before anything is read on the new connection. A store within the process
    /// never changes it.
    fn connections(&self) -> watch::Receiver<u64>;

    /// What an acknowledged commit survives; [`Durability::Unknown`] until the store has been reached for the first time.
    fn durability(&self) -> Durability;

    /// Why it is that, for people: what was found and what was asserted; `None` where the name says it all.
    fn durability_detail(&self) -> Option<String> {
        None
    }

    /// How large a commit may be, in bytes of its events, where the store has a bound of its own that is known.
    fn max_commit_bytes(&self) -> Option<usize> {
        None
    }

    /// Appends `commit` if its expectation holds. A repeated request (same id, same fingerprint) writes nothing and answers with
    /// the first commit, whatever the expectation. A refused commit leaves nothing behind, so its request id is still free.
    /// A commit without events is refused, see [`Commit::require_events`].
    ///
    /// # Errors
    /// [`AppendError`] says what happened and whether anything may have been written.
    async fn append(&self, commit: Commit) -> Result<Appended, AppendError>;

    /// The commit that an earlier try of `request` on `stream` has made, if any. In [`RequestScope::Log`] `stream` is ignored: the
    /// answer names the stream of the first try.
    ///
    /// # Errors
    /// [`AppendError::RequestReused`] if the id was used with another payload; [`AppendError::Store`].
    async fn find_request(&self, stream: StreamId, request: &RequestKey) -> Result<Option<Appended>, AppendError>;

    /// Up to `max_events` events of one stream, starting with revision `from` (inclusive) in `direction`; empty for an unknown stream.
    /// Forward, 0 means the same as 1; backward, any number beyond the last revision means the last. Returns fewer at
    /// [`MAX_READ_EVENTS`] or [`MAX_READ_BYTES`], but at least one if there is one (and `max_events` is not 0).
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

    /// Up to `max_events` events of the whole log: forward those after `from`, backward those before it (both exclusive), any
    /// number being good for `from`. Returns fewer at [`MAX_READ_EVENTS`] or [`MAX_READ_BYTES`], but at least one if there is one
    /// (and `max_events` is not 0).
    ///
    /// # Errors
    /// [`StoreError`].
    async fn read_log(
        &self,
        from: Position,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError>;

    /// Up to `max_events` events of the whole log after `point`, which has been read on this connection: what [`EventStore::read_log`] reads forward.
    /// A store whose log may be put back while the connection stays open makes sure that the event at `point` is there still.
    ///
    /// # Errors
    /// [`StoreError`]; where the event is not there the node connects again, so that whoever reads looks for it.
    async fn read_after(&self, point: LogPoint, max_events: usize) -> Result<Vec<StoredEvent>, StoreError> {
        self.read_log(point.position, Direction::Forward, max_events).await
    }

    /// The commits that begin after `from`, each whole and with its request key, oldest first: about `max_events` events. The first
    /// is returned whatever its size (if `max_events` is not 0), the next ones while all together have no more than `max_events` and
    /// [`MAX_READ_EVENTS`] events; none after the one that brings them to [`MAX_READ_BYTES`]. Empty at the end of the log.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn read_commits(&self, from: Position, max_events: usize) -> Result<Vec<RecordedCommit>, StoreError>;

    /// Appends `commits`, no more than a page of [`EventStore::read_commits`], in this order; answers the position of the last event. Each must
    /// name the revision before it: no stream, or exactly which. Whatever happens, what the log then has of them is the first few and
    /// nothing of the rest: for whoever moves a log, whose order must stay. To be used by one writer at a time; others that write
    /// meanwhile may make it fail, not break the order.
    ///
    /// # Errors
    /// As [`EventStore::append`] for the first commit that was not appended; [`AppendError::RequestReused`] for a request id that is known, also
    /// with the same payload. Those before it may have been appended: look at the end of the log.
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

    /// A position that no commit which was acknowledged before this call stands after, anywhere: for [`EventStore::contains`], and nothing
    /// else. A store whose reads always show the newest needs none.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn confirmed(&self) -> Result<Position, StoreError> {
        Ok(Position(0))
    }

    /// Whether what has been read of `stream`, whose last event then had `revision` (0: there was none), has everything up to `position`.
    /// Where reads may show less than has been acknowledged, this does not.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn contains(&self, stream: StreamId, revision: Revision, position: Position) -> Result<bool, StoreError> {
        let _ = (stream, revision, position);
        Ok(true)
    }

    /// Whether what has been read of `stream`, whose last event then had `revision` (0: there was none), has everything that was
    /// acknowledged before this call, anywhere. To be asked before anything is refused on it.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn confirms(&self, stream: StreamId, revision: Revision) -> Result<bool, StoreError> {
        let position = self.confirmed().await?;
        self.contains(stream, revision, position).await
    }

    /// The position of the last event, as [`EventStore::head`], of a log that has everything that was acknowledged before this call, anywhere.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn confirmed_head(&self) -> Result<Position, StoreError> {
        self.head().await
    }

    /// Checks that what has been read since [`EventStore::connections`] was `connection` was read where all nodes write. To be asked after a read
    /// that must be strong or has a token, and before anything is refused: another node may use a server already that has taken the place of this
    /// one's. A store whose connection cannot outlive its server's office needs none.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where that is not certain, or the connection is another one by now.
    async fn confirm_connection(&self, connection: u64) -> Result<(), StoreError> {
        let _ = connection;
        Ok(())
    }

    /// About how many events lie after `from` up to `to`: for people, who cannot tell from positions, which may leave gaps.
    fn distance(&self, from: Position, to: Position) -> u64 {
        to.0.saturating_sub(from.0)
    }

    /// The last position that the entry after `from` may hold, where one can be told by its place: to read on behind an entry that cannot be read.
    fn past_entry(&self, from: Position) -> Position {
        Position(from.0.saturating_add(1))
    }

    /// Looks from everything that points into the log to the log: one sentence for each order or request whose events are gone, up to a
    /// thousand. Nothing where the log is the only place: what is gone then shows as a gap.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn check_indexes(&self) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    /// Changes when something has been appended. A hint to read, never the truth: it may be late, or repeat.
    fn wake(&self) -> watch::Receiver<Position>;

    /// Why the store is known to be unreachable, without asking it: there is no connection, and another one is being made. What comes of that
    /// is said in the log where it is found, once a change. `None` while it is connected, and for a store within the process.
    fn unreachable(&self) -> Option<String> {
        None
    }

    /// Whether the store can be written and read now.
    ///
    /// # Errors
    /// [`StoreError`] says what is wrong.
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
