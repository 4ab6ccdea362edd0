//! An event store behind a circuit breaker.
//!
//! A `check` calls the backend itself, whatever the state of the breaker, and half-opens the breaker when it succeeds: a working backend need not
//! wait for the open time to pass.

use std::{future::Future, sync::Arc};

use async_trait::async_trait;
use futures_util::TryFutureExt as _;
use tokio::sync::watch;

use super::{
    BreakerError, CircuitBreaker, Refused,
    meters::{Operation, OperationMeter, StoreMeters, append_error, store_error},
};
use crate::{
    ports::{
        event_store::{
            AppendError, Appended, Commit, Direction, Durability, EventStore, IndexDamage, LogId, LogLoss, LogPoint,
            Position, ReadBound, RecordedCommit, RequestKey, Revision, StoreError, StoredEvent, StreamId, TokenKey,
            confirmed,
        },
        server_name::{ServerName, named},
    },
    telemetry::traces::{self, KeyValue, SpanKind, SpanScope},
};

/// An event store behind a circuit breaker.
#[derive(Debug)]
pub struct GuardedStore {
    inner: Arc<dyn EventStore>,
    breaker: Arc<CircuitBreaker>,
    required: Option<Durability>,
    /// Its name in errors, if it is a server.
    server: Option<ServerName>,
    /// Its name in spans.
    system: &'static str,
    /// `None` for a store that has no name.
    meters: Option<StoreMeters>,
}

impl GuardedStore {
    /// Guards the I/O of `inner` with `breaker`.
    #[must_use]
    pub const fn new(inner: Arc<dyn EventStore>, breaker: Arc<CircuitBreaker>) -> Self {
        Self { inner, breaker, required: None, server: None, system: "unknown", meters: None }
    }

    /// Names the server in errors.
    #[must_use]
    pub fn at(self, server: Option<ServerName>) -> Self {
        Self { server, ..self }
    }

    /// Refuses commits, and fails checks, unless the durability of the store is known and at least `required`.
    #[must_use]
    pub fn requiring(mut self, required: Option<Durability>) -> Self {
        self.required = required;
        self
    }

    /// Names the backend in spans and in metrics, which use the current recorder.
    #[must_use]
    pub fn named(mut self, system: &'static str) -> Self {
        self.system = system;
        self.meters = Some(StoreMeters::new(system));
        self
    }

    /// Begins an operation that is counted.
    fn begin(&self, of: impl FnOnce(&StoreMeters) -> &OperationMeter) -> Option<Operation<'_>> {
        self.meters.as_ref().map(|meters| of(meters).begin())
    }

    /// The span of an operation on the log, if the call that needs it is recorded. Followers of the log are not calls.
    fn span(&self, operation: &'static str, stream: Option<StreamId>) -> Option<SpanScope> {
        traces::child(SpanKind::Client, operation, || {
            let mut attributes =
                vec![KeyValue::new("db.system.name", self.system), KeyValue::new("db.operation.name", operation)];
            // A text, as in JSON: the number does not fit a double.
            attributes.extend(stream.map(|stream| KeyValue::new("ordersystem.order.id", stream.to_string())));
            attributes
        })
    }

    async fn require_durable(&self) -> Result<(), StoreError> {
        let Some(required) = self.required else { return Ok(()) };
        if self.inner.durability() == Durability::Unknown {
            // Not through a commit, which would be acknowledged before its durability is known.
            self.inner.check().await.map_err(|error| self.read_error(error))?;
        }
        let found = self.inner.durability();
        if found >= required {
            return Ok(());
        }
        let (found, required) = (found.name(), required.name());
        let why = format!("--require-durable: the durability is {found}, {required} is required");
        Err(self.read_error(StoreError::Unavailable(why)))
    }

    /// Apparent damage is verified before it is reported: see [`confirmed`].
    async fn read_twice<T: Send, C>(&self, call: impl Fn() -> C + Send + Sync) -> Result<T, StoreError>
    where
        C: Future<Output = Result<T, StoreError>> + Send,
    {
        confirmed(&self.inner.connections(), || self.read(call())).await
    }

    /// The same for an operation that is counted.
    async fn read_counted<T: Send, C>(
        &self,
        operation: Option<Operation<'_>>,
        call: impl Fn() -> C + Send + Sync,
    ) -> Result<T, StoreError>
    where
        C: Future<Output = Result<T, StoreError>> + Send,
    {
        let read = self.read_twice(call).await;
        if let Some(operation) = operation {
            operation.end(read.as_ref().err().map(store_error));
        }
        read
    }

    fn read_error(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::Unavailable(why) => StoreError::Unavailable(named(self.server.as_ref(), why)),
            other => other,
        }
    }

    fn append_error(&self, error: AppendError) -> AppendError {
        let server = self.server.as_ref();
        match error {
            AppendError::OutcomeUnknown(why) => AppendError::OutcomeUnknown(named(server, why)),
            AppendError::Full(why) => AppendError::Full(named(server, why)),
            AppendError::Store(error) => self.read_error(error).into(),
            other => other,
        }
    }

    async fn read<T>(&self, call: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
        let call = call.map_err(|error| self.read_error(error));
        match self.breaker.call_with(call, |error| matches!(error, StoreError::Unavailable(_))).await {
            Ok(value) => Ok(value),
            Err(BreakerError::Failed(error)) => Err(error),
            Err(BreakerError::Refused(refused)) => Err(unavailable(&refused)),
        }
    }

    async fn write<T>(&self, call: impl Future<Output = Result<T, AppendError>> + Send) -> Result<T, AppendError> {
        let is_failure = |error: &AppendError| {
            matches!(error, AppendError::OutcomeUnknown(_) | AppendError::Store(StoreError::Unavailable(_)))
        };
        let call = call.map_err(|error| self.append_error(error));
        match self.breaker.call_with(call, is_failure).await {
            Ok(value) => Ok(value),
            Err(BreakerError::Failed(error)) => Err(error),
            Err(BreakerError::Refused(refused)) => Err(unavailable(&refused).into()),
        }
    }
}

