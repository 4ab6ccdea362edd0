//! A log in Redis that is restored or deleted while nodes are connected to it: a node that has seen more than it contains adds nothing to
//! it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use ordersystem::{
    backends::redis::event_store::RedisEventStore,
    ports::event_store::{
        AppendError, Commit, CommitId, Direction, EventStore, ExpectedRevision, LogFollower, LogLoss, LossKind,
        Position, StoreError, StreamId,
    },
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{
    redis_server::{DURABLE, RedisServer, fresh_prefix, shared},
    support::until,
};

async fn append(store: &RedisEventStore, order: u64) -> Result<Position, AppendError> {
    let (stream, expected) = (StreamId(order), ExpectedRevision::NoStream);
    let events = vec![Bytes::from(format!("created {order}"))];
    let commit = Commit { id: CommitId::random(), stream, expected, request: None, events };
    store.append(commit).await.map(|appended| appended.position)
}

/// Waits for a connection after `before`: every reader on it checks the event that it read last.
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
async fn a_log_deleted_under_an_open_connection_gets_no_append_before_it_is_verified_again() {
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
        // The reader of its end was there first.
        Ok(position) => panic!("appended at {position}"),
        Err(_) => {}
    }
    connected_again(&store, before).await;
    assert_eq!(appends_again(&store, 12).await, Position(1), "the log as it is now");
    assert_eq!(append(&store, 13).await.unwrap(), Position(2));
}

#[tokio::test]
async fn a_reading_node_detects_that_its_log_was_restored() {
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

/// Replaces the log with this prefix by one with `orders` other events, atomically: no connection is lost.
async fn put_another_in_its_place(prefix: &str, orders: u64) {
    let other = fresh_prefix();
    let store = RedisEventStore::new(shared().connect_to(&other).await);
    for order in 1..=orders {
        append(&store, 1_000 + order).await.unwrap();
    }
    let [from, to] = [&other, prefix].map(|prefix| format!("{{{prefix}}}:log"));
    assert_eq!(shared().cli(&["COPY", &from, &to, "REPLACE"]), "1");
}

#[tokio::test]
async fn a_reading_node_detects_a_restored_log_that_has_grown_past_its_position() {
    let prefix = fresh_prefix();
    let writer = RedisEventStore::new(shared().connect_to(&prefix).await);
    let reader = RedisEventStore::new(shared().connect_to(&prefix).await);
    let mut tail = reader.wake();
    for order in 1..=10 {
        append(&writer, order).await.unwrap();
    }
    let seen = tail.wait_for(|latest| *latest >= Position(10));
    tokio::time::timeout(Duration::from_secs(60), seen).await.expect("in time").expect("it lives");
    // The reader of its end has checked it: the next difference is noticed by comparison with what it had seen.
    sleep(Duration::from_millis(1_200)).await;
    let before = *reader.connections().borrow();
    put_another_in_its_place(&prefix, 12).await;
    connected_again(&reader, before).await;
}

#[tokio::test]
async fn a_reader_of_a_restored_log_that_has_grown_gets_none_of_it() {
    let prefix = fresh_prefix();
    let writer = RedisEventStore::new(shared().connect_to(&prefix).await);
    for order in 1..=10 {
        append(&writer, order).await.unwrap();
    }
    let reader: Arc<dyn EventStore> = Arc::new(RedisEventStore::new(shared().connect_to(&prefix).await));
    let mut follower = LogFollower::new(Arc::clone(&reader), Position(0));
    while follower.position() < Position(10) {
        follower.poll_batch(100).await.unwrap();
    }
    put_another_in_its_place(&prefix, 12).await;
    let give_up = Instant::now() + Duration::from_secs(60);
    loop {
        match follower.poll_batch(100).await {
            Err(StoreError::LogReplaced(_)) => break,
            Err(StoreError::Unavailable(why)) => assert!(Instant::now() < give_up, "{why}"),
            other => panic!("{other:?}"),
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until the store reports it by itself.
async fn until_it_says(store: &RedisEventStore, words: &str) -> String {
    until(&format!("the store says {words:?}"), async || {
        let why = store.check().await.err().map(|error| error.to_string()).unwrap_or_default();
        if why.contains(words) { Ok(why) } else { Err(why) }
    })
    .await
}

async fn until_the_loss_is(loss: &mut watch::Receiver<Option<LogLoss>>, kind: Option<LossKind>) {
    let found = loss.wait_for(|loss| loss.as_ref().map(|loss| loss.kind) == kind);
    tokio::time::timeout(Duration::from_secs(60), found).await.expect("in time").expect("it lives");
}

#[tokio::test]
async fn a_deleted_log_is_reported_and_neither_read_nor_written() {
    let server = RedisServer::start(DURABLE);
    let prefix = fresh_prefix();
    let store = RedisEventStore::new(server.connect_to(&prefix).await);
    for order in 1..=10 {
        append(&store, order).await.unwrap();
    }
    server.cli(&["FLUSHALL"]);
    let read = store.read_stream(StreamId(1), 1, Direction::Forward, 10).await;
    assert!(matches!(read, Err(StoreError::Unavailable(_))), "that there is no such order is not known: {read:?}");
    let head = store.head().await;
    assert!(matches!(head, Err(StoreError::Unavailable(_))), "nor that the log is empty: {head:?}");
    let refused = append(&store, 11).await;
    assert!(matches!(refused, Err(AppendError::Store(StoreError::Unavailable(_)))), "{refused:?}");
    let why = until_it_says(&store, "the log that this node uses is gone").await;
    assert!(why.contains("restore its data, or restart the node") && !why.contains("another log"), "{why}");
    assert_eq!(server.cli(&["DBSIZE"]), "0", "nothing is written in its place");
}

#[tokio::test]
async fn a_log_that_has_lost_its_id_gets_no_append_until_it_has_it_again() {
    let server = RedisServer::start(DURABLE);
    let prefix = fresh_prefix();
    let store = RedisEventStore::new(server.connect_to(&prefix).await);
    for order in 1..=10 {
        append(&store, order).await.unwrap();
    }
    let [name, log] = ["log-id", "log"].map(|key| format!("{{{prefix}}}:{key}"));
    let id = server.cli(&["GET", &name]);
    server.cli(&["DEL", &name]);
    // Already the first one: nothing has contacted the server since.
    let refused = append(&store, 11).await;
    assert!(
        matches!(&refused, Err(AppendError::Store(StoreError::Unavailable(why))) if why.contains("the log that this node uses is gone")),
        "{refused:?}"
    );
    let commit = Commit {
        id: CommitId::random(),
        stream: StreamId(12),
        expected: ExpectedRevision::NoStream,
        request: None,
        events: vec![Bytes::from_static(b"created")],
    };
    store.append_all(vec![commit]).await.unwrap_err();
    until_it_says(&store, "the log that this node uses is gone").await;
    let mut loss = store.log_loss();
    until_the_loss_is(&mut loss, Some(LossKind::Gone)).await;
    server.cli(&["SET", &name, "4711"]);
    let why = until_it_says(&store, "names another log").await;
    assert!(why.contains("restart the node"), "{why}");
    until_the_loss_is(&mut loss, Some(LossKind::Replaced)).await;
    assert_eq!(server.cli(&["XLEN", &log]), "10", "nothing was added");
    server.cli(&["SET", &name, &id]);
    assert_eq!(appends_again(&store, 13).await, Position(11));
    until_the_loss_is(&mut loss, None).await;
}
