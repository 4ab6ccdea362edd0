//! The binary as a separate process.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ordersystem::{
    cli::{node_client::Target, probe},
    proto::catga::orders::v1::{
        order_command_service_client::OrderCommandServiceClient, order_query_service_client::OrderQueryServiceClient,
    },
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Child,
    task::JoinHandle,
    time::timeout,
};
use tonic::transport::{Channel, Endpoint};

/// Longer than any start takes, on a busy machine too.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// The number of lines of a node's log that are shown when its test fails.
const SHOWN_LINES: usize = 80;

/// Waits until `holds`, for a limited time.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let give_up_at = Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(Instant::now() < give_up_at, "not within 60 s: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A running service, killed when dropped.
pub struct Program {
    child: Child,
    pub address: String,
    /// The lines that it logged before it listened.
    before: Vec<String>,
    said: Arc<Mutex<Vec<String>>>,
    /// Held by the one that may read the log.
    reading: Arc<tokio::sync::Mutex<()>>,
    reader: JoinHandle<()>,
}

impl Program {
    /// Starts the service with the embedded store in `dir`, on any free port, and waits until it is ready.
    pub async fn start(dir: &Path) -> Self {
        Self::serve(&embedded(dir)).await
    }

    /// The same with these command-line settings.
    pub async fn serve(settings: &[String]) -> Self {
        let program = Self::listening(settings).await;
        timeout(STARTS_WITHIN, program.until_ready()).await.expect("it is ready in time");
        program
    }

    /// The same, but returns as soon as it listens, ready or not.
    pub async fn listening(settings: &[String]) -> Self {
        let started = async {
            Self::try_start(settings).await.unwrap_or_else(|said| panic!("it ends without listening: {said}"))
        };
        timeout(STARTS_WITHIN, started).await.expect("it listens in time")
    }

    /// The program as soon as it listens, or its output if it ended before.
    async fn try_start(settings: &[String]) -> Result<Self, String> {
        let mut child = tokio::process::Command::from(serve(settings)).kill_on_drop(true).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut before = Vec::new();
        while let Some(line) = log.next_line().await.unwrap() {
            if let Some((_, address)) = line.split_once("listening on http://") {
                let address = address.split_whitespace().next().unwrap().to_owned();
                // Keeps reading, so that a full pipe never blocks it. Its output stays in the pipe, whatever happens to it.
                let said = Arc::new(Mutex::new(before.clone()));
                let reading = Arc::<tokio::sync::Mutex<()>>::default();
                let (lines, may_read) = (Arc::clone(&said), Arc::clone(&reading));
                let reader = tokio::spawn(async move {
                    while let Ok(Some(line)) = log.next_line().await {
                        let _may_read = may_read.lock().await;
                        lines.lock().unwrap().push(line);
                    }
                });
                return Ok(Self { child, address, before, said, reading, reader });
            }
            before.push(line);
        }
        child.wait().await.unwrap();
        Err(before.concat())
    }

    pub async fn until_ready(&self) {
        while !self.is_ready().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether it reports over gRPC that it serves.
    pub async fn is_ready(&self) -> bool {
        probe::check(&Target::plain(self.address.as_str()), "", 5_000).await == Ok(true)
    }

    /// The reply to a GET of `path`.
    pub async fn get(&self, path: &str) -> String {
        reqwest::get(format!("http://{}{path}", self.address)).await.unwrap().text().await.unwrap()
    }

    /// The value of the metric whose line begins with `name`.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").await;
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Sends it a signal, such as `STOP`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Stops it in order.
    pub async fn stop(mut self) {
        self.signal("TERM");
        assert!(self.child.wait().await.unwrap().success());
    }

    /// kill -9; returns once it has ended, with everything that it has logged since it listened.
    pub async fn kill(mut self) -> Vec<String> {
        self.child.kill().await.unwrap();
        (&mut self.reader).await.unwrap();
        std::mem::take(&mut *self.said.lock().unwrap())
    }

    /// The same after a `time` in which its log is not read: logging blocks when the pipe is full.
    pub async fn kill_unread(mut self, time: Duration) -> Vec<String> {
        let unread = Arc::clone(&self.reading).lock_owned().await;
        tokio::time::sleep(time).await;
        self.child.kill().await.unwrap();
        drop(unread);
        self.kill().await
    }

    /// The lines that it logged before it listened.
    pub fn said_before(&self) -> &[String] {
        &self.before
    }

    /// The lines that it has logged since it listened.
    pub fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// The status and the detail of a component in `/health`.
    pub async fn health(&self, component: &str) -> (String, String) {
        let health = reqwest::get(format!("http://{}/health", self.address)).await.unwrap();
        let health: serde_json::Value = health.json().await.unwrap();
        let text = |key: &str| health["checks"][component][key].as_str().unwrap().to_owned();
        (text("status"), text("detail"))
    }

    pub async fn commands(&self) -> OrderCommandServiceClient<Channel> {
        OrderCommandServiceClient::new(self.channel().await)
    }

    pub async fn queries(&self) -> OrderQueryServiceClient<Channel> {
        OrderQueryServiceClient::new(self.channel().await)
    }

    pub async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }
}

/// A failed test shows the end of the node's log.
impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            let last = &said[said.len().saturating_sub(SHOWN_LINES)..];
            eprintln!("the last lines logged by the node at {}:\n{}", self.address, last.join("\n"));
        }
    }
}

/// The service with these settings, which may not listen yet.
pub fn spawn(settings: &[String]) -> Child {
    tokio::process::Command::from(serve(settings)).kill_on_drop(true).spawn().unwrap()
}

/// Reads its log up to a line with `text`.
pub async fn line_with(child: &mut Child, text: &str) {
    let mut log = BufReader::new(child.stderr.as_mut().unwrap()).lines();
    let found = async {
        while !log.next_line().await.unwrap().unwrap_or_else(|| panic!("it never says: {text}")).contains(text) {}
    };
    timeout(STARTS_WITHIN, found).await.expect("it says so in time");
}

/// Runs the program to its end.
pub fn run(args: &[&str]) -> Output {
    command().args(args).output().unwrap()
}

/// Runs the service on `dir`, expecting that it does not start; returns its output.
pub fn refused(dir: &Path) -> String {
    refused_with(&embedded(dir))
}

/// The same with these settings.
pub fn refused_with(settings: &[String]) -> String {
    let output = serve(settings).output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn embedded(dir: &Path) -> Vec<String> {
    ["--persistence", "embedded", "--data-dir", dir.to_str().unwrap()].map(str::to_owned).into()
}

fn serve(settings: &[String]) -> Command {
    let mut command = command();
    if !settings.iter().any(|setting| setting == "--port") {
        command.args(["--port", "0"]);
    }
    command.args(settings).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Without the settings in the environment of the test.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ordersystem"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ORDERSYSTEM_")) {
        command.env_remove(name);
    }
    command
}
