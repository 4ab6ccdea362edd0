//! Access to a node's files on disk: only its own user may read and change them.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use crate::support::{Process, new_order, program, run, soon};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("it is there").permissions().mode() & 0o7777
}

/// The folder and every file in it, each with the permissions of other users.
fn open_to_others(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let all = std::iter::once(folder.to_owned()).chain(files);
    all.filter(|path| mode(path) & 0o077 != 0).map(|path| format!("{} {:o}", path.display(), mode(&path))).collect()
}

/// Starts a node with this umask, which determines the default permissions of others.
async fn start(umask: &str, args: &[&str]) -> Process {
    let mut shell = tokio::process::Command::new("sh");
    shell.env_clear().stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    shell.stderr(std::process::Stdio::piped()).kill_on_drop(true);
    shell.args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\"")]).arg(program().as_std().get_program());
    Process::spawn(shell.args(["--port", "0"]).args(args)).await
}

#[tokio::test]
async fn files_of_a_node_are_private_to_its_user_whatever_the_umask() {
    for umask in ["000", "022"] {
        let folder = tempfile::tempdir().unwrap();
        let (dir, copy) = (folder.path().join("above/data"), folder.path().join("copy"));
        let args = ["--persistence", "embedded", "--data-dir", dir.to_str().unwrap()];
        let mut node = start(umask, &args).await;
        node.commands().await.create_order(new_order("customer-1")).await.expect("accepted");
        for file in ["orders.db", "orders.db-wal", "orders.db-shm", "orders.lock", "snowflake-0-0.mark"] {
            assert!(dir.join(file).exists(), "{file}");
        }
        assert_eq!(open_to_others(&dir), Vec::<String>::new(), "umask {umask}");
        let done = run(&["backup", "--data-dir", dir.to_str().unwrap(), copy.to_str().unwrap()]).await;
        assert_eq!(done.code, Some(0), "{done:?}");
        assert_eq!(open_to_others(&copy), Vec::<String>::new(), "umask {umask}");
        node.signal("TERM");
        assert_eq!(node.end().await, Some(0));
        assert_eq!(open_to_others(&dir), Vec::<String>::new(), "umask {umask}");
    }
}

#[tokio::test]
async fn files_and_a_folder_readable_by_others_are_made_private_and_it_is_logged() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let args = ["--persistence", "embedded", "--data-dir", dir];
    let mut node = Process::start(&args).await;
    node.signal("TERM");
    assert_eq!(node.end().await, Some(0));
    for file in ["orders.db", "orders.lock", "snowflake-0-0.mark"] {
        fs::set_permissions(folder.path().join(file), fs::Permissions::from_mode(0o644)).unwrap();
    }
    fs::write(folder.path().join("notes.txt"), "somebody else's").unwrap();
    fs::set_permissions(folder.path().join("notes.txt"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let node = Process::start(&args).await;
    let notes = format!("{dir}/notes.txt 644");
    let open = open_to_others(folder.path());
    assert!(open.iter().all(|found| *found == notes) && open.len() == 1, "{open:?}");
    for word in ["orders.db", "orders.lock", "snowflake-0-0.mark", "its mode is now 0700"] {
        assert!(node.before.contains(word), "{word}: {}", node.before);
    }
}

#[tokio::test]
async fn a_link_instead_of_a_file_is_refused_and_its_target_is_unchanged() {
    for name in ["orders.lock", "orders.db", "orders.db-wal", "snowflake-0-0.mark", "orders.db.unfinished"] {
        for exists in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let (dir, target) = (folder.path().join("data"), folder.path().join("target"));
            fs::create_dir(&dir).unwrap();
            if exists {
                fs::write(&target, "kept").unwrap();
            }
            symlink(&target, dir.join(name)).unwrap();
            let refused = run(&["--port", "0", "--persistence", "embedded", "--data-dir", dir.to_str().unwrap()]).await;
            assert_eq!(refused.code, Some(1), "{name}: {refused:?}");
            let says = format!("{name}: it is a symbolic link, and links are not followed");
            assert!(refused.stderr.contains(&says), "{name}: {refused:?}");
            assert_eq!(fs::read_to_string(&target).ok(), exists.then(|| "kept".to_owned()), "{name}");
        }
    }
}

/// Makes a pipe: opening it would block.
fn pipe(path: &Path) {
    let done = std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo");
    assert!(done.success(), "{path:?}");
}

