//! Redis servers for tests: real ones, each on a free port with its own folder, removed with the test process.

use std::{path::Path, process::Command, sync::OnceLock, time::Instant};

use ordersystem::backends::redis::connection::{ConnectError, Redis, RedisOptions};
use tempfile::TempDir;

use super::{PATIENCE, leash::Leash};
pub use super::{free_port, fresh_prefix};

/// The settings with which an acknowledged write survives a power loss.
pub const DURABLE: &[&str] = &["--appendonly", "yes", "--appendfsync", "always", "--save", ""];

pub struct RedisServer {
    pub port: u16,
    pub pid: u32,
    settings: Vec<String>,
    // Before the folder, which it must not outlive.
    leash: Leash,
    pub folder: TempDir,
}

/// The server that all tests of this binary share, each with its own keys.
pub fn shared() -> &'static RedisServer {
    static SHARED: OnceLock<RedisServer> = OnceLock::new();
    SHARED.get_or_init(|| RedisServer::start(DURABLE))
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
        let leash = launch(port, folder.path(), &settings);
        Self { port, pid: leash.pid, settings, leash, folder }
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
        connected(self.url(), prefix).await
    }

    /// The output of `redis-cli`, without the last line end.
    pub fn cli(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli").arg("-p").arg(self.port.to_string()).args(arguments).output();
        let output = output.expect("redis-cli must be installed for the tests of the Redis backend");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Sends the server itself a signal, such as `STOP`.
    pub fn signal(&self, name: &str) {
        self.leash.signal(name);
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        self.leash.kill();
    }

    /// Restarts it, after [`RedisServer::kill`], with the same port and data.
    pub fn start_again(&mut self) {
        self.leash = launch(self.port, self.folder.path(), &self.settings);
        self.pid = self.leash.pid;
    }
}

fn launch(port: u16, folder: &Path, settings: &[String]) -> Leash {
    let found = Command::new("redis-server").arg("--version").output();
    found.expect("redis-server (7.0 or newer) must be installed for the tests of the Redis backend");
    Leash::start("redis-server", settings, port, folder, &folder.join("redis.log"))
}

/// A connection to the Redis, or to the Sentinels, at `url`.
pub async fn connected(url: String, prefix: &str) -> Redis {
    let redis = Redis::start(RedisOptions::new(url, prefix), true).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = redis.first_connection().await {
        let may_pass = matches!(error, ConnectError::Retryable(_)) && Instant::now() < deadline;
        assert!(may_pass, "the server of the tests cannot be used: {error:?}");
    }
    redis
}
