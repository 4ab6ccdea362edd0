//! The event store in memory: nothing survives the process.
//!
//! How an append is atomic: the stream's shard is locked from the check of the expected revision to the end of the append, and the log publishes all
//! events of a commit with one store. Locks are taken in this order, which prevents deadlocks: requests shard, streams shard, writer of the log.
//! Reads of the log take no lock that an append holds for long.

mod announcer;
mod log;

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::watch;

use self::{announcer::Announcer, log::Log};
use super::numbers::{NumberMap, SHARDS, shard};
use crate::ports::event_store::{
    AppendError, Appended, Commit, Direction, Durability, EventStore, LogId, Position, RecordedCommit, RequestKey,
    RequestScope, Revision, StoreError, StoredEvent, StreamId, TokenKey,
};

/// The default maximum number of events in a store.
pub const DEFAULT_MAX_EVENTS: u32 = 100_000_000;

/// An [`EventStore`] in the memory of this process. Durability: none.
#[derive(Debug)]
pub struct MemoryEventStore {
    id: LogId,
    token_key: Option<TokenKey>,
    max_events: u32,
    log: Arc<Log>,
    streams: Box<[RwLock<Streams>]>,
    requests: Box<[Mutex<LogRequests>]>,
    request_hasher: RandomState,
    announcer: Announcer,
}

type Streams = NumberMap<Stream>;
type LogRequests = HashMap<Arc<str>, LogRequest>;

/// The positions of a stream's events, and its requests of [`RequestScope::Stream`].
#[derive(Debug, Default)]
struct Stream {
    positions: Positions,
    /// Searched linearly: there is at most one per commit, and a stream has a handful of commits.
    requests: Box<[StreamRequest]>,
}

/// Positions by revision. The first few without an allocation: most streams never have more.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "a bare Vec would make the entry of every stream 8 bytes larger")]
enum Positions {
    Few { len: u8, positions: [u32; FEW] },
    Many(Box<Vec<u32>>),
}

const FEW: usize = 4;

#[derive(Debug)]
struct StreamRequest {
    id: Arc<str>,
    print: Fingerprint,
    first: u32,
    last: u32,
}

#[derive(Debug)]
struct LogRequest {
    print: Fingerprint,
    stream: u64,
    first: u32,
    last: u32,
    position: u32,
}

/// A `u128` without its alignment of 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint([u8; 16]);

impl MemoryEventStore {
    /// An empty store with its own log id, for up to `max_events` events; beyond that appends return [`AppendError::Full`].
    #[must_use]
    pub fn new(max_events: u32) -> Self {
        let log = Arc::new(Log::new());
        Self {
            id: LogId(fastrand::u32(1..)),
            // If the operating system has no random bytes, no tokens are issued.
            token_key: TokenKey::random().ok(),
            // One less than a u32 has, so that "the next position" always exists.
            max_events: max_events.min(u32::MAX - 1),
            announcer: Announcer::of(Arc::clone(&log)),
            log,
            streams: (0..SHARDS).map(|_| RwLock::default()).collect(),
            requests: (0..SHARDS).map(|_| Mutex::default()).collect(),
            request_hasher: RandomState::new(),
        }
    }

    fn streams(&self, stream: StreamId) -> &RwLock<Streams> {
        &self.streams[shard(stream.0)]
    }

