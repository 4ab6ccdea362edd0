//! A log in Redis that is put back or deleted while nodes are connected to it: nothing is added to it by who has seen more than it has.

use std::time::Duration;

use bytes::Bytes;
use ordersystem::{
    backends::redis::event_store::RedisEventStore,
    event_store::{AppendError, Commit, CommitId, EventStore, ExpectedRevision, Position, StoreError, StreamId},
};
use tokio::time::{Instant, sleep};

use crate::redis_server::{fresh_prefix, shared};

async fn append(store: &RedisEventStore, order: u64) -> Result<Position, AppendError> {
    let (stream, expected) = (StreamId(order), ExpectedRevision::NoStream);
    let events = vec![Bytes::from_static(b"created")];
    let commit = Commit { id: CommitId::random(), stream, expected, request: None, events };
    store.append(commit).await.map(|appended| appended.position)
}

/// Waits for a connection after `before`: on it everyone who reads looks again for what was read last.
async fn connected_again(store: &RedisEventStore, before: u64) {
    let mut connections = store.connections();
    let again = connections.wait_for(|made| *made > before);
    tokio::time::timeout(Duration::from_secs(60), again).await.expect("in time").expect("it lives");
}

async fn appends_again(store: &RedisEventStore, order: u64) -> Position {
    let give_up = Instant::now() + Duration::from_secs(60);
    loop {
        match append(store, order).await {
            Ok(position) => return position,
            Err(error) => assert!(Instant::now() < give_up, "{error}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_log_that_was_deleted_under_an_open_connection_gets_nothing_before_it_is_looked_at_again() {
    let prefix = fresh_prefix();
    let store = RedisEventStore::new(shared().connect_to(&prefix).await);
    for order in 1..=10 {
        assert_eq!(append(&store, order).await.unwrap(), Position(order));
    }
    let before = *store.connections().borrow();
    let log = format!("{{{prefix}}}:log");
    shared().cli(&["DEL", &log]);
    match append(&store, 11).await {
        Err(AppendError::Store(StoreError::Unavailable(why))) => assert!(why.contains("before 10"), "{why}"),
        // The watch of its end was there first.
        Ok(position) => panic!("appended at {position}"),
        Err(_) => {}
    }
    connected_again(&store, before).await;
    assert_eq!(appends_again(&store, 12).await, Position(1), "the log as it is now");
    assert_eq!(append(&store, 13).await.unwrap(), Position(2));
}

#[tokio::test]
async fn a_node_that_only_reads_notices_that_its_log_was_put_back() {
    let prefix = fresh_prefix();
    let writer = RedisEventStore::new(shared().connect_to(&prefix).await);
    let reader = RedisEventStore::new(shared().connect_to(&prefix).await);
    let mut tail = reader.wake();
    for order in 1..=10 {
        append(&writer, order).await.unwrap();
    }
    let seen = tail.wait_for(|latest| *latest >= Position(10));
    tokio::time::timeout(Duration::from_secs(60), seen).await.expect("in time").expect("it lives");
    let before = *reader.connections().borrow();
    shared().cli(&["DEL", &format!("{{{prefix}}}:log")]);
    connected_again(&reader, before).await;
}
