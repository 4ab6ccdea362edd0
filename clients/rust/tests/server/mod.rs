//! The real server, and the Redis server that stores its data if requested.

use std::{
    env, fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The server under test.
fn binary() -> PathBuf {
    let candidates = match env::var_os("ORDERSYSTEM_BINARY") {
        Some(named) => vec![PathBuf::from(named)],
        None => ["release", "debug"].map(|kind| root().join("target").join(kind).join("ordersystem")).to_vec(),
    };
    let found = candidates.iter().find(|candidate| candidate.is_file());
    found.unwrap_or_else(|| panic!("no server at {candidates:?}: build it, or set ORDERSYSTEM_BINARY")).clone()
}

/// The persistence under test.
pub fn persistence() -> String {
    let name = env::var("CONFORMANCE_PERSISTENCE").unwrap_or_else(|_| "embedded".to_owned());
    assert!(["embedded", "redis"].contains(&name.as_str()), "CONFORMANCE_PERSISTENCE must be embedded or redis");
    name
}

/// The key of a caller that may do everything.
#[allow(dead_code, reason = "not every test program uses it")]
pub const ALL_ROLES: &str = "orderkey_test-only-all------------------------------";

/// Whether the server identifies its callers in files that do not say so.
#[allow(dead_code, reason = "not every test program uses it")]
pub fn with_identities() -> bool {
    env::var("CONFORMANCE_IDENTITIES").is_ok_and(|value| value == "1")
}

/// The callers of the scenarios, in a file that only this user can write.
#[allow(dead_code, reason = "not every test program uses it")]
pub fn identities(folder: &Path) -> String {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let copy = folder.join("identities.toml");
    let content = fs::read(root().join("clients/conformance/identities.toml")).unwrap();
    let mut file = fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(&copy).unwrap();
    file.write_all(&content).unwrap();
    copy.to_str().unwrap().to_owned()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A redis-server that syncs before it answers.
pub struct Redis {
    port: u16,
    process: Child,
}

impl Redis {
    /// One in `folder`, if that is the persistence under test.
    pub fn if_wanted(folder: &Path) -> Option<Arc<Redis>> {
        (persistence() == "redis").then(|| Arc::new(Redis::start(folder)))
    }

    fn start(folder: &Path) -> Redis {
        let port = free_port();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
            .arg(folder)
            .args(["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server 7.0 or newer must be installed");
        let redis = Redis { port, process };
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "redis-server does not start");
            thread::sleep(Duration::from_millis(50));
        }
        redis
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// The server with a new, empty store; it keeps its port and data across restarts.
pub struct Server {
    pub address: String,
    arguments: Vec<String>,
    log: PathBuf,
    process: Option<Child>,
    _redis: Option<Arc<Redis>>,
}

impl Server {
    /// One that is not running yet, with its files in `folder`.
    pub fn new(folder: &Path, redis: Option<Arc<Redis>>, name: &str, more: &[String]) -> Server {
        let port = free_port();
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let mut arguments = vec!["--port".to_owned(), port.to_string(), "--log-level".to_owned(), "warn".to_owned()];
        arguments.extend_from_slice(more);
        arguments.extend(match &redis {
            None => ["--persistence", "embedded", "--data-dir", &text(folder.join(name))].map(str::to_owned).to_vec(),
            Some(redis) => {
                let server = format!("127.0.0.1:{}", redis.port);
                ["--persistence", "redis", "--redis", &server, "--redis-prefix", name].map(str::to_owned).to_vec()
            }
        });
        let (address, log) = (format!("127.0.0.1:{port}"), folder.join(format!("{name}.log")));
        Server { address, arguments, log, process: None, _redis: redis }
    }

    /// Starts the process; the caller waits until it is ready.
    pub fn spawn(&mut self) {
        assert!(self.process.is_none(), "the server runs already");
        let log = fs::File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new(binary());
        // The server reads settings from these variables, and refuses unknown ones.
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ORDERSYSTEM_")) {
            command.env_remove(name);
        }
        command.args(&self.arguments).stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(command.spawn().unwrap());
    }

    /// Starts it, and waits until the health service reports that it is ready.
    pub async fn start(&mut self) {
        self.spawn();
        let channel = ordersystem_client::connect(&self.address).unwrap();
        self.wait_until_ready(channel).await;
    }

    /// Waits until the health service reports on `channel` that it is ready.
    pub async fn wait_until_ready(&mut self, channel: ordersystem_client::Channel) {
        use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
        let mut health = HealthClient::new(channel);
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let mut request = tonic::Request::new(HealthCheckRequest { service: "readiness".to_owned() });
            request.set_timeout(Duration::from_secs(1));
            let answer = health.check(request).await;
            if answer.is_ok_and(|answer| answer.get_ref().status() == ServingStatus::Serving) {
                return;
            }
            let runs = self.process.as_mut().is_some_and(|process| process.try_wait().unwrap().is_none());
            assert!(runs && Instant::now() < deadline, "the server does not start: {}", self.read_log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops it as an operator does.
    pub async fn stop(&mut self) {
        let mut process = self.process.take().expect("the server does not run");
        assert!(Command::new("kill").arg(process.id().to_string()).status().unwrap().success());
        let deadline = Instant::now() + STOP_LIMIT;
        let code = loop {
            if let Some(code) = process.try_wait().unwrap() {
                break code;
            }
            if Instant::now() > deadline {
                end(&mut process);
                panic!("the server does not stop: {}", self.read_log());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert!(code.success(), "the server ended with {code}: {}", self.read_log());
    }

    /// Kills it, as a crash would; does nothing if it is not running.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            end(&mut process);
        }
    }

    fn read_log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn end(process: &mut Child) {
    // It may have ended by itself.
    let _ = process.kill();
    let _ = process.wait();
}
