//! Logs at brokers: commits to write, and what must be there after harm to the server.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use ordersystem::ports::event_store::{
    AppendError, Commit, CommitId, Direction, EventStore, ExpectedRevision, LogFollower, Position, RequestKey,
    RequestScope, StoreError, StoredEvent, StreamId,
};
use tokio::time::{Instant, sleep, timeout};

use crate::support::until;

/// A commit of one event.
pub fn commit(stream: u64, expected: ExpectedRevision, text: &str) -> Commit {
    let events = vec![Bytes::copy_from_slice(text.as_bytes())];
    Commit { id: CommitId::random(), stream: StreamId(stream), expected, request: None, events }
}

/// The commit of a request that makes a new order.
pub fn create(stream: u64, id: &str, text: &str) -> Commit {
    let request = RequestKey { scope: RequestScope::Log, id: id.into(), fingerprint: 7 };
    Commit { request: Some(request), ..commit(stream, ExpectedRevision::NoStream, text) }
}

/// All events of a stream.
pub async fn stream_texts(store: &dyn EventStore, stream: u64) -> Vec<String> {
    let mut texts = Vec::new();
    loop {
        let from = texts.len() as u64 + 1;
        let events = store.read_stream(StreamId(stream), from, Direction::Forward, usize::MAX).await.unwrap();
        if events.is_empty() {
            return texts;
        }
        texts.extend(events.iter().map(text));
    }
}

pub fn text(event: &StoredEvent) -> String {
    String::from_utf8(event.payload.to_vec()).unwrap()
}

/// Runs writers and a follower while `harm` is done to the server. Every acknowledged event must be in the log once, in order, with nothing
/// else except events with an unknown outcome, and the follower must have seen all of it. Returns how many were acknowledged.
pub async fn under_harm(store: Arc<dyn EventStore>, harm: impl Future<Output = ()>) -> usize {
    let end = Instant::now() + Duration::from_secs(6);
    let follower = tokio::spawn(follow(Arc::clone(&store), end + Duration::from_secs(1)));
    let writers: Vec<_> = (0..8).map(|stream| tokio::spawn(write_until(Arc::clone(&store), stream, end))).collect();
    sleep(Duration::from_millis(500)).await;
    harm.await;
    let (mut all, mut all_unknown) = (0, 0);
    for (stream, writer) in writers.into_iter().enumerate() {
        let (acknowledged, unknown) = writer.await.unwrap();
        until("the store works", async || store.check().await).await;
        let mut stored = stream_texts(&*store, stream as u64).await;
        all += acknowledged.len();
        all_unknown += unknown.len();
        let before = stored.len();
        stored.retain(|text| !unknown.contains(text));
        assert!(before - stored.len() <= unknown.len(), "an unknown one is there twice: {unknown:?}");
        assert_eq!(stored, acknowledged, "stream {stream}");
    }
    let (mut follower, mut seen) = follower.await.unwrap();
    while let Ok(batch) = follower.poll_batch(1_000).await
        && !batch.is_empty()
    {
        seen.extend(batch);
    }
    let mut log: Vec<StoredEvent> = Vec::new();
    let end = |log: &[StoredEvent]| log.last().map_or(Position(0), |event| event.position);
    while let Ok(events) = store.read_log(end(&log), Direction::Forward, 1_000).await
        && !events.is_empty()
    {
        log.extend(events);
    }
    assert_eq!(seen, log, "the follower has seen what is there, once and in order");
    println!("acknowledged: {all}, unknown: {all_unknown}");
    all
}

/// Appends to one stream until `end`, each event once as far as the replies tell. Returns the acknowledged events and those with an unknown
/// outcome.
async fn write_until(store: Arc<dyn EventStore>, stream: u64, end: Instant) -> (Vec<String>, Vec<String>) {
    let (mut acknowledged, mut unknown) = (Vec::new(), Vec::new());
    for number in 0.. {
        if Instant::now() >= end {
            break;
        }
        let text = format!("{stream}-{number}");
        let expected = match number % 3 {
            0 => ExpectedRevision::Any,
            _ => ExpectedRevision::Exactly(last_revision(&*store, stream).await),
        };
        match store.append(commit(stream, expected, &text)).await {
            Ok(appended) => {
                assert!(!appended.replayed);
                acknowledged.push(text);
            }
            Err(AppendError::OutcomeUnknown(_)) => unknown.push(text),
            // It was not written, so it must never be seen.
            Err(AppendError::Store(StoreError::Unavailable(_)) | AppendError::Conflict { .. }) => {
                sleep(Duration::from_millis(5)).await;
            }
            Err(other) => panic!("{other}"),
        }
    }
    (acknowledged, unknown)
}

/// The last revision of a stream; retries until there is a reply.
async fn last_revision(store: &dyn EventStore, stream: u64) -> u64 {
    loop {
        match store.read_stream(StreamId(stream), u64::MAX, Direction::Backward, 1).await {
            Ok(newest) => return newest.first().map_or(0, |event| event.revision),
            Err(StoreError::Unavailable(_)) => sleep(Duration::from_millis(20)).await,
            Err(other) => panic!("{other}"),
        }
    }
}

/// Follows the log until `end`, through all errors.
async fn follow(store: Arc<dyn EventStore>, end: Instant) -> (LogFollower, Vec<StoredEvent>) {
    let mut follower = LogFollower::new(store, Position(0));
    let mut seen = Vec::new();
    while Instant::now() < end {
        match follower.poll_batch(100).await {
            Ok(batch) if batch.is_empty() => {
                let _ = timeout(Duration::from_millis(500), follower.wait()).await;
            }
            Ok(batch) => seen.extend(batch),
            Err(StoreError::Unavailable(_)) => sleep(Duration::from_millis(20)).await,
            Err(other) => panic!("{other}"),
        }
    }
    (follower, seen)
}
