//! The event store contract.

mod appends;
mod commits;
mod follower;
mod races;
mod reads;
mod requests;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use ordersystem::{
    backends::{
        embedded::event_store::EmbeddedEventStore, memory::event_store::MemoryEventStore,
        redis::event_store::RedisEventStore,
    },
    ports::event_store::{
        AppendError, Appended, Commit, CommitId, Direction, EventStore, ExpectedRevision, LogFollower, Position,
        RecordedCommit, RequestKey, RequestScope, Revision, StoredEvent, StreamId,
    },
};

use crate::{
    backend::{Backend, Time, race_on_each},
    embedded::scratch,
    nats_cluster, nats_server, redis_server,
};

type Store = Arc<dyn EventStore>;

const BACKENDS: &[Backend<dyn EventStore>] = &[
    Backend {
        name: "inmemory",
        time: Time::Simulated,
        open: || async { Arc::new(MemoryEventStore::default()) as Store }.boxed(),
    },
    Backend {
        name: "embedded",
        time: Time::Real,
        open: || async { Arc::new(EmbeddedEventStore::new(scratch())) as Store }.boxed(),
    },
    Backend {
        name: "redis",
        time: Time::Real,
        open: || async { Arc::new(RedisEventStore::new(redis_server::shared().connect().await)) as Store }.boxed(),
    },
    Backend {
        name: "nats",
        time: Time::Real,
        open: || async { Arc::new(nats_server::shared().store().await) as Store }.boxed(),
    },
    Backend {
        name: "nats, three servers",
        time: Time::Real,
        open: || async { Arc::new(nats_cluster::shared().store().await) as Store }.boxed(),
    },
];

/// A commit of `payloads` to `stream`.
fn commit(stream: u64, expected: ExpectedRevision, payloads: &[&str]) -> Commit {
    let events = payloads.iter().map(|payload| Bytes::copy_from_slice(payload.as_bytes())).collect();
    Commit { id: CommitId::random(), stream: StreamId(stream), expected, request: None, events }
}

fn with_request(commit: Commit, request: &RequestKey) -> Commit {
    Commit { request: Some(request.clone()), ..commit }
}

fn request(scope: RequestScope, id: &str, fingerprint: u128) -> RequestKey {
    RequestKey { scope, id: id.into(), fingerprint }
}

/// Appends one event per payload, each in its own commit.
async fn append_each(store: &Store, stream: u64, payloads: &[&str]) {
    for payload in payloads {
        store.append(commit(stream, ExpectedRevision::Any, &[payload])).await.unwrap();
    }
}

/// The whole log, read forward in batches of `batch`.
async fn whole_log(store: &Store, batch: usize) -> Vec<StoredEvent> {
    let mut all = Vec::new();
    let mut from = Position(0);
    loop {
        let events = store.read_log(from, Direction::Forward, batch).await.unwrap();
        let Some(last) = events.last() else { return all };
        from = last.position;
        all.extend(events);
    }
}

async fn whole_stream(store: &Store, stream: u64) -> Vec<StoredEvent> {
    store.read_stream(StreamId(stream), 1, Direction::Forward, usize::MAX).await.unwrap()
}

fn revisions(events: &[StoredEvent]) -> Vec<Revision> {
    events.iter().map(|event| event.revision).collect()
}

fn texts(events: &[StoredEvent]) -> Vec<&str> {
    events.iter().map(|event| std::str::from_utf8(&event.payload).unwrap()).collect()
}

#[tokio::test]
async fn a_full_memory_store_refuses_appends_reports_it_and_still_reads() {
    let store: Store = Arc::new(MemoryEventStore::new(3));
    append_each(&store, 1, &["a", "b"]).await;
    let too_much = store.append(commit(2, ExpectedRevision::Any, &["c", "d"])).await;
    assert!(matches!(too_much, Err(AppendError::Full(_))), "{too_much:?}");
    assert_eq!(texts(&whole_log(&store, 10).await), ["a", "b"]);
    store.check().await.unwrap();

    append_each(&store, 2, &["c"]).await;
    assert!(store.check().await.is_err());
    assert!(matches!(store.append(commit(1, ExpectedRevision::Any, &["e"])).await, Err(AppendError::Full(_))));
    assert_eq!(texts(&whole_log(&store, 10).await), ["a", "b", "c"]);
}
