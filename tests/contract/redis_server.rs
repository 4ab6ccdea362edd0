//! Redis servers for tests: real ones, each on a free port with its own folder, removed with the test process.

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

use ordersystem::backends::redis::connection::{Redis, RedisOptions};
use tempfile::TempDir;

/// The settings with which an acknowledged write survives a power loss.
pub const DURABLE: &[&str] = &["--appendonly", "yes", "--appendfsync", "always", "--save", ""];

/// Stops the server on a line from the test. If the pipe closes without one, the test process has ended in whatever way, and the folder is
/// not needed any more.
const WATCHED: &str = r#"folder=$1; shift; redis-server "$@" & server=$!; echo $server; exec 1>&-
read -r _ && keep=yes; kill -9 $server; wait $server; [ "$keep" ] || rm -rf "$folder""#;

pub struct RedisServer {
    pub port: u16,
    pub pid: u32,
    pub folder: TempDir,
    settings: Vec<String>,
    shell: Child,
    leash: Option<ChildStdin>,
}

/// The server that all tests of this binary share, each with its own keys.
pub fn shared() -> &'static RedisServer {
    static SHARED: OnceLock<RedisServer> = OnceLock::new();
    SHARED.get_or_init(|| RedisServer::start(DURABLE))
}

/// A prefix that no other test has.
pub fn fresh_prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub fn free_port() -> u16 {
    // Below the ephemeral ports: while a server is down, or not up yet, no connection of this machine takes its port.
    loop {
        let port = fastrand::u16(20_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl RedisServer {
    /// A new one with these command-line settings.
    pub fn start(settings: &[&str]) -> Self {
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        let port_text = port.to_string();
        let fixed =
            ["--port", &port_text, "--bind", "127.0.0.1", "--logfile", "redis.log", "--daemonize", "no", "--dir"];
        let dir = [folder.path().to_str().unwrap()];
        let arguments: Vec<_> = fixed.iter().chain(&dir).chain(settings).map(|&argument| argument.to_owned()).collect();
        Self::run(port, folder, arguments)
    }

    /// A new Sentinel with this configuration file, to which it writes its state.
    pub fn start_sentinel(configuration: &str) -> Self {
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        let (dir, file) = (folder.path().display(), folder.path().join("sentinel.conf"));
        let lines = format!("port {port}\nbind 127.0.0.1\ndir {dir}\nlogfile redis.log\n{configuration}\n");
        std::fs::write(&file, lines).unwrap();
        Self::run(port, folder, vec![file.to_str().unwrap().to_owned(), "--sentinel".to_owned()])
    }

    fn run(port: u16, folder: TempDir, settings: Vec<String>) -> Self {
        let (shell, leash, pid) = launch(port, &folder, &settings);
        Self { port, pid, folder, settings, shell, leash: Some(leash) }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A connection for a new log, in the runtime of the caller.
    pub async fn connect(&self) -> Redis {
        self.connect_to(&fresh_prefix()).await
    }

    /// The same for the log with this prefix.
    pub async fn connect_to(&self, prefix: &str) -> Redis {
        let redis = Redis::start(RedisOptions::new(self.url(), prefix), true).unwrap();
        redis.first_connection().await.expect("the server of the tests can be used");
        redis
    }

    /// The output of `redis-cli`, without the last line end.
    pub fn cli(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli").arg("-p").arg(self.port.to_string()).args(arguments).output();
        let output = output.expect("redis-cli must be installed for the tests of the Redis backend");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Sends the server itself a signal, such as `STOP`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid.to_string()).status().unwrap();
        assert!(sent.success(), "the server must be there to get {name}");
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut leash) = self.leash.take() {
            leash.write_all(b"end\n").unwrap();
            self.shell.wait().unwrap();
        }
    }

    /// Restarts it, after [`RedisServer::kill`], with the same port and data.
    pub fn start_again(&mut self) {
        let (shell, leash, pid) = launch(self.port, &self.folder, &self.settings);
        (self.shell, self.leash, self.pid) = (shell, Some(leash), pid);
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn launch(port: u16, folder: &TempDir, settings: &[String]) -> (Child, ChildStdin, u32) {
    let found = Command::new("redis-server").arg("--version").output();
    found.expect("redis-server (7.0 or newer) must be installed for the tests of the Redis backend");
    let mut shell = Command::new("sh")
        .args(["-c", WATCHED, "redis-server"])
        .arg(folder.path())
        .args(settings)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // The shell's message about each kill.
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let leash = shell.stdin.take().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(shell.stdout.take().unwrap()), &mut line).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let log = || std::fs::read_to_string(folder.path().join("redis.log")).unwrap_or_default();
        assert!(Instant::now() < deadline, "redis-server does not listen on {port}: {}", log());
        std::thread::sleep(Duration::from_millis(10));
    }
    (shell, leash, line.trim().parse().unwrap())
}
