//! Arbitrary damage to the bytes of the file: every event returned is the one that was appended, or the error says where the damage is.

use rusqlite::Connection;

use ordersystem::{
    backends::embedded::{checkpoint_store::EmbeddedCheckpointStore, event_store::read_only::ReadOnlyEventStore},
    ports::checkpoint_store::{Checkpoint, CheckpointStore},
};

use super::*;

fn sql(dir: &Path, statement: &str) {
    let changed = Connection::open(dir.join("orders.db")).unwrap().execute(statement, []).unwrap();
    assert_eq!(changed, 1, "{statement}");
}

async fn filled(count: u64) -> (TempDir, Vec<StoredEvent>) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    fill(&store, count).await;
    let log = whole_log(&store).await.unwrap();
    (folder, log)
}

fn names(error: &StoreError, place: &str) -> bool {
    matches!(error, StoreError::Corrupt(what) if what.contains(place))
}

#[tokio::test]
async fn a_payload_with_a_flipped_bit_is_reported_with_its_position_and_the_rest_is_served() {
    let (folder, log) = filled(3_000).await;
    let file = folder.path().join("orders.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let victim = &log[99];
    let at = bytes
        .windows(victim.payload.len())
        .position(|window| window == victim.payload)
        .expect("payloads are as they are");
    bytes[at + 20] ^= 1;
    std::fs::write(&file, &bytes).unwrap();

    let store = open(folder.path());
    let error = whole_log(&store).await.unwrap_err();
    assert!(names(&error, "position 100 (stream 9, revision 10)"), "{error}");
    let error = store.read_stream(StreamId(9), 1, Direction::Forward, 100).await.unwrap_err();
    assert!(names(&error, "position 100"), "{error}");
    let other = store.read_stream(StreamId(8), 1, Direction::Forward, 1_000).await.unwrap();
    assert_eq!(other.len(), 300);
    store.append(commit(8, "more")).await.unwrap();
}

#[tokio::test]
async fn an_event_that_was_moved_or_removed_is_missed() {
    for (statement, place) in [
        ("DELETE FROM log WHERE position = 50", "50 is missing"),
        ("DELETE FROM log WHERE position = 1", "1 is missing"),
        ("UPDATE log SET stream = 77 WHERE position = 50", "position 50 (stream 77"),
        ("UPDATE log SET revision = 999 WHERE position = 50", "position 50 (stream 9, revision 999)"),
    ] {
        let (folder, _) = filled(3_000).await;
        sql(folder.path(), statement);
        let error = whole_log(&open(folder.path())).await.unwrap_err();
        assert!(names(&error, place), "{statement}: {error}");
    }
}

#[tokio::test]
async fn an_end_of_the_log_that_is_not_where_it_was_written_is_refused_at_the_start_and_found_by_an_audit() {
    for statement in [
        "DELETE FROM log WHERE position = 3000",
        "UPDATE log SET position = 5000 WHERE position = 50",
        "DELETE FROM facts WHERE name = 'head'",
    ] {
        let (folder, _) = filled(3_000).await;
        sql(folder.path(), statement);
        let error = refusal(folder.path());
        assert!(error.contains("damaged") && error.contains("log ends"), "{statement}: {error}");
        let found = audit(folder.path()).await.unwrap();
        assert!(found.iter().any(|what| what.contains("log ends")), "{statement}: {found:?}");
    }
}

#[tokio::test]
async fn a_log_that_ends_before_a_position_recorded_in_its_file_is_refused() {
    let (folder, _) = filled(100).await;
    let seen = Checkpoint { position: Position(101), fingerprint: None, fencing_token: 1 };
    EmbeddedCheckpointStore::new(Database::open(folder.path()).unwrap()).save("outbox", seen).await.unwrap();
    let error = refusal(folder.path());
    assert!(error.contains("position 100") && error.contains("the outbox has reached position 101"), "{error}");
}

/// The findings of an audit of the file, if it can be opened at all.
async fn audit(dir: &Path) -> Result<Vec<String>, StoreError> {
    match ReadOnlyEventStore::open(dir) {
        Ok(store) => Ok(store.check_indexes().await?.into_iter().map(|damage| damage.what).collect()),
        Err(error) => Err(StoreError::Corrupt(error.to_string())),
    }
}

/// Damage to whole pages of a file, not to single bits.
fn harm(random: &mut fastrand::Rng, bytes: &mut Vec<u8>) -> String {
    const PAGE: usize = 4_096;
    let pages = bytes.len() / PAGE;
    // The last pages as often as all others: that is where the log ends.
    let page = if random.bool() { pages - 1 - random.usize(..4) } else { random.usize(..pages) };
    match random.u8(..4) {
        0 => {
            let torn = 512 * random.usize(1..8);
            bytes[(page + 1) * PAGE - torn..(page + 1) * PAGE].fill(0);
            format!("the last {torn} bytes of page {page} are zeros")
        }
        1 => {
            let count = random.usize(1..=4).min(pages - page);
            bytes[page * PAGE..(page + count) * PAGE].fill(0);
            format!("{count} pages from {page} on are zeros")
        }
        2 => {
            bytes.truncate(page * PAGE + random.usize(..PAGE));
            format!("the file ends in page {page}")
        }
        _ => {
            for byte in &mut bytes[page * PAGE..(page + 1) * PAGE] {
                *byte ^= random.u8(..);
            }
            format!("page {page} is noise")
        }
    }
}

#[tokio::test]
async fn whatever_pages_of_the_file_are_lost_all_events_are_served_or_the_damage_is_found() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (folder, log) = filled(600).await;
    let file = folder.path().join("orders.db");
    let good = std::fs::read(&file).unwrap();
    let mut found = 0;
    for _ in 0..80 {
        for left in ["orders.db-wal", "orders.db-shm"] {
            let _ = std::fs::remove_file(folder.path().join(left));
        }
        let mut bytes = good.clone();
        let what = harm(&mut random, &mut bytes);
        std::fs::write(&file, &bytes).unwrap();
        let audited = audit(folder.path()).await;
        let Ok(database) = Database::open(folder.path()) else {
            assert!(audited != Ok(Vec::new()), "seed {seed}: {what}: the start refuses it, and an audit finds nothing");
            found += 1;
            continue;
        };
        match whole_log(&EmbeddedEventStore::new(database)).await {
            Ok(events) => assert!(events == log, "seed {seed}: {what}: {} events are served", events.len()),
            Err(_) => found += 1,
        }
    }
    assert!(found > 20, "seed {seed}: only {found} of 80 were found");
    println!("{found} of 80 found");
}

