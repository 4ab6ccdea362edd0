//! The event store in NATS JetStream: the log is one stream, each order a subject of it, each commit one message.
//!
//! **How an append is atomic**: a commit is one message, published on the condition that the last message of its order is the one that the writer
//! knows (`Nats-Expected-Last-Subject-Sequence`), which JetStream checks. A writer that knows the last message knows the revision and all request ids
//! of the order, so this one condition covers them all. A node's knowledge may be stale; then the publish is refused, and the node reads the order
//! again.
//!
//! **A request id that is unique in the log** (of a command whose order is new with each try) is reserved first, in a separate stream: the
//! reservation holds the whole commit. A node that finds a reservation checks whether its commit has been made and, if not, makes it: any node can
//! make it, but only once, because its condition is part of it. A reservation whose order has moved on otherwise is void.
//!
//! **A lost acknowledgement** leaves open whether the message was stored. It is then published again, which is harmless: only one of the two can find
//! the order as the condition requires. The reply, or the message stored in its place, gives the outcome.
//!
//! **With replicas** a reply may come from a server that is behind without knowing it: the messages that it returns exist, and the absence of others
//! is confirmed before it is relied on, see `confirm`. A refused publish is looked up by its id, as another server may have stored it.
//!
//! **Reads** go through consumers in batches; the newest commits are held in memory, fed by one consumer and by this node's own appends. No read ends
//! early unless the leader of the stream has confirmed that the stream ends there.

mod append;
mod append_all;
mod commit;
mod commits;
mod confirm;
mod kept_readers;
mod log;
mod page;
mod read;
mod requests;
mod ring;
mod same_log;
mod streams;
mod tail;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;

use self::{
    commit::{StoredCommit, last_position, sequence_before},
    confirm::{Confirmations, PACE},
    kept_readers::Readers,
    log::Log,
    ring::{Entry, Ring, Slot},
    same_log::SeenLog,
    streams::{End, Streams},
};
use super::{
    api::CallError,
    connection::{ConnectError, Nats},
    permissions::FORBIDDEN_FOR,
};
use crate::ports::event_store::{
    AppendError, Appended, Commit, Direction, Durability, EventStore, LogId, LogLoss, LogPoint, Position, ReadBound,
    RecordedCommit, RequestKey, RequestScope, Revision, StoreError, StoredEvent, StreamId, TokenKey,
};

/// How long a check may take.
const CHECK_WITHIN: Duration = Duration::from_millis(800);
/// For how long a refusal for lack of space is reported: NATS reports it only on a write.
const FULL_FOR: Duration = Duration::from_secs(10);
/// How many reads use a consumer at once; further ones wait.
const MAX_READS: usize = 32;

/// An [`EventStore`] in NATS JetStream. See the module, and [`super`] for the settings that NATS needs.
#[derive(Debug)]
pub struct NatsEventStore {
    shared: Arc<Shared>,
    _tail: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared {
    nats: Nats,
    log: Log,
    streams: Streams,
    ring: Ring,
    seen: SeenLog,
    latest: watch::Sender<Position>,
    /// The connection that all data held in memory was read from.
    connection: watch::Sender<u64>,
    readers: Readers,
    reads: Semaphore,
    confirmations: Confirmations,
    request_confirmations: Confirmations,
    /// When NATS last refused a write for lack of space, and its message.
    full: Mutex<Option<(Instant, String)>>,
}

impl NatsEventStore {
    /// The store in `nats`. Must be called within a tokio runtime. `nats` need not be connected yet.
    #[must_use]
    pub fn new(nats: Nats) -> Self {
        let shared = Arc::new(Shared {
            log: Log::new(nats.clone()),
            nats,
            streams: Streams::new(),
            ring: Ring::default(),
            seen: SeenLog::default(),
            latest: watch::Sender::new(Position(0)),
            connection: watch::Sender::new(0),
            readers: Readers::default(),
            reads: Semaphore::new(MAX_READS),
            confirmations: Confirmations::new(PACE),
            request_confirmations: Confirmations::new(PACE),
            full: Mutex::default(),
        });
        let tail = AbortOnDropHandle::new(tokio::spawn(tail::follow(Arc::downgrade(&shared))));
        Self { shared, _tail: tail }
    }

