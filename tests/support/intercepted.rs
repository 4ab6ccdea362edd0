//! Doubles of the event store and the message bus: a real one with hooks in front, which hold, fail, count or replace single calls.
//!
//! A double is a struct with the state of its test, and an implementation of [`StoreHooks`] or [`BusHooks`] for what differs from the real
//! one; `Intercepted` around it is the port.

use std::ops::Deref;

use async_trait::async_trait;
use ordersystem::ports::{
    event_store::{
        AppendError, Appended, Commit, Direction, Durability, EventStore, LogId, Position, RecordedCommit, RequestKey,
        Revision, StoreError, StoredEvent, StreamId, TokenKey,
    },
    message_bus::{BusError, Consumer, DeadLetter, EventId, Message, MessageBus, VolatileMessages},
};
use tokio::sync::watch;

/// The port that a double is.
#[derive(Debug)]
pub struct Intercepted<H>(pub H);

impl<H> Deref for Intercepted<H> {
    type Target = H;

    fn deref(&self) -> &H {
        &self.0
    }
}

/// The calls of an event store that a hook before them sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreCall {
    Append,
    FindRequest,
    ReadStream,
    ReadLog,
    ReadCommits,
    Head,
    ConfirmConnection,
    Check,
}

/// The difference between a double and the store behind it. Methods that [`EventStore`] composes of other calls use the calls of the double.
#[async_trait]
pub trait StoreHooks: std::fmt::Debug + Send + Sync + 'static {
    /// The store behind the double, which may be another one from call to call.
    fn inner(&self) -> &dyn EventStore;

    /// Comes before each call: it may count the call, hold it, or fail it.
    async fn before(&self, call: StoreCall) -> Result<(), StoreError> {
        let _ = call;
        Ok(())
    }

    fn log_id(&self) -> Option<LogId> {
        self.inner().log_id()
    }

    fn token_key(&self) -> Option<TokenKey> {
        self.inner().token_key()
    }

    fn connections(&self) -> watch::Receiver<u64> {
        self.inner().connections()
    }

    fn wake(&self) -> watch::Receiver<Position> {
        self.inner().wake()
    }

    async fn append(&self, commit: Commit) -> Result<Appended, AppendError> {
        self.inner().append(commit).await
    }

    async fn find_request(&self, stream: StreamId, request: &RequestKey) -> Result<Option<Appended>, AppendError> {
        self.inner().find_request(stream, request).await
    }

    async fn read_stream(
        &self,
        stream: StreamId,
        from: Revision,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.inner().read_stream(stream, from, direction, max_events).await
    }

    async fn read_log(
        &self,
        from: Position,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.inner().read_log(from, direction, max_events).await
    }

    async fn read_commits(&self, from: Position, max_events: usize) -> Result<Vec<RecordedCommit>, StoreError> {
        self.inner().read_commits(from, max_events).await
    }

    async fn head(&self) -> Result<Position, StoreError> {
        self.inner().head().await
    }

    async fn confirmed(&self) -> Result<Position, StoreError> {
        self.inner().confirmed().await
    }

    async fn contains(&self, stream: StreamId, revision: Revision, position: Position) -> Result<bool, StoreError> {
        self.inner().contains(stream, revision, position).await
    }

    async fn confirm_connection(&self, connection: u64) -> Result<(), StoreError> {
        self.inner().confirm_connection(connection).await
    }
}

#[async_trait]
impl<H: StoreHooks> EventStore for Intercepted<H> {
    fn log_id(&self) -> Option<LogId> {
        self.0.log_id()
    }

    fn token_key(&self) -> Option<TokenKey> {
        self.0.token_key()
    }

    fn connections(&self) -> watch::Receiver<u64> {
        self.0.connections()
    }

    fn durability(&self) -> Durability {
        self.inner().durability()
    }

    fn durability_detail(&self) -> Option<String> {
        self.inner().durability_detail()
    }

    fn max_commit_bytes(&self) -> Option<usize> {
        self.inner().max_commit_bytes()
    }

    fn distance(&self, from: Position, to: Position) -> u64 {
        self.inner().distance(from, to)
    }

    fn past_entry(&self, from: Position) -> Position {
        self.inner().past_entry(from)
    }