/// The attribute of the last position that was written or read. It is text, since it may not fit a signed number.
const POSITION: &str = "ordersystem.log.position";

fn position(position: Position) -> String {
    position.to_string()
}

fn end_of_read(span: &SpanScope, read: &Result<Vec<StoredEvent>, StoreError>) {
    match read {
        Ok(events) => {
            span.set("db.response.returned_rows", i64::try_from(events.len()).unwrap_or(i64::MAX));
            if let Some(last) = events.last() {
                span.set(POSITION, position(last.position));
            }
        }
        Err(error) => span.fail(store_error(error)),
    }
}

fn unavailable(refused: &Refused) -> StoreError {
    StoreError::Unavailable(refused.to_string())
}

#[async_trait]
impl EventStore for GuardedStore {
    fn log_id(&self) -> Option<LogId> {
        self.inner.log_id()
    }

    fn token_key(&self) -> Option<TokenKey> {
        self.inner.token_key()
    }

    fn connections(&self) -> watch::Receiver<u64> {
        self.inner.connections()
    }

    fn log_loss(&self) -> watch::Receiver<Option<LogLoss>> {
        self.inner.log_loss()
    }

    fn durability(&self) -> Durability {
        self.inner.durability()
    }

    fn durability_detail(&self) -> Option<String> {
        self.inner.durability_detail()
    }

    fn max_commit_bytes(&self) -> Option<usize> {
        self.inner.max_commit_bytes()
    }

    async fn append(&self, commit: Commit) -> Result<Appended, AppendError> {
        let span = self.span("append", Some(commit.stream));
        let events = commit.events.len();
        let bytes = commit.payload_bytes();
        let work = async {
            let operation = self.begin(|meters| &meters.append);
            self.require_durable().await?;
            let appended = self.write(self.inner.append(commit)).await;
            if let Some(operation) = operation {
                operation.end(appended.as_ref().err().map(append_error));
            }
            if let (Some(meters), Ok(Appended { replayed: false, .. })) = (&self.meters, &appended) {
                meters.committed(events, bytes);
            }
            appended
        };
        traces::within(span, work, |span, appended| {
            // By convention, a single event is no batch.
            if events > 1 {
                span.set("db.operation.batch.size", i64::try_from(events).unwrap_or(i64::MAX));
            }
            match appended {
                Ok(appended) => span.set(POSITION, position(appended.position)),
                Err(error) => span.fail(append_error(error)),
            }
        })
        .await
    }

