//! The README and the example match the actual behaviour.

use std::{env, fs, path::Path, process::Stdio, time::Duration};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{ChildStdout, Command},
    time::timeout,
};

use crate::server::{Redis, Server};

const CLIENT: &str = env!("CARGO_MANIFEST_DIR");

async fn server(folder: &TempDir) -> Server {
    let mut server = Server::new(folder.path(), Redis::if_wanted(folder.path()), "page", &[]);
    server.start().await;
    server
}

/// A program made of the code blocks of the README.
fn program(blocks: &[&str], address: &str) -> String {
    let body = blocks.concat().replace("127.0.0.1:5000", address);
    format!("#[tokio::main]\nasync fn main() -> Result<(), Box<dyn std::error::Error>> {{\n{body}\nOk(())\n}}\n")
}

fn blocks(page: &str) -> Vec<&str> {
    page.split("```rust\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect()
}

/// The output that the comments after `println!` promise.
fn promised(blocks: &[&str]) -> Vec<String> {
    let lines = blocks.iter().flat_map(|block| block.lines()).filter(|line| line.trim_start().starts_with("println!"));
    lines.map(|line| line.rsplit_once("; // ").expect("every println! says what it prints").1.to_owned()).collect()
}

/// Writes a package that uses the client as another program would. Its dependencies are those of the tests, so that nothing is compiled
/// again.
fn write_package(folder: &Path, program: &str) {
    let manifest = fs::read_to_string(Path::new(CLIENT).join("Cargo.toml")).unwrap();
    let section = |name: &str| {
        let rest = manifest.split_once(&format!("[{name}]\n")).unwrap().1;
        rest.split("\n[").next().unwrap().to_owned()
    };
    let package = "[workspace]\n[package]\nname = \"page\"\nversion = \"0.0.0\"\nedition = \"2024\"\n";
    let profile = format!("[profile.dev]\n{}\n", section("profile.dev"));
    let dependencies =
        format!("[dependencies]\nordersystem-client = {{ path = {CLIENT:?} }}\n{}\n", section("dev-dependencies"));
    // Named in both sections of the client: the features of both are wanted.
    let tonic = "tonic = { version = \"0.14.9\", default-features = false }\nprost-types = \"0.14.4\"\nuuid = \"1\"\n";
    fs::create_dir_all(folder.join("src")).unwrap();
    fs::write(folder.join("Cargo.toml"), [package, &profile, &dependencies, tonic].concat()).unwrap();
    fs::write(folder.join("src/main.rs"), program).unwrap();
    fs::copy(Path::new(CLIENT).join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
}

#[tokio::test]
async fn the_blocks_of_the_readme_run_one_after_the_other_and_print_what_they_show() {
    let page = fs::read_to_string(Path::new(CLIENT).join("README.md")).unwrap();
    let blocks = blocks(&page);
    assert!(blocks.len() > 5);
    let (folder, temporary) = (TempDir::new().unwrap(), Path::new(env!("CARGO_TARGET_TMPDIR")));
    let server = server(&folder).await;
    let package = temporary.join("page");
    write_package(&package, &program(&blocks, &server.address));
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["run", "--quiet", "--offline", "--target-dir"]).arg(temporary.parent().unwrap()).current_dir(&package);
    let run = cargo.kill_on_drop(true).output().await.unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(String::from_utf8_lossy(&run.stdout).lines().collect::<Vec<_>>(), promised(&blocks));
}

async fn next_line(lines: &mut Lines<BufReader<ChildStdout>>) -> Option<String> {
    timeout(Duration::from_secs(30), lines.next_line()).await.expect("a line in time").unwrap()
}

#[tokio::test]
async fn the_example_continues_after_a_restart_of_the_server() {
    let folder = TempDir::new().unwrap();
    let mut server = server(&folder).await;
    // Cargo builds the examples with the tests, and puts them beside.
    let program = env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/example");
    let mut example = Command::new(program)
        .arg(&server.address)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(example.stdout.take().unwrap()).lines();
    for expected in [
        "readiness: SERVING",
        "placed: ORDER_STATUS_PENDING",
        "refused: FailedPrecondition ILLEGAL_TRANSITION Pending",
        "paid: ORDER_STATUS_PAID - the retry got the first answer: true",
        "event: 1 created",
        "event: 2 paid",
        "restart the service if you like, then press Enter",
    ] {
        assert_eq!(next_line(&mut lines).await.as_deref(), Some(expected));
    }
    server.stop().await;
    server.start().await;
    example.stdin.take().unwrap().write_all(b"\n").await.unwrap();
    for expected in ["event: 3 shipped", "event: 4 delivered", "too late: DeadlineExceeded"] {
        assert_eq!(next_line(&mut lines).await.as_deref(), Some(expected));
    }
    assert_eq!(next_line(&mut lines).await, None);
    assert!(example.wait().await.unwrap().success());
}

#[tokio::test]
async fn the_package_has_the_licences_and_what_all_clients_share() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["package", "--list", "--allow-dirty", "--offline"]).current_dir(CLIENT);
    let listed = cargo.kill_on_drop(true).output().await.unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).unwrap();
    let clients = Path::new(CLIENT).join("..");
    for (name, shared) in [
        ("LICENSE-MIT", clients.join("../LICENSE-MIT")),
        ("LICENSE-APACHE", clients.join("../LICENSE-APACHE")),
        ("currencies.txt", clients.join("currencies.txt")),
    ] {
        assert!(listed.lines().any(|line| line == name), "{name} is not packed");
        assert_eq!(fs::read(Path::new(CLIENT).join(name)).unwrap(), fs::read(shared).unwrap(), "{name}");
    }
}