#[tokio::test]
async fn a_pipe_instead_of_a_file_of_the_data_folder_is_refused_without_waiting_for_it() {
    for name in ["orders.lock", "orders.db", "orders.db-wal", "snowflake-0-0.mark"] {
        let folder = tempfile::tempdir().unwrap();
        pipe(&folder.path().join(name));
        let dir = folder.path().to_str().unwrap();
        for persistence in ["embedded", "inmemory"] {
            if persistence == "inmemory" && name.starts_with("orders.db") {
                continue;
            }
            let refused =
                soon("a refusal", run(&["--port", "0", "--persistence", persistence, "--data-dir", dir])).await;
            assert_eq!(refused.code, Some(1), "{persistence} {name}: {refused:?}");
            assert!(refused.stderr.contains("it is not a file"), "{persistence} {name}: {refused:?}");
        }
    }
}

#[tokio::test]
async fn a_pipe_instead_of_a_file_that_a_setting_names_is_refused_without_waiting_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let [pipe_path, config, plain] =
        ["pipe", "config.toml", "plain"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    pipe(Path::new(&pipe_path));
    pipe(Path::new(&config));
    fs::write(&plain, "s3cret").unwrap();
    for args in [
        &["--config", &config][..],
        &["--identities", &pipe_path],
        &["--tls-cert", &pipe_path, "--tls-key", &plain],
        &["--persistence", "redis", "--redis", "redis://127.0.0.1:1", "--redis-password-file", &pipe_path],
        &["--persistence", "redis", "--redis", "rediss://127.0.0.1:1", "--redis-ca", &pipe_path],
        &["--persistence", "nats", "--nats", "nats://127.0.0.1:1", "--nats-credentials", &pipe_path],
        &["--persistence", "nats", "--nats", "nats://127.0.0.1:1", "--nats-ca", &pipe_path],
    ] {
        let refused = soon("a refusal", run(&[&["--port", "0"][..], args].concat())).await;
        assert!(matches!(refused.code, Some(1 | 2)), "{args:?}: {refused:?}");
        assert!(refused.stderr.contains("it is not a file"), "{args:?}: {refused:?}");
    }
}

#[tokio::test]
async fn a_secret_that_others_may_change_is_refused_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "s3cret").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o666)).unwrap();
    let file = secret.to_str().unwrap();
    let args = ["--persistence", "redis", "--redis", "redis://127.0.0.1:1", "--redis-password-file", file, "config"];
    let refused = run(&args).await;
    assert!(refused.code == Some(2) && refused.stderr.contains("(mode 0666): chmod go-w it"), "{refused:?}");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(run(&args).await.code, Some(0), "as containers mount it");
}

#[tokio::test]
async fn readers_of_a_data_folder_follow_no_link() {
    let folder = tempfile::tempdir().unwrap();
    let [dir, other, copy] =
        ["data", "other", "copy"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    let mut node = Process::start(&["--persistence", "embedded", "--data-dir", &dir]).await;
    node.signal("TERM");
    assert_eq!(node.end().await, Some(0));
    fs::create_dir(&other).unwrap();
    symlink(format!("{dir}/orders.db"), format!("{other}/orders.db")).unwrap();
    let log = format!("embedded:{other}");
    for args in [&["backup", "--data-dir", &other, &copy][..], &["verify", &log]] {
        let refused = run(args).await;
        assert!(refused.code == Some(1) && refused.stderr.contains("links are not followed"), "{args:?}: {refused:?}");
    }
}

#[tokio::test]
async fn a_folder_that_others_may_change_is_refused_with_the_remedy() {
    for persistence in ["embedded", "inmemory"] {
        for (mode, mend) in [(0o777, "chmod 700"), (0o770, "chmod 700"), (0o1777, "chmod 700")] {
            let folder = tempfile::tempdir().unwrap();
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            let dir = folder.path().to_str().unwrap();
            let refused = run(&["--port", "0", "--persistence", persistence, "--data-dir", dir]).await;
            assert_eq!(refused.code, Some(1), "{mode:o}: {refused:?}");
            assert!(refused.stderr.contains(&format!("{mend} {dir}")), "{mode:o}: {refused:?}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left in it");
        }
    }
    // As Kubernetes prepares a volume for the fsGroup of a pod.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o2775)).unwrap();
    let node = Process::start(&["--persistence", "embedded", "--data-dir", folder.path().to_str().unwrap()]).await;
    node.commands().await.create_order(new_order("customer-1")).await.expect("accepted");
    assert_eq!(mode(&folder.path().join("orders.db")), 0o600);
}