    async fn find_request(&self, stream: StreamId, request: &RequestKey) -> Result<Option<Appended>, AppendError> {
        let connections = self.inner.connections();
        let work = async {
            let operation = self.begin(|meters| &meters.find_request);
            let found = confirmed(&connections, || self.write(self.inner.find_request(stream, request))).await;
            if let Some(operation) = operation {
                operation.end(found.as_ref().err().map(append_error));
            }
            found
        };
        traces::within(self.span("find_request", Some(stream)), work, |span, found| {
            if let Err(error) = found {
                span.fail(append_error(error));
            }
        })
        .await
    }

    async fn read_stream(
        &self,
        stream: StreamId,
        from: Revision,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let operation = self.begin(|meters| &meters.read_stream);
        let work = self.read_counted(operation, || self.inner.read_stream(stream, from, direction, max_events));
        traces::within(self.span("read_stream", Some(stream)), work, end_of_read).await
    }

    async fn read_log(
        &self,
        from: Position,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let operation = self.begin(|meters| &meters.read_log);
        let work = self.read_counted(operation, || self.inner.read_log(from, direction, max_events));
        traces::within(self.span("read_log", None), work, end_of_read).await
    }

    async fn read_after(&self, point: LogPoint, bound: ReadBound) -> Result<Vec<StoredEvent>, StoreError> {
        let operation = self.begin(|meters| &meters.read_log);
        self.read_counted(operation, || self.inner.read_after(point, bound)).await
    }

    async fn read_commits(&self, from: Position, max_events: usize) -> Result<Vec<RecordedCommit>, StoreError> {
        self.read_twice(|| self.inner.read_commits(from, max_events)).await
    }

    async fn append_all(&self, commits: Vec<Commit>) -> Result<Position, AppendError> {
        self.require_durable().await?;
        self.write(self.inner.append_all(commits)).await
    }

    async fn head(&self) -> Result<Position, StoreError> {
        self.read_twice(|| self.inner.head()).await
    }

    async fn check_indexes(&self) -> Result<Vec<IndexDamage>, StoreError> {
        self.read(self.inner.check_indexes()).await
    }

    /// Bypasses the breaker: a store that cannot tell replies without a call, which says nothing about it.
    async fn missing_entries(&self) -> Result<Option<String>, StoreError> {
        self.inner.missing_entries().await.map_err(|error| self.read_error(error))
    }

    fn losses_found(&self) -> u64 {
        self.inner.losses_found()
    }

    async fn confirmed(&self) -> Result<Position, StoreError> {
        self.read_twice(|| self.inner.confirmed()).await
    }

    async fn contains(&self, stream: StreamId, revision: Revision, position: Position) -> Result<bool, StoreError> {
        self.read_twice(|| self.inner.contains(stream, revision, position)).await
    }

    async fn confirmed_head(&self) -> Result<Position, StoreError> {
        self.read_twice(|| self.inner.confirmed_head()).await
    }

    /// Bypasses the breaker: if confirmations fail, plain commands still work.
    async fn confirm_connection(&self, connection: u64) -> Result<(), StoreError> {
        self.inner.confirm_connection(connection).await.map_err(|error| self.read_error(error))
    }

    fn distance(&self, from: Position, to: Position) -> u64 {
        self.inner.distance(from, to)
    }

    fn past_entry(&self, from: Position) -> Position {
        self.inner.past_entry(from)
    }

    fn wake(&self) -> watch::Receiver<Position> {
        self.inner.wake()
    }

    fn server(&self) -> Option<ServerName> {
        self.server.clone()
    }

    fn unreachable(&self) -> Option<String> {
        self.inner.unreachable().map(|why| named(self.server.as_ref(), why))
    }

    fn at_risk(&self) -> Option<String> {
        self.inner.at_risk().map(|why| named(self.server.as_ref(), why))
    }

    fn known_outage(&self) -> Option<String> {
        self.unreachable().or_else(|| self.breaker.open_because())
    }

    /// Calls the store itself, whatever the state of the breaker: a recovered store is used again at once.
    async fn check(&self) -> Result<(), StoreError> {
        self.inner.check().await.map_err(|error| self.read_error(error))?;
        self.breaker.half_open();
        self.require_durable().await
    }
}