    fn requests(&self, id: &str) -> MutexGuard<'_, LogRequests> {
        let shard = self.request_hasher.hash_one(id) as usize % SHARDS;
        self.requests[shard].lock()
    }

    fn append_once_in_log(&self, commit: Commit, request: &RequestKey) -> Result<Appended, AppendError> {
        let mut requests = self.requests(&request.id);
        if let Some(earlier) = requests.get(&request.id) {
            return earlier.repeat(request);
        }
        let appended = self.append_to_stream(commit, None)?;
        requests.insert(Arc::clone(&request.id), LogRequest::new(request, &appended));
        Ok(appended)
    }

    fn append_to_stream(&self, commit: Commit, request: Option<&RequestKey>) -> Result<Appended, AppendError> {
        let Commit { stream: id, expected, events, .. } = commit;
        let mut streams = self.streams(id).write();
        let entry = streams.entry(id.0);
        let before = match &entry {
            Entry::Vacant(_) => 0,
            Entry::Occupied(stream) => {
                let stream = stream.get();
                if let Some(request) = request
                    && let Some(earlier) = stream.find(id, request)?
                {
                    return Ok(earlier);
                }
                stream.positions.as_slice().len() as u32
            }
        };
        if !expected.holds(before.into()) {
            return Err(AppendError::Conflict { actual: before.into() });
        }
        let Some(positions) = self.log.append(id, before + 1, events, self.max_events) else {
            return Err(AppendError::Full(full(self.max_events)));
        };
        let stream = entry.or_default();
        positions.clone().for_each(|position| stream.positions.push(position));
        let last = stream.positions.as_slice().len() as u32;
        if let Some(request) = request {
            stream.remember(request, before + 1, last);
        }
        drop(streams);
        self.log.merge_filled(&positions);
        let position = Position((*positions.end()).into());
        self.announcer.announce();
        Ok(Appended {
            stream: id,
            first_revision: Revision::from(before) + 1,
            last_revision: last.into(),
            position,
            replayed: false,
        })
    }

    /// Adds the requests to their commits. A request is remembered under the lock of its append: a caller that gets the lock after it has seen the
    /// commit finds the request.
    fn add_requests(&self, commits: &mut [RecordedCommit]) {
        let mut by_position: HashMap<u64, &mut RecordedCommit> = HashMap::with_capacity(commits.len());
        for commit in commits {
            let Some((stream, last)) = commit.events.last().map(|event| (event.stream, event.revision)) else {
                continue;
            };
            let streams = self.streams(stream).read();
            commit.request = streams.get(&stream.0).and_then(|known| known.request_of(last));
            drop(streams);
            by_position.insert(commit.position().0, commit);
        }
        for shard in &self.requests {
            for (id, request) in shard.lock().iter() {
                if let Some(commit) = by_position.get_mut(&request.position.into()) {
                    commit.request = Some(request.print.key(RequestScope::Log, id));
                }
            }
        }
    }
}

impl Default for MemoryEventStore {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_EVENTS)
    }
}

#[async_trait]
impl EventStore for MemoryEventStore {
    fn log_id(&self) -> Option<LogId> {
        Some(self.id)
    }

    fn token_key(&self) -> Option<TokenKey> {
        self.token_key
    }

    fn connections(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }

    fn durability(&self) -> Durability {
        Durability::None
    }

    async fn append(&self, mut commit: Commit) -> Result<Appended, AppendError> {
        commit.require_events()?;
        match commit.request.take() {
            Some(request) if request.scope == RequestScope::Log => self.append_once_in_log(commit, &request),
            request => self.append_to_stream(commit, request.as_ref()),
        }
    }

    async fn find_request(&self, stream: StreamId, request: &RequestKey) -> Result<Option<Appended>, AppendError> {
        match request.scope {
            RequestScope::Log => {
                self.requests(&request.id).get(&request.id).map(|earlier| earlier.repeat(request)).transpose()
            }
            RequestScope::Stream => {
                let streams = self.streams(stream).read();
                streams.get(&stream.0).map_or(Ok(None), |known| known.find(stream, request))
            }
        }
    }

    async fn read_stream(
        &self,
        stream: StreamId,
        from: Revision,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let positions: Vec<u32> = {
            let streams = self.streams(stream).read();
            let Some(stream) = streams.get(&stream.0) else { return Ok(Vec::new()) };
            let all = stream.positions.as_slice();
            let from = usize::try_from(from).unwrap_or(usize::MAX);
            match direction {
                Direction::Forward => all.iter().skip(from.saturating_sub(1)).take(max_events).copied().collect(),
                Direction::Backward => all[..from.min(all.len())].iter().rev().take(max_events).copied().collect(),
            }
        };
        self.log.read(positions.into_iter(), max_events)
    }

    async fn read_log(
        &self,
        from: Position,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let head = self.log.head();
        let from = u32::try_from(from.0).unwrap_or(u32::MAX);
        match direction {
            Direction::Forward => {
                let count = head.saturating_sub(from);
                self.log.read((0..count).map(|index| from + 1 + index), max_events)
            }
            Direction::Backward => {
                let last = head.min(from.saturating_sub(1));
                self.log.read((0..last).map(|index| last - index), max_events)
            }
        }
    }

