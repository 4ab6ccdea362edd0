//! The follower is the same for every backend, so its guarantee is tested once, with a store that provokes the race.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use ordersystem::ports::event_store::{Durability, LogId, StoreError, TokenKey};
use tokio::sync::watch;

use super::*;

#[tokio::test]
async fn an_append_between_the_read_and_the_wait_wakes_the_follower() {
    let store = AppendsAfterRead { store: MemoryEventStore::default(), armed: AtomicBool::new(true) };
    let mut follower = LogFollower::new(Arc::new(store), Position(0));
    assert_eq!(follower.poll_batch(10).await.unwrap(), vec![]);
    tokio::time::timeout(Duration::from_secs(60), follower.wait()).await.expect("woken in time");
    assert_eq!(texts(&follower.poll_batch(10).await.unwrap()), ["x"]);
}

/// Appends one event right after the first read of the log, as a writer on another thread may.
#[derive(Debug)]
struct AppendsAfterRead {
    store: MemoryEventStore,
    armed: AtomicBool,
}

#[async_trait]
impl EventStore for AppendsAfterRead {
    fn log_id(&self) -> Option<LogId> {
        self.store.log_id()
    }

    fn token_key(&self) -> Option<TokenKey> {
        self.store.token_key()
    }

    fn connections(&self) -> watch::Receiver<u64> {
        self.store.connections()
    }

    fn durability(&self) -> Durability {
        self.store.durability()
    }

    async fn append(&self, commit: Commit) -> Result<Appended, AppendError> {
        self.store.append(commit).await
    }

    async fn find_request(&self, stream: StreamId, request: &RequestKey) -> Result<Option<Appended>, AppendError> {
        self.store.find_request(stream, request).await
    }

    async fn read_stream(
        &self,
        stream: StreamId,
        from: Revision,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.store.read_stream(stream, from, direction, max_events).await
    }

    async fn read_log(
        &self,
        from: Position,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let events = self.store.read_log(from, direction, max_events).await;
        if self.armed.swap(false, Ordering::Relaxed) {
            self.store.append(commit(1, ExpectedRevision::Any, &["x"])).await.unwrap();
        }
        events
    }

    async fn read_commits(&self, from: Position, max_events: usize) -> Result<Vec<RecordedCommit>, StoreError> {
        self.store.read_commits(from, max_events).await
    }

    async fn head(&self) -> Result<Position, StoreError> {
        self.store.head().await
    }

    fn wake(&self) -> watch::Receiver<Position> {
        self.store.wake()
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.store.check().await
    }
}
