use std::time::Duration;

use ordersystem::{
    backends::embedded::{
        backup::backup, checkpoint_store::EmbeddedCheckpointStore, lease::EmbeddedLeaseStore,
        read_model::EmbeddedReadModel,
    },
    ports::{
        checkpoint_store::{Checkpoint, CheckpointStore},
        event_store::{Appended, Durability, LogId, RequestKey, RequestScope},
        lease_store::LeaseStore,
        read_model::{ListFilter, ListOrder, ListQuery, LogCheckpoint, ReadModel, Row, RowChange},
    },
};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::*;

fn keys() -> [RequestKey; 2] {
    [RequestScope::Log, RequestScope::Stream].map(|scope| RequestKey {
        scope,
        id: "request".into(),
        fingerprint: 1 << 90,
    })
}

#[tokio::test]
async fn the_log_and_its_requests_are_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let id = store.log_id();
    // More than is kept in memory when the folder is opened.
    fill(&store, 1_500).await;
    let mut first = Vec::new();
    for key in keys() {
        first.push(store.append(Commit { request: Some(key), ..commit(77, "with a request") }).await.unwrap());
    }
    let log = whole_log(&store).await.unwrap();
    drop(store);

    let store = open(folder.path());
    assert_eq!(store.log_id(), id);
    assert_eq!(whole_log(&store).await.unwrap(), log);
    assert_eq!(store.head().await.unwrap(), log.last().unwrap().position);
    for (key, first) in keys().into_iter().zip(first) {
        let again = store.append(Commit { request: Some(key), ..commit(77, "with a request") }).await.unwrap();
        assert_eq!(again, Appended { replayed: true, ..first });
    }
    let next = store.append(commit(3, "next")).await.unwrap();
    assert_eq!((next.first_revision, next.position.0), (151, 1_503));
}

#[tokio::test]
async fn checkpoints_the_read_model_and_the_growth_of_tokens_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path()).unwrap();
    let checkpoint = Checkpoint { position: Position(7), fingerprint: Some(u32::MAX), fencing_token: u64::MAX };
    EmbeddedCheckpointStore::new(database.clone()).save("reports", checkpoint).await.unwrap();
    let ttl = Duration::from_secs(600);
    let lease = EmbeddedLeaseStore::new(database.clone()).acquire("outbox", "node-1", ttl).await.unwrap().unwrap();
    let row = Row {
        id: 5,
        customer: "c".into(),
        status: 1,
        created_at_micros: 1,
        updated_at_micros: 1,
        amount_minor: i64::MAX,
        currency: *b"USD",
        item_count: 1,
        revision: 1,
    };
    let changes = vec![RowChange::Insert(row.clone()), RowChange::Insert(Row { id: 6, ..row })];
    let model = EmbeddedReadModel::new(database);
    let place = LogCheckpoint { log: LogId(3), position: Position(9), event: u64::MAX };
    model.apply(changes, place).await.unwrap();
    let query = ListQuery { filter: ListFilter::default(), order: ListOrder::NewestFirst, after: None, limit: 10 };
    let before = (model.list(&query).await, model.totals().await, model.checkpoint().await);
    drop(model);

    let database = Database::open(folder.path()).unwrap();
    assert_eq!(EmbeddedCheckpointStore::new(database.clone()).load("reports").await, Ok(Some(checkpoint)));
    let model = EmbeddedReadModel::new(database.clone());
    assert_eq!((model.list(&query).await, model.totals().await, model.checkpoint().await), before);
    // The previous owner was a process that no longer exists, so there is no need to wait for it.
    let next = EmbeddedLeaseStore::new(database).acquire("outbox", "node-2", ttl).await.unwrap().unwrap();
    assert!(next.fencing_token > lease.fencing_token);
}

#[tokio::test]
async fn acknowledged_commits_are_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let file = rusqlite::Connection::open(folder.path().join("orders.db")).unwrap();
    for index in 0..200 {
        let appended = store.append(commit(index % 7, "x")).await.unwrap();
        let last: i64 = file.query_row("SELECT max(position) FROM log", [], |row| row.get(0)).unwrap();
        assert_eq!(last as u64, appended.position.0);
    }
}

#[tokio::test]
async fn a_folder_in_use_is_refused_with_the_number_of_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let error = refusal(folder.path());
    let parts = [&folder.path().display().to_string(), "in use by process", &std::process::id().to_string()];
    assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    fill(&store, 3).await;
    drop(store);
    assert_eq!(whole_log(&open(folder.path())).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_folder_is_created_and_a_synced_one_reports_that_it_survives_the_machine() {
    // Not in the folder for temporary files, which may be in memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store = open(&folder.path().join("a/b"));
    fill(&store, 1).await;
    assert_eq!(store.durability(), Durability::Machine);
    assert!(folder.path().join("a/b/orders.db").is_file());
}

#[test]
fn a_folder_that_cannot_be_created_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "no folder").unwrap();
    let error = refusal(&file.join("data"));
    assert!(error.contains("file/data"), "{error}");
}

