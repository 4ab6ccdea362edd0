//! The follower is the same for every backend, so its guarantee is tested once, with a store that provokes the race.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use ordersystem::ports::event_store::StoreError;

use super::*;
use crate::support::{
    PATIENCE,
    intercepted::{Intercepted, StoreHooks},
};

#[tokio::test]
async fn an_append_between_the_read_and_the_wait_wakes_the_follower() {
    let store = AppendsAfterRead { store: MemoryEventStore::default(), armed: AtomicBool::new(true) };
    let mut follower = LogFollower::new(Arc::new(Intercepted(store)), Position(0));
    assert_eq!(follower.poll_batch(10).await.unwrap(), vec![]);
    tokio::time::timeout(PATIENCE, follower.wait()).await.expect("woken in time");
    assert_eq!(texts(&follower.poll_batch(10).await.unwrap()), ["x"]);
}

/// Appends one event right after the first read of the log, as a writer on another thread may.
#[derive(Debug)]
struct AppendsAfterRead {
    store: MemoryEventStore,
    armed: AtomicBool,
}

#[async_trait]
impl StoreHooks for AppendsAfterRead {
    fn inner(&self) -> &dyn EventStore {
        &self.store
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
}
