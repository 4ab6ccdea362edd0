use ordersystem::backends::embedded::backup::backup;
use rusqlite::Connection;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_taken_while_orders_come_in_is_a_log_up_to_one_moment() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    fill(&store, 500).await;
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { fill(&store, 600).await })
        })
        .collect();
    let mut copies = Vec::new();
    for round in 0..4 {
        let target = folder.path().join(format!("copy-{round}"));
        let before = store.head().await.unwrap();
        let (dir, to) = (folder.path().to_owned(), target.clone());
        let done = tokio::task::spawn_blocking(move || backup(&dir, &to).unwrap()).await.unwrap();
        let after = store.head().await.unwrap();
        assert!((before..=after).contains(&done.head), "{before} {} {after}", done.head);
        copies.push((target, done));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let log = whole_log(&store).await.unwrap();
    assert_eq!(log.len(), 500 + 4 * 600);
    for (target, done) in copies {
        let copy = open(&target);
        let events = whole_log(&copy).await.unwrap();
        assert_eq!(events.last().unwrap().position, done.head);
        assert_eq!(events, log[..events.len()]);
        assert_ne!(copy.log_id(), store.log_id(), "a copy goes its own way: cursors of one mean nothing in the other");
        assert_eq!(copy.log_id(), Some(done.log_id));
        copy.append(commit(1, "continues")).await.unwrap();
    }
}

#[tokio::test]
async fn a_backup_of_a_folder_at_rest_leaves_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, target) = (folder.path().join("data"), folder.path().join("copy"));
    fill(&open(&dir), 20).await;
    backup(&dir, &target).unwrap();
    let names: Vec<_> = std::fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["orders.db"]);
}

#[tokio::test]
async fn a_backup_never_overwrites_and_needs_a_store_to_copy() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, target) = (folder.path().join("data"), folder.path().join("copy"));
    let error = backup(&dir, &target).unwrap_err().to_string();
    assert!(error.contains("data: there is no orders.db"), "{error}");
    assert!(!dir.exists() && !target.exists());
    fill(&open(&dir), 20).await;
    backup(&dir, &target).unwrap();
    let before = std::fs::read(target.join("orders.db")).unwrap();
    let error = backup(&dir, &target).unwrap_err().to_string();
    assert!(error.contains("copy: there already is an orders.db here"), "{error}");
    assert_eq!(std::fs::read(target.join("orders.db")).unwrap(), before);
}

#[tokio::test]
async fn a_damaged_store_is_not_backed_up() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, target) = (folder.path().join("data"), folder.path().join("copy"));
    fill(&open(&dir), 50).await;
    let damage = "UPDATE log SET payload = x'00' WHERE position = 7";
    Connection::open(dir.join("orders.db")).unwrap().execute(damage, []).unwrap();
    let error = backup(&dir, &target).unwrap_err().to_string();
    assert!(error.contains("position 7"), "{error}");
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0, "no half copy stays");
}
