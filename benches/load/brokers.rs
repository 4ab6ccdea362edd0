//! The brokers under load: each measured service, and each ceiling, has its own.

use std::{
    fs::File,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::servers::{cpu_of, free_address};

/// The servers of a NATS cluster, each of which has every event.
pub const REPLICAS: usize = 3;
/// The first version on which the service uses replicas safely is newer than Debian's.
const CURRENT_NATS: &str = "nats-server-2.15";
/// How long a broker may take to start.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// A store whose acknowledged writes are synced, with the processes of its broker.
#[derive(Debug)]
pub struct Store {
    /// `inmemory`, `embedded`, `redis`, `nats`, or `nats-r3`: three servers.
    pub kind: &'static str,
    /// Where to connect to it; for SQLite its folder.
    pub url: String,
    brokers: Vec<Child>,
    // Not in the folder for temporary files, which may be in memory.
    folder: TempDir,
}

impl Store {
    /// Whether its broker is installed.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn is_available(kind: &str) -> Result<(), String> {
        let program = match kind {
            "redis" => "redis-server".to_owned(),
            "nats" => "nats-server".to_owned(),
            "nats-r3" => current_nats(),
            _ => return Ok(()),
        };
        let found = Command::new(&program).arg("--version").stdout(Stdio::null()).status();
        found.map(drop).map_err(|error| format!("{program}: {error}; ./test-all.sh tools installs it"))
    }

    /// An empty one.
    pub fn start(kind: &'static str) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let path = folder.path().to_str().expect("UTF-8");
        let addresses: Vec<_> = (0..if kind == "nats-r3" { REPLICAS } else { 1 }).map(|_| free_address()).collect();
        let (url, commands) = match kind {
            "redis" => (format!("redis://{}", addresses[0]), vec![redis(addresses[0], path)]),
            "nats" => (format!("nats://{}", addresses[0]), vec![nats("nats-server", addresses[0], path)]),
            "nats-r3" => {
                let urls: Vec<_> = addresses.iter().map(|address| format!("nats://{address}")).collect();
                (urls.join(","), cluster(&addresses, folder.path()))
            }
            _ => (path.to_owned(), Vec::new()),
        };
        let brokers: Vec<_> =
            commands.into_iter().enumerate().map(|(at, command)| start(command, &folder, at)).collect();
        if !brokers.is_empty() {
            addresses.iter().for_each(|address| wait_for(*address));
        }
        let store = Self { kind, url, brokers, folder };
        if kind == "nats-r3" {
            store.wait_for_replicas();
        }
        store
    }

    /// The flags with which the service uses it.
    pub fn flags(&self) -> Vec<String> {
        let (persistence, address) = match self.kind {
            "inmemory" => return Vec::new(),
            "redis" => ("redis", "--redis"),
            "nats" | "nats-r3" => ("nats", "--nats"),
            _ => ("embedded", "--data-dir"),
        };
        let mut flags = ["--persistence", persistence, address, &self.url].map(str::to_owned).to_vec();
        if self.replicas() > 1 {
            flags.extend(["--nats-replicas".to_owned(), REPLICAS.to_string()]);
        }
        flags
    }

    /// How `ordersystem copy` names it; `None` if only its own process can read it.
    pub fn log(&self) -> Option<String> {
        match self.kind {
            "inmemory" => None,
            "embedded" => Some(format!("embedded:{}", self.url)),
            _ => Some(self.url.clone()),
        }
    }

    /// How many servers have each event.
    pub fn replicas(&self) -> usize {
        if self.kind == "nats-r3" { REPLICAS } else { 1 }
    }

    /// A folder of its own on the disk of the store.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The user and system time of the brokers so far.
    pub fn cpu(&self) -> Duration {
        self.brokers.iter().map(|broker| cpu_of(broker.id())).sum()
    }

    /// Waits until a stream can be placed on every server.
    fn wait_for_replicas(&self) {
        let (url, replicas) = (self.url.clone(), self.replicas());
        // On its own thread: the caller may be in a runtime already.
        let placed = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(places_a_stream(&url, replicas))
        });
        if let Err(why) = placed.join().expect("no panic") {
            panic!("the cluster places no stream within {STARTS_WITHIN:?}: {why}");
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        for broker in &mut self.brokers {
            let _ = broker.kill();
            let _ = broker.wait();
        }
    }
}

