//! A store whose reads are patient: temporary failures, such as an election among servers, are retried for a while.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::ports::{
    backoff::Backoff,
    event_store::{
        AppendError, Appended, Commit, Direction, Durability, EventStore, IndexDamage, LogId, LogLoss, LogPoint,
        Position, ReadBound, RecordedCommit, RequestKey, Revision, StoreError, StoredEvent, StreamId, TokenKey,
    },
    server_name::ServerName,
};

/// How long one request may go without a result.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);
/// The pauses between retries.
const RETRIES: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

/// Retries temporary failures, for half a minute or until stopped, and logs that once.
#[derive(Clone, Debug, Default)]
pub struct Patience {
    stop: CancellationToken,
    has_failed: Arc<AtomicBool>,
}

/// An error that may be different, or gone, a moment later.
pub trait Passing: fmt::Display {
    /// Whether it may be temporary.
    fn passes(&self) -> bool;
}

impl Passing for StoreError {
    fn passes(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl Passing for AppendError {
    fn passes(&self) -> bool {
        matches!(self, Self::Store(error) if error.passes())
    }
}

impl Patience {
    /// Patience until `stop`.
    #[must_use]
    pub fn until(stop: &CancellationToken) -> Self {
        Self { stop: stop.clone(), ..Self::default() }
    }

    /// The final result of `ask`: temporary errors are retried.
    ///
    /// # Errors
    /// Those of `ask` that are not temporary.
    pub async fn ask<T, E: Passing, F: Future<Output = Result<T, E>>>(&self, ask: impl Fn() -> F) -> Result<T, E> {
        let (give_up_at, mut pauses) = (Instant::now() + GIVE_UP_AFTER, RETRIES.pauses());
        loop {
            let error = match ask().await {
                Err(error) if error.passes() && Instant::now() < give_up_at && !self.stop.is_cancelled() => error,
                outcome => {
                    self.has_failed.fetch_and(outcome.is_err(), Ordering::Relaxed);
                    return outcome;
                }
            };
            if !self.has_failed.swap(true, Ordering::Relaxed) {
                let seconds = GIVE_UP_AFTER.as_secs();
                tracing::warn!(why = %error, "cannot read the log; retrying for {seconds} s");
            }
            let _ = self.stop.run_until_cancelled(sleep(pauses.next_pause())).await;
        }
    }
}

/// An event store whose reads have patience. Appends have their own retries.
#[derive(Debug)]
pub struct PatientStore {
    inner: Arc<dyn EventStore>,
    patience: Patience,
}

impl PatientStore {
    /// A store that reads `inner` with `patience`.
    #[must_use]
    pub const fn new(inner: Arc<dyn EventStore>, patience: Patience) -> Self {
        Self { inner, patience }
    }
}

#[async_trait]
impl EventStore for PatientStore {
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
        self.inner.append(commit).await
    }

    async fn find_request(&self, stream: StreamId, request: &RequestKey) -> Result<Option<Appended>, AppendError> {
        self.patience.ask(|| self.inner.find_request(stream, request)).await
    }

    async fn read_stream(
        &self,
        stream: StreamId,
        from: Revision,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.patience.ask(|| self.inner.read_stream(stream, from, direction, max_events)).await
    }

    async fn read_log(
        &self,
        from: Position,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.patience.ask(|| self.inner.read_log(from, direction, max_events)).await
    }

    async fn read_after(&self, point: LogPoint, bound: ReadBound) -> Result<Vec<StoredEvent>, StoreError> {
        self.patience.ask(|| self.inner.read_after(point, bound)).await
    }

    async fn read_commits(&self, from: Position, max_events: usize) -> Result<Vec<RecordedCommit>, StoreError> {
        self.patience.ask(|| self.inner.read_commits(from, max_events)).await
    }

    async fn append_all(&self, commits: Vec<Commit>) -> Result<Position, AppendError> {
        self.inner.append_all(commits).await
    }

    async fn head(&self) -> Result<Position, StoreError> {
        self.patience.ask(|| self.inner.head()).await
    }

    async fn confirmed(&self) -> Result<Position, StoreError> {
        self.patience.ask(|| self.inner.confirmed()).await
    }

    async fn contains(&self, stream: StreamId, revision: Revision, position: Position) -> Result<bool, StoreError> {
        self.patience.ask(|| self.inner.contains(stream, revision, position)).await
    }

    async fn confirmed_head(&self) -> Result<Position, StoreError> {
        self.patience.ask(|| self.inner.confirmed_head()).await
    }

    /// Not retried: waiting does not confirm earlier reads.
    async fn confirm_connection(&self, connection: u64) -> Result<(), StoreError> {
        self.inner.confirm_connection(connection).await
    }

    fn distance(&self, from: Position, to: Position) -> u64 {
        self.inner.distance(from, to)
    }

    fn past_entry(&self, from: Position) -> Position {
        self.inner.past_entry(from)
    }

    async fn check_indexes(&self) -> Result<Vec<IndexDamage>, StoreError> {
        self.patience.ask(|| self.inner.check_indexes()).await
    }

    async fn missing_entries(&self) -> Result<Option<String>, StoreError> {
        self.patience.ask(|| self.inner.missing_entries()).await
    }

    fn losses_found(&self) -> u64 {
        self.inner.losses_found()
    }

    fn wake(&self) -> watch::Receiver<Position> {
        self.inner.wake()
    }

    fn server(&self) -> Option<ServerName> {
        self.inner.server()
    }

    fn unreachable(&self) -> Option<String> {
        self.inner.unreachable()
    }

    fn at_risk(&self) -> Option<String> {
        self.inner.at_risk()
    }

    fn known_outage(&self) -> Option<String> {
        self.inner.known_outage()
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.inner.check().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    fn election() -> StoreError {
        StoreError::Unavailable("503".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn temporary_errors_are_retried_for_half_a_minute_and_others_returned_at_once() {
        let asked = AtomicU32::new(0);
        let ask = |failures: u32, error: StoreError| {
            let outcome = if asked.fetch_add(1, Ordering::SeqCst) < failures { Err(error) } else { Ok(7) };
            async { outcome }
        };
        let patience = Patience::default();
        assert_eq!(patience.ask(|| ask(5, election())).await, Ok(7));
        asked.store(0, Ordering::SeqCst);
        let damage = || StoreError::Corrupt("damage".to_owned());
        assert_eq!(patience.ask(|| ask(1, damage())).await, Err(damage()));
        let begun = Instant::now();
        assert_eq!(patience.ask(|| ask(u32::MAX, election())).await, Err(election()));
        assert!((GIVE_UP_AFTER..GIVE_UP_AFTER * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_when_stopped() {
        let stop = CancellationToken::new();
        let patience = Patience::until(&stop);
        let begun = Instant::now();
        let asking = patience.ask(|| async { Err::<(), _>(election()) });
        let stopping = async {
            sleep(Duration::from_secs(3)).await;
            stop.cancel();
        };
        let (answer, ()) = tokio::join!(asking, stopping);
        assert_eq!((answer, begun.elapsed()), (Err(election()), Duration::from_secs(3)));
    }
}