    /// Searches all requests that are unique in the log for those of each page: a log that lives in this process is read this way by tests and tools,
    /// not by its node.
    async fn read_commits(&self, from: Position, max_events: usize) -> Result<Vec<RecordedCommit>, StoreError> {
        let head = self.log.head();
        let from = u32::try_from(from.0).unwrap_or(u32::MAX).min(head);
        let mut commits = self.log.commits(from, max_events)?;
        self.add_requests(&mut commits);
        Ok(commits)
    }

    async fn head(&self) -> Result<Position, StoreError> {
        Ok(Position(self.log.head().into()))
    }

    fn wake(&self) -> watch::Receiver<Position> {
        self.announcer.subscribe()
    }

    async fn check(&self) -> Result<(), StoreError> {
        if self.log.head() < self.max_events { Ok(()) } else { Err(StoreError::Unavailable(full(self.max_events))) }
    }
}

fn full(max_events: u32) -> String {
    format!("the memory store holds {max_events} events and accepts no more")
}

impl Stream {
    fn find(&self, stream: StreamId, request: &RequestKey) -> Result<Option<Appended>, AppendError> {
        let Some(earlier) = self.requests.iter().find(|earlier| earlier.id == request.id) else { return Ok(None) };
        if earlier.print != Fingerprint::of(request) {
            return Err(AppendError::RequestIdReused);
        }
        let position = self.positions.as_slice().get(earlier.last as usize - 1).copied().unwrap_or_default();
        Ok(Some(Appended {
            stream,
            first_revision: earlier.first.into(),
            last_revision: earlier.last.into(),
            position: Position(position.into()),
            replayed: true,
        }))
    }

    /// The request of the commit that ends with revision `last`.
    fn request_of(&self, last: Revision) -> Option<RequestKey> {
        let request = self.requests.iter().find(|request| Revision::from(request.last) == last)?;
        Some(request.print.key(RequestScope::Stream, &request.id))
    }

    fn remember(&mut self, request: &RequestKey, first: u32, last: u32) {
        let mut requests = std::mem::take(&mut self.requests).into_vec();
        requests.reserve_exact(1);
        requests.push(StreamRequest { id: Arc::clone(&request.id), print: Fingerprint::of(request), first, last });
        self.requests = requests.into();
    }
}

impl LogRequest {
    fn new(request: &RequestKey, appended: &Appended) -> Self {
        // Positions and revisions of this store fit: it holds at most u32::MAX events.
        Self {
            print: Fingerprint::of(request),
            stream: appended.stream.0,
            first: appended.first_revision as u32,
            last: appended.last_revision as u32,
            position: appended.position.0 as u32,
        }
    }

    fn repeat(&self, request: &RequestKey) -> Result<Appended, AppendError> {
        if self.print != Fingerprint::of(request) {
            return Err(AppendError::RequestIdReused);
        }
        Ok(Appended {
            stream: StreamId(self.stream),
            first_revision: self.first.into(),
            last_revision: self.last.into(),
            position: Position(self.position.into()),
            replayed: true,
        })
    }
}

impl Fingerprint {
    const fn of(request: &RequestKey) -> Self {
        Self(request.fingerprint.to_ne_bytes())
    }

    fn key(self, scope: RequestScope, id: &Arc<str>) -> RequestKey {
        RequestKey { scope, id: Arc::clone(id), fingerprint: u128::from_ne_bytes(self.0) }
    }
}

impl Positions {
    fn as_slice(&self) -> &[u32] {
        match self {
            Self::Few { len, positions } => &positions[..usize::from(*len)],
            Self::Many(positions) => positions,
        }
    }

    fn push(&mut self, position: u32) {
        match self {
            Self::Few { len, positions } if usize::from(*len) < FEW => {
                positions[usize::from(*len)] = position;
                *len += 1;
            }
            Self::Few { positions, .. } => {
                let mut many = positions.to_vec();
                many.push(position);
                *self = Self::Many(Box::new(many));
            }
            Self::Many(positions) => positions.push(position),
        }
    }
}

impl Default for Positions {
    fn default() -> Self {
        Self::Few { len: 0, positions: [0; FEW] }
    }
}