#[tokio::test]
async fn an_end_of_the_log_that_goes_away_under_a_running_service_is_missed() {
    let (folder, _) = filled(3_000).await;
    let store = open(folder.path());
    sql(folder.path(), "DELETE FROM log WHERE position = 3000");
    // Far enough from the end that it is read from the file.
    let error = store.read_log(Position(1_000), Direction::Forward, 4_000).await.unwrap_err();
    assert!(names(&error, "position 3000 is missing"), "{error}");
}

#[tokio::test]
async fn a_revision_that_is_missing_in_a_stream_is_reported() {
    let (folder, _) = filled(100).await;
    sql(folder.path(), "DELETE FROM log WHERE stream = 9 AND revision = 5");
    let store = open(folder.path());
    for (from, direction) in [(1, Direction::Forward), (u64::MAX, Direction::Backward)] {
        let error = store.read_stream(StreamId(9), from, direction, 100).await.unwrap_err();
        assert!(names(&error, "stream 9") && names(&error, "5 is missing"), "{error}");
    }
}

#[tokio::test]
async fn a_damaged_request_is_reported_and_not_mistaken_for_another_payload() {
    use ordersystem::ports::event_store::{AppendError, RequestKey, RequestScope};
    let folder = tempfile::tempdir().unwrap();
    let key = RequestKey { scope: RequestScope::Log, id: "request".into(), fingerprint: 5 };
    let with_request = || Commit { request: Some(key.clone()), ..commit(1, "x") };
    open(folder.path()).append(with_request()).await.unwrap();
    sql(folder.path(), "UPDATE requests SET fingerprint = zeroblob(16)");
    let error = open(folder.path()).append(with_request()).await.unwrap_err();
    assert!(matches!(&error, AppendError::Store(error) if names(error, "'request'")), "{error}");
}

