//! NATS servers for tests: real ones, each on a free port with a folder of its own, gone when the test process is.

use std::{
    io::Write as _,
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use ordersystem::backends::nats::connection::{Nats, NatsOptions};
use tempfile::TempDir;

/// Names the server program, for a run on another version than the one that is installed.
const PROGRAM: &str = "NATS_SERVER";

/// Ends the server at a line from the test. When the pipe closes without one the test process has ended, however that came, and the
/// folder is of no use any more.
const WATCHED: &str = r#"program=$1; folder=$2; shift 2; "$program" "$@" & server=$!; echo $server; exec 1>&-
read -r _ && keep=yes; kill -9 $server; wait $server; [ "$keep" ] || rm -rf "$folder""#;

pub struct NatsServer {
    pub port: u16,
    pub pid: u32,
    folder: TempDir,
    settings: String,
    shell: Child,
    leash: Option<ChildStdin>,
}

/// The server that all tests of this binary share, each with streams of its own.
pub fn shared() -> &'static NatsServer {
    static SHARED: OnceLock<NatsServer> = OnceLock::new();
    SHARED.get_or_init(|| NatsServer::start(""))
}

/// A prefix that no other test has.
pub fn fresh_prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port()
}

fn program() -> String {
    std::env::var(PROGRAM).unwrap_or_else(|_| "nats-server".to_owned())
}

impl NatsServer {
    /// A new one with JetStream, and `settings` as in its configuration file.
    pub fn start(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = format!("jetstream {{ store_dir: \"{}\" }}\n{settings}", folder.path().display());
        let port = free_port();
        let (shell, leash, pid) = launch(port, &folder, &settings);
        Self { port, pid, folder, settings, shell, leash: Some(leash) }
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn options(&self, prefix: &str) -> NatsOptions {
        NatsOptions::new(self.url(), prefix)
    }

    /// A connection, in the runtime of the caller.
    pub async fn connect_to(&self, prefix: &str) -> Nats {
        let nats = Nats::start(self.options(prefix)).await.unwrap();
        assert!(nats.first_connection().await, "the server of the tests can be used");
        nats
    }

    /// Sends the server itself a signal, such as `STOP`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid.to_string()).status().unwrap();
        assert!(sent.success(), "the server must be there to get {name}");
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut leash) = self.leash.take() {
            leash.write_all(b"end\n").unwrap();
            self.shell.wait().unwrap();
        }
    }

    /// Starts it again, after [`NatsServer::kill`], with the same port and data.
    pub fn start_again(&mut self) {
        let (shell, leash, pid) = launch(self.port, &self.folder, &self.settings);
        (self.shell, self.leash, self.pid) = (shell, Some(leash), pid);
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn launch(port: u16, folder: &TempDir, settings: &str) -> (Child, ChildStdin, u32) {
    let found = Command::new(program()).arg("--version").output();
    found.expect("nats-server (2.9 or newer) must be installed for the tests of the NATS backend");
    let file = folder.path().join("nats.conf");
    std::fs::write(&file, settings).unwrap();
    let log = folder.path().join("nats.log");
    let mut shell = Command::new("sh")
        .args(["-c", WATCHED, "nats-server", &program()])
        .arg(folder.path())
        .args(["-a", "127.0.0.1", "-p", &port.to_string()])
        .arg("-c")
        .arg(file)
        .arg("-l")
        .arg(&log)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // The shell's word of each kill.
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let leash = shell.stdin.take().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(shell.stdout.take().unwrap()), &mut line).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let log = || std::fs::read_to_string(&log).unwrap_or_default();
        assert!(Instant::now() < deadline, "nats-server does not listen on {port}: {}", log());
        std::thread::sleep(Duration::from_millis(10));
    }
    (shell, leash, line.trim().parse().unwrap())
}