#[tokio::test]
async fn of_many_commits_that_wait_together_only_those_are_refused_that_must_be() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let appends: Vec<_> = (0..600)
        .map(|index| {
            // Every third commit expects a stream that does not exist.
            let expected = if index % 3 == 0 { ExpectedRevision::Exists } else { ExpectedRevision::NoStream };
            let (store, commit) = (store.clone(), Commit { expected, ..commit(index, "x") });
            tokio::spawn(async move { store.append(commit).await.is_ok() })
        })
        .collect();
    for (index, append) in appends.into_iter().enumerate() {
        assert_eq!(append.await.unwrap(), index % 3 != 0, "{index}");
    }
    drop(store);
    let log = whole_log(&open(folder.path())).await.unwrap();
    assert_eq!(log.len(), 400);
    assert!(log.iter().zip(1..).all(|(event, position)| event.position.0 == position && event.stream.0 % 3 != 0));
}

/// The file with version 1 of the schema, whose read model has followed the log to its end.
fn file_of_version_1(dir: &Path) {
    let file = rusqlite::Connection::open(dir.join("orders.db")).unwrap();
    file.execute_batch(include_str!("../../../src/backends/embedded/schema.sql")).unwrap();
    file.execute_batch(
        "PRAGMA user_version = 1; PRAGMA application_id = 1128354887;
         INSERT INTO facts VALUES ('log_id', 77), ('lease_token', 5), ('read_model', 2);
         INSERT INTO orders VALUES (9, 'c', 1, 10, 10, 100, 'USD', 1, 1), (10, 'c', 2, 20, 20, 100, 'USD', 1, 1);
         INSERT INTO totals VALUES (1, 'USD', 1, zeroblob(16)), (2, 'USD', 1, zeroblob(16));",
    )
    .unwrap();
    for (position, stream) in [(1_u64, 9_u64), (2, 10)] {
        let place: Vec<u8> = [stream, 1, position].iter().flat_map(|number| number.to_le_bytes()).collect();
        let sum = xxh3_64_with_seed(b"x", xxh3_64(&place)).cast_signed();
        file.execute("INSERT INTO log VALUES (?1, ?2, 1, ?3, x'78')", [position as i64, stream as i64, sum]).unwrap();
    }
}

#[tokio::test]
async fn a_file_of_version_1_keeps_its_read_model_and_the_checkpoint_of_it() {
    let folder = tempfile::tempdir().unwrap();
    file_of_version_1(folder.path());
    let database = Database::open(folder.path()).unwrap();
    assert_eq!(EmbeddedEventStore::new(database.clone()).log_id(), Some(LogId(77)));
    let model = EmbeddedReadModel::new(database);
    let place = LogCheckpoint { log: LogId(77), position: Position(2), event: 0 };
    assert_eq!(model.checkpoint().await, Ok(Some(place)));
    let query = ListQuery { filter: ListFilter::default(), order: ListOrder::NewestFirst, after: None, limit: 10 };
    assert_eq!(model.list(&query).await.unwrap().rows.len(), 2);
}

#[tokio::test]
async fn a_backup_has_the_read_model_of_its_log_even_from_a_file_of_version_1() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, copy, old, old_copy) = (
        folder.path().join("data"),
        folder.path().join("copy"),
        folder.path().join("old"),
        folder.path().join("old-copy"),
    );
    let database = Database::open(&dir).unwrap();
    let store = EmbeddedEventStore::new(database.clone());
    store.append(commit(1, "x")).await.unwrap();
    let log = store.log_id().unwrap();
    drop(store);
    let place = LogCheckpoint { log, position: Position(1), event: 5 };
    EmbeddedReadModel::new(database).apply(vec![], place).await.unwrap();
    std::fs::create_dir(&old).unwrap();
    file_of_version_1(&old);
    for (dir, copy, place) in
        [(dir, copy, place), (old, old_copy, LogCheckpoint { position: Position(2), event: 0, ..place })]
    {
        let done = backup(&dir, &copy).unwrap();
        let copied = EmbeddedReadModel::new(Database::open(&copy).unwrap());
        assert_eq!(copied.checkpoint().await, Ok(Some(LogCheckpoint { log: done.log_id, ..place })));
    }
}
