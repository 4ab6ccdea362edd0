//! NATS servers for tests: real ones, each on a free port with its own folder, removed with the test process.

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

use ordersystem::backends::nats::{
    connection::{Nats, NatsOptions},
    event_store::NatsEventStore,
};
use tempfile::TempDir;

/// Names the server program, to run on another version than the installed one.
const PROGRAM: &str = "NATS_SERVER";

/// Names the program of a current release: Debian's is years older, and replicates differently.
const CURRENT_PROGRAM: &str = "NATS_SERVER_CURRENT";
/// Its name if the environment does not set one. `./test-all.sh tools` builds it from `tests/faults/nats_server`.
const CURRENT_NAME: &str = "nats-server-2.15";

/// Stops the server on a line from the test. If the pipe closes without one, the test process has ended in whatever way, and the folder is
/// not needed any more.
const WATCHED: &str = r#"program=$1; folder=$2; shift 2; "$program" "$@" & server=$!; echo $server; exec 1>&-
read -r _ && keep=yes; kill -9 $server; wait $server; [ "$keep" ] || rm -rf "$folder""#;

/// Streams reserve their maximum size: together more than the disk has, which they never use.
pub const JETSTREAM: &str = "jetstream { store_dir: FOLDER, max_file_store: 1TB }";

pub struct NatsServer {
    pub port: u16,
    pub pid: u32,
    pub folder: TempDir,
    program: String,
    settings: String,
    shell: Child,
    leash: Option<ChildStdin>,
}

/// The server that all tests of this binary share, each with its own streams.
pub fn shared() -> &'static NatsServer {
    static SHARED: OnceLock<NatsServer> = OnceLock::new();
    SHARED.get_or_init(|| NatsServer::start(""))
}

/// A prefix that no other test has.
pub fn fresh_prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A port on which nothing listens.
pub fn free_port() -> u16 {
    // Below the ephemeral ports: while a server is down, or not up yet, no connection of this machine takes its port.
    loop {
        let port = fastrand::u16(20_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn program() -> String {
    std::env::var(PROGRAM).unwrap_or_else(|_| "nats-server".to_owned())
}

/// The program of a current release of the server.
pub fn current_program() -> String {
    if let Ok(named) = std::env::var(CURRENT_PROGRAM) {
        return named;
    }
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([built.into()]);
    let found = folders.map(|folder| folder.join(CURRENT_NAME)).find(|program| program.is_file());
    let program = found.unwrap_or_else(|| {
        panic!("there is no {CURRENT_NAME} in PATH or {built}: ./test-all.sh tools builds it, or {CURRENT_PROGRAM} names one")
    });
    program.to_str().unwrap().to_owned()
}

impl NatsServer {
    /// A new one with JetStream, and `settings` in its configuration file.
    pub fn start(settings: &str) -> Self {
        Self::start_with(&format!("{JETSTREAM}\n{settings}"))
    }

    /// A new one with only these settings, in which FOLDER stands for its folder.
    pub fn start_with(settings: &str) -> Self {
        Self::start_program(&program(), free_port(), settings)
    }

    /// The same with a current release.
    pub fn start_current(settings: &str) -> Self {
        let settings = format!("{JETSTREAM}\n{settings}");
        Self::start_program(&current_program(), free_port(), &settings)
    }

    /// A new one of this program, listening on `port`.
    pub fn start_program(program: &str, port: u16, settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings.replace("FOLDER", &format!("\"{}\"", folder.path().display()));
        let (shell, leash, pid) = launch(program, port, &folder, &settings);
        Self { port, pid, folder, program: program.to_owned(), settings, shell, leash: Some(leash) }
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
        nats.connected().await.expect("the server of the tests can be used");
        nats
    }

    /// A store with its own log.
    pub async fn store(&self) -> NatsEventStore {
        self.store_of(&fresh_prefix()).await
    }

    /// A store with the log of this prefix.
    pub async fn store_of(&self, prefix: &str) -> NatsEventStore {
        let store = NatsEventStore::new(self.connect_to(prefix).await);
        store.first_admission().await.expect("the streams can be made");
        store
    }

    /// An independent client.
    pub async fn raw(&self) -> async_nats::jetstream::Context {
        async_nats::jetstream::new(async_nats::connect(self.url()).await.unwrap())
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

    /// Restarts it, after [`NatsServer::kill`], with the same port and data.
    pub fn start_again(&mut self) {
        let settings = self.settings.clone();
        self.start_again_with(&settings);
    }

    /// The same with other settings.
    pub fn start_again_with(&mut self, settings: &str) {
        self.settings = settings.replace("FOLDER", &format!("\"{}\"", self.folder.path().display()));
        let (shell, leash, pid) = launch(&self.program, self.port, &self.folder, &self.settings);
        (self.shell, self.leash, self.pid) = (shell, Some(leash), pid);
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn launch(program: &str, port: u16, folder: &TempDir, settings: &str) -> (Child, ChildStdin, u32) {
    let found = Command::new(program).arg("--version").output();
    found.expect("nats-server (2.9 or newer) must be installed for the tests of the NATS backend");
    let file = folder.path().join("nats.conf");
    std::fs::write(&file, settings).unwrap();
    let log = folder.path().join("nats.log");
    let mut shell = Command::new("sh")
        .args(["-c", WATCHED, "nats-server", program])
        .arg(folder.path())
        .args(["-a", "127.0.0.1", "-p", &port.to_string()])
        .arg("-c")
        .arg(file)
        .arg("-l")
        .arg(&log)
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
        let log = || std::fs::read_to_string(&log).unwrap_or_default();
        assert!(Instant::now() < deadline, "nats-server does not listen on {port}: {}", log());
        std::thread::sleep(Duration::from_millis(10));
    }
    (shell, leash, line.trim().parse().unwrap())
}
