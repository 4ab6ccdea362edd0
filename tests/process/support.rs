//! A process for one test: started, watched, and ended by its pid.

use std::{net::SocketAddr, process::Stdio, time::Duration};

use ordersystem::proto::catga::orders::v1::{
    CreateOrderRequest, NewOrderItem, order_command_service_client::OrderCommandServiceClient,
    order_history_service_client::OrderHistoryServiceClient,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};
use tonic::transport::{Channel, Endpoint};

/// The deadline for anything that must happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The program, with only the named variables in its environment.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ordersystem"));
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// The result of a run.
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

pub async fn outcome(command: &mut Command) -> Outcome {
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A node in its own process, on any free port.
pub struct Process {
    pub child: Child,
    pub address: SocketAddr,
    pub grpc_address: SocketAddr,
    /// Its output before it listened.
    pub before: String,
    pub banner: String,
    pub log: Log,
}

/// The remaining output of a process.
pub struct Log(Lines<BufReader<ChildStderr>>);

impl Log {
    /// The next line with this text.
    pub async fn line_with(&mut self, text: &str) -> String {
        loop {
            let line = tokio::time::timeout(PATIENCE, self.0.next_line()).await.expect("a line in time").expect("text");
            let line = line.unwrap_or_else(|| panic!("it ends without a line with {text:?}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Everything up to its end, which comes within `time`.
    pub async fn rest_within(&mut self, time: Duration) -> String {
        let mut rest = String::new();
        while let Ok(Ok(Some(line))) = tokio::time::timeout(time, self.0.next_line()).await {
            rest.push_str(&line);
            rest.push('\n');
        }
        rest
    }
}

impl Process {
    pub async fn start(args: &[&str]) -> Self {
        Self::spawn(program().args(["--port", "0"]).args(args)).await
    }

    /// Starts one that may open at most `files` files at a time.
    pub async fn start_with_files(files: u32, args: &[&str]) -> Self {
        let mut command = program();
        let program = command.as_std().get_program().to_owned();
        let mut shell = Command::new("sh");
        shell.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        shell.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\"")]).arg(program);
        command = shell;
        Self::spawn(command.args(["--port", "0"]).args(args)).await
    }

    pub async fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("it starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
        let mut before = String::new();
        let banner = loop {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("a banner").expect("text");
            let line = line.expect("a banner before the end");
            if line.contains("is listening on") {
                break line;
            }
            before.push_str(&line);
            before.push('\n');
        };
        let address = field(&banner, "address=").expect("an address");
        let grpc_address = field(&banner, "grpc_address=").unwrap_or(address);
        Self { child, address, grpc_address, before, banner, log: Log(lines) }
    }

    /// The port for operators.
    pub fn admin_port(&self) -> u16 {
        field(&self.banner, "admin_address=").expect("an address").port()
    }

    /// Everything that it writes from now to its end.
    pub async fn rest_of_log(&mut self) -> String {
        self.log.rest_within(PATIENCE).await
    }

    /// Places an order as soon as the node accepts it; for a node whose store is about to become available.
    pub async fn places_an_order(&self) {
        let mut commands = self.commands().await;
        let give_up_at = tokio::time::Instant::now() + Duration::from_secs(60);
        while let Err(refusal) = commands.create_order(new_order("customer-1")).await {
            assert!(tokio::time::Instant::now() < give_up_at, "no order is placed: {refusal}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The reply to a GET of `path`.
    pub async fn get(&self, path: &str) -> String {
        reqwest::get(format!("http://{}{path}", self.address)).await.expect("an answer").text().await.expect("text")
    }

    pub fn signal(&self, name: &str) {
        let id = self.child.id().expect("running").to_string();
        let sent = std::process::Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status();
        assert!(sent.expect("a shell").success());
    }

    /// Waits for its end; returns the exit code, `None` after a signal that it did not catch.
    pub async fn end(&mut self) -> Option<i32> {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends").expect("it ran").code()
    }

    pub async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.grpc_address)).expect("url");
        endpoint.connect().await.expect("connects")
    }

    pub async fn commands(&self) -> OrderCommandServiceClient<Channel> {
        OrderCommandServiceClient::new(self.channel().await)
    }

    pub async fn history(&self) -> OrderHistoryServiceClient<Channel> {
        OrderHistoryServiceClient::new(self.channel().await)
    }
}

/// The address after ` name=` in a line, with or without quotes.
fn field(line: &str, name: &str) -> Option<SocketAddr> {
    let start = line.find(&format!(" {name}"))? + 1 + name.len();
    let value = line[start..].trim_start_matches('"');
    let end = value.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(value.len());
    value[..end].parse().ok()
}

pub fn new_order(customer: &str) -> CreateOrderRequest {
    let price = ordersystem::proto::Money { currency_code: "USD".to_owned(), units: 5, nanos: 0 };
    let item =
        NewOrderItem { product_id: "prod-1".to_owned(), quantity: 1, unit_price: Some(price), ..Default::default() };
    CreateOrderRequest { customer_id: customer.to_owned(), items: vec![item], ..Default::default() }
}