    fn unreachable(&self) -> Option<String> {
        self.inner().unreachable()
    }

    async fn append(&self, commit: Commit) -> Result<Appended, AppendError> {
        self.before(StoreCall::Append).await?;
        self.0.append(commit).await
    }

    async fn find_request(&self, stream: StreamId, request: &RequestKey) -> Result<Option<Appended>, AppendError> {
        self.before(StoreCall::FindRequest).await?;
        self.0.find_request(stream, request).await
    }

    async fn read_stream(
        &self,
        stream: StreamId,
        from: Revision,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.before(StoreCall::ReadStream).await?;
        self.0.read_stream(stream, from, direction, max_events).await
    }

    async fn read_log(
        &self,
        from: Position,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.before(StoreCall::ReadLog).await?;
        self.0.read_log(from, direction, max_events).await
    }

    async fn read_commits(&self, from: Position, max_events: usize) -> Result<Vec<RecordedCommit>, StoreError> {
        self.before(StoreCall::ReadCommits).await?;
        self.0.read_commits(from, max_events).await
    }

    async fn head(&self) -> Result<Position, StoreError> {
        self.before(StoreCall::Head).await?;
        self.0.head().await
    }

    async fn confirmed(&self) -> Result<Position, StoreError> {
        self.0.confirmed().await
    }

    async fn contains(&self, stream: StreamId, revision: Revision, position: Position) -> Result<bool, StoreError> {
        self.0.contains(stream, revision, position).await
    }

    async fn confirm_connection(&self, connection: u64) -> Result<(), StoreError> {
        self.before(StoreCall::ConfirmConnection).await?;
        self.0.confirm_connection(connection).await
    }

    fn wake(&self) -> watch::Receiver<Position> {
        self.0.wake()
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.before(StoreCall::Check).await?;
        self.inner().check().await
    }
}

/// The calls of a message bus that a hook before them sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusCall {
    Publish,
    Consumer,
    Check,
}

/// The difference between a double and the bus behind it.
#[async_trait]
pub trait BusHooks: std::fmt::Debug + Send + Sync + 'static {
    /// The bus behind the double.
    fn inner(&self) -> &dyn MessageBus;

    /// Comes before each call: it may count the call, hold it, or fail it.
    async fn before(&self, call: BusCall) -> Result<(), BusError> {
        let _ = call;
        Ok(())
    }

    async fn publish(&self, messages: &[Message]) -> Result<(), BusError> {
        self.inner().publish(messages).await
    }
}

#[async_trait]
impl<H: BusHooks> MessageBus for Intercepted<H> {
    fn kind(&self) -> &'static str {
        self.inner().kind()
    }

    async fn publish(&self, messages: &[Message]) -> Result<(), BusError> {
        self.before(BusCall::Publish).await?;
        self.0.publish(messages).await
    }

    fn oldest_unpersisted(&self, consumers: &[String]) -> VolatileMessages {
        self.inner().oldest_unpersisted(consumers)
    }

    async fn lost_from(&self, consumers: &[String], log: u32, published_to: u64) -> Result<Option<u64>, BusError> {
        self.inner().lost_from(consumers, log, published_to).await
    }

    fn resume(&self) {
        self.inner().resume();
    }

    async fn consumer(&self, name: &str) -> Result<Box<dyn Consumer>, BusError> {
        self.before(BusCall::Consumer).await?;
        self.inner().consumer(name).await
    }

    async fn remove_consumer(&self, name: &str) -> Result<(), BusError> {
        self.inner().remove_consumer(name).await
    }

    async fn dead_letters(&self, name: &str, max: usize) -> Result<Vec<DeadLetter>, BusError> {
        self.inner().dead_letters(name, max).await
    }

    async fn replay(&self, name: &str, events: &[EventId]) -> Result<usize, BusError> {
        self.inner().replay(name, events).await
    }

    async fn discard(&self, name: &str, events: &[EventId]) -> Result<usize, BusError> {
        self.inner().discard(name, events).await
    }

    fn unreachable(&self) -> Option<String> {
        self.inner().unreachable()
    }

    async fn check(&self) -> Result<(), BusError> {
        self.before(BusCall::Check).await?;
        self.inner().check().await
    }
}
