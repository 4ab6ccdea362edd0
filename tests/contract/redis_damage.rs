//! A log in Redis from which entries have been deleted or trimmed: every reader reports it, and none reads past the gap.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use ordersystem::{
    backends::redis::event_store::RedisEventStore,
    ports::event_store::{
        AppendError, Commit, CommitId, Direction, EventStore, ExpectedRevision, IndexDamage, LogFollower, Position,
        RequestKey, RequestScope, Revision, StoreError, StreamId,
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

type Place = (Option<Position>, Option<StreamId>, Option<Revision>);

/// The places of the findings, and their texts without the prefix of the keys.
fn placed<'a>(prefix: &str, found: &'a [IndexDamage]) -> Vec<(Place, &'a str)> {
    let prefix = format!("{{{prefix}}}:");
    let short = |what: &'a str| what.strip_prefix(prefix.as_str()).unwrap_or_else(|| panic!("no key: {what}"));
    found.iter().map(|found| ((found.position, found.stream, found.revision), short(&found.what))).collect()
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
        let of_index = "order:10: 1 of its 1 positions do not lead to their event of order 10; the first is position 10, which the log does not have";
        let of_request = "request:create-10: request create-10 made revision 1 of order 10 from position 10 on, which the log does not have";
        let at = (Some(Position(10)), Some(StreamId(10)), Some(1));
        assert_eq!(placed(&prefix, &found), [(at, of_index), (at, of_request)]);
    }
}

#[tokio::test]
async fn a_trimmed_log_is_not_mistaken_for_a_shorter_one() {
    let (prefix, here) = log().await;
    shared().cli(&["XTRIM", &format!("{{{prefix}}}:log"), "MAXLEN", "5"]);
    let started_later = RedisEventStore::new(shared().connect_to(&prefix).await);
    for store in [&here, &started_later] {
        assert_missing(store.read_log(Position(0), Direction::Forward, 100).await, 1);
        assert_missing(store.read_commits(Position(0), 100).await, 1);
        assert_missing(store.read_log(Position(21), Direction::Backward, 100).await, 15);
        let why = store.check().await.unwrap_err().to_string();
        assert!(why.contains("the entries 0-1 to 0-15 of the log are missing"), "{why}");
        assert_eq!(
            store.missing_entries().await.unwrap(),
            Some("the entries 0-1 to 0-15 of the log are missing".to_owned())
        );
        assert_eq!(store.check_indexes().await.unwrap().len(), 30, "each order, and its request");
    }
}

/// The positions of the next events, once the node is connected again.
async fn polled(follower: &mut LogFollower) -> Result<Vec<u64>, StoreError> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match follower.poll_batch(100).await {
            Err(StoreError::Unavailable(_)) if Instant::now() < deadline => sleep(Duration::from_millis(20)).await,
            batch => return batch.map(|events| events.iter().map(|event| event.position.0).collect()),
        }
    }
}

#[tokio::test]
async fn a_follower_before_the_cut_gets_an_error_and_one_after_it_continues() {
    let (prefix, here) = log().await;
    let here: Arc<dyn EventStore> = Arc::new(here);
    let mut followers = Vec::new();
    for read in [0, 10, 15, 16, 20] {
        let mut follower = LogFollower::new(Arc::clone(&here), Position(0));
        if read > 0 {
            assert_eq!(follower.poll_batch(read).await.unwrap().len(), read);
        }
        followers.push((read as u64, follower));
    }
    assert_eq!(here.missing_entries().await, Ok(None));
    shared().cli(&["XTRIM", &format!("{{{prefix}}}:log"), "MAXLEN", "5"]);
    // The second time on another connection, on which each verifies first what it has read.
    for connection in 1..=2 {
        for (read, follower) in &mut followers {
            let after = follower.position().0 + 1;
            match polled(follower).await {
                Err(StoreError::Corrupt(what)) => assert!(*read <= 15 && what.contains("is missing"), "{read}: {what}"),
                next => {
                    assert_eq!(next, Ok((after..=ORDERS).collect()), "after {read}, connection {connection}");
                    assert!(*read > 15, "{read}");
                }
            }
        }
        here.check().await.unwrap_err();
    }
}

