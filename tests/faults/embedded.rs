//! The embedded store under the real program.

use std::{path::Path, process::Command};

use ordersystem::proto::catga::orders::v1::{GetOrderRequest, ListOrdersRequest};
use tonic::Code;

use crate::{
    audit,
    load::new_order,
    support::{Process, embedded, refused, run},
};

#[tokio::test]
async fn a_second_process_on_the_same_folder_is_refused_with_the_number_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let first = Process::serve_from(folder.path()).await;
    let error = refused(&embedded(folder.path())).await;
    let expected = format!("in use by process {}", first.pid());
    assert!(error.contains(&expected) && error.lines().last().unwrap().starts_with("error: data folder "), "{error}");
    first.commands().await.create_order(new_order("c", "r")).await.expect("the first continues");
    first.kill().await;
    Process::serve_from(folder.path()).await;
}

#[tokio::test]
async fn without_a_folder_the_program_names_the_missing_setting() {
    let outcome = run(&["--persistence", "embedded"]).await;
    let error = &outcome.stderr;
    assert_eq!(outcome.code, Some(2));
    assert!(error.starts_with("error: persistence: 'embedded'") && error.contains("--data-dir"), "{error}");
}

#[tokio::test]
async fn the_backup_of_a_running_service_is_a_folder_to_serve_from() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, copy) = (folder.path().join("data"), folder.path().join("copy"));
    let service = Process::serve_from(&dir).await;
    let mut client = service.commands().await;
    let mut ids = Vec::new();
    for index in 0..50 {
        let reply = client.create_order(new_order("c", &format!("r-{index}"))).await.unwrap().into_inner();
        ids.push(reply.order.unwrap().order_id);
    }
    let outcome = run(&["backup", "--data-dir", dir.to_str().unwrap(), copy.to_str().unwrap()]).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stdout.contains("up to position 50"));
    client.create_order(new_order("c", "after")).await.expect("it continues");

    let restored = Process::serve_from(&copy).await;
    let mut queries = restored.queries().await;
    for order_id in ids {
        let request = GetOrderRequest { order_id, ..Default::default() };
        queries.get_order(request).await.expect("in the copy");
    }
    assert_eq!(audit::stats(&restored).await.total_orders, 50);
}

/// A small file system in memory, unmounted at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Self {
        let disk = Self(tempfile::tempdir().unwrap());
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(disk.path()).status();
        assert!(
            mounted.is_ok_and(|status| status.success()),
            "this test must be allowed to mount a tmpfs: run it as root"
        );
        disk
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test]
async fn on_a_full_disk_commands_get_resource_exhausted_until_there_is_space() {
    let disk = SmallDisk::mount("6m");
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![0; 4 << 20]).unwrap();
    let dir = disk.path().join("data");
    let service = Process::serve_from(&dir).await;
    let mut client = service.commands().await;
    let (mut accepted, mut refusal) = (0, None);
    while refusal.is_none() {
        match client.create_order(new_order("c", "")).await {
            Ok(_) => accepted += 1,
            Err(status) => refusal = Some(status),
        }
    }
    assert_eq!(refusal.unwrap().code(), Code::ResourceExhausted);
    assert!(accepted > 10);
    service.queries().await.list_orders(ListOrdersRequest::default()).await.expect("reads continue");

    std::fs::remove_file(&ballast).unwrap();
    for _ in 0..20 {
        client.create_order(new_order("c", "")).await.expect("there is space again");
    }
    service.kill().await;
    let service = Process::serve_from(&dir).await;
    assert_eq!(audit::stats(&service).await.total_orders, accepted + 20);
}
