//! The file is removed, moved or replaced while a node has it open: what is written there is lost with the process.

use std::{fs, path::Path};

use ordersystem::{
    backends::embedded::event_store::read_only::ReadOnlyEventStore,
    ports::event_store::{AppendError, Direction, EventStore as _, LossKind, Position, StoreError, StreamId},
};
use tempfile::TempDir;

use super::{commit, fill, kept_folder, open, refusal, whole_log};

fn move_store(from: &Path, to: &Path) {
    for name in ["orders.db", "orders.db-wal", "orders.db-shm"] {
        fs::rename(from.join(name), to.join(name)).unwrap();
    }
}

fn copy_store(from: &Path, to: &Path) {
    for name in ["orders.db", "orders.db-wal", "orders.db-shm"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

/// What an operator does to `dir`, with `aside` to move things to.
type Loss = fn(dir: &Path, aside: &Path);

const LOSSES: [(&str, Loss); 4] = [
    ("removed", move_store),
    ("replaced", |dir, aside| {
        move_store(dir, aside);
        copy_store(aside, dir);
    }),
    ("its WAL removed", |dir, aside| {
        fs::rename(dir.join("orders.db-wal"), aside.join("orders.db-wal")).unwrap();
    }),
    ("the folder replaced", |dir, aside| {
        fs::rename(dir, aside.join("data")).unwrap();
        fs::create_dir(dir).unwrap();
        copy_store(&aside.join("data"), dir);
    }),
];

/// Puts back what a loss has moved aside.
fn put_back(dir: &Path, aside: &Path) {
    if aside.join("data").exists() {
        fs::remove_dir_all(dir).unwrap();
        fs::rename(aside.join("data"), dir).unwrap();
    } else {
        for entry in fs::read_dir(aside).unwrap() {
            let entry = entry.unwrap();
            fs::rename(entry.path(), dir.join(entry.file_name())).unwrap();
        }
    }
}

#[tokio::test]
async fn a_file_that_is_lost_under_a_running_node_takes_no_more_commits_until_it_is_back() {
    for (what, lose) in LOSSES {
        for is_checked_first in [false, true] {
            let (folder, aside) = (kept_folder(), kept_folder());
            let dir = folder.join("data");
            let store = open(&dir);
            fill(&store, 20).await;
            let mut loss = store.log_loss();
            lose(&dir, &aside);
            if is_checked_first {
                assert!(matches!(store.check().await, Err(StoreError::Unavailable(_))), "{what}");
            } else {
                let refused = store.append(commit(1, "more")).await;
                let Err(AppendError::Store(StoreError::Unavailable(why))) = refused else {
                    panic!("{what}: {refused:?}")
                };
                assert!(why.contains("orders.db") && why.contains("while this node has it open"), "{why}");
            }
            assert_eq!(loss.borrow_and_update().as_ref().map(|loss| loss.kind), Some(LossKind::Gone), "{what}");
            let unavailable = |read: Result<(), StoreError>| {
                assert!(matches!(read, Err(StoreError::Unavailable(_))), "{what}: {read:?}");
            };
            unavailable(store.head().await.map(drop));
            unavailable(store.read_log(Position(0), Direction::Forward, 10).await.map(drop));
            unavailable(store.read_stream(StreamId(1), 1, Direction::Forward, 10).await.map(drop));
            unavailable(store.check().await);

            put_back(&dir, &aside);
            store.check().await.unwrap();
            assert!(loss.borrow_and_update().is_none(), "{what}");
            store.append(commit(1, "again")).await.unwrap();
            assert_eq!(whole_log(&store).await.unwrap().len(), 21, "{what}");
            drop(store);
            assert_eq!(whole_log(&open(&dir)).await.unwrap().len(), 21, "{what}: and on the disk");
        }
    }
}

/// A copy of the folder as a kill would leave it, without the files whose names end with one of `without`.
fn as_killed(dir: &Path, without: &[&str]) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !without.iter().any(|end| name.ends_with(end)) {
            fs::copy(dir.join(&name), copy.path().join(&name)).unwrap();
        }
    }
    copy
}

#[tokio::test]
async fn a_store_that_was_not_closed_is_refused_without_its_wal() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    fill(&store, 20).await;

    let killed = as_killed(folder.path(), &["-shm"]);
    assert_eq!(whole_log(&open(killed.path())).await.unwrap().len(), 20);

    let lost = as_killed(folder.path(), &["-shm", "-wal"]);
    let why = refusal(lost.path());
    assert!(why.contains("orders.db-wal is missing") && why.contains("orders.db.open"), "{why}");
    let why = ReadOnlyEventStore::open(lost.path()).map(drop).unwrap_err().to_string();
    assert!(why.contains("orders.db-wal is missing"), "{why}");
    // The loss is accepted.
    fs::remove_file(lost.path().join("orders.db.open")).unwrap();
    drop(open(lost.path()));

    drop(store);
    assert!(!folder.path().join("orders.db.open").exists(), "a store that is closed is whole");
    assert_eq!(whole_log(&open(folder.path())).await.unwrap().len(), 20);
}
