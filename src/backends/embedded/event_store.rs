//! The event store in SQLite. See the parent module for how an append is atomic and what is durable when.

pub(super) mod append;
pub(super) mod commits;
pub mod read_only;
pub(super) mod requests;
pub(super) mod rows;
pub(super) mod tail;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{oneshot, watch};

use super::{
    database::{Database, PendingCommit},
    end,
};
use crate::ports::{
    deadline,
    event_store::{
        AppendError, Appended, Commit, Direction, Durability, EventStore, IndexDamage, LogId, LogLoss, LogPoint,
        Position, ReadBound, RecordedCommit, RequestKey, Revision, StoreError, StoredEvent, StreamId, TokenKey,
    },
};

/// An [`EventStore`] in a data folder. Durability: machine, if the folder is on a disk.
#[derive(Clone, Debug)]
pub struct EmbeddedEventStore(Arc<Database>);

impl EmbeddedEventStore {
    /// The store in an open data folder.
    #[must_use]
    pub const fn new(database: Arc<Database>) -> Self {
        Self(database)
    }

    async fn read_within(
        &self,
        from: Position,
        direction: Direction,
        bound: ReadBound,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let tail = self.0.tail()?;
        if let Some(events) = tail.read(from, direction, bound) {
            return Ok(events);
        }
        // Read before the query: the file holds at least this much.
        let head = tail.head();
        self.0.read(move |connection| rows::read_log(connection, from, direction, bound, head)).await
    }
}

#[async_trait]
impl EventStore for EmbeddedEventStore {
    fn log_id(&self) -> Option<LogId> {
        Some(self.0.log_id())
    }

    fn token_key(&self) -> Option<TokenKey> {
        Some(self.0.token_key())
    }

    fn connections(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }

    fn log_loss(&self) -> watch::Receiver<Option<LogLoss>> {
        self.0.loss()
    }

    fn durability(&self) -> Durability {
        self.0.durability()
    }

    fn durability_detail(&self) -> Option<String> {
        self.0.not_durable().map(str::to_owned)
    }

    async fn append(&self, commit: Commit) -> Result<Appended, AppendError> {
        commit.require_events()?;
        let (reply, answer) = oneshot::channel();
        let pending = PendingCommit { commit, reply, deadline: deadline::current() };
        self.0.append(pending).map_err(|refused| StoreError::Unavailable(refused.to_string()))?;
        answer.await.map_err(|_| AppendError::OutcomeUnknown("the writer has ended".to_owned()))?
    }

    async fn find_request(&self, stream: StreamId, request: &RequestKey) -> Result<Option<Appended>, AppendError> {
        let request = request.clone();
        self.0.read(move |connection| requests::find(connection, stream, &request)).await
    }

    async fn read_stream(
        &self,
        stream: StreamId,
        from: Revision,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.0.read(move |connection| rows::read_stream(connection, stream, from, direction, max_events)).await
    }

    async fn read_log(
        &self,
        from: Position,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.read_within(from, direction, ReadBound::events(max_events)).await
    }

    async fn read_after(&self, point: LogPoint, bound: ReadBound) -> Result<Vec<StoredEvent>, StoreError> {
        self.read_within(point.position, Direction::Forward, bound).await
    }

    async fn read_commits(&self, from: Position, max_events: usize) -> Result<Vec<RecordedCommit>, StoreError> {
        let head = self.0.tail()?.head();
        if max_events == 0 || from >= head {
            return Ok(Vec::new());
        }
        self.0.read(move |connection| commits::read(connection, from, max_events, head)).await
    }

    async fn append_all(&self, commits: Vec<Commit>) -> Result<Position, AppendError> {
        commits.iter().try_for_each(Commit::require_events)?;
        self.0.append_all(commits).await
    }

    async fn head(&self) -> Result<Position, StoreError> {
        Ok(self.0.tail()?.head())
    }

    async fn check_indexes(&self) -> Result<Vec<IndexDamage>, StoreError> {
        self.0.read(|connection| Ok(end::audit(connection)?.into_iter().map(IndexDamage::of).collect())).await
    }

    fn wake(&self) -> watch::Receiver<Position> {
        self.0.wake()
    }

    async fn check(&self) -> Result<(), StoreError> {
        Ok(self.0.check().await?)
    }
}