fn redis(address: SocketAddr, folder: &str) -> Command {
    let mut command = Command::new("redis-server");
    command.args(["--port", &address.port().to_string(), "--bind", "127.0.0.1", "--dir", folder]);
    command.args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
    command
}

fn nats(program: &str, address: SocketAddr, folder: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["--js", "--addr", "127.0.0.1", "--port", &address.port().to_string(), "--store_dir", folder]);
    command
}

/// Servers that sync before they acknowledge, as docs/deploy.md asks for.
fn cluster(addresses: &[SocketAddr], folder: &Path) -> Vec<Command> {
    let routes: Vec<_> = addresses.iter().map(|_| free_address()).collect();
    let all = routes.iter().map(|route| format!("\"nats://{route}\"")).collect::<Vec<_>>().join(", ");
    let command = |(at, (address, route)): (usize, (&SocketAddr, &SocketAddr))| {
        let (file, store) = (folder.join(format!("{at}.conf")), folder.join(at.to_string()));
        let text = format!(
            "server_name: s{at}\nlisten: \"{address}\"\n\
             jetstream {{ store_dir: \"{}\", max_file_store: 100GB, sync_interval: always }}\n\
             cluster {{ name: bench, listen: \"{route}\", no_advertise: true, routes: [{all}] }}\n",
            store.display()
        );
        std::fs::write(&file, text).expect("written");
        let mut command = Command::new(current_nats());
        command.arg("-c").arg(file);
        command
    };
    addresses.iter().zip(&routes).enumerate().map(command).collect()
}

/// A current nats-server, as the tests find it.
fn current_nats() -> String {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin").join(CURRENT_NATS);
    let found = std::env::var("NATS_SERVER_CURRENT").ok();
    found.or_else(|| installed.exists().then(|| installed.display().to_string())).unwrap_or(CURRENT_NATS.to_owned())
}

fn start(mut command: Command, folder: &TempDir, at: usize) -> Child {
    let log = File::create(folder.path().join(format!("broker-{at}.log"))).expect("a file");
    let output = log.try_clone().expect("a file");
    let started = command.stdin(Stdio::null()).stdout(output).stderr(log).spawn();
    started.unwrap_or_else(|error| panic!("{:?}: {error}", command.get_program()))
}

fn wait_for(address: SocketAddr) {
    let began = Instant::now();
    while began.elapsed() < STARTS_WITHIN {
        if TcpStream::connect(address).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("no broker at {address} after {STARTS_WITHIN:?}");
}

/// Creates and deletes a stream with `replicas`.
///
/// # Errors
/// The last failure, after [`STARTS_WITHIN`].
async fn places_a_stream(url: &str, replicas: usize) -> Result<(), String> {
    let began = Instant::now();
    loop {
        let Err(why) = place_a_stream(url, replicas).await else { return Ok(()) };
        if began.elapsed() >= STARTS_WITHIN {
            return Err(why);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn place_a_stream(url: &str, replicas: usize) -> Result<(), String> {
    let servers: Vec<&str> = url.split(',').collect();
    // Without a leader a request gets no answer.
    let options = async_nats::ConnectOptions::new().request_timeout(Some(Duration::from_secs(1)));
    let client = options.connect(servers).await.map_err(|error| error.to_string())?;
    let mut context = async_nats::jetstream::new(client);
    context.set_timeout(Duration::from_secs(1));
    let stream = async_nats::jetstream::stream::Config {
        name: "PLACED".to_owned(),
        num_replicas: replicas,
        ..Default::default()
    };
    context.get_or_create_stream(stream).await.map_err(|error| error.to_string())?;
    context.delete_stream("PLACED").await.map_err(|error| error.to_string())?;
    Ok(())
}
