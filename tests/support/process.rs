//! The program in processes of its own: started, watched, and ended by their ids.

use std::{ffi::OsStr, net::SocketAddr, path::Path, process::Stdio, sync::Arc, time::Duration};

use ordersystem::{
    cli::{node_client::Target, probe},
    proto::catga::orders::v1::{
        order_command_service_client::OrderCommandServiceClient,
        order_history_service_client::OrderHistoryServiceClient, order_query_service_client::OrderQueryServiceClient,
    },
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::{Mutex, watch},
    task::JoinHandle,
    time::timeout,
};
use tonic::transport::{Channel, Endpoint};

use super::{PATIENCE, new_order, signals, until};

/// How long a run of a command may take, with a whole log to read.
const RUNS_WITHIN: Duration = Duration::from_secs(300);

/// The number of lines of a node's log that are shown when its test fails.
const SHOWN_LINES: usize = 80;

/// The program, with only the named variables in its environment.
pub fn command() -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ordersystem"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// The same for a process that ends with the test.
pub fn program() -> Command {
    of_test(command())
}

fn of_test(command: std::process::Command) -> Command {
    let mut command = Command::from(command);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// The outcome of a run.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the program to its end.
pub async fn run(args: &[&str]) -> Outcome {
    outcome(program().args(args)).await
}

/// The same, blocking.
pub fn run_blocking(args: &[&str]) -> Outcome {
    command().args(args).output().expect("it starts").into()
}

/// Runs a command to its end.
pub async fn outcome(command: &mut Command) -> Outcome {
    let output = command.stdout(Stdio::piped()).output();
    timeout(RUNS_WITHIN, output).await.expect("it ends").expect("it starts").into()
}

impl From<std::process::Output> for Outcome {
    fn from(output: std::process::Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// Runs a node with these settings, expecting that it does not start; returns its output.
pub async fn refused<S: AsRef<OsStr>>(settings: &[S]) -> String {
    let outcome = outcome(&mut node(settings)).await;
    assert_ne!(outcome.code, Some(0), "{outcome:?}");
    outcome.stderr
}

/// Starts a process, which need not be a node, and reads its log.
pub fn spawn(command: &mut Command) -> (Child, Log) {
    let mut child = command.spawn().expect("it starts");
    let log = Log::of(&mut child);
    (child, log)
}

/// A node with these settings, on any free port unless they name one.
fn node<S: AsRef<OsStr>>(settings: &[S]) -> Command {
    let mut command = program();
    if !settings.iter().any(|setting| setting.as_ref() == "--port") {
        command.args(["--port", "0"]);
    }
    command.args(settings);
    command
}

/// The log of a process. It is read all the time, so that a full pipe never stops the process.
pub struct Log {
    said: watch::Receiver<Vec<String>>,
    /// How many lines [`Log::next_line`] has given.
    given: usize,
    /// Locked by the current reader.
    reading: Arc<Mutex<()>>,
    reader: JoinHandle<()>,
}

impl Log {
    fn of(child: &mut Child) -> Self {
        let mut lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
        let (lines_read, said) = watch::channel(Vec::new());
        let reading = Arc::<Mutex<()>>::default();
        let may_read = Arc::clone(&reading);
        let reader = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let _may_read = may_read.lock().await;
                lines_read.send_modify(|lines| lines.push(line));
            }
        });
        Self { said, given: 0, reading, reader }
    }

    /// The next line; `None` at its end.
    pub async fn next_line(&mut self) -> Option<String> {
        // An error is the end of the log, with all that it had.
        let _ = self.said.wait_for(|lines| lines.len() > self.given).await;
        let line = self.said.borrow().get(self.given).cloned();
        self.given += usize::from(line.is_some());
        line
    }

    /// The next line with this text.
    pub async fn line_with(&mut self, text: &str) -> String {
        loop {
            let line =
                timeout(PATIENCE, self.next_line()).await.unwrap_or_else(|_| panic!("no line with {text:?} in time"));
            let line = line.unwrap_or_else(|| panic!("it ends without a line with {text:?}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Every line that has not been given yet, up to its end, which comes within `time`.
    pub async fn rest_within(&mut self, time: Duration) -> String {
        let mut rest = String::new();
        while let Ok(Some(line)) = timeout(time, self.next_line()).await {
            rest.push_str(&line);
            rest.push('\n');
        }
        rest
    }

    /// Every line so far, given or not.
    pub fn all(&self) -> Vec<String> {
        self.said.borrow().clone()
    }
}

/// A node in a process of its own, killed when dropped.
pub struct Process {
    pub child: Child,
    pub address: SocketAddr,
    pub grpc_address: SocketAddr,
    /// Its output before it listened.
    pub before: String,
    /// Its log line when it listened.
    pub banner: String,
    pub log: Log,
}

impl Process {
    /// Starts a node with these settings, and waits until it listens, ready or not.
    pub async fn start(settings: &[&str]) -> Self {
        Self::listening(settings).await
    }

    /// The same, with settings that are owned.
    pub async fn listening<S: AsRef<OsStr>>(settings: &[S]) -> Self {
        Self::spawn(&mut node(settings)).await
    }

    /// The same, and waits until it is ready.
    pub async fn serve<S: AsRef<OsStr>>(settings: &[S]) -> Self {
        let process = Self::listening(settings).await;
        process.until_ready().await;
        process
    }

    /// The same with the embedded store in `folder`.
    pub async fn serve_from(folder: &Path) -> Self {
        Self::serve(&embedded(folder)).await
    }

    /// Starts one that may open at most `files` files at a time.
    pub async fn start_with_files(files: u32, settings: &[&str]) -> Self {
        let mut shell = std::process::Command::new("sh");
        shell.env_clear().stdin(Stdio::null());
        shell.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\"")]).arg(command().get_program());
        Self::spawn(of_test(shell).args(["--port", "0"]).args(settings)).await
    }

    /// Starts a node as this command does, and waits until it listens.
    pub async fn spawn(command: &mut Command) -> Self {
        let (child, mut log) = spawn(command);
        let mut before = String::new();
        let banner = loop {
            let line = timeout(PATIENCE, log.next_line()).await.expect("a banner in time");
            let line = line.unwrap_or_else(|| panic!("it ends without listening: {before}"));
            if line.contains("is listening on") {
                break line;
            }
            before.push_str(&line);
            before.push('\n');
        };
        let address = field(&banner, "address=").expect("an address");
        let grpc_address = field(&banner, "grpc_address=").unwrap_or(address);
        Self { child, address, grpc_address, before, banner, log }
    }

    /// The port for operators.
    pub fn admin_port(&self) -> u16 {
        field(&self.banner, "admin_address=").expect("an address").port()
    }

    pub async fn until_ready(&self) {
        until("the node is ready", async || self.is_ready().await).await;
    }

    /// Whether it reports over gRPC that it serves.
    pub async fn is_ready(&self) -> bool {
        probe::check(&Target::plain(self.grpc_address.to_string()), "", 5_000).await == Ok(true)
    }

    /// Places an order as soon as the node accepts it; for a node whose store is about to become available.
    pub async fn places_an_order(&self) {
        let commands = self.commands().await;
        until("an order is placed", async || commands.clone().create_order(new_order("customer-1")).await).await;
    }

    /// The reply to a GET of `path`.
    pub async fn get(&self, path: &str) -> String {
        reqwest::get(format!("http://{}{path}", self.address)).await.expect("an answer").text().await.expect("text")
    }

    /// The value of the metric whose line begins with `name`.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").await;
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
        line.rsplit(' ').next().expect("a value").parse().expect("a number")
    }

    /// The status and the detail of a component in `/health`.
    pub async fn health(&self, component: &str) -> (String, String) {
        let health: serde_json::Value = serde_json::from_str(&self.get("/health").await).expect("JSON");
        let check = &health["checks"][component];
        let text = |key: &str| check[key].as_str().unwrap_or_else(|| panic!("no {component}: {health}")).to_owned();
        (text("status"), text("detail"))
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("running")
    }

    /// Sends it a signal, such as `STOP`.
    pub fn signal(&self, name: &str) {
        signals::send(name, self.pid());
    }

    /// Waits for its end; returns the exit code, `None` after a signal that it did not catch.
    pub async fn end(&mut self) -> Option<i32> {
        timeout(PATIENCE, self.child.wait()).await.expect("it ends").expect("it ran").code()
    }

    /// Stops it in order.
    pub async fn stop(mut self) {
        self.signal("TERM");
        assert_eq!(self.end().await, Some(0));
    }

    /// kill -9; the process has ended when this returns. Returns everything that it has logged.
    pub async fn kill(mut self) -> Vec<String> {
        self.child.kill().await.expect("it ran");
        (&mut self.log.reader).await.expect("no panic");
        self.said()
    }

    /// The same after a `time` in which its log is not read: logging blocks when the pipe is full.
    pub async fn kill_unread(mut self, time: Duration) -> Vec<String> {
        let unread = Arc::clone(&self.log.reading).lock_owned().await;
        tokio::time::sleep(time).await;
        self.child.kill().await.expect("it ran");
        drop(unread);
        self.kill().await
    }

    /// Everything that it has logged.
    pub fn said(&self) -> Vec<String> {
        self.log.all()
    }

    /// Everything that it writes after the lines that have been read, up to its end.
    pub async fn rest_of_log(&mut self) -> String {
        self.log.rest_within(PATIENCE).await
    }

    pub async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.grpc_address)).expect("url");
        endpoint.connect().await.expect("connects")
    }

    pub async fn commands(&self) -> OrderCommandServiceClient<Channel> {
        OrderCommandServiceClient::new(self.channel().await)
    }

    pub async fn queries(&self) -> OrderQueryServiceClient<Channel> {
        OrderQueryServiceClient::new(self.channel().await)
    }

    pub async fn history(&self) -> OrderHistoryServiceClient<Channel> {
        OrderHistoryServiceClient::new(self.channel().await)
    }
}

/// A failed test shows the end of the node's log.
impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.log.all();
            let last = &said[said.len().saturating_sub(SHOWN_LINES)..];
            eprintln!("the last lines logged by the node at {}:\n{}", self.address, last.join("\n"));
        }
    }
}

/// The settings of a node with the embedded store in `folder`.
pub fn embedded(folder: &Path) -> [&OsStr; 4] {
    ["--persistence".as_ref(), "embedded".as_ref(), "--data-dir".as_ref(), folder.as_os_str()]
}

/// The address after ` name=` in a line, with or without quotes, or in a line of JSON.
fn field(line: &str, name: &str) -> Option<SocketAddr> {
    let in_text = format!(" {name}");
    let in_json = format!("\"{}\":", name.trim_end_matches('='));
    let start = [in_text, in_json].iter().find_map(|name| Some(line.find(name)? + name.len()))?;
    let value = line[start..].trim_start_matches('"');
    let end = value.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(value.len());
    value[..end].parse().ok()
}
