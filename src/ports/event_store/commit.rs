//! Commits: the events to append, the condition of the append, and the records that a log returns.

use std::sync::Arc;

use bytes::Bytes;

use super::{AppendError, MAX_READ_BYTES, MAX_READ_EVENTS, Position, Revision, StoreError, StoredEvent, StreamId};

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
    /// The id, 1 to 161 characters: visible ASCII characters, and spaces.
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

impl Commit {
    /// The size of all its events, in bytes.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.events.iter().map(Bytes::len).sum()
    }

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

/// Collects the result of [`EventStore::read_commits`](super::EventStore::read_commits): one commit, and then as many as the bounds allow.
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