#[tokio::test]
async fn the_newest_entries_are_missed_as_well() {
    let (prefix, here) = log().await;
    for entry in ["0-20", "0-19"] {
        shared().cli(&["XDEL", &format!("{{{prefix}}}:log"), entry]);
    }
    // By a node that has just started, and has not looked for the end of the log yet.
    let redis = shared().connect_to(&prefix).await;
    let newest = async |from: u64, direction: Direction| {
        RedisEventStore::new(redis.clone()).read_log(Position(from), direction, 100).await
    };
    assert_missing(newest(18, Direction::Forward).await, 19);
    assert_missing(newest(21, Direction::Backward).await, 19);
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
    assert_eq!(store.check_indexes().await.unwrap().len(), 40);
    shared().cli(&["DEL", &key("order:7")]);
    let found = store.check_indexes().await.unwrap();
    let request = "request:create-7: request create-7 made revision 1 of order 7, of which there are 0 events";
    let at = (None, Some(StreamId(7)), Some(1));
    assert!(found.len() == 39 && placed(&prefix, &found).contains(&(at, request)), "{found:?}");
}

/// Entries of indexes that no event of the log stands behind, since they were restored without it, or written by something else.
#[tokio::test]
async fn an_entry_of_an_index_that_leads_to_none_of_its_events_is_named_with_its_key_and_position() {
    let (prefix, store) = log().await;
    let record = |order: u64, first: u64| format!("{:032x} {order} 1 {first}", 1);
    let (of_request, of_other) = (record(3, 1), record(7, 2));
    let at = |position: Option<u64>, order: u64, revision: u64| {
        (position.map(Position), Some(StreamId(order)), Some(revision))
    };
    let text = |what: &str| what.to_owned();
    for (write, place, what) in [
        (
            &["RPUSH", "order:99", "5"][..],
            at(Some(5), 99, 1),
            text(
                "order:99: 1 of its 1 positions do not lead to their event of order 99; the first is position 5, where the log has another event",
            ),
        ),
        (
            &["RPUSH", "order:99", "21", "22"],
            at(Some(21), 99, 1),
            text(
                "order:99: 2 of its 2 positions do not lead to their event of order 99; the first is position 21, which the log does not have",
            ),
        ),
        (
            &["RPUSH", "order:4", "4"],
            at(Some(4), 4, 2),
            text(
                "order:4: 1 of its 2 positions do not lead to their event of order 4; the first is position 4, where the log has another event",
            ),
        ),
        (
            &["SET", "request:ghost", &of_request],
            at(Some(3), 3, 1),
            text(
                "request:ghost: request ghost made revision 1 of order 3 from position 3 on, where the log has another event",
            ),
        ),
        (
            &["HSET", "requests:3", "ghost", &of_request],
            at(Some(3), 3, 1),
            text(
                "requests:3: request ghost made revision 1 of order 3 from position 3 on, where the log has another event",
            ),
        ),
        (
            &["HSET", "requests:7", "ghost", &of_other],
            at(None, 7, 2),
            text("requests:7: request ghost made revision 2 of order 7, of which there are 1 events"),
        ),
        (
            &["HSET", "requests:8", "ghost", &of_request],
            (None, Some(StreamId(3)), None),
            text("requests:8: the record of request ghost names another order, 3"),
        ),
        (
            &["SET", "request:ghost", "?"],
            (None, None, None),
            text("request:ghost: the record of request ghost cannot be read"),
        ),
        (&["SET", "order:99", "5"], (None, None, None), text("order:99 has another type than this index")),
        (&["RPUSH", "request:ghost", "5"], (None, None, None), text("request:ghost has another type than this index")),
    ] {
        let key = format!("{{{prefix}}}:{}", write[1]);
        // Not below the prefix of the indexes.
        let saved = format!("saved:{key}");
        shared().cli(&["COPY", &key, &saved]);
        let words: Vec<_> = write.iter().map(|word| if *word == write[1] { key.as_str() } else { word }).collect();
        assert_ne!(shared().cli(&words), "", "{write:?}");
        let found = store.check_indexes().await.unwrap();
        shared().cli(&["DEL", &key]);
        shared().cli(&["RENAME", &saved, &key]);
        assert_eq!(placed(&prefix, &found), [(place, what.as_str())], "{write:?}");
    }
    assert_eq!(store.check_indexes().await, Ok(Vec::new()));
}

