//! A log in Redis from which entries have been deleted or trimmed: every reader reports it, and none reads past the gap.

use std::time::Duration;

use bytes::Bytes;
use ordersystem::{
    backends::redis::event_store::RedisEventStore,
    ports::event_store::{
        Commit, CommitId, Direction, EventStore, ExpectedRevision, Position, RequestKey, RequestScope, StoreError,
        StreamId,
    },
};
use tokio::time::{Instant, sleep};

use crate::redis_server::{fresh_prefix, shared};

const ORDERS: u64 = 20;

/// A log of twenty orders with one event each: order n is at position n.
async fn log() -> (String, RedisEventStore) {
    let prefix = fresh_prefix();
    let store = RedisEventStore::new(shared().connect_to(&prefix).await);
    for order in 1..=ORDERS {
        let request = RequestKey { scope: RequestScope::Log, id: format!("create-{order}").into(), fingerprint: 1 };
        let events = vec![Bytes::from_static(b"created")];
        let (stream, expected) = (StreamId(order), ExpectedRevision::NoStream);
        let commit = Commit { id: CommitId::random(), stream, expected, request: Some(request), events };
        store.append(commit).await.unwrap();
    }
    (prefix, store)
}

#[track_caller]
fn assert_missing<T: std::fmt::Debug>(read: Result<T, StoreError>, entry: u64) {
    match read {
        Err(StoreError::Corrupt(what)) => assert_eq!(what, format!("the entry 0-{entry} of the log is missing")),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_entry_that_was_deleted_is_missed_by_every_reader() {
    let (prefix, here) = log().await;
    shared().cli(&["XDEL", &format!("{{{prefix}}}:log"), "0-10"]);
    let started_later = RedisEventStore::new(shared().connect_to(&prefix).await);
    for store in [&here, &started_later] {
        assert_missing(store.read_log(Position(0), Direction::Forward, 100).await, 10);
        assert_missing(store.read_log(Position(9), Direction::Forward, 1).await, 10);
        assert_missing(store.read_log(Position(21), Direction::Backward, 100).await, 10);
        assert_missing(store.read_log(Position(u64::MAX), Direction::Backward, 100).await, 10);
        assert_missing(store.read_log(Position(11), Direction::Backward, 1).await, 10);
        assert_missing(store.read_commits(Position(0), 100).await, 10);
        assert_missing(store.read_stream(StreamId(10), 1, Direction::Forward, 10).await, 10);
        // Intact entries are read.
        assert_eq!(store.read_log(Position(0), Direction::Forward, 9).await.unwrap().len(), 9);
        assert_eq!(store.read_log(Position(10), Direction::Forward, 100).await.unwrap().len(), 10);
        assert_eq!(store.read_stream(StreamId(11), 1, Direction::Forward, 10).await.unwrap().len(), 1);
        let why = store.check().await.unwrap_err().to_string();
        assert!(why.contains("1 of the 20 entries of the log are missing"), "{why}");
        let found = store.check_indexes().await.unwrap();
        let expected = "order 10: 1 of its 1 events are not in the log where its index says, the first at position 10";
        assert_eq!(found, [expected]);
    }
}

#[tokio::test]
async fn a_log_that_was_trimmed_is_not_taken_for_a_shorter_one() {
    let (prefix, here) = log().await;
    shared().cli(&["XTRIM", &format!("{{{prefix}}}:log"), "MAXLEN", "5"]);
    let started_later = RedisEventStore::new(shared().connect_to(&prefix).await);
    for store in [&here, &started_later] {
        assert_missing(store.read_log(Position(0), Direction::Forward, 100).await, 1);
        assert_missing(store.read_commits(Position(0), 100).await, 1);
        assert_missing(store.read_log(Position(21), Direction::Backward, 100).await, 15);
        let why = store.check().await.unwrap_err().to_string();
        assert!(why.contains("the entries 0-1 to 0-15 of the log are missing"), "{why}");
        assert_eq!(store.check_indexes().await.unwrap().len(), 15);
    }
}

#[tokio::test]
async fn the_newest_entries_are_missed_as_well() {
    let (prefix, here) = log().await;
    for entry in ["0-20", "0-19"] {
        shared().cli(&["XDEL", &format!("{{{prefix}}}:log"), entry]);
    }
    let started_later = RedisEventStore::new(shared().connect_to(&prefix).await);
    for store in [&here, &started_later] {
        assert_eq!(store.head().await, Ok(Position(20)), "it was there");
        assert_missing(store.read_log(Position(21), Direction::Backward, 100).await, 19);
        assert_missing(store.read_log(Position(20), Direction::Backward, 100).await, 19);
        // Forward reads report them as soon as this node has heard of them, and so do readers that wait to be woken.
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Ok(events) = store.read_log(Position(0), Direction::Forward, 100).await {
            assert!(events.len() == 18 && Instant::now() < deadline, "{} events", events.len());
            sleep(Duration::from_millis(20)).await;
        }
        assert_missing(store.read_log(Position(18), Direction::Forward, 100).await, 19);
        let why = store.check().await.unwrap_err().to_string();
        assert!(why.contains("the entries 0-19 to 0-20 of the log are missing"), "{why}");
    }
}

#[tokio::test]
async fn a_deleted_log_is_recognised_by_the_indexes_that_point_to_it() {
    let (prefix, store) = log().await;
    assert_eq!(store.check_indexes().await, Ok(Vec::new()));
    let key = |name: &str| format!("{{{prefix}}}:{name}");
    shared().cli(&["DEL", &key("log")]);
    assert_eq!(store.check_indexes().await.unwrap().len(), 20);
    shared().cli(&["DEL", &key("order:7")]);
    let found = store.check_indexes().await.unwrap();
    let request = "request create-7 made revision 1 of order 7, of which there are 0 events";
    assert!(found.len() == 20 && found.iter().any(|finding| finding == request), "{found:?}");
}
