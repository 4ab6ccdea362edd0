//! A node's memory of the newest streams, so that an append needs one round trip.
//!
//! It may be stale: every publish names the sequence that it assumes, and NATS refuses it if the stream has moved on.

use std::{collections::HashMap, sync::Arc};

use quick_cache::{Weighter, sync::Cache};
use tokio::sync::Mutex;

use super::commit::{StoredCommit, last_position};
use crate::ports::event_store::{AppendError, Appended, RequestKey, RequestScope, Revision, StoreError, StreamId};

/// The capacity: a stream counts one, and one more for each [`REQUESTS_A_UNIT`] request ids.
const CAPACITY: u64 = 65_536;
const REQUESTS_A_UNIT: usize = 4;

/// The known state of one stream. A writer holds the lock while it appends, so that the writers of one node do not race each other.
pub(super) type SharedStreamState = Arc<Mutex<StreamState>>;

/// The streams that are remembered.
#[derive(Debug)]
pub(super) struct Streams(Cache<u64, CacheEntry, EntryWeighter>);

/// The state with its weight at insertion: the cache requires that a value's weight does not change.
#[derive(Clone, Debug)]
struct CacheEntry {
    known: SharedStreamState,
    weight: u64,
}

/// The end of a stream, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct StreamState {
    /// The sequence and the revision of its last event; `None`: unknown. Zeros: there is no such stream.
    pub end: Option<End>,
    /// The request ids of all its commits up to there; `None`: unknown.
    pub requests: Option<HashMap<Arc<str>, KnownRequest>>,
    /// How many commits it has, if `requests` is known.
    commits: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    pub sequence: u64,
    pub revision: Revision,
}

/// The commit of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct KnownRequest {
    fingerprint: u128,
    first_revision: Revision,
    last_revision: Revision,
    sequence: u64,
}

#[derive(Clone, Copy, Debug)]
struct EntryWeighter;

impl Weighter<u64, CacheEntry> for EntryWeighter {
    fn weight(&self, _: &u64, weighed: &CacheEntry) -> u64 {
        weighed.weight
    }
}

impl Streams {
    pub(super) fn new() -> Self {
        Self(Cache::with_weighter(CAPACITY as usize, CAPACITY, EntryWeighter))
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.0.clear();
    }

    /// The known state of `stream`.
    pub(super) fn of(&self, stream: StreamId) -> SharedStreamState {
        let new = || Ok::<_, std::convert::Infallible>(CacheEntry { known: SharedStreamState::default(), weight: 1 });
        match self.0.get_or_insert_with(&stream.0, new) {
            Ok(weighed) => weighed.known,
            Err(never) => match never {},
        }
    }

    /// Updates the weight of `stream` if it has gained many request ids.
    pub(super) fn update_weight(&self, stream: StreamId, known: &SharedStreamState, state: &StreamState) {
        let requests = state.requests.as_ref().map_or(0, HashMap::len);
        if requests >= REQUESTS_A_UNIT && requests.is_power_of_two() {
            let weight = 1 + (requests / REQUESTS_A_UNIT) as u64;
            self.0.insert(stream.0, CacheEntry { known: Arc::clone(known), weight });
        }
    }

    /// Records a stream from its first commit on.
    pub(super) fn observe_whole<'a>(&self, stream: StreamId, commits: impl Iterator<Item = &'a StoredCommit>) {
        if let Ok(mut state) = self.of(stream).try_lock() {
            if state.requests.is_none() {
                *state = StreamState::empty();
            }
            commits.for_each(|commit| state.observe(commit));
        }
    }

    /// Records a commit that another node may have made. A writer that holds the stream finds it by itself.
    pub(super) fn observe(&self, commit: &StoredCommit) {
        let known = match self.0.peek(&commit.stream.0) {
            Some(weighed) => weighed.known,
            // A stream seen from its first commit on is known completely.
            None if commit.first_revision == 1 => self.of(commit.stream),
            None => return,
        };
        if let Ok(mut state) = known.try_lock() {
            state.observe(commit);
        }
    }
}

impl StreamState {
    /// A stream that does not exist.
    pub(super) fn empty() -> Self {
        Self { end: Some(End::default()), requests: Some(HashMap::new()), commits: 0 }
    }

    /// A stream of which only the end is known.
    pub(super) const fn ending(end: End) -> Self {
        Self { end: Some(end), requests: None, commits: 0 }
    }

    /// How many commits it has up to its end; `None`: unknown.
    pub(super) fn commits(&self) -> Option<u64> {
        self.requests.is_some().then_some(self.commits)
    }

    /// Adds the commit that follows the known ones; after a gap, drops the state that is no longer valid.
    pub(super) fn observe(&mut self, commit: &StoredCommit) {
        if self.end.is_some_and(|end| commit.sequence <= end.sequence) {
            return;
        }
        if commit.first_revision == 1 {
            *self = Self::empty();
        }
        let Some(end) = self.end else { return };
        if commit.first_revision != end.revision + 1 {
            (self.end, self.requests) = (None, None);
            return;
        }
        self.end = Some(End { sequence: commit.sequence, revision: commit.last_revision() });
        self.commits += 1;
        if let (Some(requests), Some(request)) = (&mut self.requests, &commit.request)
            && request.scope == RequestScope::Stream
        {
            requests.insert(
                Arc::clone(&request.id),
                KnownRequest {
                    fingerprint: request.fingerprint,
                    first_revision: commit.first_revision,
                    last_revision: commit.last_revision(),
                    sequence: commit.sequence,
                },
            );
        }
    }

    /// Like `observe`, for a commit just read, which must follow.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] names the gap.
    pub(super) fn follow(&mut self, commit: &StoredCommit) -> Result<(), StoreError> {
        let expected = self.end.unwrap_or_default().revision + 1;
        if commit.first_revision != expected {
            return Err(gap(commit, expected));
        }
        self.observe(commit);
        Ok(())
    }

    /// The commit that was made with this id, if the id is known.
    ///
    /// # Errors
    /// [`AppendError::RequestIdReused`] if it was made of another payload.
    pub(super) fn find(&self, stream: StreamId, request: &RequestKey) -> Result<Option<Appended>, AppendError> {
        let Some(remembered) = self.requests.as_ref().and_then(|requests| requests.get(&request.id)) else {
            return Ok(None);
        };
        if remembered.fingerprint != request.fingerprint {
            return Err(AppendError::RequestIdReused);
        }
        Ok(Some(Appended {
            stream,
            first_revision: remembered.first_revision,
            last_revision: remembered.last_revision,
            position: last_position(remembered.sequence),
            replayed: true,
        }))
    }
}

/// The error for a commit that does not follow the previous one.
pub(super) fn gap(commit: &StoredCommit, expected: Revision) -> StoreError {
    StoreError::Corrupt(format!(
        "message {} of the log begins with revision {} of order {}, where {expected} must follow",
        commit.sequence, commit.first_revision, commit.stream
    ))
}
