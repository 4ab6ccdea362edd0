//! A log opened read-only: while its service runs, without leaving a trace, and from files of earlier versions.

use std::time::Duration;

use ordersystem::{
    backends::embedded::event_store::read_only::ReadOnlyEventStore,
    ports::event_store::{AppendError, RecordedCommit, RequestKey, RequestScope},
};

use super::*;

fn key(scope: RequestScope, id: &str, fingerprint: u128) -> RequestKey {
    RequestKey { scope, id: id.into(), fingerprint }
}

/// Commits with and without request ids, one of them with three events.
async fn mixed(store: &EmbeddedEventStore) {
    for stream in 1..=50 {
        let in_log = key(RequestScope::Log, &format!("create-{stream}"), stream.into());
        let mut create = Commit { request: Some(in_log), ..commit(stream, "created") };
        if stream == 25 {
            create.events = vec!["a".into(), "b".into(), "c".into()];
        }
        store.append(create).await.unwrap();
        let in_stream = key(RequestScope::Stream, "pay", u128::from(stream) << 70);
        store.append(Commit { request: Some(in_stream), ..commit(stream, "paid") }).await.unwrap();
        store.append(commit(stream, "more")).await.unwrap();
    }
}

async fn commits(store: &dyn EventStore) -> Vec<RecordedCommit> {
    store.read_commits(Position(0), usize::MAX).await.unwrap()
}

#[tokio::test]
async fn a_folder_in_use_is_read_as_it_grows_and_written_by_its_service_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    mixed(&store).await;
    let reader = ReadOnlyEventStore::open(folder.path()).unwrap();
    assert_eq!(reader.log_id(), store.log_id());
    assert_eq!(commits(&reader).await, commits(&store).await);
    let mut wake = reader.wake();
    let appended = store.append(commit(9, "newest")).await.unwrap();
    let woken = wake.wait_for(|head| *head == appended.position);
    tokio::time::timeout(Duration::from_secs(60), woken).await.expect("it notices").unwrap();
    assert_eq!(reader.head().await, Ok(appended.position));
    assert_eq!(commits(&reader).await.len(), 151);
    assert!(matches!(reader.append(commit(9, "x")).await, Err(AppendError::Store(_))));
    assert!(ReadOnlyEventStore::open(&folder.path().join("none")).is_err());
}

#[tokio::test]
async fn a_file_of_version_2_is_read_with_its_requests_and_brought_up_to_date_when_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    mixed(&open(folder.path())).await;
    let expected = commits(&open(folder.path())).await;
    assert_eq!(expected.len(), 150);
    let back = "DROP TABLE commits; DROP INDEX requests_by_position; DELETE FROM facts WHERE name = 'head'; \
                ALTER TABLE checkpoints DROP COLUMN fingerprint; PRAGMA user_version = 2;";
    rusqlite::Connection::open(folder.path().join("orders.db")).unwrap().execute_batch(back).unwrap();

    let reader = ReadOnlyEventStore::open(folder.path()).unwrap();
    assert_eq!(commits(&reader).await, expected);
    let found = reader.find_request(StreamId(7), &key(RequestScope::Stream, "pay", 7 << 70)).await.unwrap().unwrap();
    assert_eq!((found.first_revision, found.replayed), (2, true));
    drop(reader);

    let store = open(folder.path());
    assert_eq!(commits(&store).await, expected);
    store.append(commit(1, "next")).await.unwrap();
    assert_eq!(commits(&store).await.len(), 151);
}