    /// Waits until the log's streams have been checked or created, at most for the connect timeout.
    ///
    /// # Errors
    /// [`ConnectError`] gives the reason, and whether waiting helps.
    pub async fn until_verified(&self) -> Result<(), ConnectError> {
        let Shared { nats, log, .. } = &*self.shared;
        nats.connected().await?;
        let deadline = Instant::now() + nats.options().connect_timeout;
        loop {
            let pause = match log.verify().await {
                Err(ConnectError::Retryable(why)) if Instant::now() >= deadline => {
                    return Err(ConnectError::Retryable(why));
                }
                Err(ConnectError::Retryable(_)) => Duration::from_millis(100),
                decided => return decided,
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// The events that `read` finds: half of them may come from another state of the log if the connection changes meanwhile.
    async fn on_one_connection(
        &self,
        read: impl Future<Output = Result<Vec<StoredEvent>, StoreError>>,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.shared.ready().await?;
        let connection = self.shared.nats.connections();
        let events = read.await?;
        if self.shared.nats.connections() != connection {
            return Err(StoreError::Unavailable("the connection to NATS was lost while the log was read".to_owned()));
        }
        Ok(events)
    }

    /// The properties found of the streams, for the log.
    #[must_use]
    pub fn summary(&self) -> String {
        self.shared.log.summary()
    }
}

impl Shared {
    /// Ensures that the streams have been checked on this connection, and that no data in memory comes from an earlier one: the log may have been
    /// restored to an earlier state in the meantime.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] gives the reason why they cannot be used.
    async fn ready(&self) -> Result<(), StoreError> {
        self.log.ready().await?;
        let connection = self.nats.connections();
        if *self.connection.borrow() != connection {
            self.forget(connection);
        }
        Ok(())
    }

    /// Drops data read on connections other than `connection`, before any observer is notified of the new one.
    fn forget(&self, connection: u64) {
        self.connection.send_if_modified(|known| {
            if *known == connection {
                return false;
            }
            self.ring.clear();
            self.seen.forget();
            self.streams.clear();
            self.readers.clear();
            self.latest.send_replace(Position(0));
            *known = connection;
            true
        });
    }

    /// Adds a message of the log, read or just written, and wakes its waiters.
    fn observe(&self, sequence: u64, slot: Slot) {
        self.seen.saw(sequence);
        if let Ok(Entry::Commit(commit)) = &slot {
            self.streams.observe(commit);
        }
        let is_marker = matches!(slot, Ok(Entry::Marker(_)));
        self.ring.add(sequence, slot);
        if !is_marker {
            self.announce(last_position(sequence));
        }
    }

    fn announce(&self, position: Position) {
        self.latest.send_if_modified(|latest| {
            let is_newer = position > *latest;
            *latest = position.max(*latest);
            is_newer
        });
    }

    /// Adds a commit that this node has made.
    fn wrote(&self, commit: StoredCommit) {
        let sequence = commit.sequence;
        self.seen.saw(sequence);
        self.ring.add(sequence, Ok(Entry::Commit(Arc::new(commit))));
        self.announce(last_position(sequence));
        *self.full.lock() = None;
    }

    /// The subject of an order.
    fn subject(&self, stream: StreamId) -> String {
        self.nats.subject(&format!("log.{stream}"))
    }

    /// The error of a call that is known to have written nothing: a read, or a refused publish.
    fn store_error(&self, error: CallError) -> StoreError {
        // After any error the streams may have changed.
        self.log.doubt();
        StoreError::Unavailable(error.to_string())
    }

    /// How large the events of a commit may be.
    fn max_commit_bytes(&self) -> usize {
        self.nats.client().max_payload().saturating_sub(commit::AROUND)
    }

    /// The message of `commit`, which is to follow `end`, if NATS accepts a message of that size.
    fn encode(&self, commit: &Commit, end: End) -> Result<Bytes, AppendError> {
        let (bytes, max_bytes) = (commit.payload_bytes(), self.max_commit_bytes());
        if bytes > max_bytes {
            return Err(self.too_large_error(commit.stream, bytes));
        }
        commit::encode(commit, end.sequence, end.revision + 1)
    }

    fn too_large_error(&self, stream: StreamId, bytes: usize) -> AppendError {
        let setting = "max_payload of nats-server, or max_msg_size of its streams";
        AppendError::TooLarge { stream, bytes, max_bytes: self.max_commit_bytes(), setting }
    }

    /// Records that there is no space.
    fn record_full(&self, error: &CallError) -> AppendError {
        *self.full.lock() = Some((Instant::now(), error.to_string()));
        AppendError::Full(error.to_string())
    }

    /// Returns an error if NATS recently denied this user a publish: a user may have permission for some subjects and not for others.
    fn check_permitted(&self) -> Result<(), StoreError> {
        let Some(since) = Instant::now().checked_sub(FORBIDDEN_FOR) else { return Ok(()) };
        let begins = ["log.", "request."].map(|begin| self.nats.subject(begin));
        let forbidden = begins.iter().find_map(|begin| self.nats.forbidden().publish_below(begin, since));
        forbidden.map_or(Ok(()), |why| Err(StoreError::Unavailable(why)))
    }

    async fn check(&self) -> Result<(), StoreError> {
        let deadline = Instant::now() + CHECK_WITHIN;
        let checking = async {
            self.log.doubt();
            self.ready().await
        };
        timeout_at(deadline, checking)
            .await
            .map_err(|_| StoreError::Unavailable(self.nats.named("no answer in time")))??;
        self.log.probe(deadline).await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        self.check_permitted()?;
        match &*self.full.lock() {
            Some((at, why)) if at.elapsed() < FULL_FOR => {
                Err(StoreError::Unavailable(format!("NATS accepts no more writes: {why}")))
            }
            _ => Ok(()),
        }
    }
}

/// The error for a message that is not a commit of the order that its subject names, or not a commit at all.
fn foreign(what: &str, sequence: u64, why: &str) -> StoreError {
    StoreError::Corrupt(format!("message {sequence} of {what} {why}"))
}

#[async_trait]
impl EventStore for NatsEventStore {
    fn log_id(&self) -> Option<LogId> {
        self.shared.log.id()
    }

    fn token_key(&self) -> Option<TokenKey> {
        self.shared.log.token_key()
    }

    fn connections(&self) -> watch::Receiver<u64> {
        self.shared.connection.subscribe()
    }

    fn log_loss(&self) -> watch::Receiver<Option<LogLoss>> {
        self.shared.log.loss()
    }

    /// According to the streams when last checked; `None` until then.
    fn durability(&self) -> Durability {
        self.shared.log.durability()
    }

    fn durability_detail(&self) -> Option<String> {
        self.shared.log.durability_detail()
    }

    /// Unknown before NATS has been reached.
    fn max_commit_bytes(&self) -> Option<usize> {
        self.shared.log.id().map(|_| self.shared.max_commit_bytes())
    }

    async fn append(&self, commit: Commit) -> Result<Appended, AppendError> {
        commit.require_events()?;
        self.shared.ready().await?;
        match &commit.request {
            Some(request) if request.scope == RequestScope::Log => self.shared.append_once(&commit, request).await,
            _ => self.shared.append_to_stream(&commit).await,
        }
    }

    async fn find_request(&self, stream: StreamId, request: &RequestKey) -> Result<Option<Appended>, AppendError> {
        self.shared.ready().await?;
        match request.scope {
            RequestScope::Log => self.shared.find_reserved(request).await,
            RequestScope::Stream => self.shared.find_in_stream(stream, request).await,
        }
    }

    async fn read_stream(
        &self,
        stream: StreamId,
        from: Revision,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.shared.ready().await?;
        self.shared.read_stream(stream, from, direction, max_events).await
    }

    async fn read_log(
        &self,
        from: Position,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        match direction {
            Direction::Forward => {
                self.on_one_connection(self.shared.read_forward(from, ReadBound::events(max_events))).await
            }
            Direction::Backward => self.on_one_connection(self.shared.read_backward(from, max_events)).await,
        }
    }

    async fn read_after(&self, point: LogPoint, bound: ReadBound) -> Result<Vec<StoredEvent>, StoreError> {
        self.on_one_connection(self.shared.read_forward(point.position, bound)).await
    }

    async fn read_commits(&self, from: Position, max_events: usize) -> Result<Vec<RecordedCommit>, StoreError> {
        self.shared.ready().await?;
        self.shared.commits_after(from, max_events).await
    }

    async fn append_all(&self, commits: Vec<Commit>) -> Result<Position, AppendError> {
        commits.iter().try_for_each(Commit::require_events)?;
        self.shared.ready().await?;
        self.shared.append_in_order(&commits).await
    }

    async fn head(&self) -> Result<Position, StoreError> {
        self.shared.ready().await?;
        let last = self.shared.last_sequence().await?;
        self.shared.last_commit_at(last).await
    }

    async fn confirmed(&self) -> Result<Position, StoreError> {
        self.shared.ready().await?;
        if !self.shared.log.is_replicated() {
            return Ok(Position(0));
        }
        self.shared.confirm().await.map(last_position)
    }

    async fn contains(&self, stream: StreamId, revision: Revision, position: Position) -> Result<bool, StoreError> {
        self.shared.ready().await?;
        self.shared.contains(stream, revision, sequence_before(position)).await
    }

    async fn confirmed_head(&self) -> Result<Position, StoreError> {
        self.shared.ready().await?;
        self.shared.confirmed_head().await
    }

    /// A commit is one message, mostly of one event; its positions leave a gap after it.
    fn distance(&self, from: Position, to: Position) -> u64 {
        commit::sequence_after(to).saturating_sub(commit::sequence_after(from))
    }

    /// An entry is a message.
    fn past_entry(&self, from: Position) -> Position {
        last_position(commit::sequence_after(from))
    }

    fn wake(&self) -> watch::Receiver<Position> {
        self.shared.latest.subscribe()
    }

    fn unreachable(&self) -> Option<String> {
        self.shared.nats.unreachable()
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.shared.check().await
    }
}