fn next(order: u64, expected: ExpectedRevision) -> Commit {
    let (stream, events) = (StreamId(order), vec![Bytes::from_static(b"paid")]);
    Commit { id: CommitId::random(), stream, expected, request: None, events }
}

#[tokio::test]
async fn nothing_is_appended_to_an_order_whose_last_event_was_deleted_or_whose_log_is_gone() {
    for lose in [&["XDEL", "LOG", "0-10", "0-20"][..], &["DEL", "LOG"]] {
        let (prefix, here) = log().await;
        let key = format!("{{{prefix}}}:log");
        let command: Vec<&str> = lose.iter().map(|word| if *word == "LOG" { &*key } else { *word }).collect();
        shared().cli(&command);
        let length = shared().cli(&["XLEN", &key]);
        let last = ExpectedRevision::After { revision: 1, position: Position(10) };
        for (order, expected) in [(10, ExpectedRevision::Exactly(1)), (10, last), (20, ExpectedRevision::Exists)] {
            // At first the log may count as replaced by a shorter one, which has the readers check what they have read.
            let deadline = Instant::now() + Duration::from_secs(30);
            let refused = loop {
                match here.append(next(order, expected)).await {
                    Err(AppendError::Store(StoreError::Unavailable(_))) if Instant::now() < deadline => {}
                    outcome => break outcome,
                }
                sleep(Duration::from_millis(20)).await;
            };
            let missing = format!("the entry 0-{order} of the log is missing");
            assert_eq!(refused, Err(AppendError::Store(StoreError::Corrupt(missing))), "{lose:?}");
        }
        assert_eq!(shared().cli(&["XLEN", &key]), length, "nothing was written");
        if lose[0] == "XDEL" {
            here.append(next(11, ExpectedRevision::Exactly(1))).await.expect("an intact order can be changed");
        }
    }
}

#[tokio::test]
async fn commits_in_order_end_before_an_order_whose_last_event_was_deleted() {
    let (prefix, here) = log().await;
    let key = format!("{{{prefix}}}:log");
    shared().cli(&["XDEL", &key, "0-10"]);
    let commits = [11, 10, 12].map(|order| next(order, ExpectedRevision::Exactly(1)));
    let missing = StoreError::Corrupt("the entry 0-10 of the log is missing".to_owned());
    assert_eq!(here.append_all(commits.to_vec()).await, Err(AppendError::Store(missing)));
    for (order, events) in [(10, "1"), (11, "2"), (12, "1")] {
        let index = format!("{{{prefix}}}:order:{order}");
        assert_eq!(shared().cli(&["LLEN", &index]), events, "order {order}");
    }
    let intact = vec![next(11, ExpectedRevision::Exactly(2)), next(11, ExpectedRevision::Exactly(3))];
    assert_eq!(here.append_all(intact).await, Ok(Position(23)), "upon events of the same call");
}

#[tokio::test]
async fn a_check_that_finds_entries_missing_has_all_readers_verify_what_they_have_read() {
    let (prefix, here) = log().await;
    here.check().await.unwrap();
    let mut connections = here.connections();
    connections.borrow_and_update();
    shared().cli(&["XTRIM", &format!("{{{prefix}}}:log"), "MAXLEN", "5"]);
    here.check().await.unwrap_err();
    tokio::time::timeout(Duration::from_secs(30), connections.changed()).await.expect("connected again").unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !matches!(here.check().await, Err(StoreError::Corrupt(_))) {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(20)).await;
    }
    connections.borrow_and_update();
    here.check().await.unwrap_err();
    assert!(!connections.has_changed().unwrap(), "once for each finding");
}