#[tokio::test]
async fn a_damaged_row_of_an_index_or_of_the_request_ids_is_noticed_by_the_start_and_by_an_audit() {
    use ordersystem::ports::event_store::{RequestKey, RequestScope};
    // The second is larger than the part that is checked completely.
    for size in [100, 300_000] {
        for (damage, says) in [
            ("UPDATE requests SET fingerprint = zeroblob(16) WHERE id = 'request-60'", "'request-60'"),
            ("UPDATE requests SET events = 7 WHERE id = 'request-60'", "'request-60'"),
            // An index that lacks a row of its table.
            (
                "PRAGMA writable_schema = ON; \
                 UPDATE sqlite_schema SET sql = replace(sql, 'stream, revision', 'revision, stream') WHERE name = 'log_by_stream'; \
                 PRAGMA writable_schema = RESET; ",
                "",
            ),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let store = open(folder.path());
            for number in 1..=60 {
                let key =
                    RequestKey { scope: RequestScope::Log, id: format!("request-{number}").into(), fingerprint: 5 };
                let text = "x".repeat(size);
                store.append(Commit { request: Some(key), ..commit(number, text) }).await.unwrap();
            }
            store.check().await.expect("nothing is wrong with it");
            drop(store);
            assert!(audit(folder.path()).await.unwrap().is_empty());
            open(folder.path()).check().await.expect("nor when it is opened again");
            Connection::open(folder.path().join("orders.db")).unwrap().execute_batch(damage).unwrap();
            let noticed = open(folder.path()).check().await.expect_err(damage);
            assert!(names(&noticed, says), "{size} {damage}: {noticed}");
        }
    }
}

#[tokio::test]
async fn whatever_byte_of_the_file_is_changed_nothing_wrong_is_ever_returned() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (folder, log) = filled(600).await;
    let file = folder.path().join("orders.db");
    let good = std::fs::read(&file).unwrap();
    let mut noticed = 0;
    for _ in 0..150 {
        let mut bytes = good.clone();
        let at = random.usize(..bytes.len());
        bytes[at] ^= 1 << random.u8(..8);
        std::fs::write(&file, &bytes).unwrap();
        noticed += u32::from(!is_right_or_refused(folder.path(), &log).await);
    }
    assert!(noticed > 30, "seed {seed}: only {noticed} of 150 changes were noticed");
    println!("{noticed} of 150 noticed");
}

#[tokio::test]
async fn a_new_read_model_whose_tables_are_all_in_its_wal_is_not_damaged() {
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // As a process leaves the files that is killed before the first checkpoint.
    let database = Database::open_for_read_model(folder.path()).unwrap();
    for file in ["read_model.db", "read_model.db-wal"] {
        std::fs::copy(folder.path().join(file), copy.path().join(file)).unwrap();
    }
    drop(database);
    assert_eq!(std::fs::read(copy.path().join("read_model.db")).unwrap()[44..48], [0; 4], "an empty database");
    Database::open_for_read_model(copy.path()).expect("nothing is wrong with it");
}

#[tokio::test]
async fn whatever_byte_of_the_header_is_changed_the_start_and_an_audit_find_it_or_it_has_no_effect() {
    let (folder, log) = filled(600).await;
    // Free pages: their list begins in the header.
    let rows = "CREATE TABLE gone (x); INSERT INTO gone SELECT randomblob(3000) FROM log; DROP TABLE gone;";
    Connection::open(folder.path().join("orders.db")).unwrap().execute_batch(rows).unwrap();
    let file = folder.path().join("orders.db");
    let good = std::fs::read(&file).unwrap();
    assert_ne!(good[32..40], [0; 8], "there are free pages");
    for (at, flipped) in (0..100).flat_map(|at| [1, 2, 4, 6, 7, 0x80, 0xff].map(|flipped| (at, flipped))) {
        for left in ["orders.db-wal", "orders.db-shm"] {
            let _ = std::fs::remove_file(folder.path().join(left));
        }
        let mut bytes = good.clone();
        bytes[at] ^= flipped;
        std::fs::write(&file, &bytes).unwrap();
        let case = format!("byte {at} is {} instead of {}", bytes[at], good[at]);
        let audited = audit(folder.path()).await;
        match Database::open(folder.path()) {
            Err(error) => {
                let error = error.to_string();
                let says = ["damaged", "database of another program", "schema version"];
                assert!(says.iter().any(|words| error.contains(words)), "{case}: {error}");
                assert!(!error.contains("readonly"), "{case}: {error}");
                let is_negative = at == 60 && bytes[60] >= 0x80;
                assert!(!is_negative || error.contains("no version is negative"), "{case}: {error}");
                assert!(audited.is_err(), "{case}: an audit finds nothing, the start says: {error}");
            }
            Ok(database) => {
                let store = EmbeddedEventStore::new(database);
                assert_eq!(audited, Ok(Vec::new()), "{case}: the start finds nothing");
                assert_eq!(whole_log(&store).await.as_ref(), Ok(&log), "{case}");
                store.append(commit(8, "more")).await.unwrap();
                store.check().await.unwrap();
            }
        }
        let is_used = matches!(at, 0..=23 | 28..=39 | 44..=47 | 52..=71);
        if is_used {
            assert!(audited.is_err(), "{case}");
        }
    }
}

