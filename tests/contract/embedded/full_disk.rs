//! A disk of a few megabytes: a file system in memory, mounted for the test. That requires the right to mount; without it the test fails
//! and reports that. (A limit on file sizes would not do: it causes another error than a full disk, and kills the process.)

use std::process::Command;

use ordersystem::ports::event_store::{AppendError, Durability};

use super::*;

/// A small file system, unmounted at the end.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Self {
        let disk = Self(tempfile::tempdir().unwrap());
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(disk.0.path()).status();
        assert!(
            mounted.is_ok_and(|status| status.success()),
            "this test must be allowed to mount a tmpfs: run it as root"
        );
        disk
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn on_a_full_disk_appends_are_refused_without_loss_and_work_again_with_space() {
    let disk = SmallDisk::mount("12m");
    let dir = disk.0.path().join("data");
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![0; 8 << 20]).unwrap();
    let store = open(&dir);
    assert_eq!(store.durability(), Durability::Process, "a disk in memory does not survive the machine");
    let payload = vec![7_u8; 50_000];
    let mut acknowledged = 0;
    let refused = loop {
        match store.append(commit(acknowledged % 5, payload.clone())).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 1_000, "the disk is never full");
    };
    assert!(matches!(refused, AppendError::Full(_)), "{refused:?}");
    assert!(acknowledged > 10);
    // Refused again, many at once, and nothing changes.
    let many = (0..50).map(|_| store.append(commit(99, payload.clone())));
    for refused in futures_util::future::join_all(many).await {
        assert!(matches!(refused, Err(AppendError::Full(_))), "{refused:?}");
    }
    assert_eq!(store.head().await.unwrap().0, acknowledged);
    assert_eq!(whole_log(&store).await.unwrap().len() as u64, acknowledged);

    std::fs::remove_file(&ballast).unwrap();
    store.check().await.expect("well again");
    for _ in 0..20 {
        store.append(commit(99, payload.clone())).await.expect("there is space again");
    }
    store.check().await.unwrap();
    drop(store);
    let log = whole_log(&open(&dir)).await.unwrap();
    assert_eq!(log.len() as u64, acknowledged + 20);
    let after = log.iter().filter(|event| event.stream.0 == 99).map(|event| event.revision);
    assert!(after.eq(1..=20), "what was refused has taken revisions");
}

#[tokio::test]
async fn a_full_disk_shows_in_the_check_until_there_is_space() {
    let disk = SmallDisk::mount("3m");
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![0; 1 << 20]).unwrap();
    let store = open(&disk.0.path().join("data"));
    store.check().await.unwrap();
    while store.append(commit(1, vec![7_u8; 20_000])).await.is_ok() {}
    let error = store.check().await.unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable(why) if why.contains("no space")), "{error}");
    std::fs::remove_file(&ballast).unwrap();
    store.check().await.unwrap();
}
