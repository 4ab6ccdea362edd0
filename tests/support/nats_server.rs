//! NATS servers for tests: real ones, each on a free port with its own folder, removed with the test process.

use std::{path::Path, process::Command, sync::OnceLock};

use ordersystem::backends::nats::{
    connection::{Nats, NatsOptions},
    event_store::NatsEventStore,
};
use tempfile::TempDir;

use super::leash::Leash;
pub use super::{free_port, fresh_prefix};

/// Names the server program, to run on another version than the installed one.
const PROGRAM: &str = "NATS_SERVER";

/// Names the program of a current release: Debian's is years older, and replicates differently.
const CURRENT_PROGRAM: &str = "NATS_SERVER_CURRENT";
/// Its name if the environment does not set one. `./test-all.sh tools` builds it from `tests/faults/nats_server`.
const CURRENT_NAME: &str = "nats-server-2.15";

/// Streams reserve their maximum size: together more than the disk has, which they never use.
pub const JETSTREAM: &str = "jetstream { store_dir: FOLDER, max_file_store: 1TB }";

pub struct NatsServer {
    pub port: u16,
    pub pid: u32,
    program: String,
    settings: String,
    // Before the folder, which it must not outlive.
    leash: Leash,
    pub folder: TempDir,
}

/// The server that all tests of this binary share, each with its own streams.
pub fn shared() -> &'static NatsServer {
    static SHARED: OnceLock<NatsServer> = OnceLock::new();
    SHARED.get_or_init(|| NatsServer::start(""))
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
        let leash = launch(program, port, folder.path(), &settings);
        Self { port, pid: leash.pid, program: program.to_owned(), settings, leash, folder }
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
        store.until_verified().await.expect("the streams can be made");
        store
    }

    /// An independent client.
    pub async fn raw(&self) -> async_nats::jetstream::Context {
        async_nats::jetstream::new(async_nats::connect(self.url()).await.unwrap())
    }

    /// Sends the server itself a signal, such as `STOP`.
    pub fn signal(&self, name: &str) {
        self.leash.signal(name);
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        self.leash.kill();
    }

    /// Restarts it, after [`NatsServer::kill`], with the same port and data.
    pub fn start_again(&mut self) {
        let settings = self.settings.clone();
        self.start_again_with(&settings);
    }

    /// The same with other settings.
    pub fn start_again_with(&mut self, settings: &str) {
        self.settings = settings.replace("FOLDER", &format!("\"{}\"", self.folder.path().display()));
        self.leash = launch(&self.program, self.port, self.folder.path(), &self.settings);
        self.pid = self.leash.pid;
    }
}

fn launch(program: &str, port: u16, folder: &Path, settings: &str) -> Leash {
    let found = Command::new(program).arg("--version").output();
    found.expect("nats-server (2.9 or newer) must be installed for the tests of the NATS backend");
    let (file, log) = (folder.join("nats.conf"), folder.join("nats.log"));
    std::fs::write(&file, settings).unwrap();
    let port_text = port.to_string();
    let arguments = ["-a", "127.0.0.1", "-p", &port_text, "-c", file.to_str().unwrap(), "-l", log.to_str().unwrap()]
        .map(str::to_owned);
    Leash::start(program, &arguments, port, folder, &log)
}
