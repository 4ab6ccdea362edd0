//! The embedded backend in the suites, and its additional guarantees.

mod backups;
mod damage;
mod full_disk;
mod lost_file;
mod read_only;
mod reopening;

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use ordersystem::{
    backends::embedded::{database::Database, event_store::EmbeddedEventStore},
    ports::event_store::{
        Commit, CommitId, Direction, EventStore, ExpectedRevision, Position, StoreError, StoredEvent, StreamId,
    },
};
use tempfile::TempDir;

thread_local! {
    /// The folders of this test: removed with its thread, after the databases in them.
    static FOLDERS: RefCell<Vec<TempDir>> = const { RefCell::new(Vec::new()) };
}

/// A new, empty data folder, opened.
pub fn scratch() -> Arc<Database> {
    Database::open(&kept_folder()).unwrap()
}

/// A new folder that is there until the end of the test.
pub fn kept_folder() -> PathBuf {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    FOLDERS.with_borrow_mut(|folders| folders.push(folder));
    path
}

/// The event store in the folder `dir`, which nothing else may have open.
fn open(dir: &Path) -> EmbeddedEventStore {
    EmbeddedEventStore::new(Database::open(dir).unwrap())
}

/// Why the folder cannot be opened.
fn refusal(dir: &Path) -> String {
    Database::open(dir).map(drop).unwrap_err().to_string()
}

fn commit(stream: u64, payload: impl Into<Bytes>) -> Commit {
    let events = vec![payload.into()];
    Commit { id: CommitId::random(), stream: StreamId(stream), expected: ExpectedRevision::Any, request: None, events }
}

/// Appends `count` events to ten streams, each with a unique payload.
async fn fill(store: &EmbeddedEventStore, count: u64) {
    let commits = (0..count).map(|index| commit(index % 10, format!("payload {index:06} {}", "x".repeat(60))));
    // Concurrently, so that few syncs cover all; they are written in the order in which they are submitted.
    futures_util::future::try_join_all(commits.map(|commit| store.append(commit))).await.unwrap();
}

async fn whole_log(store: &EmbeddedEventStore) -> Result<Vec<StoredEvent>, StoreError> {
    let mut log: Vec<StoredEvent> = Vec::new();
    loop {
        let from = log.last().map_or(Position(0), |event| event.position);
        let events = store.read_log(from, Direction::Forward, 1_000).await?;
        if events.is_empty() {
            return Ok(log);
        }
        log.extend(events);
    }
}