/// Returns whether all events are present; asserts that none is wrong.
async fn is_right_or_refused(dir: &Path, log: &[StoredEvent]) -> bool {
    let Ok(database) = Database::open(dir) else { return false };
    let store = EmbeddedEventStore::new(database);
    let mut is_whole = true;
    let mut from = Position(0);
    while let Ok(events) = store.read_log(from, Direction::Forward, 50).await {
        let Some(last) = events.last() else { break };
        assert_eq!(events, log[from.0 as usize..last.position.0 as usize], "from {from}");
        from = last.position;
    }
    is_whole &= from.0 == log.len() as u64;
    for stream in 0..10 {
        let expected: Vec<_> = log.iter().filter(|event| event.stream.0 == stream).cloned().collect();
        match store.read_stream(StreamId(stream), 1, Direction::Forward, 1_000).await {
            // A damaged index may hide the end of a stream; the events that it returns are right.
            Ok(events) => {
                assert!(expected.starts_with(&events), "stream {stream}");
                is_whole &= events.len() == expected.len();
            }
            Err(_) => is_whole = false,
        }
    }
    is_whole
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_left_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    drop(Database::open(folder.path()).unwrap());
    let file = folder.path().join("orders.db");
    Connection::open(&file).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    let before = std::fs::read(&file).unwrap();
    let error = refusal(folder.path());
    assert!(error.contains("schema version 99") && error.contains("newer program"), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), before);
}

#[test]
fn a_file_of_another_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.db");
    Connection::open(&file).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    assert!(refusal(folder.path()).contains("another program"));
    std::fs::write(&file, "not a database at all, but long enough to look at".repeat(20)).unwrap();
    let error = refusal(folder.path());
    assert!(error.contains("not a database"), "{error}");
}

#[tokio::test]
async fn an_empty_file_is_refused_and_left_unchanged_even_with_a_wal() {
    for with_wal in [false, true] {
        let (folder, _) = filled(100).await;
        let file = folder.path().join("orders.db");
        std::fs::write(&file, "").unwrap();
        if with_wal {
            std::fs::write(folder.path().join("orders.db-wal"), "what was committed last").unwrap();
        }
        let error = refusal(folder.path());
        assert!(error.contains(&format!("{} is empty", file.display())), "{error}");
        assert!(error.contains("restore a backup, or remove the file"), "{error}");
        assert_eq!(std::fs::metadata(&file).unwrap().len(), 0);
        assert_eq!(folder.path().join("orders.db-wal").exists(), with_wal);
    }
}

#[tokio::test]
async fn a_file_of_a_few_bytes_is_not_an_empty_store() {
    for bytes in [1, 15, 99, 100, 511] {
        let (folder, _) = filled(100).await;
        let file = folder.path().join("orders.db");
        let mut content = std::fs::read(&file).unwrap();
        content.truncate(bytes);
        std::fs::write(&file, &content).unwrap();
        let error = refusal(folder.path());
        assert!(error.contains(&format!("has {bytes} bytes, fewer than any store")), "{error}");
        assert_eq!(std::fs::read(&file).unwrap(), content);
    }
}

#[tokio::test]
async fn a_store_that_was_removed_leaves_nothing_in_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    fill(&store, 100).await;
    // The state after a kill: committed data is in the WAL only.
    let wal = std::fs::read(folder.path().join("orders.db-wal")).unwrap();
    assert!(wal.len() > 4_096);
    let id = store.log_id();
    drop(store);
    std::fs::remove_file(folder.path().join("orders.db")).unwrap();
    std::fs::write(folder.path().join("orders.db-wal"), &wal).unwrap();
    // The state after a process was killed while it created the store.
    std::fs::write(folder.path().join("orders.db.unfinished"), "").unwrap();

    let store = open(folder.path());
    assert_ne!(store.log_id(), id);
    assert_eq!(whole_log(&store).await.unwrap(), []);
    assert_eq!(std::fs::read(folder.path().join("orders.db-wal.removed-store")).unwrap(), wal);
    assert!(!folder.path().join("orders.db.unfinished").exists());
    fill(&store, 10).await;
    drop(store);
    assert_eq!(whole_log(&open(folder.path())).await.unwrap().len(), 10);
}
